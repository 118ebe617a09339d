"""`ottla dev`: a cluster of real processes on this machine."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ottla.client.errors import OttlaError

from .dev_nodes import POLL_S, DevNodes, end_on_signals, free_ports
from .dev_state import DevState, new_state, read_state, require_state, write_state
from .output import talk
from .problems import EXIT_DONE, EXIT_INTERRUPTED, UsageProblem
from .processes import send_signal

DEFAULT_DIRECTORY = Path("ottla-dev")
DEFAULT_NODES = 3
DEFAULT_PORT = 7080
DEFAULT_KAFKA_PORT = 9092
FOLLOW_S = 0.2


def run_dev(
    *,
    nodes: int | None,
    data: Path | None,
    base_http: int | None,
    base_kafka: int | None,
    ephemeral: bool,
    detach: bool,
    logs: bool,
) -> int:
    """Start the cluster, and unless detached stay until Ctrl-C."""
    if ephemeral and (detach or data is not None):
        raise UsageProblem("--ephemeral goes with neither --detach nor --data: it ends with this command")
    end_on_signals()
    with _directory(data, ephemeral) as directory:
        prepare(directory, nodes, base_http, base_kafka)
        cluster = DevNodes(directory)
        try:
            start_all(cluster)
        except BaseException:
            cluster.stop(timeout_s=5.0)
            raise
        if detach:
            talk(f"Stop it:  ottla dev stop --data {directory}")
            return 0
        return _stay(cluster, logs)


@contextmanager
def _directory(data: Path | None, ephemeral: bool) -> Iterator[Path]:
    if not ephemeral:
        directory = data or DEFAULT_DIRECTORY
        make_directory(directory)
        yield directory
        return
    directory = Path(tempfile.mkdtemp(prefix="ottla-dev-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_directory(directory: Path) -> None:
    """With its parents, and fit to hold files. Raises OttlaError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise OttlaError(
            f"{directory} cannot hold the cluster's data: {error.strerror}.",
            code="OTTLA-DATA-UNUSABLE",
            hint="Name a directory that you may write to with --data DIR.",
        ) from error


def prepare(directory: Path, nodes: int | None, base_http: int | None, base_kafka: int | None = None) -> DevState:
    """Write down who the nodes are, or check that they are who was asked for. Raises OttlaError."""
    known = read_state(directory)
    if known is None:
        count = DEFAULT_NODES if nodes is None else nodes
        base = DEFAULT_PORT if base_http is None else base_http
        kafka = (0 if base == 0 else DEFAULT_KAFKA_PORT) if base_kafka is None else base_kafka
        free = iter(free_ports(2 * count) if 0 in (base, kafka) else ())
        ports, kafka_ports = ([first + i if first else next(free) for i in range(count)] for first in (base, kafka))
        known = new_state(ports, kafka_ports)
        write_state(directory, known)
        return known
    if any(node.alive for node in known.nodes):
        raise OttlaError(
            f"the cluster in {directory} is running.",
            code="OTTLA-DEV-RUNNING",
            hint=f"Stop it: ottla dev stop --data {directory}",
        )
    first = known.nodes[0].port
    first_kafka = known.nodes[0].kafka_port
    as_it_was = base_http in (None, 0, first) and base_kafka in (None, 0, first_kafka)
    if nodes not in (None, len(known.nodes)) or not as_it_was:
        raise OttlaError(
            f"{directory} holds a cluster of {len(known.nodes)} nodes from port {first} on, Kafka's {first_kafka}.",
            code="OTTLA-DEV-OTHER-CLUSTER",
            hint="Start it as it was, choose another --data, or remove it: ottla dev wipe",
        )
    return known


def start_all(cluster: DevNodes) -> None:
    """Start every node, wait until all serve, and say so."""
    started_s = time.monotonic()
    for node in cluster.state.nodes:
        cluster.start(node.number)
    cluster.wait_ready()
    _show_ready(cluster, time.monotonic() - started_s)


def _show_ready(cluster: DevNodes, seconds: float) -> None:
    state, leader = cluster.state, cluster.quorum_leader()
    for node in state.nodes:
        role = "leader" if node.number == leader else ""
        kafka = "" if node.kafka_port is None else f"  kafka {node.kafka_address}"
        print(f"n{node.number}  {role:<6}  http {node.address}{kafka}", flush=True)
    count = len(state.nodes)
    servers = "" if state.nodes[0].port == DEFAULT_PORT else f" --servers {state.nodes[0].address}"
    print(f"Ready in {seconds:.1f} s (quorum {count}/{count}).")
    print(f"Try:  echo hello | ottla produce greetings{servers}     ottla consume greetings -f{servers}", flush=True)


class _Watch:
    """Tells when a node ends or comes back, and copies the nodes' logs if asked to."""

    def __init__(self, cluster: DevNodes, logs: bool) -> None:
        self._cluster = cluster
        self._logs = logs
        self._alive = {node.number: node.process for node in cluster.state.nodes}
        self._read = {node.number: _size(cluster.log_path(node.number)) for node in cluster.state.nodes}

    def look(self) -> bool:
        """Tell what changed; whether any node runs."""
        state = self._cluster.state
        for node in state.nodes:
            now = node.process if node.alive else None
            if now != self._alive[node.number]:
                self._alive[node.number] = now
                talk(f"n{node.number} {'ended' if now is None else 'started'}" + self._where(node.number, now is None))
            if self._logs:
                self._copy(node.number)
        return any(node.alive for node in state.nodes)

    def _where(self, number: int, ended: bool) -> str:
        return f"; its log is {self._cluster.log_path(number)}" if ended else ""

    def _copy(self, number: int) -> None:
        with self._cluster.log_path(number).open("rb") as log:
            log.seek(self._read[number])
            added = log.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read[number] += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            talk(f"n{number} | {line}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stay(cluster: DevNodes, logs: bool) -> int:
    """In the foreground until Ctrl-C, SIGTERM, or `ottla dev stop` elsewhere; a second Ctrl-C kills."""
    watch = _Watch(cluster, logs)
    try:
        while watch.look() or not _is_stopped(cluster):
            time.sleep(FOLLOW_S)
        return EXIT_DONE
    except KeyboardInterrupt:  # the usual way to end a foreground cluster, so not a failure
        talk("Stopping; Ctrl-C again to kill.")
    try:
        cluster.stop()
    except KeyboardInterrupt:
        cluster.kill_all()
        return EXIT_INTERRUPTED
    return EXIT_DONE


def _is_stopped(cluster: DevNodes) -> bool:
    """Whether all were stopped by a command, rather than killed and maybe soon restarted."""
    return all(node.process is None for node in cluster.state.nodes)


# --- the other commands ----------------------------------------------------------------------------------------------


def stop(directory: Path) -> None:
    """Stop every node gracefully."""
    cluster = _open(directory)
    cluster.stop()
    state = cluster.state
    for node in state.nodes:
        state = state.with_process(node.number, None)
    write_state(directory, state)


def wipe(directory: Path) -> None:
    """Stop the cluster and delete its data: only what `ottla dev` itself made."""
    cluster = _open(directory)
    cluster.kill_all()
    for node in cluster.state.nodes:
        shutil.rmtree(directory / f"n{node.number}", ignore_errors=True)
    (directory / "dev.json").unlink(missing_ok=True)
    if not any(directory.iterdir()):
        directory.rmdir()


def kill(directory: Path, number: int) -> None:
    """As `kill -9`."""
    if not _open(directory).kill(number):
        raise _not_running(number)


def pause(directory: Path, number: int) -> None:
    """Stop the process in its tracks: it hangs, as seen by the others."""
    _signal(directory, number, signal.SIGSTOP)


def resume(directory: Path, number: int) -> None:
    """Let it go on."""
    _signal(directory, number, signal.SIGCONT)


def restart(directory: Path, number: int) -> None:
    """Start a node again; one that runs is stopped gracefully first."""
    cluster = _open(directory)
    node = cluster.state.node(number)
    send_signal(node.process, signal.SIGCONT)
    if send_signal(node.process, signal.SIGTERM):
        deadline_s = time.monotonic() + 20.0
        while node.alive and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        cluster.kill(number)
    cluster.start(number)
    cluster.wait_ready(only=number)


def _signal(directory: Path, number: int, what: signal.Signals) -> None:
    node = require_state(directory).node(number)
    if not send_signal(node.process, what):
        raise _not_running(number)


def _not_running(number: int) -> OttlaError:
    return OttlaError(
        f"n{number} does not run.", code="OTTLA-DEV-NOT-RUNNING", hint=f"Start it: ottla dev restart {number}"
    )


def _open(directory: Path) -> DevNodes:
    require_state(directory)
    return DevNodes(directory)
