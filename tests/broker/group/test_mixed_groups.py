"""Members of both protocols in one group: in every interleaving a partition has one owner, and a group changes over
and back while it works (KIP-848)."""

from collections.abc import Callable

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ottla.broker.group.classic_state import ClassicGroup, State
from ottla.broker.group.consumer_state import ConsumerGroupState
from ottla.broker.group.outcome import GroupLimits
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    ConsumerGroupHeartbeatRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinProtocol,
    LeaveGroupRequest,
    LeavingMember,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetPartition,
    SyncGroupRequest,
)
from ottla.log.model import TopicIdPartition

from .classic_reader import GIVEN, IN, OUT, ClassicReader
from .worlds import GROUP, Reader, World, topic_id

NAMES = ["a", "b", "c", "s"]
"""The last one is a static member."""


def world(partitions: int = 6, **limits) -> World:
    return World(limits=GroupLimits(**{"initial_delay_s": 0.0, **limits}), topics={"t": (topic_id("t"), partitions)})


def works_on(reader: Reader | ClassicReader) -> frozenset[TopicIdPartition]:
    return reader.works_on if isinstance(reader, ClassicReader) else reader.owned


def may_commit(reader: Reader | ClassicReader) -> bool:
    if isinstance(reader, ClassicReader):
        return reader.may_commit()
    group = reader.world.shard.groups.get(GROUP)
    member = group.members.get(reader.member_id) if isinstance(group, ConsumerGroupState) else None
    return member is not None and reader.epoch > 0 and member.current.epoch == reader.epoch


def check_one_owner(world: World, readers: list[Reader | ClassicReader]) -> None:
    """Of those whose commits count, no two work on the same."""
    owners: dict[TopicIdPartition, str] = {}
    for reader in readers:
        if may_commit(reader):
            for partition in works_on(reader):
                assert owners.setdefault(partition, str(reader)) == str(reader), f"{partition} has two owners"
    group = world.shard.groups.get(GROUP)
    if isinstance(group, ConsumerGroupState):
        held = [partition for member in group.members.values() for partition in member.held]
        assert len(held) == len(set(held))
        assert group.owners == {p: name for name, member in group.members.items() for p in member.held}
        for reader in readers:
            member = group.members.get(reader.member_id)
            if member is not None and may_commit(reader):
                known = {partition for partition in works_on(reader) if _is_there(world, partition)}
                assert known <= member.held, f"{reader} works on what others may be given"


def _is_there(world: World, partition: TopicIdPartition) -> bool:
    return any(found == partition.topic_id and partition.partition < n for found, n in world.topics.values())


def settle(*readers: Reader | ClassicReader, rounds: int = 40) -> None:
    for _ in range(rounds):
        for reader in readers:
            reader.step() if isinstance(reader, ClassicReader) else reader.beat()


class Mixed(RuleBasedStateMachine):
    """Processes of both kinds come, go, change over, lose answers and fall silent; coordinators change."""

    @initialize(
        partitions=st.integers(1, 7),
        assignor=st.sampled_from(["range", "cooperative-sticky"]),
        policy=st.sampled_from([(True, True), (True, False), (False, True)]),
        delay=st.sampled_from([0.0, 0.5]),
    )
    def begin(self, partitions: int, assignor: str, policy: tuple[bool, bool], delay: float) -> None:
        self.world = world(partitions, upgrade=policy[0], downgrade=policy[1], initial_delay_s=delay)
        self.assignor = assignor
        self.readers: dict[str, Reader | ClassicReader] = {}
        self.count = 0

    def _new(self, name: str, *, classic: bool) -> Reader | ClassicReader:
        self.count += 1
        instance = f"i-{name}" if name == "s" else None
        if classic:
            return ClassicReader(self.world, name, self.assignor, instance_id=instance)
        return Reader(self.world, f"{name}-{self.count}", instance_id=instance)

    @rule(name=st.sampled_from(NAMES), classic=st.booleans())
    def come(self, name: str, classic: bool) -> None:
        if name not in self.readers:
            self.readers[name] = self._new(name, classic=classic)

    @rule(name=st.sampled_from(NAMES), lost=st.booleans(), times=st.integers(1, 4))
    def step(self, name: str, lost: bool, times: int) -> None:
        reader = self.readers.get(name)
        for _ in range(times if reader is not None else 0):
            if isinstance(reader, ClassicReader):
                reader.step(lost=lost)
            elif reader is not None:
                reader.beat(lost=lost)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        reader = self.readers.pop(name, None)
        if reader is not None:
            reader.leave()

    @rule(name=st.sampled_from(NAMES), cleanly=st.booleans())
    def change_over(self, name: str, cleanly: bool) -> None:
        """A process is started anew, with the other protocol."""
        reader = self.readers.pop(name, None)
        if reader is None:
            return
        if cleanly and reader.instance_id is None:
            reader.leave()
        elif cleanly and isinstance(reader, Reader):
            reader.leave(-2)
        self.readers[name] = self._new(name, classic=isinstance(reader, Reader))

    @rule(seconds=st.sampled_from([0.6, 4, 9, 21, 46]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(count=st.integers(1, 8))
    def topics_change(self, count: int) -> None:
        self.world.topics["t"] = (topic_id("t"), max(count, self.world.topics["t"][1]))
        self.world.topics_changed()
        for reader in self.readers.values():
            if isinstance(reader, ClassicReader) and reader.phase == IN:
                reader.phase = OUT  # its metadata tells it, and it joins again

    @rule(compact=st.booleans())
    def failover(self, compact: bool) -> None:
        self.world.failover(compact=compact)
        for reader in self.readers.values():
            if isinstance(reader, ClassicReader):
                reader.coordinator_is_gone()

    @rule()
    def all_settle(self) -> None:
        readers = list(self.readers.values())
        for _ in range(60):
            settle(*readers, rounds=1)
            self.world.wait(1)
            check_one_owner(self.world, readers)
        group = self.world.shard.groups.get(GROUP)
        members = set() if group is None else set(group.members)
        if not readers or members != {reader.member_id for reader in readers}:
            return
        owned = sorted(partition for reader in readers for partition in works_on(reader))
        assert owned == [TopicIdPartition(topic_id("t"), n) for n in range(self.world.topics["t"][1])]
        kinds = {type(reader) for reader in readers}
        if self.world.limits.downgrade and kinds == {ClassicReader}:
            assert isinstance(group, ClassicGroup), "nobody speaks the consumer protocol any more"
        sizes = [len(works_on(reader)) for reader in readers]
        assert max(sizes) - min(sizes) <= 1

    @invariant()
    def one_owner(self) -> None:
        if hasattr(self, "world"):
            check_one_owner(self.world, list(self.readers.values()))

    @invariant()
    def nothing_is_left_behind(self) -> None:
        group = hasattr(self, "world") and self.world.shard.groups.get(GROUP)
        if group:
            assert len(self.world.shard.timers) <= 3 * (len(group.members) + len(self.readers)) + 40


Mixed.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
TestMixed = Mixed.TestCase


# --- one story each --------------------------------------------------------------------------------------------------


def consumer_group(here: World) -> ConsumerGroupState:
    group = here.shard.groups[GROUP]
    assert isinstance(group, ConsumerGroupState)
    return group


def classic_group(here: World) -> ClassicGroup:
    group = here.shard.groups[GROUP]
    assert isinstance(group, ClassicGroup)
    return group


def settled_classics(here: World, *names: str, assignor: str = "cooperative-sticky") -> list[ClassicReader]:
    readers = [ClassicReader(here, name, assignor) for name in names]
    settle(*readers)
    assert classic_group(here).state is State.STABLE
    return readers


@pytest.mark.parametrize("assignor", ["range", "cooperative-sticky"])
def test_a_group_changes_over_member_by_member_and_back_and_works_all_the_time(assignor: str) -> None:
    here = world()
    readers: list[Reader | ClassicReader] = [*settled_classics(here, "a", "b", assignor=assignor)]

    def swap(place: int, new: Callable[[], Reader | ClassicReader]) -> None:
        readers[place].leave()
        readers[place] = new()
        for _ in range(30):
            settle(*readers, rounds=1)
            check_one_owner(here, readers)
        assert sorted(len(works_on(reader)) for reader in readers) == [3, 3]

    swap(0, lambda: Reader(here, "new-a"))
    assert {m.classic for m in consumer_group(here).members.values()} == {True, False}
    here.failover(compact=True)
    swap(1, lambda: Reader(here, "new-b"))
    assert not any(member.classic for member in consumer_group(here).members.values())
    swap(0, lambda: ClassicReader(here, "a", assignor))
    swap(1, lambda: ClassicReader(here, "b", assignor))
    here.wait(1)
    settle(*readers)
    assert classic_group(here).state is State.STABLE
    assert sorted(len(works_on(reader)) for reader in readers) == [3, 3]


def test_what_a_member_is_still_letting_go_of_is_not_given_away_when_the_group_changes_over() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    second = ClassicReader(here, "b")
    for _ in range(20):  # until the first was told that it has less now, and before it has done anything about it
        second.step()
        if first.given != first.owned and first.phase == GIVEN:
            break
        first.step()
    leaving = first.owned - first.given
    assert leaving
    new = Reader(here, "new")
    for _ in range(5):
        new.beat()
        check_one_owner(here, [first, second, new])
    assert not {partition.partition for partition in new.owned} & {key.partition for key in leaving}
    settle(first, second, new)
    assert sorted(len(works_on(reader)) for reader in (first, second, new)) == [2, 2, 2]


def test_who_waits_for_a_rebalance_when_the_group_changes_over_is_told_to_join_again() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    second = ClassicReader(here, "b")
    second.step()
    second.step()
    assert second.phase == "joining"
    Reader(here, "new").beat()
    assert here.answers[second.waiter].error is ErrorCode.REBALANCE_IN_PROGRESS
    assert first.step() is ErrorCode.REBALANCE_IN_PROGRESS


def test_commits_of_classic_members_are_fenced_by_their_epoch() -> None:
    here = world()
    first, second = settled_classics(here, "a", "b")
    old = first.generation

    def commit(epoch: int | None, member: str = first.member_id) -> ErrorCode:
        answer = here.ask(OffsetCommitRequest(GROUP, epoch, member, (CommitPartition("t", 0, 7),)))
        return answer if isinstance(answer, ErrorCode) else answer.error

    new = Reader(here, "new")
    new.beat()
    assert commit(old) is ErrorCode.NONE, "its generation is its epoch"
    settle(first, second, new)
    assert first.generation > old
    assert commit(old) is ErrorCode.ILLEGAL_GENERATION
    assert commit(first.generation) is ErrorCode.NONE
    assert commit(new.epoch, "new") is ErrorCode.NONE
    assert commit(first.generation, "nobody") is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(None, "") is ErrorCode.UNKNOWN_MEMBER_ID
    here.failover(compact=True)
    assert commit(old) is ErrorCode.ILLEGAL_GENERATION
    assert commit(first.generation) is ErrorCode.NONE


def test_requests_of_the_other_protocol_are_not_for_a_member() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new")
    settle(new, first, rounds=9)
    for epoch in (first.generation, -1):
        assert here.ask(ConsumerGroupHeartbeatRequest(GROUP, first.member_id, epoch)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert here.ask(HeartbeatRequest(GROUP, new.epoch, "new")) is ErrorCode.UNKNOWN_MEMBER_ID
    assert here.ask(SyncGroupRequest(GROUP, new.epoch, "new")) is ErrorCode.UNKNOWN_MEMBER_ID
    left = here.ask(LeaveGroupRequest(GROUP, (LeavingMember("new"), LeavingMember(first.member_id))))
    assert [each.error for each in left.members] == [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE]


def test_a_sync_names_the_generation_and_the_protocol() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new")
    settle(new, first, rounds=9)

    def sync(generation: int, kind: str | None = None, name: str | None = None) -> object:
        answer = here.ask(SyncGroupRequest(GROUP, generation, first.member_id, None, kind, name))
        return answer if isinstance(answer, ErrorCode) else answer.error

    assert sync(first.generation - 1) is ErrorCode.ILLEGAL_GENERATION
    assert sync(first.generation, "consumer", "range") is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert sync(first.generation, "connect") is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert sync(first.generation, "consumer", "cooperative-sticky") is ErrorCode.NONE


def test_what_a_classic_member_of_a_consumer_group_may_not_say_when_it_joins() -> None:
    here = world()
    settled_classics(here, "a")
    Reader(here, "new").beat()

    def join(kind: str = "consumer", name: str = "cooperative-sticky", data: bytes = b"", session_ms: int = 10_000):
        request = JoinGroupRequest(GROUP, session_ms, 20_000, "", None, kind, (JoinProtocol(name, data),))
        answer = here.ask(request)
        return answer if isinstance(answer, ErrorCode) else answer.error

    assert join(session_ms=1) is ErrorCode.INVALID_SESSION_TIMEOUT
    assert join(kind="connect") is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert join(name="range") is ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "the other one does not know it"
    assert join(data=b"no subscription") is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    unknown = ClassicReader(here, "b", member_id="made-up")
    assert unknown.step() is ErrorCode.UNKNOWN_MEMBER_ID, "an id that was not given out"


def test_who_is_told_to_join_again_and_does_not_is_out() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new")
    new.beat()
    for _ in range(12):
        here.wait(2)
        new.beat()
        first.step(lost=True)  # it says that it is alive, and does not listen
        first.phase = IN
    assert set(consumer_group(here).members) == {"new"}
    assert len(new.owned) == 6


def test_who_joins_and_does_not_sync_is_out() -> None:
    here = world()
    (first,) = settled_classics(here, "a", assignor="range")
    new = Reader(here, "new")
    new.beat()
    first.step()
    first.step()
    assert first.phase == "joined"
    for _ in range(11):
        here.wait(2)
        new.beat()
        here.ask(HeartbeatRequest(GROUP, first.generation, first.member_id))
    assert set(consumer_group(here).members) == {"new"}


def test_a_static_member_changes_over_by_its_restart() -> None:
    here = world()
    other = ClassicReader(here, "b")
    static = ClassicReader(here, "s", instance_id="i")
    settle(static, other)
    had = static.works_on
    new = Reader(here, "new", instance_id="i")
    settle(new, other)
    assert new.owned == had, "nothing moved"
    assert static.step() is ErrorCode.FENCED_INSTANCE_ID
    back = ClassicReader(here, "s", instance_id="i")
    back.step()
    assert new.beat() in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID)
    here.wait(1)
    settle(back, other)
    assert classic_group(here).state is State.STABLE
    assert sorted(len(works_on(reader)) for reader in (back, other)) == [3, 3]


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"upgrade": False}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({"upgrade": False, "downgrade": False}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({"consumer_size_max": 1}, ErrorCode.GROUP_ID_NOT_FOUND),
    ],
)
def test_a_classic_group_stays_one_where_that_is_the_policy(limits: dict[str, object], error: ErrorCode) -> None:
    here = world(**limits)
    settled_classics(here, "a", "b")
    assert Reader(here, "new").beat() is error
    assert classic_group(here).state is State.STABLE


def test_a_consumer_group_takes_no_classic_members_where_that_is_the_policy() -> None:
    here = world(upgrade=False, downgrade=False)
    Reader(here, "new").beat()
    assert ClassicReader(here, "a").step() is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_consumer_group_stays_one_without_the_downgrade() -> None:
    here = world(downgrade=False)
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new")
    settle(new, first)
    new.leave()
    here.wait(1)
    settle(first)
    assert consumer_group(here).members[first.member_id].classic
    assert len(first.owned) == 6


def test_classic_members_of_a_consumer_group_are_told_of_partitions_that_come() -> None:
    here = world(2, downgrade=False)
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new")
    settle(new, first)
    new.leave()
    settle(first)
    here.topics["t"] = (topic_id("t"), 5)
    here.topics_changed()
    settle(first)
    assert len(first.owned) == 5


def test_a_downgrade_that_a_coordinator_did_not_finish_is_finished_by_the_next() -> None:
    here = world()
    first, second = settled_classics(here, "a", "b")
    new = Reader(here, "new")
    settle(new, first, second)
    new.leave()
    settle(first, second)
    assert consumer_group(here).epoch == first.generation == second.generation, "all is ready for it"
    here.failover()
    here.wait(0)
    assert classic_group(here).state is State.PREPARING
    here.failover(compact=True)  # and the rebalance that follows begins again
    assert classic_group(here).state is State.PREPARING
    settle(first, second)
    assert sorted(len(works_on(reader)) for reader in (first, second)) == [3, 3]


def test_a_downgrade_waits_until_all_are_in_one_epoch_so_that_nobody_loses_its_work() -> None:
    here = world()
    first, second = settled_classics(here, "a", "b")
    new = Reader(here, "new")
    settle(new, first, second)
    new.leave()
    for _ in range(6):
        settle(first, rounds=1)
        here.wait(1)
    assert first.generation > second.generation
    assert consumer_group(here).members
    while isinstance(here.shard.groups[GROUP], ConsumerGroupState):
        assert second.step() not in (ErrorCode.ILLEGAL_GENERATION, ErrorCode.UNKNOWN_MEMBER_ID)
        first.step()
        here.wait(0)
    had = (first.owned, second.owned)
    assert [first.step(), second.step()] == [ErrorCode.REBALANCE_IN_PROGRESS] * 2
    settle(first, second)
    assert had[0] <= first.owned
    assert had[1] <= second.owned


def test_a_member_that_was_silent_while_its_group_changed_back_joins_again() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new")
    settle(new, first)
    for _ in range(50):
        here.wait(1)
        first.step()
    assert classic_group(here).state is State.STABLE
    assert new.beat() is ErrorCode.UNKNOWN_MEMBER_ID
    settle(new, first)
    assert {len(new.owned), len(first.owned)} == {3}
    assert consumer_group(here).members["new"].current.epoch == new.epoch


def test_members_that_are_no_consumers_cannot_change_over() -> None:
    here = world()
    protocols = (JoinProtocol("default", b"not a subscription"),)
    request = JoinGroupRequest(GROUP, 10_000, 20_000, "", None, "connect", protocols, needs_member_id=False)
    joined = here.ask(request)
    assert joined.error is ErrorCode.NONE, "a member of JoinGroup 3 needs no id"
    assert Reader(here, "new").beat() is ErrorCode.GROUP_ID_NOT_FOUND
    request.protocol_type = "consumer"
    here.shard.groups.clear()
    here.ask(request)
    assert Reader(here, "new").beat() is ErrorCode.GROUP_ID_NOT_FOUND


def test_offsets_of_what_a_classic_member_reads_are_not_deleted() -> None:
    here = world()
    (first,) = settled_classics(here, "a")
    new = Reader(here, "new", topics=())
    settle(new, first)
    answer = here.ask(OffsetDeleteRequest(GROUP, (OffsetPartition("t", 0), OffsetPartition("u", 0))))
    assert [each.error for each in answer.partitions] == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]


# --- regular expressions ---------------------------------------------------------------------------------------------


def by_pattern(here: World, pattern: str | None, names: tuple[str, ...] = (), epoch: int = 0):
    return here.ask(
        ConsumerGroupHeartbeatRequest(
            GROUP,
            "m",
            epoch,
            rebalance_timeout_ms=10_000,
            subscribed_topic_names=names,
            subscribed_topic_regex=pattern,
            topic_partitions=() if epoch == 0 else None,
        )
    )


def topics_of(answer) -> set[str]:
    return {topic.topic_id[0] for topic in answer.assignment or ()}


def test_topics_by_regular_expression_those_too_that_come_later() -> None:
    here = world()
    for name in ("orders-1", "xorders-1", "__consumer_offsets"):
        here.topics[name] = (topic_id(name[0]), 1)
    answer = by_pattern(here, "orders-.*|__.*|t")
    assert topics_of(answer) == {"o", "t"}, "whole names, and none of the cluster's own"
    here.topics["orders-2"] = (topic_id("2"), 1)
    here.topics_changed()
    answer = by_pattern(here, None, (), answer.member_epoch)
    assert topics_of(answer) == {"o", "t", "2"}
    here.failover(compact=True)
    here.topics["orders-3"] = (topic_id("3"), 1)
    answer = by_pattern(here, None, (), answer.member_epoch)
    assert topics_of(answer) == {"o", "t", "2", "3"}, "the pattern is in the log"
    answer = by_pattern(here, "", ("t",), answer.member_epoch)
    answer = here.ask(
        ConsumerGroupHeartbeatRequest(GROUP, "m", answer.member_epoch, topic_partitions=answer.assignment)
    )
    assert topics_of(answer) in (set(), {"t"}), "an empty one is none"
    assert {partition.topic_id for partition in consumer_group(here).owners} == {topic_id("t")}


@pytest.mark.parametrize("pattern", ["(", "(?<=a)b", "a" * 2_000, "(a{1000}){1000}", "\ud800"])
def test_a_pattern_that_cannot_be_had_is_refused(pattern: str) -> None:
    here = world()
    assert by_pattern(here, pattern) is ErrorCode.INVALID_REGULAR_EXPRESSION
    answer = by_pattern(here, "t")
    assert by_pattern(here, pattern, (), answer.member_epoch) is ErrorCode.INVALID_REGULAR_EXPRESSION


def test_a_pattern_that_would_take_for_ever_elsewhere_does_not() -> None:
    here = world()
    here.topics["a" * 60 + "b"] = (topic_id("a"), 1)
    assert topics_of(by_pattern(here, "(a+)+|(a|aa)*")) == set()


@pytest.mark.parametrize("pattern", [None, ""])
def test_no_pattern_and_an_empty_one_mean_no_topics(pattern: str | None) -> None:
    here = world()
    here.topics["u"] = (topic_id("u"), 1)
    assert topics_of(by_pattern(here, pattern, ("t",))) == {"t"}
    here.shard.groups.clear()
    assert topics_of(by_pattern(here, pattern)) == set(), "who subscribes to nothing is a member all the same"


def test_the_deadline_of_one_that_left_the_mixed_group_is_nobodys_in_the_classic_one() -> None:
    here = world()
    first, second = settled_classics(here, "a", "b", assignor="range")
    new, gone = Reader(here, "new"), ClassicReader(here, "gone", "range")
    new.beat()
    settle(new, first, second)
    while gone.phase != "joined":
        gone.step()
    here.ask(LeaveGroupRequest(GROUP, (LeavingMember(gone.member_id),)))
    new.leave()
    settle(first, second)
    here.wait(1)
    settle(first, second)
    assert classic_group(here).state is State.STABLE
    for _ in range(3):
        here.wait(6)
        settle(first, second, rounds=1)
    late = ClassicReader(here, "late", "range")
    for _ in range(5):
        for reader in (late, first, second):
            if reader.phase != "joined":
                reader.step()
    assert classic_group(here).state is State.COMPLETING
    here.wait(2)  # of the twenty seconds that they have, and all of those of one that is not there
    assert len(classic_group(here).members) == 3
