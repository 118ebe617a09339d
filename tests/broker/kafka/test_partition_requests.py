"""What requests to partitions mean to the broker, and where clients are sent."""

from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker.kafka.caller import Caller
from ottla.broker.kafka.header import read_header
from ottla.broker.kafka.leaders import node_endpoints
from ottla.broker.kafka.listener import open_kafka
from ottla.broker.kafka.produce import begin_produce, encode_produce
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.view import Address, BrokerView
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    DeleteRecordsResponse,
    DeleteRecordsResult,
    ListOffsetsResponse,
    OffsetResult,
)
from ottla.client.replica_protocol import EpochEnd, OffsetForLeaderEpochResponse
from ottla.log.model import BrokerId
from ottla.raft.image import KAFKA

from .fake_view import TOPIC_ID, FakeView, code_of, handled, milliseconds
from .kio_bytes import frame_of, inner, read_response, request_class

# --- partitions -------------------------------------------------------------------------------------------------------


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


# --- produce ----------------------------------------------------------------------------------------------------------


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


# --- where clients are sent -------------------------------------------------------------------------------------------


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
