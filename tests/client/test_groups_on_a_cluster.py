"""Groups of both protocols on real nodes: shared, moved, and the last commit is found after the coordinator died."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client import alone, classic_membership
from ottla.client.client import Client, connect
from ottla.client.errors import ConfigError, TopicNotFound
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


CLASSIC = PROTOCOLS[1:]


@pytest.mark.parametrize("classic", CLASSIC, ids=["cooperative", "eager"])
async def test_a_group_changes_over_to_the_consumer_protocol_and_back_while_it_reads(classic: dict[str, Any]) -> None:
    settings = {"group_min_session_timeout_ms": 1000, "group_consumer_heartbeat_interval_ms": 200}
    seen: Counter[bytes] = Counter()
    owners = OneOwner()
    kinds = [classic, classic, {"protocol": "consumer"}, {"protocol": "consumer"}, classic, classic]
    async with cluster(nodes=1, **settings) as servers, connect(servers) as client:
        await client.admin.create_topic("t", 6)
        members: list[tuple[GroupConsumer, asyncio.Task[None]]] = []
        for number, options in enumerate(kinds):  # a rolling restart, member by member, there and back
            new = client.consumer("t", group="g", **options, **owners.options())
            await new.start()
            members.append((new, asyncio.create_task(handle(new, seen))))
            if len(members) > 2:
                old, task = members.pop(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await old.close()
            await until(lambda: sorted(len(each.assignment) for each, _ in members) in ([6], [3, 3]))
            await send(client, "t", number * RECORDS)
            await until(lambda number=number: len(seen) == (number + 1) * RECORDS)
        for consumer, task in members:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await consumer.close()
    assert not owners.shared, "nobody began with what another had not let go of"
    assert set(seen.values()) <= {1, 2}


@pytest.mark.parametrize("options", [*PROTOCOLS[:2], {}], ids=["consumer", "cooperative", "alone"])
async def test_topics_by_pattern_those_too_that_come_later(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ottla.client.alone.METADATA_AGE_S", 0.1)
    monkeypatch.setattr("ottla.client.classic_membership.METADATA_AGE_S", 0.1)
    settings = {"group_min_session_timeout_ms": 1000, "group_consumer_heartbeat_interval_ms": 200}
    group = {"group": "g", **options} if options else {}
    seen: Counter[bytes] = Counter()
    async with cluster(nodes=1, **settings) as servers, connect(servers) as client:
        for topic in ("orders-1", "borders-1"):
            await client.admin.create_topic(topic, 6)
            await send(client, topic, 0 if topic == "orders-1" else 10 * RECORDS)
        async with client.consumer(pattern="orders-.*", start="earliest", **group) as consumer:
            task = asyncio.create_task(handle(consumer, seen))
            await until(lambda: len(seen) == RECORDS)
            await client.admin.create_topic("orders-2", 6)
            await send(client, "orders-2", RECORDS)
            await until(lambda: len(seen) == 2 * RECORDS)
            assert consumer.topics == ("orders-1", "orders-2")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert set(seen.values()) == {1}


async def test_a_classic_member_reads_the_partitions_that_its_topic_grows_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.client.classic_membership.METADATA_AGE_S", 0.1)
    async with cluster(nodes=1, group_min_session_timeout_ms=1000) as servers, connect(servers) as client:
        await client.admin.create_topic("t", 2)
        async with client.consumer("t", group="g", **CLASSIC[0]) as consumer:
            task = asyncio.create_task(handle(consumer, Counter()))
            await until(lambda: len(consumer.assignment) == 2)
            await client.admin.grow_topic("t", 6)
            await until(lambda: len(consumer.assignment) == 6)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_a_consumer_by_pattern_cannot_do() -> None:
    async with cluster(nodes=1) as servers, connect(servers) as client:
        for wrong in ({"pattern": "("}, {"pattern": "a", "partitions": [1]}, {"pattern": "a", "start": 5}):
            with pytest.raises(ConfigError):
                client.consumer(**wrong)
        with pytest.raises(ConfigError):
            client.consumer("t", pattern="t")
        with pytest.raises(ConfigError):
            client.consumer()
        async with client.consumer(pattern="nothing.*") as consumer:
            for work in (consumer.commit, consumer.committed):
                with pytest.raises(ConfigError):
                    await work()
            with pytest.raises(ConfigError):
                consumer.commit_nowait()
            assert consumer.topics == ()


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


@pytest.mark.parametrize(
    "options",
    [*({"group": "g", **each} for each in PROTOCOLS), {}],
    ids=["consumer", "cooperative", "eager", "no group"],
)
async def test_a_topic_made_anew_is_read_anew(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (classic_membership, alone):
        monkeypatch.setattr(module, "METADATA_AGE_S", 0.2)
    async with cluster(group_min_session_timeout_ms=1000) as servers, connect(servers) as client:
        await client.admin.create_topic("t", 6)
        await send(client, "t", 0)
        read: set[bytes | None] = set()

        async def read_all(consumer: GroupConsumer) -> None:
            while len(read) < RECORDS:
                with contextlib.suppress(TopicNotFound):  # it is told that the topic was deleted, and goes on
                    read.add((await anext(consumer)).value)
                await asyncio.sleep(0.001)

        async with client.consumer(pattern="t", **{"commit_timeout_s": 0.5} if options else {}, **options) as consumer:
            await asyncio.wait_for(read_all(consumer), SECONDS_MAX)
            await client.admin.delete_topic("t")
            await client.admin.create_topic("t", 6)
            await send(client, "t", RECORDS)
            read.clear()
            await asyncio.wait_for(read_all(consumer), 15)
        assert read == {b"%d" % number for number in range(RECORDS, 2 * RECORDS)}
