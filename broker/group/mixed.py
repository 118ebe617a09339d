"""Members of a consumer group that speak the classic protocol (KIP-848, online migration). Pure.

The coordinator decides what they own, as it does for the others, and takes them there by what they know: a heartbeat
tells them to join again, with the join they say what they still have, and the sync brings what they may have now. So
one generation of theirs is one epoch of theirs; they are told of no leader.
"""

from ottla.client.assignors import MemberSubscription
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    LeavingMember,
    LeftMember,
    SyncGroupRequest,
    SyncGroupResponse,
)
from ottla.client.subscription_bytes import decode_subscription

from .classic_rebalance import PENDING, REVOKE, SESSION, SYNC, TimerKey, check_session, rebalance_ms
from .classic_state import CONSUMERS
from .consumer_group import remove, subscription_of, take_over
from .consumer_state import ConsumerGroupState, Member
from .consumer_target import Decision, retarget
from .migration import assignment_bytes, ids_of, metadata_of, names_of
from .outcome import GroupLimits, GroupRefused, Outcome, Reply, Topics, Waiter
from .reconcile import reconcile
from .records import CURRENT, MEMBER, UNRELEASED, UNREVOKED, ClassicMetadata, MemberValue
from .timers import Timers


class MixedProtocol:
    """The requests of such members. ``pending``: ids that were given out to members that will join with them, by
    group (KIP-394)."""

    def __init__(self, limits: GroupLimits, timers: Timers[TimerKey], topics: Topics) -> None:
        self._limits = limits
        self._timers = timers
        self._topics = topics
        self.pending: dict[str, set[str]] = {}

    # --- join --------------------------------------------------------------------------------------------------------

    def join(
        self,
        group: ConsumerGroupState,
        request: JoinGroupRequest,
        waiter: Waiter,
        new_id: str,
        topics_changed: bool,
        now_s: float,
    ) -> Outcome:
        """Answered at once: nobody is waited for. Raises GroupRefused."""
        subscription = self._check_join(group, request)
        instance_id = request.group_instance_id
        if not request.member_id and instance_id is None and request.needs_member_id:
            self._check_room(group, new_id)
            self.pending.setdefault(group.group_id, set()).add(new_id)
            self._timers.set((PENDING, group.group_id, new_id), now_s + request.session_timeout_ms / 1000)
            return Outcome(replies=[(waiter, JoinGroupResponse(ErrorCode.MEMBER_ID_REQUIRED, member_id=new_id))])
        member_id = request.member_id or new_id
        decision = Decision(group)
        before = self._admit(decision, request, member_id)
        said = self._said(request, subscription)
        known = decision.group.members.get(member_id)
        if known is None or known.said != said:
            decision.write_member(MEMBER, member_id, said)
        changed = before != subscription_of(said)
        if changed or topics_changed or decision.group.target_epoch < decision.group.epoch:
            retarget(decision, self._topics, changed=changed)
        current = decision.group.members[member_id].current
        stepped = reconcile(decision.group, member_id, ids_of(subscription.owned, self._topics.find))
        if stepped != current:
            decision.write_member(CURRENT, member_id, stepped)
        response = JoinGroupResponse(
            error=ErrorCode.NONE,
            member_id=member_id,
            generation_id=stepped.epoch,
            protocol_type=CONSUMERS,
            protocol_name=request.protocols[0].name,
        )

        def accept() -> list[Reply]:
            self._forget_pending(group.group_id, member_id)
            self._timers.cancel((REVOKE, group.group_id, member_id))
            self._timers.set((SESSION, group.group_id, member_id), now_s + request.session_timeout_ms / 1000)
            self._timers.set((SYNC, group.group_id, member_id), now_s + rebalance_ms(request) / 1000)
            return []

        return Outcome(decision.records, [(waiter, response)], accept)

    def _check_join(self, group: ConsumerGroupState, request: JoinGroupRequest) -> MemberSubscription:
        check_session(self._limits, request)
        names = [protocol.name for protocol in request.protocols]
        if request.protocol_type != CONSUMERS or not names or not _supports(group, names, request.member_id):
            raise GroupRefused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the others share none of {', '.join(names)}")
        joined = group.members.get(request.member_id)
        if not (self._limits.upgrade or self._limits.downgrade or (joined is not None and joined.classic)):
            raise GroupRefused(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"{group.group_id} is a consumer group with {len(group.members)} members, and "
                "group.consumer.migration.policy lets it take none of the classic protocol",
            )
        try:
            return decode_subscription(request.protocols[0].metadata)
        except ValueError as error:
            raise GroupRefused(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the subscription is not a consumer's: {error}"
            ) from error

    def _check_room(self, group: ConsumerGroupState, member_id: str) -> None:
        others = self.pending.get(group.group_id, set()) - {member_id}
        if len(group.members) + len(others) >= self._limits.consumer_size_max:
            raise GroupRefused(
                ErrorCode.GROUP_MAX_SIZE_REACHED, f"the group has {self._limits.consumer_size_max} members"
            )

    def _admit(
        self, decision: Decision, request: JoinGroupRequest, member_id: str
    ) -> tuple[tuple[str, ...], str | None] | None:
        """Let the member in, under its own name or that of a static member that it replaces. Returns what it had
        subscribed to."""
        group, instance_id = decision.group, request.group_instance_id
        owner = None if instance_id is None else group.instances.get(instance_id)
        if owner is not None and not request.member_id:
            return take_over(decision, owner, member_id)
        if request.member_id and request.member_id not in self.pending.get(group.group_id, ()):
            return subscription_of(require(group, member_id, instance_id).said)
        self._check_room(group, member_id)
        return None

    @staticmethod
    def _said(request: JoinGroupRequest, subscription: MemberSubscription) -> MemberValue:
        return MemberValue(
            instance_id=request.group_instance_id,
            rack_id=None,
            client_id=request.client_id,
            client_host=request.client_host,
            topics=tuple(sorted(set(subscription.topics))),
            rebalance_timeout_ms=rebalance_ms(request),
            assignor=None,
            classic=metadata_of(request.session_timeout_ms, request.protocols),
        )

    # --- sync, heartbeat, leave --------------------------------------------------------------------------------------

    def sync(self, group: ConsumerGroupState, request: SyncGroupRequest, waiter: Waiter, now_s: float) -> Outcome:
        """Raises GroupRefused."""
        member = require(group, request.member_id, request.group_instance_id)
        _require_generation(member, request.generation_id)
        chosen = _metadata(member).protocols[0][0]
        named = (request.protocol_type or CONSUMERS, request.protocol_name or chosen)
        if named != (CONSUMERS, chosen):
            raise GroupRefused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the member uses {chosen} ({CONSUMERS})")
        assignment = assignment_bytes(member.current.assigned, names_of(group, self._topics))
        response = SyncGroupResponse(ErrorCode.NONE, CONSUMERS, chosen, assignment)
        self._timers.cancel((SYNC, group.group_id, request.member_id))
        self.touch(group, request.member_id, now_s)
        return Outcome(replies=[(waiter, response)])

    def heartbeat(
        self,
        group: ConsumerGroupState,
        request: HeartbeatRequest,
        waiter: Waiter,
        topics_changed: bool,
        now_s: float,
    ) -> Outcome:
        """REBALANCE_IN_PROGRESS: a join would bring the member on, and must come in time. Raises GroupRefused."""
        member = require(group, request.member_id, request.group_instance_id)
        _require_generation(member, request.generation_id)
        self.touch(group, request.member_id, now_s)
        decision = Decision(group)
        if topics_changed:
            retarget(decision, self._topics, changed=False)
        if not _should_join(decision.group, request.member_id, member):
            return Outcome(decision.records, [(waiter, HeartbeatResponse(ErrorCode.NONE))])
        key = (REVOKE, group.group_id, request.member_id)
        if key not in self._timers:
            self._timers.set(key, now_s + member.said.rebalance_timeout_ms / 1000)
        return Outcome(decision.records, [(waiter, HeartbeatResponse(ErrorCode.REBALANCE_IN_PROGRESS))])

    def leave(self, group: ConsumerGroupState, request: LeaveGroupRequest, waiter: Waiter) -> Outcome:
        """All that can leave do, in one epoch."""
        gone: dict[str, None] = {}
        left = tuple(self._leave_one(group, leaving, gone) for leaving in request.members)
        return Outcome(remove(group, gone), [(waiter, LeaveGroupResponse(ErrorCode.NONE, left))])

    def _leave_one(self, group: ConsumerGroupState, leaving: LeavingMember, gone: dict[str, None]) -> LeftMember:
        result = LeftMember(leaving.member_id, leaving.group_instance_id, ErrorCode.NONE)
        if leaving.member_id in self.pending.get(group.group_id, ()):
            self._forget_pending(group.group_id, leaving.member_id)
            return result
        member_id = leaving.member_id
        if not member_id and leaving.group_instance_id is not None:
            member_id = group.instances.get(leaving.group_instance_id, "")
        try:
            require(group, member_id, leaving.group_instance_id)
        except GroupRefused as refused:
            result.error = refused.error
        else:
            gone[member_id] = None
        return result

    # --- time --------------------------------------------------------------------------------------------------------

    def touch(self, group: ConsumerGroupState, member_id: str, now_s: float) -> None:
        """The member was heard of."""
        session_s = _metadata(group.members[member_id]).session_timeout_ms / 1000
        self._timers.set((SESSION, group.group_id, member_id), now_s + session_s)

    def expire_pending(self, group_id: str, member_id: str) -> None:
        """Nobody came with this id."""
        self._forget_pending(group_id, member_id)

    def take_pending(self, group_id: str) -> set[str]:
        """The ids that were given out go with the group."""
        return self.pending.pop(group_id, set())

    def _forget_pending(self, group_id: str, member_id: str) -> None:
        self._timers.cancel((PENDING, group_id, member_id))
        ids = self.pending.get(group_id)
        if ids is not None:
            ids.discard(member_id)
            if not ids:
                del self.pending[group_id]


def require(group: ConsumerGroupState, member_id: str, instance_id: str | None) -> Member:
    """A member by the classic protocol. Raises GroupRefused."""
    if instance_id is not None:
        owner = group.instances.get(instance_id)
        if owner is None:
            raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {instance_id}")
        if owner != member_id:
            raise GroupRefused(ErrorCode.FENCED_INSTANCE_ID, f"{instance_id} is another process now")
    member = group.members.get(member_id)
    if member is None or not member.classic:
        raise GroupRefused(
            ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {member_id or 'without an id'} of the classic protocol"
        )
    return member


def _require_generation(member: Member, generation: int) -> None:
    if generation != member.current.epoch:
        raise GroupRefused(ErrorCode.ILLEGAL_GENERATION, f"generation {generation} is not {member.current.epoch}")


def _should_join(group: ConsumerGroupState, member_id: str, member: Member) -> bool:
    """Whether there is something for the member to let go of, or all that it waits for is free, or it is behind."""
    current = member.current
    if current.epoch < group.epoch or current.state == UNREVOKED:
        return True
    waits_for = group.target.get(member_id, frozenset()) - current.assigned
    return current.state == UNRELEASED and all(group.owners.get(each, member_id) == member_id for each in waits_for)


def _supports(group: ConsumerGroupState, names: list[str], member_id: str) -> bool:
    """Whether the others that speak the classic protocol share one of these assignors: they lead again one day."""
    others = [m for each, m in group.members.items() if m.classic and each != member_id]
    return any(all(name in dict(_metadata(other).protocols) for other in others) for name in names)


def _metadata(member: Member) -> ClassicMetadata:
    assert member.said.classic is not None
    return member.said.classic
