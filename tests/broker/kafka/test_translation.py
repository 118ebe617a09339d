"""What a request of Kafka's means to the broker, and what the broker's answer means to a client of that version."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from ottla.broker.kafka.caller import Caller, Hangup
from ottla.broker.kafka.entities import uuid_of
from ottla.broker.kafka.header import read_header
from ottla.broker.kafka.leaders import node_endpoints
from ottla.broker.kafka.listener import open_kafka
from ottla.broker.kafka.produce import begin_produce, encode_produce
from ottla.broker.kafka.router import answer_cold
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.view import Address, BrokerView
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommittedPartition,
    ConsumerGroupHeartbeatResponse,
    Coordinator,
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
from ottla.client.protocol import (
    BrokerEndpoint,
    ConfigsAltered,
    DeleteRecordsResponse,
    DeleteRecordsResult,
    ListOffsetsResponse,
    MetadataResponse,
    OffsetResult,
    PartitionsChangedResponse,
)
from ottla.client.replica_protocol import EpochEnd, OffsetForLeaderEpochResponse
from ottla.log.model import BrokerId
from ottla.raft.image import KAFKA

from .fake_view import TOPIC_ID, FakeView, handled
from .kio_bytes import frame_of, inner, read_response, request_class

ID, NO_ID = uuid_of(TOPIC_ID), UUID(int=7)
ALTERED, CHANGED = ConfigsAltered(1), PartitionsChangedResponse(1, 1)


def milliseconds(number: int) -> timedelta:
    return timedelta(milliseconds=number)


# --- groups ----------------------------------------------------------------------------------------------------------


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


# --- offsets of groups -----------------------------------------------------------------------------------------------


def commit(version: int, generation: int = 4, epoch: int = 2, **topic: Any) -> Any:
    schema = request_class(ApiKey.OFFSET_COMMIT, version)
    partition = inner(schema, "topics", "partitions")(
        partition_index=3, committed_offset=9, committed_leader_epoch=epoch, committed_metadata="words"
    )
    topics = (inner(schema, "topics")(**topic, partitions=(partition,)),)
    return schema(group_id="g", generation_id_or_member_epoch=generation, member_id="m", topics=topics)


def code_of(answer: Any) -> int:
    [topic] = answer["topics"]
    [partition] = topic["partitions"]
    return int(partition["error_code"])


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


# --- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "position", "timestamp_ms", "result", "told"),
    [
        (-1, "latest", None, (9, None), (9, -1)),
        (-2, "earliest", None, (0, None), (0, -1)),
        (-3, "max_time", None, (4, 77), (4, 77)),
        (-4, "earliest", None, (0, None), (0, -1)),
        (50, "time", 50, (4, 51), (4, 51)),
        (50, "time", 50, (None, None), (-1, -1)),
    ],
)
async def test_offsets_are_asked_for_by_position_or_time(
    timestamp: int, position: str, timestamp_ms: int | None, result: Any, told: tuple[int, int]
) -> None:
    offset, time_ms = result
    view = FakeView(
        ListOffsetsResponse((OffsetResult(TOPIC_ID, 0, ErrorCode.NONE, offset=offset, timestamp_ms=time_ms),))
    )
    schema = request_class(ApiKey.LIST_OFFSETS, 8)
    asked = inner(schema, "topics", "partitions")(partition_index=0, current_leader_epoch=6, timestamp=timestamp)
    topics = (inner(schema, "topics")(name="t", partitions=(asked,)),)
    [topic] = (await handled(view, schema(replica_id=-1, isolation_level=0, topics=topics)))["topics"]
    [query] = view.asked[0].partitions
    assert (query.position, query.timestamp_ms, query.current_leader_epoch) == (position, timestamp_ms, 6)
    assert (topic["partitions"][0]["offset"], topic["partitions"][0]["timestamp"]) == told


@pytest.mark.parametrize(("current", "meant"), [(-1, None), (0, 0), (6, 6)])
async def test_who_asks_for_an_epochs_end_says_which_it_believes_in(current: int, meant: int | None) -> None:
    schema = request_class(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4)
    partition = inner(schema, "topics", "partitions")(partition=0, current_leader_epoch=current, leader_epoch=3)
    view = FakeView(OffsetForLeaderEpochResponse((EpochEnd(TOPIC_ID, 0, ErrorCode.UNKNOWN_TOPIC_ID),)))
    answer = await handled(view, schema(topics=(inner(schema, "topics")(topic="t", partitions=(partition,)),)))
    assert code_of(answer) == 3
    [query] = view.asked[0].partitions
    assert (query.leader_epoch, query.current_leader_epoch) == (3, meant)


@pytest.mark.parametrize(("offset", "meant"), [(-1, None), (0, 0), (5, 5)])
async def test_records_are_deleted_to_an_offset_or_to_the_high_watermark(offset: int, meant: int | None) -> None:
    schema = request_class(ApiKey.DELETE_RECORDS, 2)
    partition = inner(schema, "topics", "partitions")(partition_index=0, offset=offset)
    view = FakeView(DeleteRecordsResponse((DeleteRecordsResult(TOPIC_ID, 0, ErrorCode.UNKNOWN_TOPIC_ID),)))
    topics = (inner(schema, "topics")(name="t", partitions=(partition,)),)
    assert code_of(await handled(view, schema(topics=topics, timeout=milliseconds(9)))) == 3
    assert view.asked[0].partitions[0].offset == meant


# --- produce ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("acks", "timeout_ms", "meant_ms"), [(-1, 500, 500), (1, 0, 0), (1, -5, 0)])
async def test_a_produce_waits_for_whom_and_how_long_it_says(acks: int, timeout_ms: int, meant_ms: int) -> None:
    seen: list[Any] = []

    def begin(request: Any, batches: Any, **options: Any) -> Any:
        seen.append((request, [bytes(each) for each in batches], options))

    schema = request_class(ApiKey.PRODUCE, 9)
    partition = inner(schema, "topic_data", "partition_data")(index=-1, records=b"batch")
    topics = (inner(schema, "topic_data")(name="t", partition_data=(partition,)),)
    frame = memoryview(
        frame_of(schema(transactional_id=None, acks=acks, timeout=milliseconds(timeout_ms), topic_data=topics))
    )
    view: Any = FakeView()
    view.api = SimpleNamespace(begin_produce=begin)
    answer = begin_produce(view, Caller("", ""), read_header(frame), frame)
    assert answer is not None
    answer.close()  # type: ignore[attr-defined]
    [(request, batches, options)] = seen
    assert (request.acks, request.timeout_ms, batches, options) == (
        acks,
        meant_ms,
        [b"batch"],
        {"may_be_forgotten": True},
    )
    assert (request.partitions[0].topic_id, request.partitions[0].partition) == (TOPIC_ID, -1)


# --- administration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "operation"), [(0, "set"), (1, "delete"), (2, "append"), (3, "subtract")])
@pytest.mark.parametrize("dry", [True, False])
async def test_configs_are_changed_as_the_number_says(number: int, operation: str, dry: bool) -> None:
    schema = request_class(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1)
    config = inner(schema, "resources", "configs")(name="cleanup.policy", config_operation=number, value="delete")
    resource = inner(schema, "resources")(resource_type=2, resource_name="t", configs=(config,))
    view = FakeView(ALTERED)
    [result] = (await handled(view, schema(resources=(resource,), validate_only=dry)))["responses"]
    [asked] = view.asked
    assert (result["error_code"], asked.changes[0].op) == (0, operation)
    assert (asked.replace, asked.validate_only) == (False, dry)


@pytest.mark.parametrize("dry", [True, False])
async def test_the_older_request_unsets_what_it_does_not_name(dry: bool) -> None:
    schema = request_class(ApiKey.ALTER_CONFIGS, 2)
    resource = inner(schema, "resources")(resource_type=2, resource_name="t", configs=())
    view = FakeView(ALTERED)
    await handled(view, schema(resources=(resource,), validate_only=dry))
    assert (view.asked[0].replace, view.asked[0].validate_only) == (True, dry)


@pytest.mark.parametrize(("kind", "unclean"), [(0, False), (1, True)])
async def test_an_election_is_unclean_where_that_is_asked_for(kind: int, unclean: bool) -> None:
    schema = request_class(ApiKey.ELECT_LEADERS, 2)
    topics = (inner(schema, "topic_partitions")(topic="t", partitions=(0,)),)
    view = FakeView(CHANGED)
    await handled(view, schema(election_type=kind, topic_partitions=topics))
    assert view.asked[0].unclean is unclean


@pytest.mark.parametrize(("replicas", "meant"), [(None, None), ((2, 1), (2, 1))])
async def test_a_move_without_replicas_calls_one_off(
    replicas: tuple[int, ...] | None, meant: tuple[int, ...] | None
) -> None:
    schema = request_class(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 0)
    partition = inner(schema, "topics", "partitions")(partition_index=0, replicas=replicas)
    topics = (inner(schema, "topics")(name="t", partitions=(partition,)),)
    view = FakeView(CHANGED)
    await handled(view, schema(topics=topics))
    [move] = view.asked[0].moves
    assert move.replicas == meant


async def test_fenced_brokers_are_told_where_they_are_asked_for() -> None:
    brokers = tuple(
        BrokerEndpoint(BrokerId(number), "h", 1, fenced=number == 2, kafka_host="h", kafka_port=9092)
        for number in (1, 2)
    )
    view = FakeView(MetadataResponse("c", 1, BrokerId(1), BrokerId(1), 1, brokers, ()))
    schema = request_class(ApiKey.DESCRIBE_CLUSTER, 2)

    async def told(include: bool) -> Any:
        asked = schema(include_cluster_authorized_operations=False, include_fenced_brokers=include)
        return [(broker["broker_id"], broker["is_fenced"]) for broker in (await handled(view, asked))["brokers"]]

    assert await told(False) == [(1, False)]
    assert await told(True) == [(1, False), (2, True)]


async def test_a_refusal_that_has_no_place_in_an_answer_ends_the_connection() -> None:
    schema = request_class(ApiKey.DESCRIBE_LOG_DIRS, 4)

    async def aside(call: Any) -> Any:
        return call()

    entity = schema(topics=None)
    frame = memoryview(frame_of(entity))
    view: Any = FakeView(ErrorCode.NOT_COORDINATOR)
    with pytest.raises(Hangup, match="DESCRIBE_LOG_DIRS: no"):
        await answer_cold(view, Caller("", ""), read_header(frame), entity, aside)


# --- where clients are sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fenced", "host", "told"),
    [(False, "named", ("named", 9)), (False, "", ("10.0.0.1", 9)), (True, "named", None)],
)
def test_a_broker_is_where_it_says_or_where_the_client_came(
    fenced: bool, host: str, told: tuple[str, int] | None
) -> None:
    listener = SimpleNamespace(host=host, port=9)
    broker = SimpleNamespace(fenced=fenced, listener=lambda kind: listener if kind == KAFKA else None)
    image: Any = SimpleNamespace(brokers={BrokerId(2): broker})
    nothing: Any = None
    view = BrokerView(nothing, BrokerId(1), lambda: image, lambda: 1)
    assert view.address(Caller("", "10.0.0.1"), BrokerId(2)) == told
    assert view.addresses(Caller("", "10.0.0.1")) == ({} if told is None else {2: told})


def test_who_leads_instead_is_told_with_its_address_where_the_client_can_reach_it() -> None:
    view: Any = FakeView(addresses={1: Address("one", 1), 2: Address("two", 2)})
    for leaders, told in (([1], []), ([2, 1, 2, 3], [(2, "two", 2)]), ([3], [])):
        tags = node_endpoints(view, Caller("", ""), map(BrokerId, leaders))
        found = read_response(ApiKey.PRODUCE, 10, encode_produce([], 10, tags)).node_endpoints
        assert [(node.node_id, node.host, node.port) for node in found] == told


async def test_the_port_that_is_advertised_is_the_one_that_is_registered() -> None:
    from ottla.broker.config import load_settings
    from ottla.broker.http.streams import InflightBudget
    from ottla.broker.metrics import Metrics

    settings = load_settings({"insecure": True, "kafka": "127.0.0.1:0", "kafka_advertise": "outside:9999"})
    opened = await open_kafka(settings, Metrics(), InflightBudget(1))
    assert opened is not None
    assert (opened.listener.host, opened.listener.port) == ("outside", 9999)
    await opened.door.close()
