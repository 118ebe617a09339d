"""Records written by any client and read by any other are the same, byte for byte."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from ottla.client import sync

from .conftest import Target
from .worker import NotOffered, Sent, Worker

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


def make_topic(target: Target, partitions: int = 2, **configs: Any) -> str:
    """By the SDK, or on another target by whichever client there is."""
    topic = target.topic()
    if target.cluster is not None:
        with sync.connect(target.cluster.servers) as client:
            client.admin.create_topic(topic, partitions=partitions, replication=3, config=configs)
    return topic


@pytest.mark.parametrize("codec", CODECS)
@not_offered_is_a_skip
def test_produce_and_consume_with_every_codec(client: Worker, target: Target, codec: str) -> None:
    topic = make_topic(target)
    records = various()
    places = client.produce(topic, records, codec=codec)
    found = client.consume(topic, len(records))
    expected = sorted(zip(places, records, strict=True), key=lambda each: each[0])
    assert [((r.partition, r.offset), r.content) for r in found] == expected


@pytest.mark.parametrize("acks", ["all", "1", "0"])
@not_offered_is_a_skip
def test_produce_with_every_kind_of_acknowledgement(client: Worker, target: Target, acks: str) -> None:
    topic = make_topic(target)
    # What wants no answer is lost where a leader has not heard of its election: first something that waits for it.
    first = [Sent(b"first", partition=number) for number in range(2)]
    client.produce(topic, first, acks="1", idempotent=False)
    records = [*first, *(Sent(b"%d" % number, partition=number % 2) for number in range(50))]
    client.produce(topic, records[2:], acks=acks, idempotent=False)
    found = client.consume(topic, len(records))
    assert sorted(record.value or b"" for record in found) == sorted(record.value or b"" for record in records)


@not_offered_is_a_skip
def test_idempotent_batches_are_stored_once_and_in_order(client: Worker, target: Target) -> None:
    topic = make_topic(target, partitions=1)
    records = [Sent(b"%d" % number, partition=0) for number in range(2_000)]
    places = client.produce(topic, records, idempotent=True, linger_ms=0)
    assert places == [(0, offset) for offset in range(2_000)]
    assert [record.value for record in client.consume(topic, 2_000)] == [record.value for record in records]


@not_offered_is_a_skip
def test_a_topic_that_is_missing_is_made_by_producing_to_it(client: Worker, target: Target) -> None:
    topic = target.topic("auto")
    client.produce(topic, [Sent(b"first")])
    assert [record.value for record in client.consume(topic, 1)] == [b"first"]


@pytest.mark.parametrize("codec", CODECS)
def test_what_the_sdk_writes_the_client_reads(client: Worker, target: Target, codec: str) -> None:
    if target.cluster is None:
        pytest.skip("the SDK speaks to Ottla")
    topic = make_topic(target)
    records = various()
    with sync.connect(target.cluster.servers) as sdk, sdk.producer(compression=codec) as producer:
        for record in records:
            producer.send(
                topic,
                record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=record.timestamp,
            )
    assert [each.content for each in client.consume(topic, len(records))] == records


@pytest.mark.parametrize("codec", CODECS)
@not_offered_is_a_skip
def test_what_the_client_writes_the_sdk_reads(client: Worker, target: Target, codec: str) -> None:
    if target.cluster is None:
        pytest.skip("the SDK speaks to Ottla")
    topic = make_topic(target)
    records = various()
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
        assert (read.key, read.value, read.timestamp_ms) == (written.key, written.value, written.timestamp)
        assert tuple(read.headers) == written.headers
