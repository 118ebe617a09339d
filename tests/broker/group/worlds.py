"""What the tests of groups share: a shard whose records are kept as bytes, and can be replayed, compacted or not."""

from dataclasses import dataclass, field

from ottla.broker.group.outcome import GroupLimits, GroupRefused, Outcome
from ottla.broker.group.record_codec import decode_record, encode_key, encode_value
from ottla.broker.group.shard import Shard
from ottla.client.group_protocol import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    TopicPartitions,
)
from ottla.client.topic_pattern import matching
from ottla.log.model import TopicId, TopicIdPartition

GROUP = "g"


def topic_id(name: str) -> TopicId:
    return TopicId((name * 22)[:21] + "A")


@dataclass
class World:
    """One shard and its log. Everything appended is committed at once."""

    limits: GroupLimits = field(default_factory=lambda: GroupLimits(initial_delay_s=0.0))
    topics: dict[str, tuple[TopicId, int]] = field(default_factory=dict)
    now_s: float = 1_000.0

    def __post_init__(self) -> None:
        self.log: list[tuple[bytes, bytes | None]] = []
        self.written_ms: list[int] = []  # of each record there
        self.answers: dict[object, object] = {}
        self.shard = self._new()
        self._ids = 0

    def _new(self) -> Shard:
        return Shard(self.limits, lambda name: self.topics.get(name), lambda pattern: matching(pattern, self.topics))

    @property
    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    # --- what happens ------------------------------------------------------------------------------------------------

    def carry_out(self, outcome: Outcome) -> None:
        for record in outcome.records:
            self.log.append((encode_key(record.key), None if record.value is None else encode_value(record.value)))
            self.written_ms.append(self.now_ms)
            self.shard.replay(record, self.now_ms)
        for waiter, response in outcome.replies + (outcome.accept() if outcome.accept is not None else []):
            assert waiter not in self.answers, f"{waiter} is answered twice"
            self.answers[waiter] = response

    def ask(self, request, waiter: object | None = None):
        """The answer, or the error of a refusal; None while it waits."""
        self._ids += 1
        waiter = f"waiter-{self._ids}" if waiter is None else waiter
        new_id = f"member-{self._ids}"
        try:
            self.carry_out(self._decide(request, waiter, new_id))
        except GroupRefused as refused:
            return refused.error
        return self.answers.get(waiter)

    def _decide(self, request, waiter: object, new_id: str) -> Outcome:
        match request:
            case OffsetCommitRequest():
                return self.shard.commit(request, waiter, self.now_s, self.now_ms)
            case OffsetFetchRequest():
                return self.shard.fetch(request, waiter)
            case OffsetDeleteRequest():
                return self.shard.delete_offsets(request, waiter)
            case ConsumerGroupHeartbeatRequest():
                return self.shard.answer_consumer(request, waiter, new_id, self.now_s)
            case _:
                return self.shard.answer_classic(request, waiter, new_id, self.now_s, self.now_ms)

    def wait(self, seconds: float) -> None:
        """Time passes; deadlines come in their order."""
        until_s = self.now_s + seconds
        while (next_s := self.shard.timers.next_s) is not None and next_s <= until_s:
            self.now_s = max(self.now_s, next_s)
            for key in self.shard.timers.expired(self.now_s):
                self.carry_out(self.shard.expire(key, self.now_s, self.now_ms))
        self.now_s = until_s

    def topics_changed(self) -> None:
        self.shard.topics_version += 1

    def failover(self, *, compact: bool = False) -> None:
        """Another broker replays the log."""
        log = [(key, value, at_ms) for (key, value), at_ms in zip(self.log, self.written_ms, strict=True)]
        if compact:
            last = {key: at for at, (key, *_) in enumerate(log)}
            log = [each for at, each in enumerate(log) if last[each[0]] == at and each[1] is not None]
        self.shard = self._new()
        for key, value, at_ms in log:
            record = decode_record(key, value)
            assert record is not None
            self.shard.replay(record, at_ms)
        self.shard.loaded(self.now_s, self.now_ms)


@dataclass
class Reader:
    """A member of the consumer protocol as a client would be. ``owned``: what it works on."""

    world: World
    member_id: str
    topics: tuple[str, ...] = ("t",)
    instance_id: str | None = None
    epoch: int = 0
    owned: frozenset[TopicIdPartition] = frozenset()
    full: bool = True

    def request(self) -> ConsumerGroupHeartbeatRequest:
        full = self.full or self.epoch == 0
        return ConsumerGroupHeartbeatRequest(
            GROUP,
            self.member_id,
            self.epoch,
            instance_id=self.instance_id,
            rebalance_timeout_ms=10_000 if full else None,
            subscribed_topic_names=self.topics if full else None,
            topic_partitions=as_topics(self.owned),
        )

    def beat(self, *, lost: bool = False):
        """One heartbeat; ``lost``: its answer never comes."""
        answer = self.world.ask(self.request())
        if lost:
            self.full = True
            return answer
        return self.take(answer)

    def take(self, answer):
        if isinstance(answer, ConsumerGroupHeartbeatResponse):
            self.epoch, self.full = answer.member_epoch, False
            if answer.assignment is not None:
                self.owned = frozenset(
                    TopicIdPartition(topic.topic_id, n) for topic in answer.assignment for n in topic.partitions
                )
        else:
            self.epoch, self.owned, self.full = 0, frozenset(), True
        return answer

    def leave(self, epoch: int = -1):
        answer = self.world.ask(ConsumerGroupHeartbeatRequest(GROUP, self.member_id, epoch, self.instance_id))
        self.epoch, self.owned, self.full = 0, frozenset(), True
        return answer


def as_topics(partitions: frozenset[TopicIdPartition]) -> tuple[TopicPartitions, ...]:
    topics: dict[TopicId, list[int]] = {}
    for found, number in sorted(partitions):
        topics.setdefault(found, []).append(number)
    return tuple(TopicPartitions(found, tuple(numbers)) for found, numbers in topics.items())
