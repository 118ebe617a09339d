"""What a consumer makes of functions of the user's, its interceptors and ``on_error``, that fail."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.client.callbacks import CallbackFailed
from ottla.client.client import connect
from ottla.client.reader import BadInterceptor
from ottla.client.records import ConsumerRecord
from ottla.client.serializers import UndecodableRecord
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, soon


class Fails:
    """An interceptor, and a codec with its ``on_error``, that fail at offset 5 as long as they are broken."""

    def __init__(self) -> None:
        self.broken = True

    def intercept(self, record: ConsumerRecord[Any, Any]) -> ConsumerRecord[Any, Any]:
        if record.offset == 5 and self.broken:
            raise ValueError("it is broken")
        return record

    def decode(self, data: bytes) -> bytes:
        if data == b"5" and self.broken:
            raise ValueError("it is broken")
        return data

    def encode(self, data: bytes) -> bytes:
        return data

    def on_error(self, error: UndecodableRecord) -> None:
        raise ValueError(f"{error.offset} is broken")


WAYS: dict[str, Callable[[Fails], dict[str, Any]]] = {
    "an interceptor": lambda fails: {"interceptors": [fails.intercept]},
    "on_error": lambda fails: {"value": fails, "on_error": fails.on_error},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grouped", [{}, {"group": "g", **QUICK}], ids=["alone", "in a group"])
async def test_what_is_before_a_failure_is_handed_out_and_what_failed_is_the_next(
    way: str, grouped: dict[str, Any]
) -> None:
    fails = Fails()
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10, per_batch=10)
        async with client.consumer("t", **grouped, **WAYS[way](fails)) as consumer:
            batch = await soon(anext(consumer.batches(max_records=10)))
            assert [record.offset for record in batch] == list(range(5))
            for _ in range(2):  # it comes again, and passes over nothing
                with pytest.raises(CallbackFailed, match="broken"):
                    await soon(anext(consumer.batches(max_records=10)))
                with pytest.raises(CallbackFailed, match="broken"):
                    await soon(anext(consumer))
            fails.broken = False
            batch = await soon(anext(consumer.batches(max_records=10)))
            assert [record.offset for record in batch] == list(range(5, 10))
        assert cluster.groups.offsets.get(("t", 0), 10) == 10


@pytest.mark.parametrize(
    "wrong",
    [lambda _: None, lambda record: tuple(record), lambda record: record._replace(offset=record.offset + 1)],
    ids=["nothing", "a tuple", "another place"],
)
@pytest.mark.parametrize("grouped", [{}, {"group": "g", **QUICK}], ids=["alone", "in a group"])
async def test_an_interceptor_that_returns_no_record_of_this_place_is_named(
    wrong: Callable[[Any], Any], grouped: dict[str, Any]
) -> None:
    def spoil(record: ConsumerRecord[Any, Any]) -> Any:
        return wrong(record) if record.offset == 2 else record

    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t", interceptors=[spoil], **grouped) as consumer:
            assert [(await soon(anext(consumer))).offset for _ in range(2)] == [0, 1]
            for read in (lambda: anext(consumer), lambda: anext(consumer.batches()), lambda: anext(aiter(consumer))):
                with pytest.raises(BadInterceptor, match=r"spoil .* of the record at offset 2"):
                    await soon(read())
            await soon(consumer.seek("t", 0, offset=3))
            assert (await soon(anext(consumer))).offset == 3
        async with client.consumer("t", interceptors=[spoil]) as alone:
            reading = alone.read_to_end()
            assert [(await soon(anext(reading))).offset for _ in range(2)] == [0, 1]
            with pytest.raises(BadInterceptor):
                await soon(anext(reading))
