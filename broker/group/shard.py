"""The groups of one partition of `__consumer_offsets`: every request to its decision, every record to its state. Pure.

Decide, then replay: a decision changes nothing that is in the log. (A classic group's rebalance is not in the log:
its decisions change it at once.)
"""

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CLASSIC,
    CONSUMER,
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

from . import consumer_group, offsets
from .classic import ClassicProtocol
from .classic_rebalance import SESSION, TimerKey
from .classic_state import ClassicGroup
from .consumer_state import ConsumerGroupState
from .group_table import Group, GroupTable
from .outcome import FindTopic, GroupLimits, GroupRefused, Outcome, Waiter
from .records import (
    TARGET,
    UNREVOKED,
    GroupKey,
    GroupRecord,
)
from .timers import Timers

REVOKE = "revoke"
"""A member's time to let go of what it must not have any more."""
CLASSIC_REQUESTS = JoinGroupRequest | SyncGroupRequest | HeartbeatRequest | LeaveGroupRequest


class Shard(GroupTable):
    """Decides what is asked of the groups."""

    def __init__(self, limits: GroupLimits, find_topic: FindTopic) -> None:
        super().__init__(limits, find_topic)
        self.timers: Timers[TimerKey] = Timers()
        self.classic = ClassicProtocol(limits, self.timers)
        self.rebalances = 0  # new targets of groups of the consumer protocol

    def loaded(self, now_s: float) -> None:
        """All is replayed: every member has a full session to be heard of."""
        for group in self.groups.values():
            if isinstance(group, ClassicGroup):
                self.classic.loaded(group, now_s)
            else:
                for member_id in group.members:
                    self._touch(group, member_id, now_s)
                    self._watch_revocation(group, member_id, now_s)

    # --- the classic protocol ----------------------------------------------------------------------------------------

    def answer_classic(
        self, request: CLASSIC_REQUESTS, waiter: Waiter, new_id: str, now_s: float, now_ms: int
    ) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        upgrade: list[GroupRecord] = []
        if isinstance(request, JoinGroupRequest):
            if isinstance(group, ConsumerGroupState):
                upgrade = self._vacate(group, ErrorCode.INCONSISTENT_GROUP_PROTOCOL, CONSUMER)
                group = None
            known = group is not None
            group = group or ClassicGroup(request.group_id)
            outcome = self.classic.join(group, request, waiter, new_id, now_s, now_ms)
            if not known:
                for record in upgrade:
                    self.replay_end(record)
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

    # --- the consumer protocol ---------------------------------------------------------------------------------------

    def answer_consumer(
        self, request: ConsumerGroupHeartbeatRequest, waiter: Waiter, new_id: str, now_s: float
    ) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        upgrade: list[GroupRecord] = []
        if isinstance(group, ClassicGroup):
            upgrade = self._vacate(group, ErrorCode.GROUP_ID_NOT_FOUND, CLASSIC)
            group = None
        group = group or ConsumerGroupState(request.group_id)
        if request.member_epoch in (LEAVE_EPOCH, STATIC_LEAVE_EPOCH):
            return self._leave(group, request, waiter)
        member_id = request.member_id or (new_id if request.member_epoch == 0 else "")
        version = self.topics_version
        records, response = consumer_group.heartbeat(
            group,
            request,
            member_id,
            self.find_topic,
            self.limits,
            self.seen_topics.get(request.group_id) != version,
        )

        def accept() -> list[tuple[Waiter, ConsumerGroupHeartbeatResponse]]:
            now = self.groups.get(request.group_id)
            if isinstance(now, ConsumerGroupState):
                self.seen_topics[request.group_id] = version
                self._touch(now, member_id, now_s)
                self._watch_revocation(now, member_id, now_s)
            self.rebalances += any(r.key == GroupKey(TARGET, request.group_id) for r in records)
            return []

        return Outcome([*upgrade, *records], [(waiter, response)], accept)  # type: ignore[arg-type]

    def _leave(self, group: ConsumerGroupState, request: ConsumerGroupHeartbeatRequest, waiter: Waiter) -> Outcome:
        records = consumer_group.leave(group, request)
        response = ConsumerGroupHeartbeatResponse(ErrorCode.NONE, request.member_id, request.member_epoch)
        return Outcome(records, [(waiter, response)])

    def _touch(self, group: ConsumerGroupState, member_id: str, now_s: float) -> None:
        self.timers.set((SESSION, group.group_id, member_id), now_s + self.limits.consumer_session_s)

    def _watch_revocation(self, group: ConsumerGroupState, member_id: str, now_s: float) -> None:
        key, member = (REVOKE, group.group_id, member_id), group.members[member_id]
        if member.current.state != UNREVOKED:
            self.timers.cancel(key)
        elif key not in self.timers:
            self.timers.set(key, now_s + member.said.rebalance_timeout_ms / 1000)

    def _vacate(self, group: Group, error: ErrorCode, kind: str) -> list[GroupRecord]:
        """Tombstones for a group of the other protocol, which has no members any more. Raises GroupRefused."""
        if group.members:
            raise GroupRefused(error, f"{group.group_id} is a {kind} group with {len(group.members)} members")
        return self.forget_group(group)

    # --- offsets -----------------------------------------------------------------------------------------------------

    def commit(self, request: OffsetCommitRequest, waiter: Waiter, now_s: float, now_ms: int) -> Outcome:
        """Raises GroupRefused."""
        self._check_commit(request, now_s)
        records, results = offsets.commit(request, self.find_topic, now_ms, self.limits.metadata_bytes_max)
        return Outcome(records, [(waiter, OffsetCommitResponse(ErrorCode.NONE, results))])

    def _check_commit(self, request: OffsetCommitRequest, now_s: float) -> None:
        group, epoch = self.groups.get(request.group_id), request.generation_id_or_member_epoch
        if isinstance(group, ClassicGroup):
            self.classic.check_commit(group, request.member_id, request.group_instance_id, epoch, now_s)
        elif group is None:
            if epoch is not None or request.member_id:
                raise GroupRefused(ErrorCode.ILLEGAL_GENERATION, f"there is no group {request.group_id}")
        elif group.members or epoch is not None or request.member_id:
            consumer_group.check_epoch(group, request.member_id, epoch)

    def fetch(self, request: OffsetFetchRequest, waiter: Waiter) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        if isinstance(group, ConsumerGroupState) and request.member_epoch is not None:
            consumer_group.check_epoch(group, request.member_id, request.member_epoch)
        found = offsets.fetch(self.offsets, request, self.find_topic)
        return Outcome(replies=[(waiter, OffsetFetchResponse(ErrorCode.NONE, found))])

    def delete_offsets(self, request: OffsetDeleteRequest, waiter: Waiter) -> Outcome:
        """Raises GroupRefused."""
        group = self.groups.get(request.group_id)
        if group is None and request.group_id not in self.offsets:
            raise GroupRefused(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {request.group_id}")
        read = self._read_topics(group)
        held = self.offsets.of(request.group_id)
        results, gone = [], []
        for asked in request.partitions:
            if read is None or asked.topic in read:
                error = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            else:
                error = ErrorCode.NONE
                gone += [(asked.topic, asked.partition)] if (asked.topic, asked.partition) in held else []
            results.append(CommittedPartition(asked.topic, asked.partition, error))
        records = list(offsets.tombstones(request.group_id, gone))
        return Outcome(records, [(waiter, OffsetDeleteResponse(ErrorCode.NONE, tuple(results)))])

    @staticmethod
    def _read_topics(group: Group | None) -> set[str] | None:
        """What the members read; None where only they know: a classic member's subscription is its own bytes."""
        if group is None or not group.members:
            return set()
        if isinstance(group, ClassicGroup):
            return None
        return {name for member in group.members.values() for name in member.said.topics}

    # --- time --------------------------------------------------------------------------------------------------------

    def expire(self, key: TimerKey, now_s: float, now_ms: int) -> Outcome:
        """A deadline has come."""
        kind, group_id, member_id = key
        group = self.groups.get(group_id)
        if isinstance(group, ClassicGroup):
            outcome = self.classic.expire(group, key, now_s, now_ms)
            if not (group.members or group.pending or group.generation):
                del self.groups[group_id]  # ids were given out, and nobody came
            return outcome
        if group is None or (member := group.members.get(member_id)) is None:
            return Outcome()
        if kind == REVOKE and member.current.state != UNREVOKED:
            return Outcome()
        return Outcome(consumer_group.remove(group, [member_id]))
