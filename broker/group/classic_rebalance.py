"""How a classic group goes through a rebalance, and what becomes of its members. Pure."""

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import JoinedMember, JoinGroupRequest, JoinGroupResponse, SyncGroupResponse

from .classic_state import ClassicGroup, ClassicMember, State
from .outcome import GroupLimits, GroupRefused, Outcome
from .timers import Timers

TimerKey = tuple[str, str, str]
"""What for, the group, and the member or ""."""
SESSION, JOIN, SYNC, PENDING, REVOKE = "session", "join", "sync", "pending", "revoke"
"""REVOKE: a member's time to let go of what it must not have any more, or to join again where that is asked of it."""
REBALANCE_MS_MAX = 3_600_000
"""No rebalance waits longer for its members, whatever they ask."""


def check_session(limits: GroupLimits, request: JoinGroupRequest) -> None:
    """Raises GroupRefused."""
    session_s = request.session_timeout_ms / 1000
    if not limits.session_min_s <= session_s <= limits.session_max_s:
        raise GroupRefused(
            ErrorCode.INVALID_SESSION_TIMEOUT,
            f"a session is {limits.session_min_s:g} to {limits.session_max_s:g} s, not {session_s:g}",
        )


def rebalance_ms(request: JoinGroupRequest) -> int:
    """How long this member may take to join."""
    return min(request.rebalance_timeout_ms or request.session_timeout_ms, REBALANCE_MS_MAX)


class Rebalancing:
    """Carries groups through their states. Times are monotonic seconds, except where their name says ``ms``."""

    def __init__(self, limits: GroupLimits, timers: Timers[TimerKey]) -> None:
        self._limits = limits
        self._timers = timers
        self.rebalances = 0  # generations begun

    # --- a rebalance -------------------------------------------------------------------------------------------------

    def _rebalance(self, group: ClassicGroup, now_s: float, now_ms: int, out: Outcome) -> None:
        """Begin one, or go on with the one that is under way."""
        key = (JOIN, group.group_id, "")
        if group.state is State.PREPARING:
            if group.initial_end_s is not None:  # more come: wait a little for the next, but not for ever
                due_s = min(group.initial_end_s, now_s + self._limits.initial_delay_s)
                self._timers.set(key, due_s)
                return
            self._maybe_complete(group, now_s, now_ms, out)
            return
        for member in group.members.values():
            if member.syncing is not None:
                out.replies.append((member.syncing, SyncGroupResponse(ErrorCode.REBALANCE_IN_PROGRESS)))
                member.syncing = None
                self._touch(group, member, now_s)
        self._timers.cancel((SYNC, group.group_id, ""))
        first = group.state is State.EMPTY
        group.go(State.PREPARING)
        if first and self._limits.initial_delay_s > 0:
            group.initial_end_s = now_s + max(group.rebalance_s, self._limits.initial_delay_s)
            self._timers.set(key, now_s + self._limits.initial_delay_s)
            return
        self._timers.set(key, now_s + group.rebalance_s)
        self._maybe_complete(group, now_s, now_ms, out)

    def _maybe_complete(self, group: ClassicGroup, now_s: float, now_ms: int, out: Outcome) -> None:
        if group.initial_end_s is not None and group.members:
            return
        if not group.pending and all(member.joining is not None for member in group.members.values()):
            self._complete(group, now_s, now_ms, out)

    def _complete(self, group: ClassicGroup, now_s: float, now_ms: int, out: Outcome) -> None:
        """The time to join is over."""
        group.initial_end_s = None
        for member in list(group.members.values()):
            if member.joining is None and member.instance_id is None:
                self._drop(group, member, out)
        joined = [member for member in group.members.values() if member.joining is not None]
        if group.members and not joined:  # static members only, and none is here: their sessions decide
            self._timers.set((JOIN, group.group_id, ""), now_s + group.rebalance_s)
            return
        self._timers.cancel((JOIN, group.group_id, ""))
        group.generation += 1
        self.rebalances += 1
        if not group.members:
            group.go(State.EMPTY)
            group.protocol = group.leader = None
            group.empty_since_ms = now_ms
            out.records.append(group.record(now_ms, {}))
            return
        if group.leader not in group.members or group.members[group.leader].joining is None:
            group.leader = joined[0].member_id
        group.protocol = group.choose_protocol()
        group.go(State.COMPLETING)
        group.to_sync.clear()
        for member in joined:
            out.replies.append((member.joining, self._joined(group, member)))
            member.joining, member.assignment = None, b""
            group.to_sync.add(member.member_id)
            self._touch(group, member, now_s)
        self._timers.set((SYNC, group.group_id, ""), now_s + group.rebalance_s)

    def _joined(self, group: ClassicGroup, member: ClassicMember) -> JoinGroupResponse:
        leads = member.member_id == group.leader
        return JoinGroupResponse(
            error=ErrorCode.NONE,
            member_id=member.member_id,
            generation_id=group.generation,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol,
            leader=group.leader or "",
            members=tuple(
                JoinedMember(each.member_id, each.instance_id, each.metadata(group.protocol))
                for each in group.members.values()
            )
            if leads
            else (),
        )

    # --- members -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _require(group: ClassicGroup, member_id: str, instance_id: str | None) -> ClassicMember:
        if instance_id is not None:
            owner = group.instances.get(instance_id)
            if owner is None:
                raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {instance_id}")
            if owner != member_id:
                raise GroupRefused(ErrorCode.FENCED_INSTANCE_ID, f"{instance_id} is another process now")
        member = group.members.get(member_id)
        if member is None:
            raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {member_id or 'without an id'}")
        return member

    @staticmethod
    def _require_generation(group: ClassicGroup, generation: int) -> None:
        if generation != group.generation:
            raise GroupRefused(ErrorCode.ILLEGAL_GENERATION, f"generation {generation} is not {group.generation}")

    def _touch(self, group: ClassicGroup, member: ClassicMember, now_s: float) -> None:
        self._timers.set((SESSION, group.group_id, member.member_id), now_s + member.session_s)

    def _forget_pending(self, group: ClassicGroup, member_id: str) -> None:
        group.pending.discard(member_id)
        self._timers.cancel((PENDING, group.group_id, member_id))

    def _drop(self, group: ClassicGroup, member: ClassicMember, out: Outcome) -> None:
        self._dismiss(member, ErrorCode.UNKNOWN_MEMBER_ID, out)
        self._timers.cancel((SESSION, group.group_id, member.member_id))
        del group.members[member.member_id]
        if member.instance_id is not None and group.instances.get(member.instance_id) == member.member_id:
            del group.instances[member.instance_id]
        if group.leader == member.member_id:
            group.leader = None
        group.changed = True

    @staticmethod
    def _dismiss(member: ClassicMember, error: ErrorCode, out: Outcome) -> None:
        """Whoever waits in its name waits no longer."""
        if member.joining is not None:
            out.replies.append((member.joining, JoinGroupResponse(error)))
        if member.syncing is not None:
            out.replies.append((member.syncing, SyncGroupResponse(error)))
        member.joining = member.syncing = None
