"""Starting and stopping the processes of a laptop cluster."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ottla.client.errors import OttlaError
from ottla.log.chance import Chance, SystemChance

from .dev_state import DevNode, DevState, read_state, write_state
from .probe import describe, is_ready
from .processes import identify, send_signal

POLL_S = 0.03
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
"""A drain may take its whole time-out before the node leaves."""


class DevNodes:
    """The nodes in ``directory``. Every change of who runs goes through the state file first and last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def state(self) -> DevState:
        """As it is now; another command may have changed it."""
        self._reap()
        state = read_state(self.directory)
        assert state is not None
        return state

    def log_path(self, number: int) -> Path:
        return self.directory / f"n{number}" / "node.log"

    def start(self, number: int) -> None:
        """Start one node, if it does not run. It does not share our terminal's Ctrl-C."""
        state = self.state
        node = state.node(number)
        if node.alive:
            return
        data = self.directory / f"n{number}"
        data.mkdir(parents=True, exist_ok=True)
        with self.log_path(number).open("ab") as log:
            child = subprocess.Popen(
                _command(node, data, state.join),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_clean_environment(),
                start_new_session=True,
            )
        self._children[child.pid] = child
        write_state(self.directory, self.state.with_process(number, identify(child.pid)))

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S, only: int | None = None) -> None:
        """Until every node (or one) serves clients. Raises OttlaError with a node's last words if it ends instead."""
        deadline_s = time.monotonic() + timeout_s
        waiting = [node for node in self.state.nodes if only in (None, node.number)]
        while True:
            waiting = [node for node in waiting if not is_ready("127.0.0.1", node.port)]
            if not waiting:
                return
            self._check_alive(waiting)
            if time.monotonic() > deadline_s:
                names = ", ".join(f"n{node.number}" for node in waiting)
                raise OttlaError(
                    f"{names} not ready within {timeout_s:g} s.",
                    code="OTTLA-NOT-READY",
                    hint=f"See {self.log_path(waiting[0].number)}.",
                )
            time.sleep(POLL_S)

    def _check_alive(self, nodes: list[DevNode]) -> None:
        self._reap()
        for node in nodes:
            if not node.alive:
                raise self._explain(node)

    def _explain(self, node: DevNode) -> OttlaError:
        """Why a node ended: the coded line it left in its log."""
        log = self.log_path(node.number)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        coded = [line for line in lines if line.startswith("OTTLA-") and not line.startswith("OTTLA-FORMING")]
        code, _, message = (coded[-1] if coded else "OTTLA-NODE-STOPPED: it ended.").partition(": ")
        for door in ("http", "kafka"):  # the flags of this command
            message = message.replace(f"--{door} HOST:PORT", f"--base-{door} PORT").replace(f", or --{door} off", "")
        return OttlaError(f"n{node.number}: {message}", code=code, hint=f"See {log}.")

    def quorum_leader(self) -> int | None:
        """Who leads the quorum, as the first node that answers sees it."""
        for node in self.state.nodes:
            seen = describe("127.0.0.1", node.port) if node.alive else None
            if seen is not None and seen.get("quorum_leader") is not None:
                return int(seen["quorum_leader"])
        return None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop all, gracefully: each drains. One that hangs is killed after ``timeout_s``."""
        running = [node for node in self.state.nodes if node.alive]
        for node in running:
            send_signal(node.process, signal.SIGCONT)  # a paused one could not hear us
            send_signal(node.process, signal.SIGTERM)
        self._await_end(running, timeout_s)
        self.kill_all()

    def kill_all(self) -> None:
        """Stop all, now."""
        for node in self.state.nodes:
            self.kill(node.number)

    def kill(self, number: int) -> bool:
        """As `kill -9`; False if it did not run."""
        node = self.state.node(number)
        killed = send_signal(node.process, signal.SIGKILL)
        if killed:
            self._await_end([node], 5.0)
        return killed

    def _await_end(self, nodes: list[DevNode], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self._reap()
            if not any(node.alive for node in nodes):
                return
            time.sleep(POLL_S)

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]


def end_on_signals() -> None:
    """Have SIGTERM do what Ctrl-C does, and Ctrl-C do it even in a script's background job, which ignores SIGINT:
    the nodes must not outlive whoever started them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


PORTS = range(12_000, 32_000)
"""Below the range that outgoing connections take theirs from: a killed node finds its port free again."""


def free_ports(count: int, chance: Chance | None = None) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    return asyncio.run(_find_free_ports(count, chance or SystemChance()))


async def _find_free_ports(count: int, chance: Chance) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = PORTS[chance.randbelow(len(PORTS))]
        try:
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)
        except OSError:
            continue
        server.close()
        await server.wait_closed()
        if port not in found:
            found.append(port)
    return found


def _command(node: DevNode, data: Path, join: str | None) -> list[str]:
    command = [sys.executable, "-m", "ottla.cli.main", "start", "--data", str(data), "--http", node.address]
    command += ["--kafka", node.kafka_address]
    return [*command, "--join", join] if join else command


def _clean_environment() -> dict[str, str]:
    """Without the settings of this shell that would make every node the same one."""
    personal = (
        "OTTLA_DATA",
        "OTTLA_HTTP",
        "OTTLA_KAFKA",
        "OTTLA_KAFKA_ADVERTISE",
        "OTTLA_JOIN",
        "OTTLA_ADVERTISE",
    )
    return {name: value for name, value in os.environ.items() if name not in personal}
