"""What Kafka answers in corners that its clients rely on, of a real node."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from ottla.broker.kafka.versions import ApiKey
from ottla.client import sync
from ottla.client.testing import LocalCluster, cluster

from .kio_bytes import inner, request_class
from .node import Raw

LONG = timedelta(minutes=5)


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with cluster(kafka=True, num_partitions=1) as running:
        with sync.connect(running.servers) as client:
            for name in ("a", "b", "c"):
                client.admin.create_topic(name, partitions=3)
        yield running


@pytest.fixture
def raw(servers: LocalCluster) -> Iterator[Raw]:
    with Raw(servers.kafka_servers[0]) as connection:
        yield connection


@pytest.mark.parametrize(
    ("version", "lowest"), [(3, {"metadata.version": 1}), (4, {"metadata.version": 1, "group.version": 0})]
)
def test_java_clients_before_3_9_hear_of_no_feature_that_begins_at_zero(
    raw: Raw, version: int, lowest: dict[str, int]
) -> None:
    answer = raw.ask(request_class(ApiKey.API_VERSIONS, version)(client_software_name="x", client_software_version="1"))
    assert {each.name: each.min_version for each in answer.supported_features} == lowest
    assert "group.version" in {each.name for each in answer.finalized_features}


def test_a_fetch_of_nothing_waits_for_nothing(raw: Raw) -> None:
    """So says goodbye a consumer of Kafka's; the answer would come in five minutes, and the test wait for one."""
    schema = request_class(ApiKey.FETCH, 17)
    assert raw.ask(schema(max_wait=LONG, min_bytes=1, max_bytes=1, topics=(), forgotten_topics_data=())).error_code == 0


@pytest.mark.parametrize(("timestamp", "code"), [(-5, 0), (-6, 35), (-7, 35)])
@pytest.mark.parametrize(("partition", "found"), [(0, True), (99, False)])
def test_times_that_mean_something_else(raw: Raw, timestamp: int, code: int, partition: int, found: bool) -> None:
    schema = request_class(ApiKey.LIST_OFFSETS, 9)
    topic, asked = inner(schema, "topics"), inner(schema, "topics", "partitions")
    wanted = topic(
        name="a", partitions=(asked(partition_index=partition, current_leader_epoch=-1, timestamp=timestamp),)
    )
    [result] = raw.ask(schema(replica_id=-1, isolation_level=0, topics=(wanted,))).topics[0].partitions
    assert (result.error_code, result.offset) == (code if found else 3, -1)


def test_configs_are_all_told_of_where_none_are_named(raw: Raw) -> None:
    schema = request_class(ApiKey.DESCRIBE_CONFIGS, 4)
    resource = inner(schema, "resources")

    def told(keys: tuple[str, ...] | None) -> set[str]:
        asked = resource(resource_type=2, resource_name="a", configuration_keys=keys)
        [result] = raw.ask(schema(resources=(asked,), include_synonyms=False, include_documentation=False)).results
        return {config.name for config in result.configs}

    assert told(()) == told(None) > told(("retention.ms",)) == {"retention.ms"}


def test_topics_that_are_not_there_take_no_room_on_a_page(raw: Raw) -> None:
    schema = request_class(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0)
    topic, cursor = inner(schema, "topics"), inner(schema, "cursor")
    names = ["a", "a1", "a2", "a3", "a4", "b", "b1", "c", "zz"]
    wanted, seen, place = tuple(topic(name=name) for name in names), [], None
    for _ in range(30):
        answer = raw.ask(schema(topics=wanted, response_partition_limit=1, cursor=place))
        seen += [(t.name, t.error_code, [p.partition_index for p in t.partitions]) for t in answer.topics]
        if answer.next_cursor is None:
            break
        place = cursor(topic_name=answer.next_cursor.topic_name, partition_index=answer.next_cursor.partition_index)
    assert [(name, code) for name, code, found in seen if not found] == [
        (name, 3) for name in names if name not in ("a", "b", "c")
    ]
    assert [(name, found) for name, _, found in seen if found] == [(n, [p]) for n in ("a", "b", "c") for p in (0, 1, 2)]


@pytest.mark.parametrize(
    ("name", "uuid", "code"), [(None, None, 42), ("c", UUID(int=7), 42), (None, UUID(int=7), 100), ("none", None, 3)]
)
def test_a_topic_to_delete_is_named_or_given_by_its_id(
    raw: Raw, name: str | None, uuid: UUID | None, code: int
) -> None:
    schema = request_class(ApiKey.DELETE_TOPICS, 6)
    state = inner(schema, "topics")(name=name, topic_id=uuid)
    [result] = raw.ask(schema(topics=(state,), timeout=LONG)).responses
    assert result.error_code == code


def test_a_config_without_a_value_is_no_config(raw: Raw) -> None:
    schema = request_class(ApiKey.CREATE_TOPICS, 7)
    config = inner(schema, "topics", "configs")(name="retention.ms", value=None)
    topic = inner(schema, "topics")(name="n", num_partitions=1, replication_factor=1, assignments=(), configs=(config,))
    [result] = raw.ask(schema(topics=(topic,), timeout=LONG, validate_only=True)).topics
    assert result.error_code == 40
