"""Lag and counts are what the handler has before it and behind it, most of all where it falls behind."""

import asyncio
from typing import Any

import pytest

from ottla.client import fetcher, sync
from ottla.client.client import connect
from ottla.client.group_consumer import GroupConsumer
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, in_group, soon, until

ONE = ("t", 0)


@pytest.fixture(autouse=True)
def _soon_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "ENDS_AGE_S", 0.005)


def lags(consumer: GroupConsumer[Any, Any], lag: int) -> bool:
    return consumer.lag() == {ONE: lag} and consumer.metrics().lag == lag


async def test_a_paused_partition_falls_behind_in_sight() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        async with in_group(client) as consumer:
            await soon(anext(consumer))
            consumer.pause()
            fill(topic, 0, 45)
            await until(lambda: lags(consumer, 49))
            fill(topic, 0, 10)
            await until(lambda: lags(consumer, 59))
            consumer.resume()
            assert [(await soon(anext(consumer))).offset for _ in range(59)] == list(range(1, 60))
            assert lags(consumer, 0)
        async with client.consumer("t") as alone:
            await soon(anext(alone))
            alone.pause()
            fill(topic, 0, 10)
            await until(lambda: alone.metrics().lag == 69)


@pytest.mark.parametrize("bound", ["partition_bytes", "prefetch_bytes"])
async def test_a_handler_that_is_far_behind_what_was_read_ahead_is_so_in_sight(bound: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 20, per_batch=1, size=1_000)
        async with in_group(client, **{bound: 3_000}) as consumer:
            await soon(anext(consumer))
            await until(lambda: not consumer._fetcher.partitions[ONE].fetching)  # type: ignore[index]
            fill(topic, 0, 30, per_batch=1, size=1_000)
            await until(lambda: lags(consumer, 49))


async def test_a_handler_over_its_limit_falls_behind_in_sight() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        async with in_group(client, max_poll_interval_s=0.02) as consumer:
            await soon(anext(consumer))
            await until(lambda: consumer._parts._slow)
            fill(topic, 0, 45)
            await until(lambda: lags(consumer, 49))


async def test_a_partition_that_was_never_fetched_has_a_lag() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        cluster.groups.offsets[ONE] = 2
        waiting: list[GroupConsumer[Any, Any]] = []
        async with in_group(client, on_assigned=lambda keys: waiting[0].pause(*keys)) as consumer:
            waiting.append(consumer)
            await until(lambda: lags(consumer, 3))


async def test_a_batch_that_fills_is_before_the_handler() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client) as consumer:
            reading = asyncio.ensure_future(anext(consumer.batches(max_records=6, max_wait=9)))
            await until(lambda: consumer._reader.records_read == 5)
            assert lags(consumer, 5)
            assert consumer.metrics().records_read == 0
            reading.cancel()
            await asyncio.wait([reading])
            assert lags(consumer, 5)
            assert consumer.metrics().records_read == 0
            assert len(await soon(anext(consumer.batches(max_records=5)))) == 5
            assert lags(consumer, 0)
            assert consumer.metrics().records_read == 5


async def test_what_crossed_to_another_thread_is_before_the_handler() -> None:
    async with FakeCluster() as cluster:
        fill(cluster.create("t"), 0, 11, per_batch=11)

        def in_a_group() -> None:
            with sync.connect(cluster.servers) as client, client.consumer("t", group="g", **QUICK) as consumer:
                for count in range(1, 12):
                    next(consumer)
                    assert consumer.position("t", 0) == count
                    assert consumer.lag() == {ONE: 11 - count}
                    metrics = consumer.metrics()
                    assert (metrics.lag, metrics.records_read) == (11 - count, count)
                    if count == 5:
                        consumer.pause()  # what crossed is given back, and comes again
                        assert consumer.lag() == {ONE: 6}
                        assert consumer.metrics().records_read == 5
                        consumer.resume()

        def alone() -> None:
            with sync.connect(cluster.servers) as client, client.consumer("t") as consumer:
                for count in range(1, 12):
                    next(consumer)
                    metrics = consumer.metrics()
                    assert (metrics.lag, metrics.records_read) == (11 - count, count)
                    if count == 5:
                        consumer.pause()
                        metrics = consumer.metrics()
                        assert (metrics.lag, metrics.records_read) == (6, 5)
                        consumer.resume()

        await asyncio.to_thread(in_a_group)
        await asyncio.to_thread(alone)
