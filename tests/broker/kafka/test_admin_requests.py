"""What administration means to the broker, and what is told of it."""

from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker.kafka.caller import Caller, Hangup
from ottla.broker.kafka.cluster import PAGE_PARTITIONS_MAX
from ottla.broker.kafka.header import read_header
from ottla.broker.kafka.router import answer_cold
from ottla.broker.kafka.versions import ApiKey
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    BrokerEndpoint,
    ConfigEntry,
    ConfigsAltered,
    DescribeConfigsResponse,
    MetadataResponse,
    PartitionFailure,
    PartitionMetadata,
    PartitionsChangedResponse,
    TopicChanged,
    TopicMetadata,
)
from ottla.log.model import BrokerId, LeaderEpoch, PartitionEpoch

from .fake_view import TOPIC_ID, FakeView, handled, milliseconds
from .kio_bytes import frame_of, inner, request_class

ALTERED, CHANGED = ConfigsAltered(1), PartitionsChangedResponse(1, 1)


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


async def test_a_cluster_has_no_controllers_apart_from_its_brokers() -> None:
    view = FakeView(MetadataResponse("c", 1, BrokerId(1), BrokerId(1), 1, (), ()))
    schema = request_class(ApiKey.DESCRIBE_CLUSTER, 1)
    for kind, code, brokers in ((1, 0, 1), (2, 115, 0)):
        answer = await handled(view, schema(include_cluster_authorized_operations=False, endpoint_type=kind))
        assert (answer["error_code"].value, len(answer["brokers"])) == (code, brokers)


async def test_a_page_of_topics_is_bounded_whatever_is_asked_for() -> None:
    partitions = tuple(
        PartitionMetadata(number, BrokerId(1), LeaderEpoch(0), PartitionEpoch(0), (), ())
        for number in range(PAGE_PARTITIONS_MAX + 5)
    )
    topic = TopicMetadata(ErrorCode.NONE, "t", TOPIC_ID, partitions)
    view = FakeView(MetadataResponse("c", 1, BrokerId(1), BrokerId(1), 1, (), (topic,)))
    asked = request_class(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0)(topics=(), response_partition_limit=10**6, cursor=None)
    answer = await handled(view, asked)
    assert len(answer["topics"][0]["partitions"]) == PAGE_PARTITIONS_MAX
    assert answer["next_cursor"] == {"topic_name": "t", "partition_index": PAGE_PARTITIONS_MAX}


@pytest.mark.parametrize(
    ("version", "fields", "kinds"),
    [
        (0, {}, []),
        (1, {"resource_types": ()}, [2, 4]),
        (1, {"resource_types": (4,)}, [4]),
        (1, {"resource_types": (16,)}, []),
    ],
)
async def test_resources_with_configs_are_listed_by_kind(
    version: int, fields: dict[str, Any], kinds: list[int]
) -> None:
    answer = await handled(FakeView(), request_class(ApiKey.LIST_CONFIG_RESOURCES, version)(**fields))
    assert [resource["resource_type"] for resource in answer["config_resources"]] == kinds


@pytest.mark.parametrize("wanted", [True, False])
async def test_configs_are_explained_to_who_asks_for_that(wanted: bool) -> None:
    schema = request_class(ApiKey.DESCRIBE_CONFIGS, 4)
    resource = inner(schema, "resources")(resource_type=2, resource_name="t", configuration_keys=None)
    entry = ConfigEntry("retention.ms", "1", "topic", "long", "How long.")
    asked = schema(resources=(resource,), include_synonyms=wanted, include_documentation=wanted)
    [result] = (await handled(FakeView(DescribeConfigsResponse((entry,))), asked))["results"]
    [config] = result["configs"]
    assert (config["documentation"], config["config_source"], config["config_type"], len(config["synonyms"])) == (
        "How long." if wanted else None,
        1,
        5,
        int(wanted),
    )


@pytest.mark.parametrize(("topics", "told"), [(None, ["t"]), ((), []), (("t",), ["t"]), (("u",), [])])
async def test_moves_are_listed_of_all_topics_none_or_some(topics: tuple[str, ...] | None, told: list[str]) -> None:
    schema = request_class(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0)
    view = FakeView()
    moving = SimpleNamespace(reassigning=True, replicas=(1, 2), adding=(2,), removing=())
    view.image.topics["t"].partitions = (moving,)
    named = None if topics is None else tuple(inner(schema, "topics")(name=n, partition_indexes=(0,)) for n in topics)
    answer = await handled(view, schema(topics=named))
    assert [topic["name"] for topic in answer["topics"]] == told


@pytest.mark.parametrize(("named", "told"), [(True, [(0, 84)]), (False, [])])
async def test_elections_that_were_not_needed_are_told_to_who_named_them(named: bool, told: list[Any]) -> None:
    schema = request_class(ApiKey.ELECT_LEADERS, 2)
    view = FakeView(
        PartitionsChangedResponse(1, 0, (PartitionFailure("t", 0, ErrorCode.ELECTION_NOT_NEEDED, "it leads"),))
    )
    view.image.topics["t"].partitions = (SimpleNamespace(),)
    topics = (inner(schema, "topic_partitions")(topic="t", partitions=(0,)),) if named else None
    results = (await handled(view, schema(election_type=0, topic_partitions=topics)))["replica_election_results"]
    assert [(p["partition_id"], p["error_code"]) for topic in results for p in topic["partition_result"]] == told


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"num_partitions": 1}, 42),
        ({"replication_factor": 1}, 42),
        ({"places": (0, 2)}, 39),
        ({"places": (0, 0)}, 39),
        ({"places": (1,)}, 39),
        ({"places": (1, 0)}, 0),
    ],
)
async def test_partitions_are_assigned_or_counted_and_numbered_without_gaps(fields: dict[str, Any], code: int) -> None:
    schema = request_class(ApiKey.CREATE_TOPICS, 7)
    place = inner(schema, "topics", "assignments")
    given = {"num_partitions": -1, "replication_factor": -1, "places": (0,)} | fields
    assignments = tuple(place(partition_index=number, broker_ids=(number + 1,)) for number in given.pop("places"))
    topic = inner(schema, "topics")(name="n", assignments=assignments, configs=(), **given)
    view = FakeView(TopicChanged("n", TOPIC_ID, 1, 2, 1))
    [result] = (await handled(view, schema(topics=(topic,), timeout=milliseconds(9), validate_only=True)))["topics"]
    assert result["error_code"] == code
    assert result["configs"] == [], "null fails some clients"
    if not code:
        assert view.asked[0].assignments == ((1,), (2,))


async def test_a_refusal_that_has_no_place_in_an_answer_ends_the_connection() -> None:
    schema = request_class(ApiKey.DESCRIBE_LOG_DIRS, 4)

    async def aside(call: Any) -> Any:
        return call()

    entity = schema(topics=None)
    frame = memoryview(frame_of(entity))
    view: Any = FakeView(ErrorCode.NOT_COORDINATOR)
    with pytest.raises(Hangup, match="DESCRIBE_LOG_DIRS: no"):
        await answer_cold(view, Caller("", ""), read_header(frame), entity, aside)
