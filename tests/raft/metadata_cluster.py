"""A state machine to talk to: one command a call, brokers by their numbers."""

from collections.abc import Sequence

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, TopicId
from ottla.raft.commands import (
    AlterPartition,
    Body,
    Command,
    CreateTopic,
    DrainBroker,
    FenceBroker,
    RegisterBroker,
    RegisterBroker2,
    RegisterBroker3,
    Requester,
    UnfenceBroker,
    encode_command,
)
from ottla.raft.events import Event
from ottla.raft.image import Listener, MetadataImage, Partition
from ottla.raft.results import (
    Done,
    Refused,
    Registered,
    Result,
    decode_result,
)
from ottla.raft.state_machine import MetadataStateMachine


def topic_id(number: int) -> TopicId:
    return TopicId(f"{number:022d}")


TOPIC = topic_id(1)


class Cluster:
    """A state machine and a way to talk to it; index rises by one a command."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Sequence[Event]]] = []
        self.machine = MetadataStateMachine(observer=lambda image, events: self.events.append((self.index, events)))
        self.index = 0

    @property
    def image(self) -> MetadataImage:
        return self.machine.image

    def __call__(self, body: Body, requester: Requester | None = None) -> Result:
        self.index += 1
        result = decode_result(self.machine.apply(self.index, 1, encode_command(Command(0, requester, body))))
        assert self.image.index == self.index
        return result

    def epoch(self, broker: int) -> BrokerEpoch:
        return self.image.brokers[BrokerId(broker)].broker_epoch

    def register(
        self,
        broker: int,
        *,
        unclean: bool = False,
        directory: str = "",
        rack: str | None = None,
        previous: int | None = None,
        quarantined: bool = False,
        damaged: Sequence[tuple[TopicId, int]] | None = None,
        listeners: Sequence[Listener] | None = None,
    ) -> Result:
        """With what an older release does not say, in the command that has a place for it."""
        known = self.image.brokers.get(BrokerId(broker))
        before = known.broker_epoch if known is not None and previous is None else previous
        incarnation = f"{broker}-{self.index}"
        where = DirectoryId(directory or f"dir{broker}")
        old = BrokerEpoch(before) if before is not None else None
        lost = tuple(damaged or ())
        if listeners is not None:
            who = (BrokerId(broker), incarnation, where, f"b{broker}", 7080, rack, unclean, lost, old)
            return self(RegisterBroker3(*who, listeners=tuple(listeners)))
        if damaged is not None:
            return self(
                RegisterBroker2(BrokerId(broker), incarnation, where, f"b{broker}", 7080, rack, unclean, lost, old)
            )
        return self(
            RegisterBroker(BrokerId(broker), incarnation, where, f"b{broker}", 7080, rack, unclean, old, quarantined)
        )

    def register3(self, broker: int, previous: int | None, *, unclean: bool = False, damaged: bool = False) -> Result:
        """By the newest command. ``previous``: the epoch on the disk."""
        lost = ((TOPIC, 0),) if damaged else ()
        return self(
            RegisterBroker3(
                broker_id=BrokerId(broker),
                incarnation_id=f"{broker}-{self.index}",
                directory_id=DirectoryId(f"dir{broker}"),
                host=f"b{broker}",
                port=7080,
                rack=None,
                unclean=unclean,
                damaged=lost,
                previous_broker_epoch=None if previous is None else BrokerEpoch(previous),
            )
        )

    def fence(self, broker: int) -> Result:
        return self(FenceBroker(BrokerId(broker), self.epoch(broker)))

    def unfence(self, broker: int) -> Result:
        return self(UnfenceBroker(BrokerId(broker), self.epoch(broker)))

    def drain(self, broker: int) -> Result:
        return self(DrainBroker(BrokerId(broker), self.epoch(broker)))

    def start(self, *brokers: int, **how: object) -> None:
        for broker in brokers:
            assert isinstance(self.register(broker, **how), Registered)  # type: ignore[arg-type]
            assert self.unfence(broker) == Done()

    def create(self, *replicas: int, minimum: int | None = None, name: str = "t", number: int = 1) -> Result:
        configs = {} if minimum is None else {"min.insync.replicas": str(minimum)}
        assigned = (tuple(BrokerId(replica) for replica in replicas),)
        return self(CreateTopic(name, topic_id(number), assignments=assigned, configs=configs))

    def partition(self, topic: TopicId = TOPIC, number: int = 0) -> Partition:
        partition = self.image.partition(topic, number)
        assert partition is not None
        return partition

    def alter(
        self, *isr: int, leader: int | None = None, before: Partition | None = None, sequence: int = -1
    ) -> Result:
        now = before or self.partition()
        leader = leader or now.leader
        assert leader is not None
        members = tuple((BrokerId(member), self.epoch(member)) for member in isr)
        body = AlterPartition(TOPIC, 0, now.leader_epoch, now.partition_epoch, members)
        return self(body, Requester(BrokerId(leader), self.epoch(leader), self.index))

    def state(self) -> tuple[object, ...]:
        """leader, ISR, ELR: what a story is about."""
        partition = self.partition()
        return partition.leader, partition.isr, partition.elr


def code(result: Result) -> str | None:
    return result.code if isinstance(result, Refused) else None
