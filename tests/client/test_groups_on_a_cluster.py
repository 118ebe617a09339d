"""Groups of both protocols on real nodes: shared, moved, and the last commit is found after the coordinator died."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client.client import Client, connect
from ottla.client.group_consumer import GroupConsumer
from ottla.client.testing import LocalCluster, cluster
from ottla.log.model import TopicPartition

SECONDS_MAX = 60
RECORDS = 60
PROTOCOLS: list[dict[str, Any]] = [
    {"protocol": "consumer"},
    {"protocol": "classic", "assignors": ("cooperative-sticky",), "session_timeout_s": 3.0},
    {"protocol": "classic", "assignors": ("range", "roundrobin"), "session_timeout_s": 3.0},
]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.01)


async def send(client: Client, topic: str, begin: int) -> None:
    async with client.producer() as producer:
        for number in range(begin, begin + RECORDS):
            producer.send_nowait(topic, b"%d" % number, partition=number % 6)


class OneOwner:
    """Callbacks of a consumer that see to it that nobody begins with what another has not let go."""

    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()
        self.shared: set[TopicPartition] = set()

    def options(self) -> dict[str, Any]:
        return {"on_assigned": self.take, "on_revoked": self.let_go}

    def take(self, keys: frozenset[TopicPartition]) -> None:
        self.shared |= self.held & keys
        self.held |= keys

    async def let_go(self, keys: frozenset[TopicPartition]) -> None:
        """Slowly: whoever does not wait for it is seen."""
        await asyncio.sleep(0.3)
        self.held -= keys


async def handle(consumer: GroupConsumer, seen: Counter[bytes]) -> None:
    async for record in consumer:
        assert record.value is not None
        seen[record.value] += 1


@pytest.mark.parametrize("options", PROTOCOLS, ids=["consumer", "cooperative", "eager"])
async def test_two_members_share_and_the_last_commit_survives_the_coordinator(options: dict[str, Any]) -> None:
    settings = {"group_min_session_timeout_ms": 1000, "broker_session_timeout_ms": 1000}
    seen: Counter[bytes] = Counter()
    async with cluster(nodes=3, **settings) as servers, connect(servers) as client:
        await client.admin.create_topic("t", 6)
        await send(client, "t", 0)
        owners = OneOwner()
        async with client.consumer("t", group="g", **options, **owners.options()) as first:
            tasks = [asyncio.create_task(handle(first, seen))]
            await until(lambda: len(seen) == RECORDS)
            async with client.consumer("t", group="g", **options, **owners.options()) as second:
                tasks.append(asyncio.create_task(handle(second, seen)))
                await until(lambda: len(first.assignment) == len(second.assignment) == 3)
                assert not first.assignment & second.assignment
                await send(client, "t", RECORDS)
                await until(lambda: len(seen) == 2 * RECORDS)
                tasks.pop().cancel()
            await until(lambda: len(first.assignment) == 6)
            tasks.pop().cancel()
        assert not owners.shared
        assert set(seen.values()) == {1}  # nobody failed: nothing was handled twice
        await _kill_each(servers, client, options)


async def _kill_each(servers: LocalCluster, client: Client, options: dict[str, Any]) -> None:
    for node in range(1, 4):
        await send(client, "t", (node + 1) * RECORDS)
        async with client.consumer("t", group="g", **options) as consumer, asyncio.timeout(SECONDS_MAX):
            batches = consumer.batches(max_records=1)
            for _ in range(RECORDS):
                [record] = await anext(batches)
                assert record.value is not None
                assert int(record.value) >= (node + 1) * RECORDS, "it was committed"
            servers.kill(node)
            await consumer.commit()
            servers.start(node)
