"""The load of a run, through the real SDK, and the judgement of it afterwards.

Producers whose every acknowledgement is remembered (the load of the process tests); one with acks=1; a consumer that
follows along, and what it was once shown must never disappear or change; topics that are made and deleted meanwhile.
"""

import asyncio
import itertools
from collections.abc import Awaitable
from dataclasses import dataclass, field

from ottla.client.client import connect
from ottla.client.errors import OttlaError, TopicExists, TopicNotFound
from tests.processes.load import Load, LoadReport, Stored, check_stored, read_stored

from .world import CLIENT, SimulatedCluster, Violation

TOPIC = "events"
IMAGE_LOOKS = 6
VERIFY_S_MAX = 60.0
TOPICS_MAX = 60


@dataclass
class Seen:
    """What the consumer was shown, by partition and offset."""

    records: dict[tuple[int, int], tuple[bytes, bytes]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    restarts: int = 0


class Workload:
    """``start``, faults, ``finish``."""

    def __init__(self, cluster: SimulatedCluster, *, producers: int = 3, partitions: int = 3) -> None:
        self.report = LoadReport()
        self.seen = Seen()
        self._cluster = cluster
        self._producers = producers
        self._partitions = partitions
        self._stopping: asyncio.Event | None = None
        self._running: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._making: asyncio.Task[None] | None = None
        self._loose: asyncio.Task[None] | None = None
        self.made: list[str] = []  # topics whose creation was acknowledged, and no deletion asked for
        self.deleted: list[str] = []  # topics whose deletion was acknowledged

    async def start(self) -> None:
        """Make the topic, then load it until ``finish``."""
        loop = self._cluster.loop
        await loop.spawn(CLIENT, self._make_topic())
        self._stopping = asyncio.Event()
        self._running = loop.spawn(CLIENT, self._load(self._stopping))
        self._following = loop.spawn(CLIENT, self._follow())
        self._making = loop.spawn(CLIENT, self._make_topics())
        self._loose = loop.spawn(CLIENT, self._produce_loosely())

    async def _make_topic(self) -> None:
        async with connect(self._cluster.servers) as client:
            await client.admin.create_topic(TOPIC, partitions=self._partitions, replication=3)

    async def _make_topics(self) -> None:
        """Small topics, one after another: what the quorum acknowledged it must not forget."""
        async with connect(self._cluster.servers) as client:
            for number in range(TOPICS_MAX):
                name = f"topic-{number}"
                if await self._admin(client.admin.create_topic(name, partitions=1, replication=3), TopicExists):
                    self.made.append(name)
                await asyncio.sleep(0.3)
                if number % 4 == 3:
                    name = f"topic-{number - 2}"
                    known = name in self.made
                    if known:
                        self.made.remove(name)
                    if await self._admin(client.admin.delete_topic(name), TopicNotFound) and known:
                        self.deleted.append(name)

    async def _admin(self, request: Awaitable[object], done_already: type[OttlaError]) -> bool:
        """Whether it is known to be done."""
        try:
            await request
        except done_already:
            return True
        except OttlaError as error:
            self._cluster.loop.trace.note(CLIENT, "not done", repr(error))
            return False
        return True

    async def _produce_loosely(self) -> None:
        """With acks=1: these may be lost, but not once somebody has read them."""
        assert self._stopping is not None
        async with connect(self._cluster.servers) as client, client.producer(acks=1) as producer:
            for number in itertools.count():
                if self._stopping.is_set():
                    return
                try:
                    await producer.send(TOPIC, value=b"%d" % number, key=b"loose-%d" % (number % 7))
                except OttlaError as error:
                    self._cluster.loop.trace.note(CLIENT, "loosely not sent", repr(error))
                await asyncio.sleep(0.05)

    async def _load(self, stopping: asyncio.Event) -> None:
        while True:
            try:
                load = await Load(self._cluster.servers, TOPIC, self._producers, pause_s=0.05).__aenter__()
                break
            except OttlaError:
                await asyncio.sleep(0.5)
        self.report = load.report
        await stopping.wait()
        await load.__aexit__(None, None, None)

    async def _follow(self) -> None:
        while True:
            try:
                async with connect(self._cluster.servers) as client, client.consumer(TOPIC) as consumer:
                    async for record in consumer:
                        self._show(record.partition, record.offset, record.key, record.value)
            except OttlaError as error:
                self.seen.restarts += 1
                self._cluster.loop.trace.note(CLIENT, "consumer ended", repr(error))
                if type(error).__name__ == "LogTruncated":
                    self.seen.problems.append(f"the consumer was told {error}")
                await asyncio.sleep(0.5)

    def _show(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        assert key is not None
        assert value is not None
        before = self.seen.records.setdefault((partition, offset), (key, value))
        if before != (key, value):
            self.seen.problems.append(f"{partition}/{offset} was {before} and became {(key, value)}")

    def progressed(self, before: dict[int, int]) -> bool:
        """Whether every producer had something acknowledged since it had ``before``."""
        acknowledged = self.report.acknowledged
        return len(acknowledged) == self._producers and all(
            len(values) > before.get(number, 0) for number, values in acknowledged.items()
        )

    async def finish(self) -> Stored:
        """With every fault mended: stop, read everything back and judge. Raises Violation."""
        loop = self._cluster.loop
        assert self._stopping is not None
        assert self._running is not None
        assert self._following is not None
        self._stopping.set()
        assert self._loose is not None
        await asyncio.wait_for(asyncio.gather(self._running, self._loose), VERIFY_S_MAX * 2)
        stored = await asyncio.wait_for(loop.spawn(CLIENT, read_stored(self._cluster.servers, TOPIC)), VERIFY_S_MAX)
        self._following.cancel()
        await asyncio.wait([self._following])
        await self._end_making()
        self._judge(stored)
        return stored

    async def _end_making(self) -> None:
        assert self._making is not None
        self._making.cancel()
        await asyncio.wait([self._making])
        # Any node answers from its own image, and one that made nothing may be a heartbeat behind.
        for _ in range(IMAGE_LOOKS):
            there = await asyncio.wait_for(self._cluster.loop.spawn(CLIENT, self._list_topics()), VERIFY_S_MAX)
            lost = [name for name in self.made if name not in there]
            undead = [name for name in self.deleted if name in there]
            if not lost and not undead:
                return
            await asyncio.sleep(0.5)
        raise Violation(f"topics acknowledged and forgotten: {lost}; deleted and there: {undead}")

    async def _list_topics(self) -> set[str]:
        async with connect(self._cluster.servers) as client:
            return {topic.name for topic in await client.admin.list_topics()}

    def _judge(self, stored: Stored) -> None:
        try:
            check_stored(stored, self.report)
        except AssertionError as error:
            raise Violation(str(error)) from error
        for where, content in self.seen.records.items():
            if stored.records.get(where) != content:
                self.seen.problems.append(f"{where} was read as {content} and is now {stored.records.get(where)}")
        if self.seen.problems:
            raise Violation("; ".join(self.seen.problems[:5]))
        for number in self.report.acknowledged:
            self._cluster.loop.trace.record("acknowledged", number, self.report.acknowledged[number])
