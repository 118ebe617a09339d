"""Members as state machines against the small coordinator: whatever order things come in, one owner at a time."""

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ottla.client.error_codes import ErrorCode
from ottla.client.group_member import UNRELEASED_S_MAX, Assign, GroupMember, Lose, Revoke, Step, Subscription
from ottla.client.group_protocol import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.log.model import TopicId, TopicIdPartition
from tests.client.fake_groups import FakeGroups

PARTITIONS = 5
TOPICS = ("t",)


class Members(RuleBasedStateMachine):
    """Three members, their requests and answers on the way, lost or late, sessions that end, members that leave."""

    @initialize()
    def begin(self) -> None:
        self.now_s = 0.0
        self.groups = FakeGroups(lambda: {"t": ("id", PARTITIONS)})
        self.members = {f"m{n}": GroupMember(f"m{n}", Subscription("g", TOPICS, 1000), 0.0) for n in range(3)}
        self.asked: dict[str, ConsumerGroupHeartbeatRequest] = {}
        self.steps: dict[str, Step] = {}
        self.left: set[str] = set()

    names = st.sampled_from(["m0", "m1", "m2"])

    @rule(name=names)
    def beat(self, name: str) -> None:
        member = self.members[name]
        if name not in self.left and name not in self.asked and member.due_s is not None:
            self.now_s = max(self.now_s, member.due_s)
            request = member.heartbeat()
            told = {(t.topic_id, n) for t in request.topic_partitions or () for n in t.partitions}
            begun = self.steps.get(name)
            assert told <= member.owned | (begun.partitions if isinstance(begun, Assign) else frozenset())
            self.asked[name] = request

    @rule(name=names, lost=st.booleans())
    def answer(self, name: str, lost: bool) -> None:
        request = self.asked.pop(name, None)
        if request is None:
            return
        response = self.groups.answer(1, request)
        assert isinstance(response, ConsumerGroupHeartbeatResponse)
        if lost:
            self.members[name].unanswered(self.now_s, 0.1)
        else:
            self.members[name].accept(response, self.now_s, 0.1)

    @rule(name=names)
    def step(self, name: str) -> None:
        if name not in self.left and name not in self.steps:
            step = self.members[name].next_step()
            if step is not None:
                self.steps[name] = step

    @rule(name=names, all_of_it=st.booleans())
    def done(self, name: str, all_of_it: bool) -> None:
        step = self.steps.pop(name, None)
        if step is not None:
            partitions = set(step.partitions)
            if isinstance(step, Assign) and not all_of_it:
                partitions.pop()
            self.members[name].done(step, partitions, self.now_s)

    @rule(name=names)
    @precondition(lambda self: self.groups.members)
    def session_ends(self, name: str) -> None:
        if name in self.groups.members:
            self.groups.fence(name)

    @rule(name=names)
    @precondition(lambda self: len(self.left) < 2)
    def leave(self, name: str) -> None:
        if name in self.left:
            return
        self.left.add(name)
        self.asked.pop(name, None)
        request = self.members[name].leave()
        if request is not None:
            self.groups.answer(1, request)

    @invariant()
    def one_owner(self) -> None:
        """Among the members that the coordinator counts. One whose session ended does not know yet."""
        owned = [
            partition
            for name, member in self.members.items()
            if name in self.groups.members
            and member.epoch is not None
            and self.groups.members[name].epoch >= member.epoch > 0
            and not isinstance(self.steps.get(name), Lose)
            for partition in member.owned
        ]
        assert not self.groups.double_owners
        assert len(owned) == len(set(owned))

    def teardown(self) -> None:
        """Left alone, the members that are left own everything."""
        alive = [name for name in self.members if name not in self.left]
        for _ in range(60):
            for name in alive:
                self.answer(name, False)
                self.done(name, True)
                self.step(name)
                self.done(name, True)
                self.beat(name)
        owned = [partition for name in alive for partition in self.members[name].owned]
        assert sorted(owned) == [("id", number) for number in range(PARTITIONS)]
        assert not self.groups.double_owners


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def joined(*numbers: int) -> GroupMember:
    member = GroupMember("m", Subscription("g", TOPICS, 1000), 0.0)
    member.heartbeat()
    member.accept(_answer(1, *numbers), 0.0, 0.1)
    step = member.next_step()
    assert isinstance(step, Assign)
    member.done(step, step.partitions, 0.0)
    return member


def _answer(epoch: int, *numbers: int) -> ConsumerGroupHeartbeatResponse:
    given = (TopicPartitions(TopicId("id"), numbers),)
    return ConsumerGroupHeartbeatResponse(ErrorCode.NONE, "m", epoch, 1000, given)


def _owned(*numbers: int) -> frozenset[TopicIdPartition]:
    return frozenset(TopicIdPartition(TopicId("id"), number) for number in numbers)


def test_a_revocation_is_said_before_anything_new_is_taken() -> None:
    member = joined(0, 1)
    member.heartbeat()
    member.accept(_answer(1, 1, 2), 0.0, 0.1)
    step = member.next_step()
    assert step == Revoke(_owned(0))
    assert member.next_step() is None  # one at a time
    member.done(step, step.partitions, 5.0)
    assert member.due_s is not None
    assert member.due_s <= 5.0  # at once
    assert member.heartbeat().topic_partitions == (TopicPartitions(TopicId("id"), (1,)),)
    assert member.next_step() == Assign(_owned(2))


def test_what_has_not_changed_is_not_said_again_and_all_of_it_after_a_loss() -> None:
    member = joined(0)
    assert member.heartbeat().topic_partitions is not None
    member.accept(ConsumerGroupHeartbeatResponse(ErrorCode.NONE, "m", 1, 1000), 7.0, 0.1)
    assert member.due_s == 8.0
    quiet = member.heartbeat()
    assert (quiet.topic_partitions, quiet.subscribed_topic_names) == (None, None)
    member.unanswered(9.0, 0.5)
    assert member.due_s == 9.5
    loud = member.heartbeat()
    assert loud.subscribed_topic_names == TOPICS
    assert loud.topic_partitions == (TopicPartitions(TopicId("id"), (0,)),)


@given(st.sampled_from([ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID]))
def test_a_fenced_member_loses_all_before_it_joins_again(error: ErrorCode) -> None:
    member = joined(0, 1)
    member.heartbeat()
    member.accept(ConsumerGroupHeartbeatResponse(error), 1.0, 0.1)
    assert not member.joined
    assert member.due_s is None
    step = member.next_step()
    assert step == Lose(_owned(0, 1))
    member.done(step, step.partitions, 2.0)
    assert member.due_s == 2.0
    request = member.heartbeat()
    assert (request.member_epoch, request.topic_partitions) == (0, ())


def test_an_answer_from_before_the_loss_is_void() -> None:
    member = joined(0)
    member.heartbeat()
    member.fence()
    member.accept(_answer(9, 0, 1), 1.0, 0.1)
    assert member.epoch is None
    assert isinstance(member.next_step(), Lose)


def test_a_refusal_for_good_is_a_failure() -> None:
    member = joined(0)
    member.heartbeat()
    member.accept(ConsumerGroupHeartbeatResponse(ErrorCode.FENCED_INSTANCE_ID), 1.0, 0.1)
    assert member.failure is not None
    assert isinstance(member.next_step(), Lose)


def test_a_static_member_that_leaves_will_be_back() -> None:
    member = GroupMember("m", Subscription("g", TOPICS, 1000, instance_id="i"), 0.0)
    assert member.leave() is None
    member = GroupMember("m", Subscription("g", TOPICS, 1000, instance_id="i"), 0.0)
    member.heartbeat()
    member.accept(_answer(1), 0.0, 0.1)
    leaving = member.leave()
    assert leaving is not None
    assert leaving.member_epoch == -2


def test_what_is_being_begun_with_is_not_said_to_be_let_go() -> None:
    member = joined(0)
    member.heartbeat()
    member.accept(_answer(1, 0, 1), 0.0, 0.1)
    step = member.next_step()
    assert step == Assign(_owned(1))
    member.hurry(0.0)
    member.heartbeat()
    member.unanswered(0.0, 0.0)
    assert member.heartbeat().topic_partitions == (TopicPartitions(TopicId("id"), (0, 1)),)


def test_a_static_member_waits_for_one_that_was_killed_and_not_for_one_that_lives() -> None:
    member = GroupMember("m", Subscription("g", TOPICS, 1000, instance_id="i"), 0.0)
    unreleased = ConsumerGroupHeartbeatResponse(ErrorCode.UNRELEASED_INSTANCE_ID, "i is still a member")

    def ask(now_s: float, response: ConsumerGroupHeartbeatResponse) -> None:
        member.heartbeat()
        member.accept(response, now_s, 0.5)

    ask(10.0, unreleased)
    ask(10.0 + UNRELEASED_S_MAX - 1, unreleased)
    assert (member.failure, member.due_s) == (None, 10.0 + UNRELEASED_S_MAX - 0.5)
    ask(75.0, ConsumerGroupHeartbeatResponse(ErrorCode.NONE, member_epoch=3, heartbeat_interval_ms=1000))
    assert member.epoch == 3  # it was released, and a later wait has its own time
    ask(200.0, unreleased)
    assert member.failure is None
    ask(200.0 + UNRELEASED_S_MAX, unreleased)
    assert member.failure is not None
    assert member.failure.code == "OTTLA-UNRELEASED-INSTANCE-ID"
