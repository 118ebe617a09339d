"""Real node processes on loopback for tests and benchmarks: start, kill, stop, by the pids that we started."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


NODE_COMMAND = (sys.executable, "-m", "ottla.cli.main", "start")
PORTS = range(12_000, 32_000)
"""Below the range that outgoing connections take theirs from, so that a node's port is still free after a restart."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def cpu_seconds_of(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class NodeProcess:
    """One `ottla start`."""

    def __init__(
        self, number: int, port: int, directory: Path, arguments: list[str], kafka_port: int | None = None
    ) -> None:
        self.number = number
        self.port = port
        self.kafka_port = kafka_port
        self.directory = directory
        self.command: tuple[str, ...] = NODE_COMMAND
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def kafka_address(self) -> str:
        """Or ``off``."""
        return "off" if self.kafka_port is None else f"127.0.0.1:{self.kafka_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        path = self.directory.with_suffix(".log")
        return path.read_text() if path.exists() else ""

    async def start(self) -> None:
        assert not self.running
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OTTLA_")}
        with self.directory.with_suffix(".log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                "--data",
                str(self.directory),
                "--http",
                self.address,
                *(() if "--kafka" in self._arguments else ("--kafka", self.kafka_address)),
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.directory.parent,
            )

    async def until_ready(self) -> None:
        """Until it serves clients. Raises with its log if it ends or takes a minute."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.running:
                break
            if await asyncio.to_thread(self._is_ready):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"node {self.number} did not become ready:\n{self.log[-4000:]}")

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/health/ready", timeout=1) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def describe(self) -> dict:
        with urllib.request.urlopen(f"http://{self.address}/v1/node", timeout=5) as response:
            return json.loads(response.read())

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM, and wait; its exit code."""
        assert self._process is not None
        if self.running:
            self.signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            return await self._process.wait()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds_of(self.pid)

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0


class Cluster:
    """Some node processes that form one cluster. An async context: ends whatever still runs."""

    def __init__(self, directory: Path, size: int = 3, *arguments: str, kafka: bool = False) -> None:
        found = free_ports(2 * size)
        ports = found[:size]
        kafka_ports: list[int | None] = [*found[size:]] if kafka else [None] * size
        join = ",".join(f"127.0.0.1:{port}" for port in ports)
        joining = ["--join", join] if size > 1 else []
        # A node's id is its position in the sorted list of addresses.
        self.nodes = [
            NodeProcess(number, port, directory / f"n{number}", [*joining, *arguments], kafka_port)
            for number, (port, kafka_port) in enumerate(zip(sorted(ports, key=str), kafka_ports, strict=True), 1)
        ]

    @property
    def servers(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def kafka_servers(self) -> str:
        """As Kafka clients want them."""
        return ",".join(node.kafka_address for node in self.nodes)

    def node(self, number: int) -> NodeProcess:
        return self.nodes[number - 1]

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes)

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
        for node in self.nodes:
            await node.until_ready()

    async def __aenter__(self) -> "Cluster":
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        for node in self.nodes:
            if node.running:
                await node.kill()
