"""`make demo`: three nodes, a stream of real files, a leader killed in its middle, and proof that nothing was lost.

Every line of the Python standard library's source goes in as a record, with its file's name as the key. At the end
all is read back, and each file's lines must have the digest they were sent with: each once, and in order.
"""

import asyncio
import hashlib
import shutil
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ottla.client.errors import BufferFull, OttlaError

from .dev_nodes import DevNodes, end_on_signals, free_ports
from .dev_state import new_state, write_state
from .problems import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, show_problem
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.producer import Producer, RecordFuture

TOPIC = "stdlib"
PARTITIONS = 6
NODES = 3
VICTIM_PARTITION = 0
KILL_AT, RESTART_AT = 0.4, 0.7
"""Parts of the stream after which the leader is killed, and started again."""
SLICE = 200
"""Lines sent between two looks at the event loop."""
BACK_IN_SYNC_S = 60.0


class Source(NamedTuple):
    """A file to stream."""

    name: str
    lines: list[bytes]


class Failed(OttlaError):
    """The demonstration did not show what it should."""

    code = "OTTLA-DEMO-FAILED"


def main() -> int:
    """Run it all in a temporary directory. Returns the exit code."""
    end_on_signals()
    directory = Path(tempfile.mkdtemp(prefix="ottla-demo-"))
    cluster = DevNodes(directory)
    try:
        write_state(directory, new_state(free_ports(NODES)))
        _run(cluster)
        return EXIT_DONE
    except OttlaError as error:
        print(show_problem(error), file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        cluster.stop(timeout_s=10.0)
        shutil.rmtree(directory, ignore_errors=True)


def read_sources(root: Path) -> Iterator[Source]:
    """The Python files below ``root``, in order of their names."""
    for path in sorted(root.rglob("*.py")):
        if {"site-packages", "dist-packages"} & set(path.parts):
            continue
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            continue
        if lines:
            yield Source(str(path.relative_to(root)), lines)


def _run(cluster: DevNodes) -> None:
    from ottla.log.clock import SystemClock

    clock = SystemClock()
    started_s = clock.monotonic()
    for node in cluster.state.nodes:
        cluster.start(node.number)
    cluster.wait_ready()
    addresses = ", ".join(node.address for node in cluster.state.nodes)
    _tell(f"{NODES} nodes are ready after {clock.monotonic() - started_s:.1f} s: {addresses}")
    sources = list(read_sources(Path(sysconfig.get_path("stdlib"))))
    servers = ",".join(node.address for node in cluster.state.nodes)
    with_client(servers, lambda client: _Demo(client, cluster, sources).run())


def _tell(line: str) -> None:
    print(line, flush=True)


class Tally:
    """The digest and number of the lines of each file, in the order they come."""

    def __init__(self) -> None:
        self._digests: dict[str, hashlib._Hash] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, line: bytes) -> None:
        digest = self._digests.get(name)
        if digest is None:
            digest = self._digests[name] = hashlib.sha256()
            self._counts[name] = 0
        digest.update(line + b"\n")
        self._counts[name] += 1

    def result(self) -> dict[str, tuple[str, int]]:
        """By file, its digest and its number of lines."""
        return {name: (digest.hexdigest(), self._counts[name]) for name, digest in self._digests.items()}


class _Demo:
    def __init__(self, client: "Client", cluster: DevNodes, sources: list[Source]) -> None:
        self._client = client
        self._cluster = cluster
        self._sources = sources
        self._clock = client.cluster.clock
        self._total = sum(len(source.lines) for source in sources)
        self._sent = Tally()
        self._waiting: deque[RecordFuture] = deque()
        self._victim = 0
        self._killed_s = 0.0
        self._probe: RecordFuture | None = None
        self._failover_s: float | None = None

    async def run(self) -> None:
        await self._client.admin.create_topic(
            TOPIC, partitions=PARTITIONS, replication=NODES, config={"min.insync.replicas": 2}
        )
        _tell(f"Topic {TOPIC}: {PARTITIONS} partitions, {NODES} replicas, 2 of them in sync before a record counts")
        await self._stream()
        await self._until_in_sync()
        await self._prove()

    # --- sending -----------------------------------------------------------------------------------------------------

    async def _stream(self) -> None:
        _tell(f"Streaming {self._total:,} lines of {len(self._sources):,} files, acks=all")
        started_s = self._clock.monotonic()
        size = 0
        async with self._client.producer() as producer:
            for number, (source, line) in enumerate(self._lines()):
                if number == int(self._total * KILL_AT):
                    await self._kill_leader()
                elif number == int(self._total * RESTART_AT):
                    await self._await_failover()
                    self._cluster.start(self._victim)
                    _tell(f"  n{self._victim} is started again")
                await self._send(producer, source, line)
                size += len(line)
                if number % SLICE == 0:
                    self._settle()
                    await asyncio.sleep(0)
            await producer.flush()
            self._settle()
        seconds = self._clock.monotonic() - started_s
        _tell(
            f"All {self._total:,} acknowledged in {seconds:.1f} s, failure included: "
            f"{self._total / seconds:,.0f} records/s, {size / 1e6 / seconds:.1f} MB/s"
        )

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        for source in self._sources:
            for line in source.lines:
                yield source.name, line

    async def _send(self, producer: "Producer", name: str, line: bytes) -> None:
        key = name.encode()
        while True:
            try:
                future = producer.send_nowait(TOPIC, line, key)
                break
            except BufferFull:
                await asyncio.wait([self._waiting[0]])
                self._settle()
        self._waiting.append(future)
        self._sent.add(name, line)
        if self._killed_s and self._probe is None and self._is_victim(key):
            self._probe = future
            future.add_done_callback(self._note_failover)

    def _settle(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()

    # --- the failure -------------------------------------------------------------------------------------------------

    @staticmethod
    def _is_victim(key: bytes) -> bool:
        from ottla.client.partitioner import partition_for_key

        return partition_for_key(key, PARTITIONS) == VICTIM_PARTITION

    async def _kill_leader(self) -> None:
        topic = await self._client.admin.describe_topic(TOPIC)
        leader = topic.partitions[VICTIM_PARTITION].state.leader
        if leader is None:
            raise Failed(f"partition {VICTIM_PARTITION} has no leader")
        self._victim = int(leader)
        self._killed_s = self._clock.monotonic()
        self._cluster.kill(self._victim)
        _tell(f"  kill -9 n{self._victim}, the leader of partition {VICTIM_PARTITION}, in mid-stream; streaming on")

    def _note_failover(self, future: "RecordFuture") -> None:
        if not future.cancelled() and future.exception() is None:
            self._failover_s = self._clock.monotonic() - self._killed_s
            _tell(
                f"  failover: partition {VICTIM_PARTITION} acknowledges again {self._failover_s:.2f} s after the kill"
            )

    async def _await_failover(self) -> None:
        """What is told next must come after the failover in time, too."""
        if self._probe is not None:
            await asyncio.wait([self._probe])
            await asyncio.sleep(0)

    async def _until_in_sync(self) -> None:
        deadline_s = self._clock.monotonic() + BACK_IN_SYNC_S
        while True:
            topic = await self._client.admin.describe_topic(TOPIC)
            if all(len(partition.state.isr) == NODES for partition in topic.partitions):
                _tell(f"n{self._victim} has caught up: every partition has {NODES} replicas in sync")
                return
            if self._clock.monotonic() > deadline_s:
                raise Failed(f"n{self._victim} did not catch up within {BACK_IN_SYNC_S:g} s")
            await asyncio.sleep(0.1)

    # --- the proof ---------------------------------------------------------------------------------------------------

    async def _prove(self) -> None:
        started_s = self._clock.monotonic()
        found, records = Tally(), 0
        async with self._client.consumer(TOPIC, start="earliest") as consumer:
            async for record in consumer.read_to_end():
                found.add((record.key or b"").decode(), record.value or b"")
                records += 1
        seconds = self._clock.monotonic() - started_s
        _tell(f"Read back {records:,} records in {seconds:.1f} s: {records / seconds:,.0f} records/s")
        check_tallies(self._sent.result(), found.result())
        if self._failover_s is None:
            raise Failed("no record of the killed leader's partition was acknowledged after the kill")
        _tell(f"Proved by SHA-256: every line of {len(self._sources):,} files is there, once, and in order")


def check_tallies(sent: dict[str, tuple[str, int]], found: dict[str, tuple[str, int]]) -> None:
    """Raises Failed unless they are the same, and says where they are not."""
    for name in sorted({*sent, *found}):
        if sent.get(name) != found.get(name):
            lines, stored = (tally.get(name, ("", 0))[1] for tally in (sent, found))
            raise Failed(f"{name}: {lines} lines were sent, {stored} came back, and their digests differ")


if __name__ == "__main__":
    sys.exit(main())
