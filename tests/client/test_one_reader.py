"""A consumer is read by one task at a time: a second one is refused before it says that the first is done."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import sync
from ottla.client.client import connect
from ottla.client.one_reader import ConsumerBusy
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, SECONDS_MAX, soon, until

GROUPED = pytest.mark.parametrize("grouped", [{}, {"group": "g", **QUICK}], ids=["alone", "in a group"])
READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "one": lambda consumer: consumer.__anext__(),
    "a loop": lambda consumer: anext(aiter(consumer)),
    "batches": lambda consumer: anext(consumer.batches(max_records=3, max_wait=0.0)),
}


@GROUPED
@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("looped", ["records", "batches"])
async def test_who_reads_beside_a_loop_is_refused_and_finishes_nothing(
    looped: str, way: str, grouped: dict[str, Any]
) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 6)
        handling, done = asyncio.Event(), asyncio.Event()
        async with client.consumer("t", **grouped) as consumer:

            async def handle() -> None:
                async for _ in consumer if looped == "records" else consumer.batches(max_records=1):
                    handling.set()
                    await done.wait()
                    return

            first = asyncio.create_task(handle())
            await soon(handling.wait())
            with pytest.raises(ConsumerBusy) as refused:
                await soon(READS[way](consumer))
            assert refused.value.code == "OTTLA-CONSUMER-BUSY"
            seen = len(cluster.groups.heartbeats)
            if grouped:
                await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            assert cluster.groups.offsets.get(("t", 0), 0) == 0
            done.set()
            await soon(first)
            assert (await soon(anext(consumer))).offset == 1  # the loop was left


@GROUPED
@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("waits", READS)
async def test_who_asks_while_another_waits_is_refused(waits: str, way: str, grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        async with client.consumer("t", **grouped) as consumer:
            first = asyncio.ensure_future(READS[waits](consumer))
            await until(lambda: consumer._alone._waits)
            with pytest.raises(ConsumerBusy):
                await soon(READS[way](consumer))
            fill(topic, 0, 1)
            cluster.wake()
            found = await soon(first)
            assert (found[0] if waits == "batches" else found).offset == 0


@GROUPED
async def test_who_asks_while_a_batch_fills_takes_nothing_of_it(grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t", **grouped) as consumer:
            batches = consumer.batches(max_records=3, max_wait=9)
            assert len(await asyncio.create_task(soon(anext(batches)))) == 3  # by a task that is over
            filling = asyncio.ensure_future(anext(batches))
            await until(lambda: consumer._reader.records_read == 5)
            with pytest.raises(ConsumerBusy):
                await soon(anext(consumer))
            filling.cancel()
            await asyncio.wait([filling])
            assert [(await soon(anext(consumer))).offset for _ in range(2)] == [3, 4]


@GROUPED
async def test_a_consumer_goes_from_task_to_task(grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 20)
        async with client.consumer("t", **grouped) as consumer:

            async def some_of_a_loop(count: int) -> list[int]:
                seen: list[int] = []
                async for record in consumer:
                    seen.append(record.offset)
                    if len(seen) == count:
                        break
                return seen

            assert (await soon(anext(consumer))).offset == 0
            assert await asyncio.create_task(some_of_a_loop(3)) == [1, 2, 3]
            assert await some_of_a_loop(3) == [4, 5, 6]
            async for record in consumer:
                assert record.offset == 7
                assert (await anext(consumer)).offset == 8  # of one task, within its own loop
                break
            assert await asyncio.create_task(some_of_a_loop(1)) == [9]
            async for batch in consumer.batches(max_records=2):
                assert [record.offset for record in batch] == [10, 11]
                break
            assert await asyncio.create_task(some_of_a_loop(8)) == list(range(12, 20))
            waiting = asyncio.create_task(consumer.__anext__())
            await until(lambda: consumer._alone._waits)
            waiting.cancel()
            await asyncio.wait([waiting])
            await consumer.seek("t", 0, offset=3)
            assert (await soon(anext(consumer))).offset == 3


async def test_of_two_threads_the_one_that_waits_has_it() -> None:
    async with FakeCluster() as cluster:
        cluster.create("t")

        def ask() -> list[str]:
            with sync.connect(cluster.servers) as client, client.consumer("t", group="g") as consumer:
                refused: list[str] = []

                def read() -> None:
                    try:
                        next(consumer)
                    except ConsumerBusy as busy:
                        refused.append(busy.code)
                        client.producer().send_nowait("t", b"for the other one")

                threads = [threading.Thread(target=read) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(SECONDS_MAX)
                    assert not thread.is_alive()
                return refused

        assert await asyncio.to_thread(ask) == ["OTTLA-CONSUMER-BUSY"]
