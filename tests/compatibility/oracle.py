"""Apache Kafka itself, of three brokers: what a case finds there is what it must find here."""

import asyncio
import contextlib
import re
import subprocess
from pathlib import Path

from tests.processes.harness import STOP_TIMEOUT_S, free_ports

CLUSTER_ID = "b3R0bGEtY29tcGF0aWJpbA"
START_TIMEOUT_S = 120.0
SETTINGS = """
process.roles=broker,controller
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{quorum}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters={voters}
node.id={number}
log.dirs={directory}/data
default.replication.factor=3
min.insync.replicas=2
num.partitions=6
offsets.topic.num.partitions=6
group.initial.rebalance.delay.ms=500
log.retention.ms=-1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
{more}
"""


class Broker:
    """One JVM."""

    def __init__(self, number: int, port: int, directory: Path, jars: Path, settings: str) -> None:
        self.number = number
        self.port = port
        self.directory = directory
        self._java = ("java", "-Xmx512m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*")
        self._settings = directory / "server.properties"
        self._process: asyncio.subprocess.Process | None = None
        directory.mkdir(parents=True)
        self._settings.write_text(settings)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def format(self) -> None:
        command = (*self._java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._settings))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    async def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._java,
                "kafka.Kafka",
                str(self._settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def until_ready(self) -> None:
        """Until it answers on its port, which it opens when it may serve."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while self.running:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.2)
        raise AssertionError(f"broker {self.number} ended:\n{(self.directory / 'log').read_text()[-4000:]}")

    async def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        if self.running:
            self._process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            return await self._process.wait()


class ApacheKafka:
    """Three brokers, of the jars in a directory. An object as the harness's Cluster is."""

    def __init__(self, directory: Path, jars: Path, size: int = 3, more: str = "") -> None:
        ports = free_ports(2 * size)
        numbers = range(1, size + 1)
        voters = ",".join(f"{number}@127.0.0.1:{quorum}" for number, quorum in zip(numbers, ports[size:], strict=True))
        self.nodes = []
        for number, port, quorum in zip(numbers, ports[:size], ports[size:], strict=True):
            home = directory / f"k{number}"
            settings = SETTINGS.format(
                port=port, quorum=quorum, voters=voters, number=number, directory=home, more=more
            )
            self.nodes.append(Broker(number, port, home, jars, settings))

    @property
    def kafka_servers(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def node(self, number: int) -> Broker:
        return self.nodes[number - 1]

    async def start(self) -> None:
        for node in self.nodes:
            node.format()
            await node.start()
        for node in self.nodes:
            await node.until_ready()

    async def __aexit__(self, *exception: object) -> None:
        for node in self.nodes:
            if node.running:
                await node.kill()


def version(jars: Path) -> str:
    """Of the broker among the jars."""
    [found] = [re.fullmatch(r"kafka_2\.13-(.+)\.jar", path.name) for path in jars.glob("kafka_2.13-*.jar")]
    assert found is not None
    return found[1]
