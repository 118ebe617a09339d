"""A reading that is cancelled, at whichever of its awaits, loses nothing, hands out nothing twice, and commits nothing
that nobody was shown."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from ottla.client.client import Client, connect
from ottla.client.consumer import Consumer
from ottla.client.group_consumer import GroupConsumer
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import SECONDS_MAX, in_group, soon, until

PARTITIONS, RECORDS = 2, 40
AnyConsumer = Consumer[Any, Any] | GroupConsumer[Any, Any]


async def cancelled_after(turns: int, work: Awaitable[Any]) -> Any:
    """What it brings, or None where that took more turns of the loop."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=SECONDS_MAX)
    return None if task.cancelled() else task.result()


async def one(consumer: AnyConsumer) -> list[Any]:
    return [await anext(consumer)]


async def one_of_a_loop(consumer: AnyConsumer) -> list[Any]:
    async for record in consumer:
        return [record]
    raise AssertionError("it has no end")


def batch(size: int, max_wait: float) -> Callable[[AnyConsumer], Awaitable[list[Any]]]:
    async def read(consumer: AnyConsumer) -> list[Any]:
        return list(await anext(consumer.batches(max_records=size, max_wait=max_wait)))

    return read


def any_way(random: Random) -> Callable[[AnyConsumer], Awaitable[list[Any]]]:
    return random.choice([one, one_of_a_loop, batch(random.randint(1, 9), random.choice([0.0, 0.001, 9.0]))])


class Shown:
    """By partition, the offset after the last that was handed out."""

    def __init__(self) -> None:
        self.ends = [0] * PARTITIONS

    def add(self, records: list[Any]) -> None:
        for record in records:
            assert record.offset == self.ends[record.partition], "lost, or twice"
            self.ends[record.partition] = record.offset + 1

    @property
    def all(self) -> bool:
        return self.ends == [RECORDS] * PARTITIONS


def check_commits(cluster: FakeCluster, shown: Shown) -> None:
    for (_, number), offset in cluster.groups.offsets.items():
        assert offset <= shown.ends[number], "committed, and never shown"


def consumer_of(client: Client, grouped: bool) -> AnyConsumer:
    return in_group(client) if grouped else client.consumer("t")


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
@pytest.mark.parametrize("seed", range(12))
async def test_cancelled_anywhere_it_goes_on_where_it_was(seed: int, grouped: bool) -> None:
    random = Random(seed)
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", PARTITIONS)
        for number in range(PARTITIONS):
            fill(topic, number, RECORDS // 2, per_batch=3)
        shown = Shown()
        async with consumer_of(client, grouped) as consumer:
            while not shown.all:
                records = await cancelled_after(random.randint(0, 60), any_way(random)(consumer))
                shown.add(records or [])
                check_commits(cluster, shown)
                if not random.randrange(4) and sum(shown.ends) < PARTITIONS * RECORDS:
                    shown.add(await soon(one(consumer)))  # or the test would not get on
                for number, state in enumerate(topic.partitions):
                    if state.end < RECORDS and not random.randrange(6):
                        fill(topic, number, RECORDS - state.end, per_batch=3)
                        cluster.wake()
                    if shown.ends[number] == state.end < RECORDS and not random.randrange(2):
                        fill(topic, number, RECORDS - state.end, per_batch=3)
                        cluster.wake()
                if isinstance(consumer, GroupConsumer) and not random.randrange(5):
                    reading = asyncio.ensure_future(any_way(random)(consumer))
                    await asyncio.sleep(0)
                    await soon(consumer.commit())  # by another task, and what is half filled is not handed out
                    shown.add(await cancelled_after(random.randint(0, 30), reading) or [])
                    check_commits(cluster, shown)
        if grouped:
            assert cluster.groups.offsets == {("t", number): RECORDS for number in range(PARTITIONS)}


async def half_filled(
    cluster: FakeCluster, client: Client, **options: Any
) -> tuple[GroupConsumer, "asyncio.Task[Any]"]:
    """A consumer, and the task that waits for the sixth record of its batch."""
    fill(cluster.create("t"), 0, 5)
    consumer = in_group(client, **options)
    reading = asyncio.create_task(batch(6, 9.0)(consumer))
    await until(lambda: consumer.assignment and consumer._reader.records_read == 5)
    return consumer, reading


async def test_a_commit_of_another_task_leaves_out_what_is_not_handed_out_yet() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        consumer, reading = await half_filled(cluster, client, auto_commit=False)
        await soon(consumer.commit())
        assert cluster.groups.offsets.get(("t", 0), 0) == 0
        assert consumer.position("t", 0) == 0
        reading.cancel()
        await asyncio.wait([reading])
        assert [record.offset for record in await soon(batch(5, 0.0)(consumer))] == list(range(5))
        await consumer.commit()
        assert cluster.groups.offsets["t", 0] == 5
        await consumer.close()


async def test_a_close_by_another_task_does_not_finish_what_is_not_handed_out_yet() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        consumer, reading = await half_filled(cluster, client)
        await soon(consumer.close())
        await asyncio.wait([reading], timeout=SECONDS_MAX)
        assert cluster.groups.offsets.get(("t", 0), 0) == 0


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
@pytest.mark.parametrize("cancelled", [0, 1, 2], ids=["at once", "later", "not"])
async def test_a_batch_goes_on_from_where_another_task_sought_while_it_filled(cancelled: int, grouped: bool) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        async with consumer_of(client, grouped) as consumer:
            reading = asyncio.ensure_future(batch(9, 9.0)(consumer))
            await until(lambda: consumer._reader.records_read == 5)
            await soon(consumer.seek("t", 0, offset=2))
            if cancelled:
                read = consumer._reader.records_read
                await until(lambda: consumer._reader.records_read == read + 3)
            if cancelled == 2:
                fill(topic, 0, 6)
                cluster.wake()
                assert [record.offset for record in await soon(reading)] == list(range(2, 11))
            else:
                reading.cancel()
                await asyncio.wait([reading])
                assert (await soon(anext(consumer))).offset == 2
            assert consumer.metrics().records_read == (9 if cancelled == 2 else 1)
