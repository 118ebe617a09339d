"""The groups of one partition of `__consumer_offsets`: every request to its decision, every record to its state. Pure.

Decide, then replay: a decision changes nothing that is in the log. (A classic group's rebalance is not in the log:
its decisions change it at once.)
"""

from collections.abc import Callable

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH,
    CommittedPartition,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
)

from . import consumer_group, migration, offsets
from .classic import ClassicProtocol
from .classic_rebalance import JOIN, PENDING, REVOKE, SESSION, SYNC, TimerKey
from .classic_state import CONSUMERS, ClassicGroup
from .consumer_state import ConsumerGroupState
from .group_table import Group, GroupTable
from .mixed import MixedProtocol
from .outcome import FindTopic, GroupLimits, GroupRefused, Outcome, Reply, Waiter
from .records import (
    CURRENT,
    TARGET,
    UNREVOKED,
    GroupKey,
    GroupRecord,
    MemberKey,
)
from .timers import Timers

DOWNGRADE = "downgrade"
"""A consumer group whose members all speak the classic protocol becomes a classic one, once they are settled."""
CLASSIC_REQUESTS = JoinGroupRequest | SyncGroupRequest | HeartbeatRequest | LeaveGroupRequest


class Shard(GroupTable):
    """Decides what is asked of the groups."""

    def __init__(
        self, limits: GroupLimits, find_topic: FindTopic, matching: Callable[[str], tuple[str, ...]] | None = None
    ) -> None:
        super().__init__(limits, find_topic, matching)
        self.timers: Timers[TimerKey] = Timers()
        self.classic = ClassicProtocol(limits, self.timers)
        self.mixed = MixedProtocol(limits, self.timers, self.topics)
        self.rebalances = 0  # new targets of groups of the consumer protocol

    def loaded(self, now_s: float, now_ms: int) -> None:
        """All is replayed: every member has a full session to be heard of."""
        for group in self.groups.values():
            if isinstance(group, ClassicGroup):
                self.classic.loaded(group, now_s, now_ms)
            else:
                for member_id in group.members:
                    self._touch(group, member_id, now_s)
                    self._watch_revocation(group, member_id, now_s)
                self._watch_downgrade(group.group_id, now_s)

    # --- the classic protocol ----------------------------------------------------------------------------------------

    def answer_classic(
        self, request: CLASSIC_REQUESTS, waiter: Waiter, new_id: str, now_s: float, now_ms: int
    ) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        if isinstance(group, ConsumerGroupState) and group.members:
            return self._answer_mixed(group, request, waiter, new_id, now_s)
        upgrade: list[GroupRecord] = []
        if isinstance(request, JoinGroupRequest):
            self.check_room(joins=True, group_id=request.group_id)
            if isinstance(group, ConsumerGroupState):
                upgrade = self.forget_group(group)
                group = None
            known = group is not None
            group = group or ClassicGroup(request.group_id)
            outcome = self.classic.join(group, request, waiter, new_id, now_s, now_ms)
            if not known:
                for record in upgrade:
                    self.replay_end(record)
                group.pending |= self.mixed.take_pending(request.group_id)
                self.groups[request.group_id] = group
            outcome.records[:0] = upgrade
            return outcome
        if not isinstance(group, ClassicGroup):
            raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no classic group {request.group_id}")
        if isinstance(request, SyncGroupRequest):
            return self.classic.sync(group, request, waiter, now_s, now_ms)
        if isinstance(request, HeartbeatRequest):
            return self.classic.heartbeat(group, request, waiter, now_s)
        return self.classic.leave(group, request, waiter, now_s, now_ms)

    def _answer_mixed(
        self, group: ConsumerGroupState, request: CLASSIC_REQUESTS, waiter: Waiter, new_id: str, now_s: float
    ) -> Outcome:
        """Classic members of a consumer group. Raises GroupRefused."""
        version, group_id = self.topics_version, request.group_id
        changed = self.seen_topics.get(group_id) != version
        if isinstance(request, SyncGroupRequest):
            return self._watched(self.mixed.sync(group, request, waiter, now_s), group_id, now_s)
        if isinstance(request, LeaveGroupRequest):
            return self._watched(self.mixed.leave(group, request, waiter), group_id, now_s)
        if isinstance(request, HeartbeatRequest):
            outcome = self.mixed.heartbeat(group, request, waiter, changed, now_s)
        else:
            outcome = self.mixed.join(group, request, waiter, new_id, changed, now_s)
            if outcome.accept is None:
                return outcome  # it has its id, and is not in yet
        return self._watched(outcome, group_id, now_s, version)

    def _watched(self, outcome: Outcome, group_id: str, now_s: float, version: int | None = None) -> Outcome:
        """With what follows when members of a consumer group have come, gone or gone on. ``version``: of the topics
        that the target is made for."""
        accept = outcome.accept

        def then() -> list[Reply]:
            if version is not None:
                self.seen_topics[group_id] = version
            self.rebalances += any(r.key == GroupKey(TARGET, group_id) for r in outcome.records)
            self._watch_downgrade(group_id, now_s)
            return accept() if accept is not None else []

        outcome.accept = then
        return outcome

    # --- the consumer protocol ---------------------------------------------------------------------------------------

    def answer_consumer(
        self, request: ConsumerGroupHeartbeatRequest, waiter: Waiter, new_id: str, now_s: float
    ) -> Outcome:
        """Raises GroupRefused."""
        if request.member_epoch == JOIN_EPOCH:
            self.check_room(joins=True, group_id=request.group_id)
        found = self.groups.get(request.group_id)
        before: list[GroupRecord] = []
        if isinstance(found, ClassicGroup):
            before = self._upgrade(found, request)
            group = ConsumerGroupState(request.group_id)
            for record in before[1:]:
                group.replay(record)
        else:
            group = found or ConsumerGroupState(request.group_id)
        if request.member_epoch in (LEAVE_EPOCH, STATIC_LEAVE_EPOCH):
            return self._watched(self._leave(group, request, waiter), request.group_id, now_s)
        member_id = request.member_id or (new_id if request.member_epoch == 0 else "")
        version = self.topics_version
        records, response = consumer_group.heartbeat(
            group,
            request,
            member_id,
            self.topics,
            self.limits,
            self.seen_topics.get(request.group_id) != version,
        )

        def accept() -> list[Reply]:
            now = self.groups.get(request.group_id)
            replies = self._upgraded(found, now, now_s) if isinstance(found, ClassicGroup) else []
            if isinstance(now, ConsumerGroupState):
                self.seen_topics[request.group_id] = version
                self._touch(now, member_id, now_s)
                stepped = any(r.key == MemberKey(CURRENT, request.group_id, member_id) for r in records)
                self._watch_revocation(now, member_id, now_s, anew=stepped)
            return replies

        outcome = Outcome([*before, *records], [(waiter, response)], accept)
        return self._watched(outcome, request.group_id, now_s) if outcome.records else outcome

    def _leave(self, group: ConsumerGroupState, request: ConsumerGroupHeartbeatRequest, waiter: Waiter) -> Outcome:
        records = consumer_group.leave(group, request)
        response = ConsumerGroupHeartbeatResponse(ErrorCode.NONE, request.member_id, request.member_epoch)
        return Outcome(records, [(waiter, response)])

    def _touch(self, group: ConsumerGroupState, member_id: str, now_s: float) -> None:
        if group.members[member_id].classic:
            self.mixed.touch(group, member_id, now_s)
        else:
            self.timers.set((SESSION, group.group_id, member_id), now_s + self.limits.consumer_session_s)

    def _watch_revocation(self, group: ConsumerGroupState, member_id: str, now_s: float, *, anew: bool = False) -> None:
        """``anew``: it has let go of what it was told before, and what it is told now has its own time."""
        key, member = (REVOKE, group.group_id, member_id), group.members[member_id]
        if member.current.state != UNREVOKED or member.classic:  # which is told so first
            self.timers.cancel(key)
        elif anew or key not in self.timers:
            self.timers.set(key, now_s + member.said.rebalance_timeout_ms / 1000)

    # --- from one protocol to the other ------------------------------------------------------------------------------

    def _upgrade(self, group: ClassicGroup, request: ConsumerGroupHeartbeatRequest) -> list[GroupRecord]:
        """A classic group's end, and, where it has members, its beginning as a consumer group. Raises GroupRefused."""
        if not group.members:
            return self.forget_group(group)
        if request.member_epoch != JOIN_EPOCH:
            migration.check_upgrade(group, self.limits)
            raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {request.member_id}: join at epoch 0")
        return migration.upgrade(group, self.limits, self.find_topic)

    def _upgraded(self, before: ClassicGroup, group: Group | None, now_s: float) -> list[Reply]:
        if before.pending:
            self.mixed.pending[before.group_id] = before.pending
        if isinstance(group, ConsumerGroupState):
            for member_id, member in group.members.items():
                if member.classic:
                    self.mixed.touch(group, member_id, now_s)
        return self.classic.dissolve(before)

    def _watch_downgrade(self, group_id: str, now_s: float) -> None:
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroupState) and migration.may_downgrade(group, self.limits):
            self.timers.set((DOWNGRADE, group_id, ""), now_s)

    def _downgrade(self, group: ConsumerGroupState, now_s: float, now_ms: int) -> Outcome:
        if not migration.may_downgrade(group, self.limits):
            return Outcome()
        classic = migration.downgrade(group, self.topics)

        def accept() -> list[Reply]:
            now = self.groups[group.group_id]
            assert isinstance(now, ClassicGroup)
            for member_id, member in now.members.items():
                member.protocols = classic.members[member_id].protocols  # the record has only the one that is chosen
                for kind in (REVOKE, SYNC):
                    self.timers.cancel((kind, group.group_id, member_id))
            now.pending = self.mixed.take_pending(group.group_id)
            self.classic.loaded(now, now_s, now_ms)
            return []

        return Outcome(migration.downgrade_records(group, classic, now_ms), accept=accept)

    # --- offsets -----------------------------------------------------------------------------------------------------

    def commit(self, request: OffsetCommitRequest, waiter: Waiter, now_s: float, now_ms: int) -> Outcome:
        """Raises GroupRefused."""
        self._check_commit(request, now_s)
        self.check_room(joins=False, group_id=request.group_id)
        records, results = offsets.commit(request, self.find_topic, now_ms, self.limits.metadata_bytes_max)
        return Outcome(
            [] if request.validate_only else records, [(waiter, OffsetCommitResponse(ErrorCode.NONE, results))]
        )

    def _check_commit(self, request: OffsetCommitRequest, now_s: float) -> None:
        group, epoch = self.groups.get(request.group_id), request.generation_id_or_member_epoch
        if isinstance(group, ClassicGroup):
            self.classic.check_commit(group, request.member_id, request.group_instance_id, epoch, now_s)
        elif group is None:
            if epoch is not None or request.member_id:
                raise GroupRefused(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {request.group_id}")
        elif group.members or epoch is not None or request.member_id:
            consumer_group.check_epoch(group, request.member_id, epoch, request.group_instance_id)
            if group.members[request.member_id].classic:
                self.mixed.touch(group, request.member_id, now_s)

    def fetch(self, request: OffsetFetchRequest, waiter: Waiter) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        if request.member_epoch is not None:
            if not isinstance(group, ConsumerGroupState):
                raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {request.member_id}")
            consumer_group.check_epoch(group, request.member_id, request.member_epoch)
        found = offsets.fetch(self.offsets, request, self.find_topic)
        return Outcome(replies=[(waiter, OffsetFetchResponse(ErrorCode.NONE, found))])

    def delete_offsets(self, request: OffsetDeleteRequest, waiter: Waiter) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        if group is None and request.group_id not in self.offsets:
            raise GroupRefused(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {request.group_id}")
        if isinstance(group, ClassicGroup) and group.members and group.protocol_type != CONSUMERS:
            raise GroupRefused(ErrorCode.NON_EMPTY_GROUP, f"{request.group_id} has {len(group.members)} members")
        read = self.read_topics(group)
        held = self.offsets.of(request.group_id)
        results, gone = [], []
        for asked in request.partitions:
            if read is None or asked.topic in read:
                error = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            else:
                error = ErrorCode.NONE
                gone += [(asked.topic, asked.partition)] if (asked.topic, asked.partition) in held else []
            results.append(CommittedPartition(asked.topic, asked.partition, error))
        records = [] if request.validate_only else list(offsets.tombstones(request.group_id, gone))
        return Outcome(records, [(waiter, OffsetDeleteResponse(ErrorCode.NONE, tuple(results)))])

    # --- time --------------------------------------------------------------------------------------------------------

    def expire(self, key: TimerKey, now_s: float, now_ms: int) -> Outcome:
        """A deadline has come."""
        kind, group_id, member_id = key
        group = self.groups.get(group_id)
        if key in self.timers:
            return Outcome()  # another that came at the same moment has set it anew
        if isinstance(group, ClassicGroup):
            outcome = self.classic.expire(group, key, now_s, now_ms)
            if not (group.members or group.pending or group.generation):
                del self.groups[group_id]  # ids were given out, and nobody came
            return outcome
        if kind == PENDING:
            self.mixed.expire_pending(group_id, member_id)
        if group is not None and kind == DOWNGRADE:
            return self._downgrade(group, now_s, now_ms)
        if group is None or kind in (PENDING, JOIN) or (member := group.members.get(member_id)) is None:
            return Outcome()
        if not member.classic and (kind == SYNC or (kind == REVOKE and member.current.state != UNREVOKED)):
            return Outcome()
        return self._watched(Outcome(consumer_group.remove(group, [member_id])), group_id, now_s)
