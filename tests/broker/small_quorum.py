"""What the tests of one broker's parts share: the real metadata state machine, a clock set by hand, real logs on
crashing disks, and a replica manager whose executor the test may hold."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ottla.broker.replica import Replica
from ottla.broker.replica_manager import ReplicaManager
from ottla.log.manager import LogManager
from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, ProducerEpoch, ProducerId, TopicId, TopicIdPartition
from ottla.log.records import BatchBuilder
from ottla.raft.commands import (
    AlterPartition,
    Body,
    Command,
    CreateTopic,
    RegisterBroker,
    Requester,
    UnfenceBroker,
    encode_command,
)
from ottla.raft.image import MetadataImage, Partition
from ottla.raft.results import Registered, Result, decode_result
from ottla.raft.state_machine import MetadataStateMachine

from ..simulation.crashing_storage import CrashingStorage, SeededChance

A, B, C = BrokerId(1), BrokerId(2), BrokerId(3)
TOPIC, OTHER = TopicId("T" * 22), TopicId("U" * 22)
T = TypeVar("T")


class HandClock:
    """Time moves when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class SmallQuorum:
    """Decides at once; ``epochs`` are the brokers' present ones."""

    def __init__(self, *brokers: BrokerId, racks: dict[BrokerId, str] | None = None) -> None:
        self.racks = racks or {}
        self.machine = MetadataStateMachine()
        self.index = 0
        self.epochs: dict[BrokerId, BrokerEpoch] = {}
        for broker in brokers:
            self.register(broker)
            self.decide(UnfenceBroker(broker, self.epochs[broker]))

    @property
    def image(self) -> MetadataImage:
        return self.machine.image

    def decide(self, body: Body, asker: BrokerId | None = None) -> Result:
        self.index += 1
        requester = None if asker is None else Requester(asker, self.epochs[asker], self.index)
        return decode_result(self.machine.apply(self.index, 1, encode_command(Command(0, requester, body))))

    def alter_isr(self, topic_id: TopicId, *members: BrokerId) -> Result:
        """As its leader would ask."""
        state = self.state(topic_id)
        epochs = tuple((member, self.epochs[member]) for member in members)
        assert state.leader is not None
        return self.decide(AlterPartition(topic_id, 0, state.leader_epoch, state.partition_epoch, epochs), state.leader)

    def register(self, broker: BrokerId) -> BrokerEpoch:
        result = self.decide(
            RegisterBroker(
                broker_id=broker,
                incarnation_id=f"{broker}-{self.index}",
                directory_id=DirectoryId("D" * 22),
                host="h",
                port=1,
                rack=self.racks.get(broker),
                unclean=False,
                previous_broker_epoch=self.epochs.get(broker),
            )
        )
        assert isinstance(result, Registered)
        self.epochs[broker] = result.broker_epoch
        return result.broker_epoch

    def create(self, name: str, topic_id: TopicId, *replicas: BrokerId, partitions: int = 1) -> None:
        self.decide(CreateTopic(name=name, topic_id=topic_id, assignments=(replicas,) * partitions))

    def state(self, topic_id: TopicId = TOPIC, partition: int = 0) -> Partition:
        state = self.image.partition(topic_id, partition)
        assert state is not None
        return state


class Executor:
    """Runs calls at once, or once ``free`` is set; then the newest first, as several workers may."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self._held: list[asyncio.Event] = []

    async def __call__(self, call: Callable[[], T], /) -> T:
        if not self.free.is_set():
            mine = asyncio.Event()
            self._held.append(mine)
            await self.free.wait()
            if self._held[-1] is not mine:
                await mine.wait()
            self._held.remove(mine)
            if self._held:
                self._held[-1].set()
        return call()


class Following:
    """Remembers who is pulled for."""

    def __init__(self) -> None:
        self.replicas: list[Replica] = []

    def follow(self, replica: Replica) -> None:
        self.replicas.append(replica)

    def unfollow(self, replica: Replica) -> None:
        if replica in self.replicas:
            self.replicas.remove(replica)


class OneBroker:
    """Broker 1 of a small quorum."""

    def __init__(self, quorum: SmallQuorum, storage: CrashingStorage | None = None, *, lag_s: float = 5.0) -> None:
        self.quorum = quorum
        self.storage = storage or CrashingStorage(1)
        self.clock = HandClock()
        self.executor = Executor()
        self.fetchers = Following()
        self.logs = LogManager(self.storage, Path("/data/logs"), self.clock, SeededChance(1))
        self.manager = ReplicaManager(
            local=A, logs=self.logs, clock=self.clock, run_blocking=self.executor, lag_s_max=lag_s
        )
        self.manager.fetchers = self.fetchers

    async def start(self) -> None:
        await self.manager.open_all(self.quorum.image)
        self.manager.activate(self.quorum.epochs[A])

    async def see(self) -> None:
        """Apply the newest image, and let logs open."""
        self.manager.apply_image(self.quorum.image)
        await self.manager.settled()

    async def release(self) -> None:
        """Let the executor go on, once everything that has been begun waits for it."""
        for _ in range(5):
            await asyncio.sleep(0)
        self.executor.free.set()

    def replica(self, topic_id: TopicId = TOPIC, partition: int = 0) -> Replica:
        return self.manager.replicas[TopicIdPartition(topic_id, partition)]

    def directories(self) -> list[str]:
        return [name for name in self.storage.listdir(Path("/data/logs")) if "-" in name and "checkpoint" not in name]


def a_batch(value: bytes = b"v", count: int = 1, producer: tuple[int, int, int] | None = None) -> bytes:
    """``producer``: id, epoch, first sequence."""
    builder = BatchBuilder()
    for _ in range(count):
        builder.append(None, value, timestamp_ms=1)
    if producer is None:
        return builder.build()
    return builder.build(ProducerId(producer[0]), ProducerEpoch(producer[1]), producer[2])
