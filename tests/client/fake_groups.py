"""A small coordinator of KIP-848's groups, pure: what a member of the SDK is tested against."""

from dataclasses import dataclass, field

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommittedPartition,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    Coordinator,
    FetchedOffset,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    TopicPartitions,
)
from ottla.client.protocol import Request, Response
from ottla.log.model import BrokerId, LeaderEpoch, Offset, TopicId

Target = set[tuple[str, int]]


@dataclass
class Member:
    """``told``: what it was last told it may own; ``owned``: what it says it owns; ``may_hold``: that, and what it was
    told since: it has not let go of that before it says so."""

    instance_id: str | None
    topics: tuple[str, ...]
    epoch: int = 0
    owned: Target = field(default_factory=set)
    may_hold: Target = field(default_factory=set)
    told: Target | None = None
    target: Target = field(default_factory=set)


class FakeGroups:
    """One group, coordinated by ``coordinator``. ``topics``: name -> (id, partitions), asked for at every change."""

    def __init__(self, describe_topics) -> None:
        self._describe_topics = describe_topics
        self.coordinator = 1
        self.loading = False
        self.interval_ms = 20
        self.members: dict[str, Member] = {}
        self.epoch = 0
        self.offsets: dict[tuple[str, int], int] = {}
        self.epochs: dict[tuple[str, int], LeaderEpoch | None] = {}
        self.heartbeats: list[ConsumerGroupHeartbeatRequest] = []
        self.commits: list[OffsetCommitRequest] = []
        self.commit_errors: list[ErrorCode] = []  # of the next ones
        self.double_owners: list[tuple[str, int]] = []

    def answer(self, node: int, request: Request) -> Response | None:
        match request:
            case FindCoordinatorRequest():
                found = [Coordinator(name, ErrorCode.NONE, BrokerId(self.coordinator)) for name in request.group_ids]
                return FindCoordinatorResponse(tuple(found))
            case ConsumerGroupHeartbeatRequest():
                return ConsumerGroupHeartbeatResponse(self._hinder(node)) if self._hinder(node) else self._beat(request)
            case OffsetCommitRequest():
                return OffsetCommitResponse(self._hinder(node)) if self._hinder(node) else self._commit(request)
            case OffsetFetchRequest():
                return OffsetFetchResponse(self._hinder(node)) if self._hinder(node) else self._fetch(request)
        return None

    def _hinder(self, node: int) -> ErrorCode:
        if node != self.coordinator:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if self.loading else ErrorCode.NONE

    # --- members -----------------------------------------------------------------------------------------------------

    def fence(self, member_id: str) -> None:
        """As if its session had ended."""
        del self.members[member_id]
        self.assign()

    def assign(self) -> None:
        """A new target: partitions in turn, those that are owned stay where they are as far as is even."""
        self.epoch += 1
        everything = sorted(
            (topic_id, number)
            for name, (topic_id, count) in self._describe_topics().items()
            for number in range(count)
            if any(name in member.topics for member in self.members.values())
        )
        if not self.members:
            return
        most = -(-len(everything) // len(self.members))
        free = set(everything)
        for member in self.members.values():
            member.target = set(sorted(member.target & free)[:most])
            free -= member.target
        for partition in sorted(free):
            min(self.members.values(), key=lambda member: len(member.target)).target.add(partition)

    def _beat(self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse:
        self.heartbeats.append(request)
        name = request.member_id
        if request.member_epoch in (-1, -2):
            if name in self.members:
                self.fence(name)
            return ConsumerGroupHeartbeatResponse(ErrorCode.NONE, name, request.member_epoch)
        if request.member_epoch == 0:
            assert request.topic_partitions == ()
            assert request.subscribed_topic_names is not None
            assert request.rebalance_timeout_ms is not None
            if any(
                member.instance_id == request.instance_id is not None and other != name
                for other, member in self.members.items()
            ):
                return ConsumerGroupHeartbeatResponse(ErrorCode.UNRELEASED_INSTANCE_ID)
            self.members[name] = Member(request.instance_id, request.subscribed_topic_names)
            self.assign()
        member = self.members.get(name)
        if member is None:
            return ConsumerGroupHeartbeatResponse(ErrorCode.UNKNOWN_MEMBER_ID)
        if request.member_epoch not in (0, member.epoch):
            return ConsumerGroupHeartbeatResponse(ErrorCode.FENCED_MEMBER_EPOCH)
        if request.topic_partitions is not None:
            member.owned = {(t.topic_id, number) for t in request.topic_partitions for number in t.partitions}
            member.may_hold = set(member.owned)
            self._check_owners()
        return self._reconcile(name, member, in_full=request.subscribed_topic_names is not None)

    def _reconcile(self, name: str, member: Member, *, in_full: bool) -> ConsumerGroupHeartbeatResponse:
        """``in_full``: it has said everything, so it may not have heard the last answer."""
        may_own = member.target & member.may_hold
        if member.may_hold <= member.target:
            member.epoch = self.epoch
            others = [other for other in self.members.values() if other is not member]
            may_own = member.target - {p for other in others for p in other.may_hold}
        response = ConsumerGroupHeartbeatResponse(ErrorCode.NONE, name, member.epoch, self.interval_ms)
        if in_full or may_own != member.told:
            member.told = may_own
            member.may_hold |= may_own
            topics: dict[str, list[int]] = {}
            for topic_id, number in sorted(may_own):
                topics.setdefault(topic_id, []).append(number)
            response.assignment = tuple(TopicPartitions(TopicId(t), tuple(n)) for t, n in topics.items())
        return response

    def _check_owners(self) -> None:
        owned = [partition for member in self.members.values() for partition in member.owned]
        self.double_owners += [partition for partition in set(owned) if owned.count(partition) > 1]

    # --- offsets -----------------------------------------------------------------------------------------------------

    def _commit(self, request: OffsetCommitRequest) -> OffsetCommitResponse:
        self.commits.append(request)
        if self.commit_errors:
            return OffsetCommitResponse(self.commit_errors.pop(0), message="as the test says")
        member = self.members.get(request.member_id)
        if member is None:
            return OffsetCommitResponse(ErrorCode.UNKNOWN_MEMBER_ID)
        if request.generation_id_or_member_epoch != member.epoch:
            return OffsetCommitResponse(ErrorCode.STALE_MEMBER_EPOCH)
        for commit in request.partitions:
            self.offsets[commit.topic, commit.partition] = commit.offset
            self.epochs[commit.topic, commit.partition] = commit.leader_epoch
        done = tuple(CommittedPartition(c.topic, c.partition, ErrorCode.NONE) for c in request.partitions)
        return OffsetCommitResponse(ErrorCode.NONE, done)

    def _fetch(self, request: OffsetFetchRequest) -> OffsetFetchResponse:
        if request.member_epoch is not None:
            member = self.members.get(request.member_id)
            if member is None:
                return OffsetFetchResponse(ErrorCode.UNKNOWN_MEMBER_ID)
            if member.epoch != request.member_epoch:
                return OffsetFetchResponse(ErrorCode.STALE_MEMBER_EPOCH)
        found = []
        for asked in request.partitions or ():
            key = (asked.topic, asked.partition)
            offset = self.offsets.get(key)
            at = None if offset is None else Offset(offset)
            found.append(FetchedOffset(*key, at, leader_epoch=self.epochs.get(key)))
        return OffsetFetchResponse(ErrorCode.NONE, tuple(found))
