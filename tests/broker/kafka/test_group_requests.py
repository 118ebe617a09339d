"""What requests to groups mean to the broker, and what its answers mean to a client of that version."""

from typing import Any
from uuid import UUID

import pytest

from ottla.broker.kafka.entities import uuid_of
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.view import Address
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommittedPartition,
    ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatResponse,
    Coordinator,
    DescribedConsumer,
    DescribedConsumerGroup,
    DescribedGroup,
    DescribeGroupsResponse,
    FetchedOffset,
    FindCoordinatorResponse,
    JoinGroupResponse,
    LeaveGroupResponse,
    LeftMember,
    OffsetCommitResponse,
    OffsetFetchResponse,
    SyncGroupResponse,
)

from .fake_view import TOPIC_ID, FakeView, code_of, handled, milliseconds
from .kio_bytes import inner, request_class

ID, NO_ID = uuid_of(TOPIC_ID), UUID(int=7)


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_coordinator_that_the_client_cannot_reach_is_none() -> None:
    view = FakeView(lambda r: FindCoordinatorResponse(tuple(Coordinator(g, ErrorCode.NONE, 2) for g in r.group_ids)))
    schema = request_class(ApiKey.FIND_COORDINATOR, 4)
    [found] = (await handled(view, schema(key_type=0, coordinator_keys=("g",))))["coordinators"]
    assert (found["error_code"], found["node_id"], found["host"], found["port"]) == (15, -1, "", -1)
    view = FakeView(view.answer, addresses={2: Address("two", 9093)})
    [found] = (await handled(view, schema(key_type=0, coordinator_keys=("g",))))["coordinators"]
    assert (found["error_code"], found["node_id"], found["host"], found["port"]) == (0, 2, "two", 9093)


def join(version: int, **fields: Any) -> Any:
    schema = request_class(ApiKey.JOIN_GROUP, version)
    known = {"group_id": "g", "member_id": "", "protocol_type": "consumer", "session_timeout": milliseconds(7)}
    return schema(**known, protocols=(inner(schema, "protocols")(name="range", metadata=b"m"),), **fields)


@pytest.mark.parametrize(
    ("version", "fields", "needs_id", "rebalance_ms", "instance"),
    [
        (0, {}, False, 7, None),
        (3, {"rebalance_timeout": milliseconds(9)}, False, 9, None),
        (4, {"rebalance_timeout": milliseconds(9)}, True, 9, None),
        (5, {"rebalance_timeout": milliseconds(9), "group_instance_id": "i"}, True, 9, "i"),
    ],
)
async def test_a_join_means_what_its_version_can_say(
    version: int, fields: dict[str, Any], needs_id: bool, rebalance_ms: int, instance: str | None
) -> None:
    view = FakeView(JoinGroupResponse(ErrorCode.MEMBER_ID_REQUIRED, member_id="given"))
    answer = await handled(view, join(version, **fields))
    [asked] = view.asked
    assert (asked.needs_member_id, asked.session_timeout_ms, asked.rebalance_timeout_ms) == (needs_id, 7, rebalance_ms)
    assert (asked.group_instance_id, asked.client_id, asked.client_host) == (instance, "client", "10.0.0.9")
    assert (answer["member_id"], answer["error_code"]) == ("given", 79)


@pytest.mark.parametrize(("version", "nothing"), [(6, ""), (7, None)])
async def test_a_join_without_a_protocol_has_null_for_it_where_that_is_known(version: int, nothing: str | None) -> None:
    answer = await handled(FakeView(ErrorCode.NOT_COORDINATOR), join(version, rebalance_timeout=milliseconds(9)))
    assert (answer["error_code"], answer["protocol_name"], answer["generation_id"]) == (16, nothing, -1)


@pytest.mark.parametrize(("version", "code", "asked"), [(4, 0, 1), (5, 23, 0)])
async def test_a_sync_says_its_protocol_where_it_can(version: int, code: int, asked: int) -> None:
    view = FakeView(SyncGroupResponse(ErrorCode.NONE))
    sync = request_class(ApiKey.SYNC_GROUP, version)(group_id="g", generation_id=1, member_id="m", assignments=())
    assert ((await handled(view, sync))["error_code"], len(view.asked)) == (code, asked)


@pytest.mark.parametrize(("version", "code"), [(2, 25), (3, 0)])
async def test_a_member_that_leaves_alone_is_told_of_itself(version: int, code: int) -> None:
    view = FakeView(LeaveGroupResponse(ErrorCode.NONE, (LeftMember("m", None, ErrorCode.UNKNOWN_MEMBER_ID),)))
    schema = request_class(ApiKey.LEAVE_GROUP, version)
    asked = schema(group_id="g", member_id="m") if version < 3 else schema(group_id="g", members=())
    answer = await handled(view, asked)
    assert (answer["error_code"], answer["members"][0]["error_code"]) == (code, 25)


@pytest.mark.parametrize(("timeout_ms", "meant"), [(-1, None), (0, 0), (500, 500)])
@pytest.mark.parametrize("regex", [None, "", "a.*"])
async def test_a_heartbeat_of_kip_848_says_only_what_has_changed(
    timeout_ms: int, meant: int | None, regex: str | None
) -> None:
    view = FakeView(ConsumerGroupHeartbeatResponse(ErrorCode.NONE, member_epoch=3))
    schema = request_class(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1)
    beat = schema(
        group_id="g",
        member_id="m",
        member_epoch=3,
        rebalance_timeout=milliseconds(timeout_ms),
        subscribed_topic_regex=regex,
        topic_partitions=None,
    )
    answer = await handled(view, beat)
    [asked] = view.asked
    assert (asked.rebalance_timeout_ms, asked.subscribed_topic_regex, asked.topic_partitions) == (meant, regex, None)
    assert asked.subscribed_topic_names is None
    assert answer["assignment"] is None, "null is as before, an empty one is nothing"
    view.answer = ConsumerGroupHeartbeatResponse(ErrorCode.NONE, member_epoch=3, assignment=())
    assert (await handled(view, beat))["assignment"] == {"topic_partitions": []}


@pytest.mark.parametrize(("version", "state", "code"), [(5, "Dead", 0), (6, "Dead", 69)])
async def test_a_group_that_is_not_there_is_dead(version: int, state: str, code: int) -> None:
    missing = DescribedGroup("g", ErrorCode.GROUP_ID_NOT_FOUND)
    schema = request_class(ApiKey.DESCRIBE_GROUPS, version)
    view = FakeView(DescribeGroupsResponse((missing,)))
    [group] = (await handled(view, schema(groups=("g",), include_authorized_operations=False)))["groups"]
    assert (group["group_state"], group["error_code"]) == (state, code)


async def test_members_are_described_as_java_shows_them() -> None:
    members = (
        DescribedConsumer("m", 1, client_host="10.0.0.9", subscribed_topic_regex=""),
        DescribedConsumer("n", 1, client_host="", subscribed_topic_regex="a.*", member_type="classic"),
    )
    view = FakeView(ConsumerGroupDescribeResponse((DescribedConsumerGroup("g", ErrorCode.NONE, members=members),)))
    schema = request_class(ApiKey.CONSUMER_GROUP_DESCRIBE, 1)
    [group] = (await handled(view, schema(group_ids=("g",), include_authorized_operations=False)))["groups"]
    assert [(m["client_host"], m["subscribed_topic_regex"], m["member_type"]) for m in group["members"]] == [
        ("/10.0.0.9", None, 1),
        ("", "a.*", 0),
    ]


# --- offsets of groups ------------------------------------------------------------------------------------------------


def commit(version: int, generation: int = 4, epoch: int = 2, **topic: Any) -> Any:
    schema = request_class(ApiKey.OFFSET_COMMIT, version)
    partition = inner(schema, "topics", "partitions")(
        partition_index=3, committed_offset=9, committed_leader_epoch=epoch, committed_metadata="words"
    )
    topics = (inner(schema, "topics")(**topic, partitions=(partition,)),)
    return schema(group_id="g", generation_id_or_member_epoch=generation, member_id="m", topics=topics)


@pytest.mark.parametrize(("generation", "epoch"), [(-1, -1), (4, 2), (0, 0)])
async def test_a_commit_arrives_as_it_was_said(generation: int, epoch: int) -> None:
    view = FakeView(OffsetCommitResponse(ErrorCode.NONE, (CommittedPartition("t", 3, ErrorCode.NONE),)))
    assert code_of(await handled(view, commit(8, generation, epoch, name="t"))) == 0
    [asked] = view.asked
    [partition] = asked.partitions
    assert asked.generation_id_or_member_epoch == (None if generation < 0 else generation)
    assert partition.leader_epoch == (None if epoch < 0 else epoch)
    assert (partition.topic, partition.partition, partition.offset, partition.metadata) == ("t", 3, 9, "words")


@pytest.mark.parametrize(
    ("version", "error", "told"),
    [
        (8, ErrorCode.GROUP_ID_NOT_FOUND, 22),
        (9, ErrorCode.GROUP_ID_NOT_FOUND, 69),
        (8, ErrorCode.NOT_COORDINATOR, 16),
        (8, ErrorCode.ILLEGAL_GENERATION, 22),
    ],
)
@pytest.mark.parametrize("refused", [True, False])
async def test_a_commit_that_is_refused_is_told_at_each_partition(
    version: int, error: ErrorCode, told: int, refused: bool
) -> None:
    view = FakeView(error if refused else OffsetCommitResponse(error))
    assert code_of(await handled(view, commit(version, name="t"))) == told


async def test_a_commit_to_an_id_that_is_nobodys_is_told_so() -> None:
    view = FakeView(OffsetCommitResponse(ErrorCode.NONE))
    assert code_of(await handled(view, commit(10, topic_id=NO_ID))) == 100
    assert view.asked[0].partitions == ()
    assert code_of(await handled(view, commit(10, topic_id=ID))) == 0
    assert view.asked[1].partitions[0].topic == "t"


async def test_committed_offsets_all_none_or_some() -> None:
    view = FakeView(OffsetFetchResponse(ErrorCode.NONE, (FetchedOffset("t", 1, 7),)))
    schema = request_class(ApiKey.OFFSET_FETCH, 8)
    group, topic = inner(schema, "groups"), inner(schema, "groups", "topics")

    async def told(topics: Any) -> Any:
        [found] = (await handled(view, schema(groups=(group(group_id="g", topics=topics),))))["groups"]
        return [
            (t["name"], [(p["partition_index"], p["committed_offset"]) for p in t["partitions"]])
            for t in found["topics"]
        ]

    assert await told(None) == [("t", [(1, 7)])]
    assert await told(()) == []
    assert await told((topic(name="t", partition_indexes=(0, 1)),)) == [("t", [(0, -1), (1, 7)])]
    assert [asked.partitions if asked.partitions is None else len(asked.partitions) for asked in view.asked] == [
        None,
        0,
        2,
    ]


async def test_a_fetch_of_offsets_that_is_refused_is_told_at_each_partition_too() -> None:
    """Versions below 2 have no other place for it."""
    schema = request_class(ApiKey.OFFSET_FETCH, 1)
    topics = (inner(schema, "topics")(name="t", partition_indexes=(0,)),)
    answer = await handled(FakeView(ErrorCode.NOT_COORDINATOR), schema(group_id="g", topics=topics))
    assert (answer["error_code"], code_of(answer)) == (16, 16)
