"""What the blocking SDK reads ahead of its user: it is handed out, or read again."""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from ottla.client import sync
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill


async def blocking(servers: list[str], work: Callable[[sync.Client], Any]) -> Any:
    """In a thread of its own."""

    def run() -> Any:
        with sync.connect(servers) as client:
            return work(client)

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("taken", [1, 7, 12])
async def test_who_leaves_a_reading_to_the_end_early_goes_on_where_that_was(taken: int) -> None:
    async with FakeCluster() as cluster:
        topic = cluster.create("t", 2)
        for number in range(2):
            fill(topic, number, 10)

        def work(client: sync.Client) -> None:
            with client.consumer("t") as consumer:
                seen = [(record.partition, record.offset) for record in islice(consumer.read_to_end(), taken)]
                for number in range(2):
                    after = [offset for partition, offset in seen if partition == number]
                    assert consumer.position(number) == len(after)
                seen += [(record.partition, record.offset) for record in consumer.read_to_end()]
                assert sorted(seen) == [(number, offset) for number in range(2) for offset in range(10)]
                consumer.seek("t", 0, 8)
                reading = consumer.read_to_end()
                assert next(reading).offset == 8
                assert consumer.position(0) == 9
                assert next(consumer).offset == 9  # the reading is not over, and nothing is passed over
                assert list(reading) == []

        await blocking(cluster.servers, work)


async def test_a_reading_to_the_end_may_be_left_behind_with_its_consumer() -> None:
    async with FakeCluster() as cluster:
        fill(cluster.create("t"), 0, 10)

        def work(client: sync.Client) -> None:
            with client.consumer("t") as consumer:
                reading = consumer.read_to_end()
                assert next(reading).offset == 0
            reading.close()  # type: ignore[attr-defined]

        await blocking(cluster.servers, work)
