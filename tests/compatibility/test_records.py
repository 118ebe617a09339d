"""Records written by any client and read by any other are the same, byte for byte."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from ottla.client import sync

from .target import OurTarget, Target
from .worker import ClientFailed, NotOffered, Sent, Worker

pytestmark = pytest.mark.processes
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
T = TypeVar("T")


def not_offered_is_a_skip(case: Callable[..., T]) -> Callable[..., T]:
    """A client that has no such call has not failed."""

    @functools.wraps(case)
    def run(*arguments: Any, **named: Any) -> T:
        try:
            return case(*arguments, **named)
        except NotOffered as why:
            pytest.skip(f"not offered: {why}")

    return run


def various() -> list[Sent]:
    """Keys, headers, timestamps, nothing, and much."""
    return [
        Sent(b"plain", partition=0, timestamp=1_700_000_000_000),
        Sent(b"keyed", key=b"k", partition=0, timestamp=1_700_000_000_001),
        Sent(b"headed", None, (("a", b"1"), ("a", b"2"), ("empty", b"")), 1_700_000_000_002, 0),
        Sent("ü€😀".encode(), "ключ".encode(), (("ü", b"\x00\xff"),), 1_700_000_000_003, 0),
        Sent(b"", b"", (), 1_700_000_000_004, 0),
        Sent(None, b"tombstone", (), 1_700_000_000_005, 0),
        Sent(bytes(range(256)) * 300, b"large", (), 1_700_000_000_006, 0),
        *(Sent(b"%d" % number, b"%d" % (number % 7), (), 1_700_000_001_000 + number, 1) for number in range(200)),
    ]


@pytest.mark.every_client
@pytest.mark.parametrize("codec", CODECS)
@not_offered_is_a_skip
def test_produce_and_consume_with_every_codec(client: Worker, target: Target, codec: str) -> None:
    topic = target.topic()
    records = client.writable(various())
    places = client.produce(topic, records, codec=codec)
    found = client.consume(topic, len(records))
    expected = sorted(zip(places, records, strict=True), key=lambda each: each[0])
    assert [(r.partition, r.offset) for r in found] == [place for place, _ in expected]
    for read, (_, written) in zip(found, expected, strict=True):
        assert client.sees(read, written)


@pytest.mark.parametrize("acks", ["all", "1", "0"])
@not_offered_is_a_skip
def test_produce_with_every_kind_of_acknowledgement(client: Worker, target: Target, acks: str) -> None:
    topic = target.topic()
    # What wants no answer is lost where a leader has not heard of its election: first something that waits for it.
    first = [Sent(b"first", partition=number) for number in range(2)]
    client.produce(topic, first, acks="1", idempotent=False)
    records = [*first, *(Sent(b"%d" % number, partition=number % 2) for number in range(50))]
    client.produce(topic, records[2:], acks=acks, idempotent=False)
    found = client.consume(topic, len(records))
    assert sorted(record.value or b"" for record in found) == sorted(record.value or b"" for record in records)


@not_offered_is_a_skip
def test_idempotent_batches_are_stored_once_and_in_order(client: Worker, target: Target) -> None:
    topic = target.topic(partitions=1)
    records = [Sent(b"%d" % number, partition=0) for number in range(2_000)]
    places = client.produce(topic, records, idempotent=True, linger_ms=0)
    assert places == [(0, offset) for offset in range(2_000)]
    assert [record.value for record in client.consume(topic, 2_000)] == [record.value for record in records]


@not_offered_is_a_skip
def test_a_topic_that_is_missing_is_made_by_producing_to_it(client: Worker, target: Target) -> None:
    topic = target.name("auto")
    client.produce(topic, [Sent(b"first")])
    assert [record.value for record in client.consume(topic, 1)] == [b"first"]


@pytest.mark.slow
@not_offered_is_a_skip
def test_who_reads_what_is_committed_reads_all_that_is_no_transaction(client: Worker, target: Target) -> None:
    topic = target.topic(partitions=1)
    records = [Sent(b"%d" % number, partition=0) for number in range(100)]
    client.produce(topic, records)
    found = client.consume(topic, 100, isolation="read_committed")
    assert [record.value for record in found] == [record.value for record in records]


FRAME = 72
"""Bytes of a batch of one record without key and headers, beside its value of about a million bytes."""


@pytest.mark.slow
@not_offered_is_a_skip
def test_a_batch_may_be_as_large_as_the_topic_says(client: Worker, target: Target) -> None:
    topic = target.topic(partitions=1, max_message_bytes=1_048_588)
    largest = Sent(bytes(1_048_588 - FRAME), partition=0)
    client.produce(topic, [largest])
    with pytest.raises(ClientFailed) as failed:
        client.produce(topic, [Sent(bytes(1_048_588 - FRAME + 1), partition=0)])
    assert failed.value.code in (10, None)
    assert [record.value for record in client.consume(topic, 1)] == [largest.value]


@pytest.mark.slow
@not_offered_is_a_skip
def test_records_larger_than_what_a_consumer_asks_for_are_read(client: Worker, target: Target) -> None:
    topic = target.topic(partitions=1, max_message_bytes=8_000_000)
    records = [Sent(bytes([number]) * 5_000_000, partition=0) for number in range(3)]
    for each in records:
        client.produce(topic, [each])
    assert [record.value for record in client.consume(topic, 3)] == [record.value for record in records]


@pytest.mark.parametrize("codec", CODECS)
def test_what_the_sdk_writes_the_client_reads(client: Worker, target: Target, codec: str) -> None:
    if not isinstance(target, OurTarget):
        pytest.skip("the SDK speaks to Ottla")
    topic = target.topic()
    records = various()
    with sync.connect(target.cluster.servers) as sdk, sdk.producer(compression=codec) as producer:
        for record in records:
            producer.send_nowait(
                topic,
                record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=record.timestamp,
            )
    for read, written in zip(client.consume(topic, len(records)), records, strict=True):
        assert client.sees(read, written)


@pytest.mark.parametrize("codec", CODECS)
@not_offered_is_a_skip
def test_what_the_client_writes_the_sdk_reads(client: Worker, target: Target, codec: str) -> None:
    if not isinstance(target, OurTarget):
        pytest.skip("the SDK speaks to Ottla")
    topic = target.topic()
    records = client.writable(various())
    places = client.produce(topic, records, codec=codec)
    found = []
    with sync.connect(target.cluster.servers) as sdk, sdk.consumer(topic, start="earliest") as consumer:
        for record in consumer:
            found.append(((record.partition, record.offset), record))
            if len(found) == len(records):
                break
    found.sort(key=lambda each: each[0])
    expected = sorted(zip(places, records, strict=True), key=lambda each: each[0])
    assert [place for place, _ in found] == [place for place, _ in expected]
    for (_, read), (_, written) in zip(found, expected, strict=True):
        assert (read.key, read.value, tuple(read.headers)) == (written.key, written.value, written.headers)
        assert written.timestamp in (read.timestamp_ms, None)
