"""Produce, Fetch and ListOffsets of a real node, by their promises: what is acknowledged, what is seen, who waits."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from ottla.broker.kafka.versions import ApiKey
from ottla.client.testing import LocalCluster, cluster
from ottla.log.model import ProducerEpoch, ProducerId
from ottla.log.records import BatchBuilder, batches_in

from .kio_bytes import frame_of, inner, read_response, request_class, split_header
from .node import Raw

LONG, NOTHING = timedelta(minutes=5), timedelta(0)
NAMES = (f"answers-{number}" for number in count())


@pytest.fixture(scope="module")
def three() -> Iterator[LocalCluster]:
    with cluster(nodes=3, kafka=True) as running:
        yield running


@pytest.fixture
def topic(three: LocalCluster) -> str:
    """Of one partition, empty, led by node 1 and held by all."""
    name = next(NAMES)
    with Raw(three.kafka_servers[0]) as connection:
        [made] = connection.ask(create(name, places=(1, 2, 3))).topics
        assert made.error_code == 0, made.error_message
        while error_of(connection.ask(fetch(name, wait=NOTHING))):
            pass  # the node is about to lead it
    return name


@pytest.fixture
def raw(three: LocalCluster, topic: str) -> Iterator[Raw]:
    with Raw(three.kafka_servers[0]) as connection:
        yield connection


def batch(*timestamps: int, producer: tuple[int, int, int] | None = None, value: bytes = b"x") -> bytes:
    builder = BatchBuilder()
    for timestamp in timestamps or (1,):
        builder.append(None, value, timestamp_ms=timestamp)
    if producer is None:
        return builder.build()
    return builder.build(ProducerId(producer[0]), ProducerEpoch(producer[1]), producer[2])


def produce(topic: str, records: bytes | None, version: int = 8, partition: int = 0, **fields: Any) -> Any:
    schema = request_class(ApiKey.PRODUCE, version)
    data = inner(schema, "topic_data", "partition_data")(index=partition, records=records)
    named = inner(schema, "topic_data")(name=topic, partition_data=(data,))
    given = {"transactional_id": None, "acks": -1, "timeout": LONG} | fields
    return schema(**given, topic_data=(named,))


def fetch(topic: str | UUID, offset: int = 0, version: int = 12, wait: timedelta = NOTHING, **fields: Any) -> Any:
    schema = request_class(ApiKey.FETCH, version)
    epoch = fields.pop("epoch", -1)
    asked = inner(schema, "topics", "partitions")(
        partition=0, current_leader_epoch=epoch, fetch_offset=offset, partition_max_bytes=1 << 20
    )
    name = {"topic": topic} if version < 13 else {"topic_id": topic}
    topics = (inner(schema, "topics")(**name, partitions=(asked,)),)
    given = {"min_bytes": 1, "max_bytes": 1 << 20} | fields
    return schema(**given, max_wait=wait, topics=topics, forgotten_topics_data=())


def result_of(answer: Any) -> Any:
    """The one partition's."""
    topics = answer.responses if hasattr(answer, "responses") else answer.topics
    [topic] = topics
    [partition] = topic.partition_responses if hasattr(topic, "partition_responses") else topic.partitions
    return partition


def error_of(answer: Any) -> int:
    return int(result_of(answer).error_code)


def found(answer: Any) -> list[int]:
    """Offsets of the batches that came."""
    return [each.base_offset for each in batches_in(bytes(result_of(answer).records or b""))]


# --- produce ---------------------------------------------------------------------------------------------------------


def test_who_wants_no_answer_gets_none_and_its_records_are_there(raw: Raw, topic: str) -> None:
    raw.send(frame_of(produce(topic, batch(), acks=0)))
    assert found(raw.ask(fetch(topic, wait=LONG))) == [0]


@pytest.mark.parametrize("records", [bytes(70), b"", None], ids=["broken", "empty", "none"])
def test_who_wants_no_answer_is_hung_up_on_where_it_fails(raw: Raw, topic: str, records: bytes | None) -> None:
    raw.send(frame_of(produce(topic, records, acks=0)))
    assert raw.receive() is None


def test_what_is_no_topic_or_partition_is_unknown_by_name(raw: Raw, topic: str) -> None:
    assert error_of(raw.ask(produce("none", batch()))) == 3
    assert error_of(raw.ask(produce(topic, batch(), partition=-1))) == 3
    assert error_of(raw.ask(produce(topic, batch(), partition=1))) == 3
    assert error_of(raw.ask(fetch("none"))) == 3
    assert error_of(raw.ask(fetch(UUID(int=7), version=13))) == 100


@pytest.mark.parametrize("transactional_id", ["", "t"])
def test_any_transactional_id_is_one(raw: Raw, topic: str, transactional_id: str) -> None:
    assert error_of(raw.ask(produce(topic, batch(), transactional_id=transactional_id))) == 42


def test_a_batch_is_taken_as_it_was_sent_whole_and_alone(raw: Raw, topic: str) -> None:
    one = batch(value=b"value")
    flipped = one[:-3] + bytes([one[-3] ^ 1]) + one[-2:]
    for records, code in ((flipped, 2), (one + one, 87), (one[:-1], 2), (one + b"\0", 87)):
        assert error_of(raw.ask(produce(topic, records))) == code
    assert found(raw.ask(fetch(topic))) == []
    assert result_of(raw.ask(produce(topic, one))).base_offset == 0


def test_an_idempotent_producers_batches_are_there_once_and_in_order(raw: Raw, topic: str) -> None:
    story = [((5, 1, 0), 0, 0), ((5, 1, 1), 0, 1), ((5, 1, 1), 0, 1), ((5, 1, 3), 45, -1), ((5, 0, 2), 47, -1)]
    for producer, code, offset in [*story, ((5, 1, 2), 0, 2), ((5, 2, 1), 45, -1), ((5, 2, 0), 0, 3)]:
        result = result_of(raw.ask(produce(topic, batch(producer=producer))))
        assert (result.error_code, result.base_offset) == (code, offset)


def test_what_the_followers_lack_is_acknowledged_to_nobody_who_wants_them_and_seen_by_nobody(
    three: LocalCluster, raw: Raw, topic: str
) -> None:
    assert result_of(raw.ask(produce(topic, batch(10)))).base_offset == 0
    three.pause(2)
    three.pause(3)
    try:
        assert error_of(raw.ask(produce(topic, batch(20), acks=1))) == 0
        assert error_of(raw.ask(produce(topic, batch(30), timeout=timedelta(milliseconds=1)))) == 7
        behind = result_of(raw.ask(fetch(topic, offset=1)))
        assert (behind.error_code, behind.high_watermark, behind.records or b"") == (0, 1, b"")
        assert [latest(raw, topic, timestamp) for timestamp in (-1, 15, -3)] == [(1, -1), (-1, -1), (-1, -1)]
    finally:
        three.resume(2)
        three.resume(3)
    assert found(raw.ask(fetch(topic, offset=1, wait=LONG)))[:1] == [1]


# --- fetch -----------------------------------------------------------------------------------------------------------


def test_a_fetch_waits_for_its_bytes_and_no_longer(three: LocalCluster, raw: Raw, topic: str) -> None:
    one = batch(value=b"v" * 100)
    raw.send(frame_of(fetch(topic, wait=LONG, min_bytes=2 * len(one))))
    with Raw(three.kafka_servers[0]) as other:
        for _ in range(2):
            other.ask(produce(topic, one))
    response = raw.receive()
    assert response is not None
    _, body = split_header(ApiKey.FETCH, 12, response)
    assert found(read_response(ApiKey.FETCH, 12, body)) == [0, 1]


def test_a_fetch_session_is_not_known(raw: Raw, topic: str) -> None:
    assert raw.ask(fetch(topic, session_id=5, session_epoch=1)).error_code == 70
    answer = raw.ask(fetch(topic, session_id=0, session_epoch=0))
    assert (answer.error_code, answer.session_id) == (0, 0)


def test_who_believes_in_another_epoch_is_told(raw: Raw, topic: str) -> None:
    epoch = latest_epoch(raw, topic)
    for asked, code in ((epoch, 0), (epoch + 1, 75)):
        assert error_of(raw.ask(fetch(topic, epoch=asked))) == code
        assert error_of(raw.ask(list_offsets(topic, -1, epoch=asked))) == code
        schema = request_class(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4)
        partition = inner(schema, "topics", "partitions")(partition=0, current_leader_epoch=asked, leader_epoch=epoch)
        wanted = (inner(schema, "topics")(topic=topic, partitions=(partition,)),)
        assert error_of(raw.ask(schema(topics=wanted))) == code


def test_who_believes_in_an_epoch_that_is_over_is_fenced(three: LocalCluster, raw: Raw, topic: str) -> None:
    """It was led by 1, and is led by 2 now."""
    old = latest_epoch(raw, topic)
    schema = request_class(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 0)
    move = inner(schema, "topics", "partitions")(partition_index=0, replicas=(2, 1, 3))
    asked = schema(topics=(inner(schema, "topics")(name=topic, partitions=(move,)),))
    assert error_of(raw.ask(asked)) == 0
    schema = request_class(ApiKey.ELECT_LEADERS, 2)
    wanted = (inner(schema, "topic_partitions")(topic=topic, partitions=(0,)),)
    raw.ask(schema(election_type=0, topic_partitions=wanted))
    with Raw(three.kafka_servers[1]) as connection:
        while error_of(connection.ask(fetch(topic))):
            pass  # it is about to lead
        answers = [connection.ask(fetch(topic, epoch=old)), connection.ask(list_offsets(topic, -1, epoch=old))]
    assert [error_of(answer) for answer in answers] == [74, 74]


# --- offsets ---------------------------------------------------------------------------------------------------------


def list_offsets(topic: str, timestamp: int, epoch: int = -1, version: int = 7) -> Any:
    schema = request_class(ApiKey.LIST_OFFSETS, version)
    asked = inner(schema, "topics", "partitions")(partition_index=0, current_leader_epoch=epoch, timestamp=timestamp)
    topics = (inner(schema, "topics")(name=topic, partitions=(asked,)),)
    return schema(replica_id=-1, isolation_level=0, topics=topics)


def latest(raw: Raw, topic: str, timestamp: int) -> tuple[int, int]:
    """Offset and timestamp."""
    result = result_of(raw.ask(list_offsets(topic, timestamp)))
    assert result.error_code == 0
    when = result.timestamp
    return int(result.offset), int(when)


def latest_epoch(raw: Raw, topic: str) -> int:
    raw.ask(produce(topic, batch()))
    return int(result_of(raw.ask(list_offsets(topic, -2))).leader_epoch)


def test_offsets_are_found_by_place_and_by_time_to_the_record(raw: Raw, topic: str) -> None:
    raw.ask(produce(topic, batch(10, 20, 30)))
    raw.ask(produce(topic, batch(25)))
    told = [latest(raw, topic, timestamp) for timestamp in (-2, -1, -3, 0, 11, 20, 30, 31)]
    assert told == [(0, -1), (4, -1), (2, 30), (0, 10), (1, 20), (1, 20), (2, 30), (-1, -1)]
    assert error_of(raw.ask(list_offsets("none", -1))) == 3


# --- topics ----------------------------------------------------------------------------------------------------------


def create(*names: str, dry: bool = False, places: tuple[int, ...] = (1,)) -> Any:
    schema = request_class(ApiKey.CREATE_TOPICS, 7)
    assignments = (inner(schema, "topics", "assignments")(partition_index=0, broker_ids=places),)
    left_out = {"num_partitions": -1, "replication_factor": -1, "configs": ()}
    topics = tuple(inner(schema, "topics")(name=name, assignments=assignments, **left_out) for name in names)
    return schema(topics=topics, timeout=LONG, validate_only=dry)


def test_topics_are_made_once_and_only_where_they_are_meant(raw: Raw) -> None:
    one, two = next(NAMES), next(NAMES)
    told = [(each.name, each.error_code) for each in raw.ask(create(one, two, one)).topics]
    assert sorted(told) == sorted([(one, 42), (two, 0)])
    assert [each.error_code for each in raw.ask(create(one, dry=True)).topics] == [0]
    assert [each.error_code for each in raw.ask(create(one)).topics] == [0], "nor did the trial make it"
    assert [each.error_code for each in raw.ask(create(one, dry=True)).topics] == [36]
