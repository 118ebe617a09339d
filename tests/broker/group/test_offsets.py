"""Committed offsets: whose they are, what they say, and when they go."""

import pytest

from ottla.broker.group.outcome import GroupLimits, GroupRefused, Outcome
from ottla.client.assignors import MemberSubscription
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    JoinGroupRequest,
    JoinProtocol,
    MemberAssignment,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetPartition,
    SyncGroupRequest,
)
from ottla.client.subscription_bytes import encode_subscription
from ottla.log.model import LeaderEpoch

from .worlds import GROUP, Reader, World, topic_id


@pytest.fixture
def here() -> World:
    return World(topics={"t": (topic_id("t"), 3), "u": (topic_id("u"), 1)})


def commit(here: World, *partitions: CommitPartition) -> list[ErrorCode]:
    answer = here.ask(OffsetCommitRequest(GROUP, None, "", partitions))
    assert answer.error is ErrorCode.NONE
    return [result.error for result in answer.partitions]


def committed(here: World, *wheres: tuple[str, int]) -> dict[tuple[str, int], int | None]:
    asked = tuple(OffsetPartition(*where) for where in wheres) if wheres else None
    return {(f.topic, f.partition): f.offset for f in here.ask(OffsetFetchRequest(GROUP, asked)).partitions}


def sweep(here: World) -> None:
    for group_id in here.shard.all_ids():
        here.carry_out(Outcome(here.shard.sweep(group_id, here.now_ms)))


def test_the_last_commit_is_what_is_fetched_after_a_failover_too(here: World) -> None:
    commit(here, CommitPartition("t", 0, 5, LeaderEpoch(2), "note"), CommitPartition("t", 1, 8))
    commit(here, CommitPartition("t", 0, 4))
    for compact in (False, True):
        here.failover(compact=compact)
        assert committed(here) == {("t", 0): 4, ("t", 1): 8}
        assert committed(here, ("t", 2), ("t", 0)) == {("t", 2): None, ("t", 0): 4}
    commit(here, CommitPartition("t", 2, 1, LeaderEpoch(2), "note"))
    (found,) = here.ask(OffsetFetchRequest(GROUP, (OffsetPartition("t", 2),))).partitions
    assert (found.leader_epoch, found.metadata, found.topic_id) == (2, "note", topic_id("t"))


def test_each_partition_has_its_own_outcome(here: World) -> None:
    assert commit(
        here,
        CommitPartition("t", 0, 1, metadata="x" * 4_096),
        CommitPartition("t", 1, 1, metadata="\u00e9" * 2_049),
        CommitPartition("t", 3, 1),
        CommitPartition("nothing", 0, 1),
        CommitPartition("t", 2, 1, topic_id=topic_id("u")),
    ) == [
        ErrorCode.NONE,
        ErrorCode.OFFSET_METADATA_TOO_LARGE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
    ]
    assert committed(here) == {("t", 0): 1}


def test_deleted_offsets_are_gone_after_a_failover_too(here: World) -> None:
    commit(here, CommitPartition("t", 0, 5), CommitPartition("t", 1, 6))
    request = OffsetDeleteRequest(GROUP, (OffsetPartition("t", 0), OffsetPartition("t", 2)))
    assert [result.error for result in here.ask(request).partitions] == [ErrorCode.NONE, ErrorCode.NONE]
    here.failover()
    assert committed(here) == {("t", 1): 6}
    assert here.ask(OffsetDeleteRequest("nobody", ())) is ErrorCode.GROUP_ID_NOT_FOUND


def test_what_members_read_is_not_deleted_nor_is_their_group(here: World) -> None:
    commit(here, CommitPartition("t", 0, 5), CommitPartition("u", 0, 6))
    reader = Reader(here, "m", topics=("t",))
    reader.beat()
    answer = here.ask(OffsetDeleteRequest(GROUP, (OffsetPartition("t", 0), OffsetPartition("u", 0))))
    assert [result.error for result in answer.partitions] == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]
    with pytest.raises(GroupRefused) as refused:
        here.shard.delete(GROUP)
    assert refused.value.error is ErrorCode.NON_EMPTY_GROUP
    reader.leave()
    here.carry_out(Outcome(here.shard.delete(GROUP)))
    for compact in (False, True):
        here.failover(compact=compact)
        assert here.shard.all_ids() == []


def test_a_topic_made_again_under_its_name_begins_anew(here: World) -> None:
    commit(here, CommitPartition("t", 0, 5), CommitPartition("u", 0, 6))
    here.topics["t"] = (topic_id("z"), 3)
    assert committed(here) == {("u", 0): 6}
    assert committed(here, ("t", 0)) == {("t", 0): None}
    sweep(here)
    assert set(here.shard.offsets.of(GROUP)) == {("u", 0)}


def test_offsets_go_when_their_group_has_been_empty_for_too_long(here: World) -> None:
    days = here.limits.retention_ms / 1000
    commit(here, CommitPartition("t", 0, 5))
    here.now_s += days / 2
    commit(here, CommitPartition("t", 1, 6))
    reader = Reader(here, "m")
    reader.beat()
    here.now_s += days / 2
    sweep(here)
    assert len(committed(here)) == 2, "it has a member"
    reader.leave()
    sweep(here)
    assert len(committed(here)) == 2, "it is empty since now, however long ago the last commit was"
    here.now_s += days - 1
    for compact in (False, True):
        here.failover(compact=compact)
        sweep(here)
        assert len(committed(here)) == 2, "the next coordinator knows since when"
    here.now_s += 1
    sweep(here)
    assert here.shard.all_ids() == []
    here.failover(compact=True)
    assert here.shard.all_ids() == []


def test_offsets_of_what_no_member_reads_go_though_the_group_has_members(here: World) -> None:
    days = here.limits.retention_ms / 1000
    commit(here, CommitPartition("t", 0, 5), CommitPartition("u", 0, 6))
    reader = Reader(here, "m", topics=("t",))
    reader.beat()
    here.now_s += days - 1
    sweep(here)
    assert set(here.shard.offsets.of(GROUP)) == {("t", 0), ("u", 0)}
    here.now_s += 1
    sweep(here)
    assert set(here.shard.offsets.of(GROUP)) == {("t", 0)}


@pytest.mark.parametrize(("kind", "kept"), [("consumer", {("t", 0)}), ("connect", {("t", 0), ("u", 0)})])
def test_what_classic_members_read_is_kept_and_all_where_they_are_no_consumers(
    here: World, kind: str, kept: set[tuple[str, int]]
) -> None:
    commit(here, CommitPartition("t", 0, 5), CommitPartition("u", 0, 6))
    told = encode_subscription(MemberSubscription(("t",)))
    join = JoinGroupRequest(GROUP, 10_000, 10_000, "", None, kind, (JoinProtocol("p", told),), needs_member_id=False)
    joined = here.ask(join)
    delete = OffsetDeleteRequest(GROUP, (OffsetPartition("t", 0), OffsetPartition("u", 0)))
    if kind == "consumer":
        assert {r.error for r in here.ask(delete).partitions} == {ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC}, "it rebalances"
    here.ask(SyncGroupRequest(GROUP, 1, joined.member_id, assignments=(MemberAssignment(joined.member_id, b""),)))
    here.now_s += here.limits.retention_ms / 1000
    sweep(here)
    assert set(here.shard.offsets.of(GROUP)) == kept
    answer = here.ask(delete)
    if kind == "connect":
        assert answer is ErrorCode.NON_EMPTY_GROUP
    else:
        assert [r.error for r in answer.partitions] == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]


def test_a_member_that_names_its_epoch_is_told_that_its_group_is_another_now(here: World) -> None:
    commit(here, CommitPartition("t", 0, 5))
    request = OffsetFetchRequest(GROUP, None, "m", 3)
    assert here.ask(request) is ErrorCode.UNKNOWN_MEMBER_ID
    reader = Reader(here, "m")
    reader.beat()
    request.member_epoch = reader.epoch
    assert here.ask(request).partitions[0].offset == 5


def test_a_broker_takes_no_more_groups_than_its_limit(here: World) -> None:
    here.shard.limits = GroupLimits(groups_max=2)
    commit(here, CommitPartition("t", 0, 5))
    request = OffsetCommitRequest("h", None, "", (CommitPartition("t", 0, 5),))
    assert here.ask(request).error is ErrorCode.NONE
    request.group_id = "i"
    assert here.ask(request) is ErrorCode.GROUP_MAX_SIZE_REACHED
    request.group_id = "h"
    assert here.ask(request).error is ErrorCode.NONE, "it is there already"
    for group in ("g", "h"):
        beat = Reader(here, "m").request()
        beat.group_id = group
        assert here.ask(beat).error is ErrorCode.NONE
    beat.group_id = "i"
    assert here.ask(beat) is ErrorCode.GROUP_MAX_SIZE_REACHED
    join = JoinGroupRequest("i", 10_000, 10_000, "", None, "consumer", (JoinProtocol("p", b""),))
    assert here.ask(join) is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert "i" not in here.shard.all_ids()
