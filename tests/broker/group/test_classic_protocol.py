"""The classic protocol: every join is answered, generations only rise, and who is of an older one is refused."""

from dataclasses import dataclass

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ottla.broker.group.classic_state import ClassicGroup, State
from ottla.broker.group.outcome import GroupLimits
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    ConsumerGroupHeartbeatRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    LeaveGroupRequest,
    LeavingMember,
    MemberAssignment,
    OffsetCommitRequest,
    SyncGroupRequest,
    SyncGroupResponse,
)

from .worlds import GROUP, World, topic_id

RANGE = (JoinProtocol("range", b"t"),)


def world(**limits) -> World:
    return World(limits=GroupLimits(**{"initial_delay_s": 0.0, **limits}), topics={"t": (topic_id("t"), 4)})


def group(world: World) -> ClassicGroup:
    found = world.shard.groups[GROUP]
    assert isinstance(found, ClassicGroup)
    return found


def join_request(member_id: str = "", instance: str | None = None, protocols=RANGE, session_ms: int = 10_000):
    return JoinGroupRequest(GROUP, session_ms, 20_000, member_id, instance, "consumer", protocols)


def join(here: World, member_id: str = "", instance: str | None = None, waiter: object = None, **more):
    return here.ask(join_request(member_id, instance, **more), waiter)


def newcomer(here: World) -> str:
    answer = join(here)
    assert answer.error is ErrorCode.MEMBER_ID_REQUIRED
    return answer.member_id


def sync(here: World, joined: JoinGroupResponse, give: dict[str, bytes] | None = None, waiter: object = None):
    assignments = tuple(MemberAssignment(member, part) for member, part in (give or {}).items())
    return here.ask(SyncGroupRequest(GROUP, joined.generation_id, joined.member_id, assignments=assignments), waiter)


def heartbeat(here: World, member: str, generation: int, instance: str | None = None) -> ErrorCode:
    answer = here.ask(HeartbeatRequest(GROUP, generation, member, instance))
    return answer if isinstance(answer, ErrorCode) else answer.error


def commit(here: World, member: str, generation: int | None, instance: str | None = None) -> ErrorCode:
    answer = here.ask(OffsetCommitRequest(GROUP, generation, member, (CommitPartition("t", 0, 7),), instance))
    return answer if isinstance(answer, ErrorCode) else answer.error


@dataclass
class Pair:
    """Two members of a stable group: the first leads."""

    here: World
    leader: JoinGroupResponse
    other: JoinGroupResponse


@pytest.fixture
def pair() -> Pair:
    here = world()
    first, second = newcomer(here), None
    joined = join(here, first)
    sync(here, joined, {first: b"all"})
    second = newcomer(here)
    assert join(here, second, waiter="second") is None
    assert heartbeat(here, first, joined.generation_id) is ErrorCode.REBALANCE_IN_PROGRESS
    leader = join(here, first)
    other = here.answers["second"]
    assert sync(here, other, waiter="sync") is None
    assert sync(here, leader, {first: b"one", second: b"two"}).assignment == b"one"
    assert here.answers["sync"].assignment == b"two"
    return Pair(here, leader, other)


def test_two_members_rebalance_and_share(pair: Pair) -> None:
    assert pair.leader.generation_id == pair.other.generation_id == 2
    assert pair.leader.leader == pair.leader.member_id
    assert [m.member_id for m in pair.leader.members] == [pair.leader.member_id, pair.other.member_id]
    assert pair.other.members == ()
    assert group(pair.here).state is State.STABLE


def test_commits_are_fenced_by_the_generation(pair: Pair) -> None:
    here, member = pair.here, pair.other.member_id
    assert commit(here, member, 2) is ErrorCode.NONE
    assert commit(here, member, 1) is ErrorCode.ILLEGAL_GENERATION
    assert commit(here, member, 3) is ErrorCode.ILLEGAL_GENERATION
    assert commit(here, "nobody", 2) is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(here, "", None) is ErrorCode.UNKNOWN_MEMBER_ID


def test_the_others_share_what_a_silent_member_leaves(pair: Pair) -> None:
    here = pair.here
    for _ in range(4):
        here.wait(3)
        heartbeat(here, pair.leader.member_id, 2)
    assert heartbeat(here, pair.leader.member_id, 2) is ErrorCode.REBALANCE_IN_PROGRESS
    alone = join(here, pair.leader.member_id)
    assert (alone.generation_id, len(alone.members)) == (3, 1)
    assert commit(here, pair.leader.member_id, 3) is ErrorCode.REBALANCE_IN_PROGRESS, "not synced yet"
    assert heartbeat(here, pair.other.member_id, 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_who_does_not_join_in_time_is_out(pair: Pair) -> None:
    here = pair.here
    third = newcomer(here)
    assert join(here, third, waiter="third") is None
    assert join(here, pair.leader.member_id, waiter="leader") is None
    for _ in range(7):
        here.wait(3)
        heartbeat(here, pair.other.member_id, 2)
    assert {m.member_id for m in here.answers["leader"].members} == {pair.leader.member_id, third}


def test_who_leaves_is_gone_at_once_and_the_last_one_leaves_an_empty_group(pair: Pair) -> None:
    here = pair.here
    answer = here.ask(LeaveGroupRequest(GROUP, (LeavingMember(pair.other.member_id), LeavingMember("nobody"))))
    assert [left.error for left in answer.members] == [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID]
    assert heartbeat(here, pair.leader.member_id, 2) is ErrorCode.REBALANCE_IN_PROGRESS
    here.ask(LeaveGroupRequest(GROUP, (LeavingMember(pair.leader.member_id),)))
    assert (group(here).state, group(here).generation) == (State.EMPTY, 3)
    here.failover(compact=True)
    assert (group(here).state, group(here).generation) == (State.EMPTY, 3)


def test_a_failover_keeps_generation_members_and_assignments(pair: Pair) -> None:
    here = pair.here
    here.failover(compact=True)
    assert heartbeat(here, pair.other.member_id, 2) is ErrorCode.NONE
    assert sync(here, pair.other).assignment == b"two"
    assert commit(here, pair.other.member_id, 2) is ErrorCode.NONE
    here.wait(10)
    assert not group(here).members, "a session is counted anew, and ends"


def test_a_leader_that_does_not_assign_is_out() -> None:
    here = world()
    first = newcomer(here)
    joined = join(here, first)
    assert joined.leader == first
    for _ in range(7):
        here.wait(3)
        heartbeat(here, first, joined.generation_id)
    assert not group(here).members


def test_a_leader_whose_assignment_the_log_refused_and_that_is_gone_is_out(pair: Pair) -> None:
    here = pair.here
    assert join(here, pair.leader.member_id, waiter="leader") is None  # it leads: a rebalance
    joined = join(here, pair.other.member_id)
    request = SyncGroupRequest(GROUP, joined.generation_id, pair.leader.member_id)
    here.shard.answer_classic(request, "refused", "", here.now_s, here.now_ms)  # and nothing is carried out
    assert sync(here, joined, waiter="waits") is None
    here.wait(20)
    assert here.answers["waits"].error is ErrorCode.REBALANCE_IN_PROGRESS
    assert join(here, pair.other.member_id).leader == pair.other.member_id
    assert list(group(here).members) == [pair.other.member_id]


@pytest.mark.parametrize("leader_assigns", [True, False])
def test_who_waited_for_the_assignment_has_a_full_session_from_the_answer_on(pair: Pair, leader_assigns: bool) -> None:
    here, leader, other = pair.here, pair.leader.member_id, pair.other.member_id
    assert join(here, leader, waiter="leader") is None
    joined = join(here, other)
    here.wait(0.1)
    assert sync(here, joined, waiter="waits") is None
    here.wait(9.8)
    if leader_assigns:
        sync(here, here.answers["leader"], {other: b"all"})
    here.wait(0.15)  # its session is over, and the other's all but
    assert here.answers["waits"].error is (ErrorCode.NONE if leader_assigns else ErrorCode.REBALANCE_IN_PROGRESS)
    here.wait(5)
    assert other in group(here).members
    here.wait(5)
    assert other not in group(here).members


def test_the_first_members_wait_a_little_for_each_other() -> None:
    here = world(initial_delay_s=0.5)
    first, second = newcomer(here), newcomer(here)
    assert join(here, first, waiter="first") is None
    here.wait(0.4)
    assert join(here, second, waiter="second") is None
    here.wait(0.4)
    assert "first" not in here.answers
    here.wait(0.2)
    assert here.answers["first"].generation_id == here.answers["second"].generation_id == 1


# --- static members --------------------------------------------------------------------------------------------------


def test_a_static_member_comes_back_without_a_rebalance_and_its_older_self_is_fenced() -> None:
    here = world()
    joined = join(here, instance="i")
    sync(here, joined, {joined.member_id: b"all"})
    back = join(here, instance="i")
    assert back.generation_id == joined.generation_id
    assert back.member_id != joined.member_id
    assert back.skip_assignment
    assert sync(here, back).assignment == b"all"
    assert heartbeat(here, joined.member_id, 1, "i") is ErrorCode.FENCED_INSTANCE_ID
    assert commit(here, joined.member_id, 1, "i") is ErrorCode.FENCED_INSTANCE_ID
    assert commit(here, joined.member_id, 1) is ErrorCode.UNKNOWN_MEMBER_ID
    here.failover(compact=True)
    assert heartbeat(here, back.member_id, 1, "i") is ErrorCode.NONE


def test_a_static_member_with_another_subscription_rebalances() -> None:
    here = world()
    joined = join(here, instance="i")
    sync(here, joined, {joined.member_id: b"all"})
    back = join(here, instance="i", protocols=(JoinProtocol("range", b"t,u"),))
    assert back.generation_id == joined.generation_id + 1


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_a_join_may_not_say(pair: Pair) -> None:
    here = pair.here
    assert join(here, session_ms=5_000) is ErrorCode.INVALID_SESSION_TIMEOUT
    assert join(here, session_ms=1_800_001) is ErrorCode.INVALID_SESSION_TIMEOUT
    assert join(here, protocols=()) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert join(here, protocols=(JoinProtocol("other", b""),)) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert join(here, "made-up") is ErrorCode.UNKNOWN_MEMBER_ID
    assert join(here, "made-up", "instance") is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_group_is_no_larger_than_its_limit_and_ids_not_used_are_forgotten() -> None:
    here = world(size_max=2)
    first, _ = newcomer(here), newcomer(here)
    assert join(here) is ErrorCode.GROUP_MAX_SIZE_REACHED
    here.wait(11)
    assert GROUP not in here.shard.groups, "nobody came"
    assert join(here, first) is ErrorCode.UNKNOWN_MEMBER_ID


def test_the_assignor_that_all_know_and_most_want_is_chosen() -> None:
    here = world(initial_delay_s=0.5)
    wishes = [("sticky", "range"), ("range", "sticky"), ("range", "sticky", "own")]
    for n, wish in enumerate(wishes):
        protocols = tuple(JoinProtocol(name, b"") for name in wish)
        join(here, join(here, protocols=protocols).member_id, protocols=protocols, waiter=n)
    here.wait(1)
    assert {here.answers[n].protocol_name for n in range(3)} == {"range"}


def test_the_two_protocols_do_not_mix_but_an_empty_group_changes_sides(pair: Pair) -> None:
    here = pair.here
    beat = ConsumerGroupHeartbeatRequest(
        GROUP, "new", 0, rebalance_timeout_ms=1_000, subscribed_topic_names=("t",), topic_partitions=()
    )
    assert here.ask(beat) is ErrorCode.GROUP_ID_NOT_FOUND
    here.ask(LeaveGroupRequest(GROUP, (LeavingMember(pair.leader.member_id), LeavingMember(pair.other.member_id))))
    assert here.ask(beat).error is ErrorCode.NONE
    assert join(here) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    here.failover(compact=True)
    assert not isinstance(here.shard.groups[GROUP], ClassicGroup)
    here.ask(ConsumerGroupHeartbeatRequest(GROUP, "new", -1))
    member = newcomer(here)
    assert join(here, member).error is ErrorCode.NONE
    sync(here, join(here, member), {member: b"x"})
    here.failover(compact=True)
    assert isinstance(here.shard.groups[GROUP], ClassicGroup)


# --- anything at any time --------------------------------------------------------------------------------------------


class Members(RuleBasedStateMachine):
    """Processes that join, sync, fall silent and leave in any order."""

    @initialize(delay=st.sampled_from([0.0, 0.5]))
    def begin(self, delay: float) -> None:
        self.world = world(initial_delay_s=delay, size_max=4)
        self.ids: list[str] = []
        self.asked: dict[str, float] = {}  # joins and syncs without an answer, and when they came
        self.joined: dict[str, JoinGroupResponse] = {}
        self.given: dict[int, dict[str, bytes]] = {}
        self.generation = 0
        self.count = 0

    def _ask(self, kind: str, member: str, request) -> None:
        self.count += 1
        waiter = f"{kind}:{member}:{self.count}"
        answer = self.world.ask(request, waiter)
        if not isinstance(answer, ErrorCode):
            self.asked[waiter] = self.world.now_s

    @rule()
    def come(self) -> None:
        answer = join(self.world)
        if isinstance(answer, JoinGroupResponse):
            self.ids.append(answer.member_id)

    @rule(pick=st.integers(0, 7), wish=st.sampled_from([b"t", b"u"]))
    def join(self, pick: int, wish: bytes) -> None:
        if self.ids:
            member = self.ids[pick % len(self.ids)]
            self._ask("join", member, join_request(member, protocols=(JoinProtocol("range", wish),)))

    @rule(pick=st.integers(0, 7))
    def sync(self, pick: int) -> None:
        if self.ids and (joined := self.joined.get(self.ids[pick % len(self.ids)])):
            give = {each.member_id: f"{joined.generation_id}:{n}".encode() for n, each in enumerate(joined.members)}
            assignments = tuple(MemberAssignment(member, part) for member, part in give.items())
            request = SyncGroupRequest(GROUP, joined.generation_id, joined.member_id, assignments=assignments)
            self._ask("sync", joined.member_id, request)

    @rule(pick=st.integers(0, 7))
    def beat(self, pick: int) -> None:
        if self.ids and (joined := self.joined.get(self.ids[pick % len(self.ids)])):
            heartbeat(self.world, joined.member_id, joined.generation_id)

    @rule(pick=st.integers(0, 7))
    def leave(self, pick: int) -> None:
        if self.ids:
            self.world.ask(LeaveGroupRequest(GROUP, (LeavingMember(self.ids.pop(pick % len(self.ids))),)))

    @rule(seconds=st.sampled_from([0.3, 4, 9, 25]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(synced=st.booleans())
    def meet(self, synced: bool) -> None:
        """Everybody joins, and mostly syncs."""
        for number in range(len(self.ids)):
            self.join(number, b"t")
        self.world.wait(1)
        self.answers()
        for number in range(len(self.ids) if synced else 0):
            self.sync(number)

    @rule(compact=st.booleans())
    def failover(self, compact: bool) -> None:
        """Whoever waits is told by the coordinator that goes; what was written holds. A generation that was not
        written, because its leader had assigned nothing yet, is counted again, as Kafka's coordinators do."""
        self.asked.clear()
        self.world.failover(compact=compact)
        found = self.world.shard.groups.get(GROUP)
        written = found.generation if isinstance(found, ClassicGroup) else 0
        assert written >= max(self.given, default=0), "a generation that was given out is written"
        self.generation = written

    @invariant()
    def answers(self) -> None:
        here = getattr(self, "world", None)
        if here is None:
            return
        for waiter in list(self.asked):
            answer = here.answers.get(waiter)
            if answer is None:
                # Nobody waits longer than for a rebalance to begin, its members, its leader, and one session more.
                assert here.now_s - self.asked[waiter] < 20 + 20 + 20 + 10 + 25
                continue
            del self.asked[waiter]
            if isinstance(answer, JoinGroupResponse) and answer.error is ErrorCode.NONE:
                self.joined[answer.member_id] = answer
            if isinstance(answer, SyncGroupResponse) and answer.error is ErrorCode.NONE and answer.assignment:
                generation, _, part = answer.assignment.partition(b":")
                owner = self.given.setdefault(int(generation), {})
                member = waiter.split(":")[1]
                assert owner.setdefault(part, member) == member, "one part of a generation has one owner"

    @invariant()
    def the_group_is_sound(self) -> None:
        found = getattr(self, "world", None) and self.world.shard.groups.get(GROUP)
        if not isinstance(found, ClassicGroup):
            return
        assert found.generation >= self.generation
        self.generation = found.generation
        assert len(found.members) + len(found.pending) <= 4
        assert (found.state is State.EMPTY) <= (not found.members)
        assert (found.state is State.STABLE) <= (found.leader in found.members)
        assert len(self.world.shard.timers) <= len(found.members) + len(found.pending) + 2


Members.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
TestMembers = Members.TestCase
