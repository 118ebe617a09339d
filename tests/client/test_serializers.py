"""Typed keys and values: there and back, and what does not decode is named, raised, skipped or told."""

import contextlib
import json
import uuid
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Union

import msgspec
import pytest
from hypothesis import given, strategies as st

from ottla.client.callbacks import CallbackFailed
from ottla.client.client import connect
from ottla.client.errors import ConfigError
from ottla.client.outgoing import OutgoingRecord
from ottla.client.records import ConsumerRecord
from ottla.client.serializers import UndecodableRecord, UnencodableRecord, codec_for, encode_with
from ottla.client.tracing import trace_context, trace_headers
from tests.client.fake_broker import FakeCluster

T = TypeVar("T")


class Order(msgspec.Struct):
    number: int
    item: str | None = None


@dataclass
class Point:
    x: int
    y: float


VALUES = {
    str: st.text(),
    int: st.integers(-(1 << 63), (1 << 63) - 1),
    float: st.floats(allow_nan=False),
    uuid.UUID: st.uuids(),
    list: st.lists(st.integers(-(1 << 53), 1 << 53)),
    dict: st.dictionaries(st.text(), st.text()),
    Order: st.builds(Order, st.integers(-(1 << 53), 1 << 53), st.none() | st.text()),
    Point: st.builds(Point, st.integers(-(1 << 53), 1 << 53), st.floats(allow_nan=False, allow_infinity=False)),
}


@given(st.sampled_from(list(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])))
def test_every_value_comes_back(pair: tuple[type, Any]) -> None:
    kind, value = pair
    codec = codec_for(kind)
    assert codec is not None
    assert codec.decode(codec.encode(value)) == value


@given(st.sampled_from(list(VALUES)), st.binary())
def test_any_bytes_decode_or_are_refused_with_a_value_error(kind: type, data: bytes) -> None:
    codec = codec_for(kind)
    assert codec is not None
    with contextlib.suppress(ValueError):
        codec.decode(data)


def test_numbers_are_as_kafkas_serializers_write_them() -> None:
    codec = codec_for(int)
    assert codec is not None
    assert codec.encode(-2).hex() == "fffffffffffffffe"
    with pytest.raises(TypeError):
        codec.encode("2")


@pytest.mark.parametrize("kind", [object, "str", 5, set, Point(1, 2.0), list[object()]])
def test_what_has_no_codec_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigError):
        codec_for(kind)


class Sized(msgspec.Struct, Generic[T]):
    """Of something."""

    of: T


class Model:
    """As pydantic's models are, as far as we know them."""

    def __init__(self, number: object) -> None:
        self.number = number

    def model_dump_json(self) -> str:
        return json.dumps({"number": self.number})

    @classmethod
    def model_validate_json(cls, data: bytes) -> "Model":
        return cls(Order(**json.loads(data)).number if msgspec.json.decode(data, type=Order) else 0)


EITHER = Union[Order, list[int]]  # noqa: UP007 - with | it is no generic alias
WRONG: list[tuple[Any, Any]] = [
    (Order, {"wrong": 1}),
    (Order, {"number": 1}),
    (Order, "hello"),
    (Order, b"abc"),
    (Order, Order("x", 5)),  # type: ignore[arg-type]
    (Order, Point(1, 2.0)),
    (Point, Order(1)),
    (Point, Point("1", 2.0)),  # type: ignore[arg-type]
    (dict, [1]),
    (list, {"a": 1}),
    (dict, "{}"),
    (list[int], ["a"]),
    (list[int], {"a": 1}),
    (dict[str, Order], {"a": {"number": "1"}}),
    (Sized[int], Sized("a")),
    (EITHER, 5),
    (Model, Order(1)),
    (Model, Model("x")),
    (uuid.UUID, "no uuid"),
    (str, b"abc"),
    (int, True),
    (float, "1"),
]


@pytest.mark.parametrize(("kind", "value"), WRONG)
async def test_what_would_stop_every_consumer_is_not_sent(kind: Any, value: Any) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        async with client.producer(key=kind, value=kind) as producer:
            for given in ({"value": value}, {"value": None, "key": value}):
                with pytest.raises(UnencodableRecord, match=r"the (key|value) cannot be encoded: "):
                    await producer.send("t", **given)
        assert topic.partitions[0].end == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Point, Point(1, 2)),
        (list[int], [1]),
        (dict[str, Order], {"a": Order(1)}),
        (Sized[int], Sized(1)),
        (EITHER, [1]),
        (dict, {"any": [None, 1.5]}),
        (Order, None),
    ],
)
def test_what_is_right_is_sent_as_before(kind: Any, value: Any) -> None:
    codec = codec_for(kind)
    assert codec is not None
    assert encode_with(codec, value, "value") == (None if value is None else msgspec.json.encode(value))


class Shout:
    """A codec of one's own."""

    def encode(self, value: str) -> bytes:
        return value.upper().encode()

    def decode(self, data: bytes) -> str:
        return data.decode() + "!"


async def test_records_are_typed_both_ways() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(key=str, value=Order) as producer:
            await producer.send("t", Order(1, "a"), key="k")
            await producer.send("t", None, key="gone")
            with pytest.raises(UnencodableRecord):
                producer.send_nowait("t", Order(2), key=5)  # type: ignore[arg-type]
            assert producer.metrics().records_acknowledged == 2
        async with client.consumer("t", key=str, value=Order) as consumer:
            read = [(record.key, record.value) async for record in consumer.read_to_end()]
            assert read == [("k", Order(1, "a")), ("gone", None)]
            assert client.metrics().consumers[0].records_read == 2
        async with client.consumer("t", key=Shout()) as loud:
            assert (await anext(loud)).key == "k!"


async def test_a_record_that_does_not_decode_is_named_and_can_be_passed_over() -> None:
    told: list[int] = []
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer() as producer:
            for value in (b'{"number":1}', b"?", b'{"number":"x"}', b'{"number":4}', b"!"):
                await producer.send("t", value)
        async with client.consumer("t", value=Order) as consumer:
            assert (await anext(consumer)).value == Order(1)
            for _ in range(2):  # again and again: nothing is lost unseen
                with pytest.raises(UndecodableRecord, match=r"t-0: the value at offset 1") as raised:
                    await anext(consumer)
                assert (raised.value.topic, raised.value.partition, raised.value.offset) == ("t", 0, 1)
            await consumer.seek("t", 0, raised.value.offset + 2)
            assert (await anext(consumer)).value == Order(4)
        async with client.consumer("t", value=Order, on_error="skip") as consumer:
            assert [record.offset async for record in consumer.read_to_end()] == [0, 3]
            assert consumer.position(0) == 5
        async with client.consumer("t", value=Order, on_error=lambda e: told.append(e.offset)) as consumer:
            assert [record.offset async for record in consumer.read_to_end()] == [0, 3]
    assert told == [1, 2, 4]


async def test_an_automatic_commit_passes_what_was_skipped() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer() as producer:
            for value in (b"?", b'{"number":1}', b"?"):
                await producer.send("t", value)
        async with client.consumer("t", group="g", value=Order, on_error="skip") as consumer:
            assert (await anext(consumer)).offset == 1
        assert cluster.groups.offsets["t", 0] == 2


async def test_interceptors_and_trace_headers() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def stamp(record: OutgoingRecord) -> OutgoingRecord:
        return record._replace(value=record.value + b"?", headers=(*record.headers, ("by", b"me")))

    def shout(record: ConsumerRecord[Any, Any]) -> ConsumerRecord[Any, Any]:
        return record._replace(value=record.value.upper())

    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        inject = trace_headers(lambda carrier: carrier.update(traceparent=parent))
        async with client.producer(interceptors=[stamp, inject]) as producer:
            await producer.send("t", b"a")
            await producer.send("t", b"b", headers={"traceparent": b"mine"})
        async with client.producer(interceptors=[lambda record: None]) as producer:
            with pytest.raises(
                CallbackFailed, match=r"interceptor .*lambda.* raised TypeError: None is no OutgoingRecord"
            ):
                await producer.send("t", b"c")
        async with client.consumer("t", interceptors=[shout]) as consumer:
            first, second = [record async for record in consumer.read_to_end()]
        assert first.value == b"A?"
        assert first.headers == (("by", b"me"), ("traceparent", parent.encode()))
        assert trace_context(first, dict) == {"traceparent": parent}
        assert trace_context(second, dict) == {"traceparent": "mine"}
