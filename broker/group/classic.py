"""The classic group protocol: join, sync, heartbeat, leave (KIP-62, KIP-345, KIP-394, KIP-814). Pure.

Members join; when all have, or their time is up, a generation begins and its leader, a member, is told of everybody;
it brings the assignment with its sync, which is written down, and then everybody learns its part.
"""

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

from .classic_rebalance import JOIN, PENDING, SESSION, SYNC, Rebalancing, TimerKey, check_session, rebalance_ms
from .classic_state import ClassicGroup, ClassicMember, State
from .outcome import GroupRefused, Outcome, Reply, Waiter


class ClassicProtocol(Rebalancing):
    """The requests of members, and their deadlines."""

    # --- join --------------------------------------------------------------------------------------------------------

    def join(
        self, group: ClassicGroup, request: JoinGroupRequest, waiter: Waiter, new_id: str, now_s: float, now_ms: int
    ) -> Outcome:
        """``new_id``: for a member that has none. Raises GroupRefused."""
        out = Outcome()
        self._check_join(group, request)
        if not request.member_id and request.group_instance_id is None and request.needs_member_id:
            group.pending.add(new_id)
            self._timers.set((PENDING, group.group_id, new_id), now_s + request.session_timeout_ms / 1000)
            out.replies.append((waiter, JoinGroupResponse(ErrorCode.MEMBER_ID_REQUIRED, member_id=new_id)))
            return out
        if not request.member_id and request.group_instance_id in group.instances:
            self._replace_static(group, request, waiter, new_id, now_s, now_ms, out)
            return out
        if not request.member_id or request.member_id in group.pending:
            self._add(group, request, waiter, request.member_id or new_id, now_s, now_ms, out)
            return out
        member = self._require(group, request.member_id, request.group_instance_id)
        self._rejoin(group, member, request, waiter, now_s, now_ms, out)
        return out

    def _check_join(self, group: ClassicGroup, request: JoinGroupRequest) -> None:
        check_session(self._limits, request)
        names = [protocol.name for protocol in request.protocols]
        if not names or not request.protocol_type:
            raise GroupRefused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "a member names its protocols and their type")
        others = group.members and not (len(group.members) == 1 and request.member_id in group.members)
        if others and (request.protocol_type != group.protocol_type or not group.supports(names)):
            raise GroupRefused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the others share none of {', '.join(names)}")
        known = request.member_id in group.members or request.member_id in group.pending
        replaces = request.group_instance_id in group.instances
        if not known and not replaces and len(group.members) + len(group.pending) >= self._limits.size_max:
            raise GroupRefused(ErrorCode.GROUP_MAX_SIZE_REACHED, f"the group has {self._limits.size_max} members")

    def _add(
        self,
        group: ClassicGroup,
        request: JoinGroupRequest,
        waiter: Waiter,
        member_id: str,
        now_s: float,
        now_ms: int,
        out: Outcome,
    ) -> None:
        self._forget_pending(group, member_id)
        if not group.members:
            group.protocol_type = request.protocol_type
        member = ClassicMember(
            member_id=member_id,
            instance_id=request.group_instance_id,
            client_id=request.client_id,
            client_host=request.client_host,
            session_s=request.session_timeout_ms / 1000,
            rebalance_s=rebalance_ms(request) / 1000,
            protocols=request.protocols,
            joining=waiter,
        )
        group.members[member_id] = member
        if member.instance_id is not None:
            group.instances[member.instance_id] = member_id
        group.leader = group.leader or member_id
        self._touch(group, member, now_s)
        self._rebalance(group, now_s, now_ms, out)

    def _rejoin(
        self,
        group: ClassicGroup,
        member: ClassicMember,
        request: JoinGroupRequest,
        waiter: Waiter,
        now_s: float,
        now_ms: int,
        out: Outcome,
    ) -> None:
        same = request.protocols == member.protocols
        if same and (
            group.state is State.COMPLETING or (group.state is State.STABLE and member.member_id != group.leader)
        ):
            self._touch(group, member, now_s)
            out.replies.append((waiter, self._joined(group, member)))
            return
        self._update(member, request)
        if member.joining is not None:
            out.replies.append((member.joining, JoinGroupResponse(ErrorCode.UNKNOWN_MEMBER_ID)))  # its older attempt
        member.joining = waiter
        self._touch(group, member, now_s)
        self._rebalance(group, now_s, now_ms, out)

    @staticmethod
    def _update(member: ClassicMember, request: JoinGroupRequest) -> None:
        member.protocols = request.protocols
        member.session_s, member.rebalance_s = request.session_timeout_ms / 1000, rebalance_ms(request) / 1000
        member.client_id, member.client_host = request.client_id, request.client_host

    def _replace_static(
        self,
        group: ClassicGroup,
        request: JoinGroupRequest,
        waiter: Waiter,
        new_id: str,
        now_s: float,
        now_ms: int,
        out: Outcome,
    ) -> None:
        """A static member is back under a new id. What it had is still its own, and nobody else need notice, unless
        it subscribes to something else now (KIP-345)."""
        assert request.group_instance_id is not None
        old = group.members[group.instances[request.group_instance_id]]
        before, was_leader = old.metadata(group.protocol), group.leader == old.member_id
        self._dismiss(old, ErrorCode.FENCED_INSTANCE_ID, out)
        self._timers.cancel((SESSION, group.group_id, old.member_id))
        member = ClassicMember(new_id, old.instance_id, "", 0, 0, (), assignment=old.assignment)
        self._update(member, request)
        group.members = {
            (new_id if key == old.member_id else key): (member if key == old.member_id else each)
            for key, each in group.members.items()
        }
        group.instances[request.group_instance_id] = new_id
        if was_leader:
            group.leader = new_id
        self._touch(group, member, now_s)
        if (
            group.state is State.STABLE
            and member.metadata(group.protocol) == before
            and group.protocol in group.common()
        ):
            assignments = {each.member_id: each.assignment for each in group.members.values()}
            out.records.append(group.record(now_ms, assignments))
            joined = self._joined(group, member)
            joined.skip_assignment = was_leader
            out.replies.append((waiter, joined))
            return
        member.joining = waiter
        self._rebalance(group, now_s, now_ms, out)

    # --- sync, heartbeat, leave --------------------------------------------------------------------------------------

    def sync(
        self, group: ClassicGroup, request: SyncGroupRequest, waiter: Waiter, now_s: float, now_ms: int
    ) -> Outcome:
        """Raises GroupRefused."""
        member = self._require(group, request.member_id, request.group_instance_id)
        self._require_generation(group, request.generation_id)
        if (request.protocol_type or group.protocol_type) != group.protocol_type or (
            request.protocol_name or group.protocol
        ) != group.protocol:
            raise GroupRefused(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the group uses {group.protocol} ({group.protocol_type})"
            )
        if group.state is State.PREPARING:
            raise GroupRefused(ErrorCode.REBALANCE_IN_PROGRESS, "join again")
        self._touch(group, member, now_s)
        if group.state is State.STABLE:
            return Outcome(replies=[(waiter, self._synced(group, member))])
        out = Outcome()
        if member.syncing is not None:
            out.replies.append((member.syncing, SyncGroupResponse(ErrorCode.UNKNOWN_MEMBER_ID)))  # its older attempt
        member.syncing = waiter
        if member.member_id != group.leader:
            group.to_sync.discard(member.member_id)
        else:  # which is waited for until its assignment is written
            given = {each.member_id: bytes(each.assignment) for each in request.assignments}
            out.records.append(group.record(now_ms, given))
            out.accept = lambda: self._settle(group, now_s)
        return out

    def _settle(self, group: ClassicGroup, now_s: float) -> list[Reply]:
        """The assignment is written: everybody who asked is told. Who has not asked yet has its time to."""
        replies: list[Reply] = []
        for member in group.members.values():
            if member.syncing is not None:
                replies.append((member.syncing, self._synced(group, member)))
                member.syncing = None
                self._touch(group, member, now_s)
        self._timers.cancel((SYNC, group.group_id, ""))
        return replies

    @staticmethod
    def _synced(group: ClassicGroup, member: ClassicMember) -> SyncGroupResponse:
        return SyncGroupResponse(ErrorCode.NONE, group.protocol_type, group.protocol, member.assignment)

    def heartbeat(self, group: ClassicGroup, request: HeartbeatRequest, waiter: Waiter, now_s: float) -> Outcome:
        """Raises GroupRefused."""
        member = self._require(group, request.member_id, request.group_instance_id)
        self._require_generation(group, request.generation_id)
        self._touch(group, member, now_s)
        error = ErrorCode.REBALANCE_IN_PROGRESS if group.state is State.PREPARING else ErrorCode.NONE
        return Outcome(replies=[(waiter, HeartbeatResponse(error))])

    def leave(
        self, group: ClassicGroup, request: LeaveGroupRequest, waiter: Waiter, now_s: float, now_ms: int
    ) -> Outcome:
        """Members go one by one, and the others rebalance once."""
        out = Outcome()
        left = tuple(self._leave_one(group, leaving, out) for leaving in request.members)
        out.replies.append((waiter, LeaveGroupResponse(ErrorCode.NONE, left)))
        self._fewer(group, now_s, now_ms, out)
        return out

    def _leave_one(self, group: ClassicGroup, leaving: LeavingMember, out: Outcome) -> LeftMember:
        result = LeftMember(leaving.member_id, leaving.group_instance_id, ErrorCode.NONE)
        if leaving.member_id in group.pending:
            self._forget_pending(group, leaving.member_id)
            return result
        member_id = leaving.member_id
        if not member_id and leaving.group_instance_id is not None:
            member_id = group.instances.get(leaving.group_instance_id, "")
        try:
            self._drop(group, self._require(group, member_id, leaving.group_instance_id), out)
        except GroupRefused as refused:
            result.error = refused.error
        return result

    def _fewer(self, group: ClassicGroup, now_s: float, now_ms: int, out: Outcome) -> None:
        """Members, or ids that were given out, are gone: the others share anew."""
        if group.state is State.PREPARING:
            self._maybe_complete(group, now_s, now_ms, out)
        elif group.state is not State.EMPTY and group.changed:
            self._rebalance(group, now_s, now_ms, out)
        group.changed = False

    # --- time --------------------------------------------------------------------------------------------------------

    def expire(self, group: ClassicGroup, key: TimerKey, now_s: float, now_ms: int) -> Outcome:
        """A deadline of this group has come."""
        out, (kind, _, member_id) = Outcome(), key
        if kind == JOIN and group.state is State.PREPARING:
            self._complete(group, now_s, now_ms, out)
        elif kind == PENDING:
            group.pending.discard(member_id)
            self._fewer(group, now_s, now_ms, out)
        elif kind == SYNC and not member_id and group.state is State.COMPLETING:  # else of one of a mixed group before
            for member in [group.members[late] for late in group.to_sync if late in group.members]:
                self._drop(group, member, out)
            self._fewer(group, now_s, now_ms, out)
        elif kind == SESSION and (member_or_none := group.members.get(member_id)) is not None:
            self._session_over(group, member_or_none, now_s, now_ms, out)
        return out

    def _session_over(
        self, group: ClassicGroup, member: ClassicMember, now_s: float, now_ms: int, out: Outcome
    ) -> None:
        if member.joining is not None or member.syncing is not None:
            self._touch(group, member, now_s)  # it waits for us, not we for it
            return
        self._drop(group, member, out)
        self._fewer(group, now_s, now_ms, out)

    def loaded(self, group: ClassicGroup, now_s: float, now_ms: int) -> None:
        """After a failover every member has a full session to be heard of. A group that was a consumer group before
        has no leader yet, and rebalances to get one."""
        for member in group.members.values():
            self._touch(group, member, now_s)
        if group.state is State.STABLE and group.leader is None:
            out = Outcome()
            self._rebalance(group, now_s, now_ms, out)
            assert not out.records, "a rebalance that nobody has joined yet writes nothing"
            assert not out.replies, "and nobody waits for it"

    def dissolve(self, group: ClassicGroup) -> list[Reply]:
        """The group goes on as another: whoever waits joins again there. Sessions are its own now."""
        replies: list[Reply] = []
        for kind in (JOIN, SYNC):
            self._timers.cancel((kind, group.group_id, ""))
        for member in group.members.values():
            if member.joining is not None:
                replies.append((member.joining, JoinGroupResponse(ErrorCode.REBALANCE_IN_PROGRESS)))
            if member.syncing is not None:
                replies.append((member.syncing, SyncGroupResponse(ErrorCode.REBALANCE_IN_PROGRESS)))
            member.joining = member.syncing = None
        return replies

    # --- members -----------------------------------------------------------------------------------------------------

    def check_commit(
        self, group: ClassicGroup, member_id: str, instance_id: str | None, generation: int | None, now_s: float
    ) -> None:
        """Whether a commit is one of the generation that holds. Raises GroupRefused."""
        if not group.members and generation is None and not member_id:
            return  # a consumer that assigns its partitions itself
        member = self._require(group, member_id, instance_id)
        if generation != group.generation:
            raise GroupRefused(ErrorCode.ILLEGAL_GENERATION, f"generation {generation} is not {group.generation}")
        if group.state is State.COMPLETING:
            raise GroupRefused(ErrorCode.REBALANCE_IN_PROGRESS, "the new generation's partitions are not given yet")
        self._touch(group, member, now_s)
