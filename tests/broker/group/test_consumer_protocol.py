"""KIP-848: one owner for each partition, whatever is lost, and everything shared out in the end."""

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ottla.broker.group.consumer_state import ConsumerGroupState
from ottla.broker.group.records import UNREVOKED
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import CommitPartition, ConsumerGroupHeartbeatRequest, OffsetCommitRequest
from ottla.log.model import TopicIdPartition

from .worlds import GROUP, Reader, World, as_topics, topic_id

NAMES = [f"m{n}" for n in range(5)]


def world(partitions: int = 6) -> World:
    return World(topics={"t": (topic_id("t"), partitions)})


def state(world: World) -> ConsumerGroupState:
    group = world.shard.groups[GROUP]
    assert isinstance(group, ConsumerGroupState)
    return group


def settle(*readers: Reader, rounds: int = 6) -> None:
    for _ in range(rounds):
        for reader in readers:
            reader.beat()


class Groups(RuleBasedStateMachine):
    """Members come, go, come back, lose answers, fall silent; topics grow; coordinators change."""

    @initialize(partitions=st.integers(1, 8))
    def begin(self, partitions: int) -> None:
        self.world = world(partitions)
        self.readers: dict[str, Reader] = {}
        self.epoch = 0
        self.epochs: dict[str, int] = {}

    @rule(name=st.sampled_from(NAMES), lost=st.booleans())
    def beat(self, name: str, lost: bool) -> None:
        reader = self.readers.setdefault(name, Reader(self.world, name))
        reader.beat(lost=lost)

    @rule(name=st.sampled_from(NAMES))
    def slow_to_let_go(self, name: str) -> None:
        """It hears what it must give up, and still has it with its next heartbeat."""
        reader = self.readers.get(name)
        if reader is None or reader.epoch <= 0:
            return
        before = reader.owned
        answer = reader.beat()
        if answer is not ErrorCode.NONE and reader.epoch > 0 and before - reader.owned:
            new, reader.owned = reader.owned, before
            reader.beat(lost=True)
            reader.owned = new

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        reader = self.readers.pop(name, None)
        if reader is not None:
            reader.leave()

    @rule(name=st.sampled_from(NAMES))
    def crash(self, name: str) -> None:
        """A process ends; another one under the same id begins with nothing."""
        if name in self.readers:
            self.readers[name] = Reader(self.world, name)

    @rule(seconds=st.sampled_from([1, 9, 46]))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(name=st.sampled_from(NAMES), other=st.sampled_from([("t",), ("t", "u"), ("u",)]))
    def subscribe(self, name: str, other: tuple[str, ...]) -> None:
        reader = self.readers.get(name)
        if reader is not None:
            reader.topics, reader.full = other, True

    @rule(count=st.integers(1, 10))
    def topics_change(self, count: int) -> None:
        self.world.topics["u"] = (topic_id("u"), count)
        self.world.topics_changed()

    @rule(compact=st.booleans())
    def failover(self, compact: bool) -> None:
        self.world.failover(compact=compact)

    @precondition(lambda self: hasattr(self, "world"))
    @rule()
    def all_settle(self) -> None:
        for reader in self.readers.values():
            reader.full = True
        settle(*self.readers.values(), rounds=8)
        group = self.world.shard.groups.get(GROUP)
        if not self.readers or not isinstance(group, ConsumerGroupState) or set(group.members) != set(self.readers):
            return
        wanted = {
            TopicIdPartition(found, n)
            for name in {topic for reader in self.readers.values() for topic in reader.topics}
            if (known := self.world.topics.get(name))
            for found, count in [known]
            for n in range(count)
        }
        owned = [partition for reader in self.readers.values() for partition in reader.owned]
        assert sorted(owned) == sorted(wanted)
        if len({reader.topics for reader in self.readers.values()}) == 1:
            sizes = [len(reader.owned) for reader in self.readers.values()]
            assert max(sizes) - min(sizes) <= 1

    @invariant()
    def one_owner(self) -> None:
        group = getattr(self, "world", None) and self.world.shard.groups.get(GROUP)
        if not isinstance(group, ConsumerGroupState):
            return
        held = [partition for member in group.members.values() for partition in member.held]
        assert len(held) == len(set(held))
        assert group.owners == {p: name for name, member in group.members.items() for p in member.held}
        believed: dict[TopicIdPartition, str] = {}
        for name, reader in self.readers.items():
            member = group.members.get(name)
            if (
                member is None
                or not reader.epoch
                or reader.epoch
                not in (
                    member.current.epoch,
                    member.current.previous_epoch,
                )
            ):
                continue  # it is gone, or fenced with its next word: what it does is refused
            assert reader.owned <= member.held, f"{name} works on what it was not given"
            for partition in reader.owned:
                assert believed.setdefault(partition, name) == name

    @invariant()
    def epochs_rise(self) -> None:
        group = getattr(self, "world", None) and self.world.shard.groups.get(GROUP)
        if isinstance(group, ConsumerGroupState):
            assert group.epoch >= self.epoch
            assert group.target_epoch <= group.epoch
            self.epoch = group.epoch


Groups.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
TestGroups = Groups.TestCase


# --- one story each --------------------------------------------------------------------------------------------------


def test_a_partition_is_given_on_only_when_it_was_let_go() -> None:
    here = world(4)
    first, second = Reader(here, "a"), Reader(here, "b")
    first.beat()
    assert len(first.owned) == 4
    second.beat()
    assert second.owned == frozenset()
    working = first.owned
    first.beat()
    assert len(first.owned) == 2
    assert state(here).members["a"].current.state == UNREVOKED
    second.beat()
    assert second.owned == frozenset(), "the first has not said yet that it let go"
    first.beat()
    second.beat()
    assert second.owned == working - first.owned
    assert first.epoch == second.epoch


def test_who_does_not_let_go_in_time_is_out() -> None:
    here = world(4)
    first, second = Reader(here, "a"), Reader(here, "b")
    first.beat()
    second.beat()
    holding = first.owned
    first.beat()
    for _ in range(3):
        here.wait(3)
        second.beat()
        first.owned = holding
        first.beat(lost=True)
    here.wait(2)
    assert "a" not in state(here).members
    assert first.beat() is ErrorCode.UNKNOWN_MEMBER_ID
    second.beat()
    assert second.owned == holding


def test_epochs_are_fenced() -> None:
    here = world()
    reader = Reader(here, "a")
    reader.beat()
    for epoch in (reader.epoch + 1, reader.epoch + 7):
        request = ConsumerGroupHeartbeatRequest(GROUP, "a", epoch)
        assert here.ask(request) is ErrorCode.FENCED_MEMBER_EPOCH
    assert here.ask(ConsumerGroupHeartbeatRequest(GROUP, "b", 1)) is ErrorCode.UNKNOWN_MEMBER_ID
    old = Reader(here, "a", epoch=reader.epoch, owned=reader.owned, full=False)
    second = Reader(here, "b")
    settle(second, reader, rounds=4)
    assert reader.epoch > old.epoch
    assert old.beat() is ErrorCode.FENCED_MEMBER_EPOCH, "it has what is not its own any more"


def commit(here: World, member: str, epoch: int | None) -> object:
    answer = here.ask(OffsetCommitRequest(GROUP, epoch, member, (CommitPartition("t", 0, 7),)))
    return answer if isinstance(answer, ErrorCode) else answer.error


def test_commits_are_fenced_by_the_member_epoch() -> None:
    here = world()
    reader, second = Reader(here, "a"), Reader(here, "b")
    reader.beat()
    first_epoch = reader.epoch
    assert commit(here, "a", first_epoch) is ErrorCode.NONE
    settle(second, reader, rounds=3)
    assert commit(here, "a", first_epoch) is ErrorCode.STALE_MEMBER_EPOCH
    assert commit(here, "a", reader.epoch) is ErrorCode.NONE
    assert commit(here, "c", reader.epoch) is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(here, "", None) is ErrorCode.UNKNOWN_MEMBER_ID, "the group has members"
    reader.leave()
    second.leave()
    assert commit(here, "", None) is ErrorCode.NONE


def test_a_static_member_that_comes_back_gets_what_it_had_and_nobody_else_notices() -> None:
    here = world()
    reader, other = Reader(here, "a", instance_id="i"), Reader(here, "b")
    settle(reader, other)
    had, epoch = reader.owned, other.epoch
    assert Reader(here, "x", instance_id="i").beat() is ErrorCode.UNRELEASED_INSTANCE_ID
    reader.leave(-2)
    other.beat()
    back = Reader(here, "c", instance_id="i")
    settle(back, other)
    assert (back.owned, other.epoch) == (had, epoch)
    zombie = Reader(here, "a", instance_id="i", epoch=epoch, owned=had, full=False)
    assert zombie.beat() is ErrorCode.FENCED_INSTANCE_ID


def test_a_static_member_that_does_not_come_back_in_time_is_gone() -> None:
    here = world()
    reader, other = Reader(here, "a", instance_id="i"), Reader(here, "b")
    settle(reader, other)
    reader.leave(-2)
    for _ in range(10):
        here.wait(5)
        other.beat()
    assert len(other.owned) == 6


def test_members_that_fall_silent_lose_their_place_and_late_ones_are_told() -> None:
    here = world()
    reader, other = Reader(here, "a"), Reader(here, "b")
    settle(reader, other)
    for _ in range(10):
        here.wait(5)
        other.beat()
    assert len(other.owned) == 6
    assert reader.beat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_topics_that_grow_come_or_go_are_shared_anew() -> None:
    here = world(2)
    reader = Reader(here, "a", topics=("t", "later"))
    reader.beat()
    assert len(reader.owned) == 2
    here.topics["t"] = (topic_id("t"), 5)
    here.topics_changed()
    settle(reader, rounds=2)
    assert len(reader.owned) == 5
    here.topics["later"] = (topic_id("later"), 1)
    here.topics_changed()
    settle(reader, rounds=2)
    assert len(reader.owned) == 6
    del here.topics["t"]
    here.topics_changed()
    settle(reader, rounds=3)
    assert len(reader.owned) == 1


def test_an_assignment_is_told_only_when_it_changed_or_is_asked_for() -> None:
    here = world()
    reader = Reader(here, "a")
    assert reader.beat().assignment is not None
    assert reader.beat().assignment is None
    reader.full = True
    assert reader.beat().assignment is not None
    before = len(here.log)
    reader.beat()
    assert len(here.log) == before, "a heartbeat of a settled group writes nothing"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"server_assignor": "best"}, ErrorCode.UNSUPPORTED_ASSIGNOR),
        ({"subscribed_topic_regex": "t.*("}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "(?=t)t"}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "((t{1,1000}){1,1000})*"}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_names": None}, ErrorCode.INVALID_REQUEST),
        ({"topic_partitions": as_topics(frozenset({TopicIdPartition(topic_id("t"), 0)}))}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_a_joining_member_may_not_say(change: dict[str, object], error: ErrorCode) -> None:
    here = world()
    request = Reader(here, "a").request()
    for name, value in change.items():
        setattr(request, name, value)
    assert here.ask(request) is error
    assert GROUP not in here.shard.groups


def test_a_group_is_no_larger_than_its_limit() -> None:
    here = world()
    here.shard.limits = here.limits = type(here.limits)(consumer_size_max=2)
    assert [Reader(here, name).beat() is ErrorCode.GROUP_MAX_SIZE_REACHED for name in "abc"] == [False, False, True]


def test_a_compacted_log_gives_back_what_members_own_though_they_said_something_later() -> None:
    here = world()
    reader = Reader(here, "a")
    settle(reader)
    reader.topics, reader.full = ("t", "u"), True
    here.shard.topics_version += 1
    request = reader.request()
    request.rack_id = "r1"
    reader.topics = ("t",)
    request.subscribed_topic_names = ("t",)
    here.ask(request)  # only what it said changes: that record is now behind the one of what it owns
    owned = state(here).members["a"].current
    here.failover(compact=True)
    assert state(here).members["a"].current == owned
    assert state(here).members["a"].said.rack_id == "r1"


def test_each_time_to_let_go_is_a_full_one() -> None:
    here = world(8)
    first = Reader(here, "a")
    first.beat()
    others: list[Reader] = []
    for name in ("b", "c", "d"):  # each takes some of it, at the moment when it has let go of what the one before gets
        others.append(Reader(here, name))
        others[-1].beat()
        first.beat()
        assert state(here).members["a"].current.state == UNREVOKED
        here.wait(4)  # of the ten seconds that it has
        for other in others:
            other.beat()
    assert "a" in state(here).members
    here.wait(7)
    assert "a" not in state(here).members
