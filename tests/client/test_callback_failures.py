"""A bug of the user's, in a function that the SDK calls: named, told once, and it keeps no partition from others."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client.callbacks import CallbackFailed
from ottla.client.client import Client, connect
from ottla.client.errors import OttlaError
from ottla.client.sync import connect as connect_sync
from ottla.client.testing import cluster as real_cluster
from ottla.log.model import TopicPartition
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, soon, take, until
from tests.client.test_sync_callbacks import take_away, until as until_sync


def broken(*_: Any) -> Any:
    raise ValueError("user bug")


async def broken_later(*_: Any) -> None:
    await asyncio.sleep(0)
    broken()


def in_group(client: Client, **options: Any) -> Any:
    return client.consumer("t", group="g", **QUICK, **options)


def is_told(raised: "pytest.ExceptionInfo[CallbackFailed]", which: str) -> bool:
    error = raised.value
    assert str(error) == f"{which} raised ValueError: user bug."
    assert (error.code, type(error.__cause__)) == ("OTTLA-CALLBACK-FAILED", ValueError)
    return True


async def read_on(consumer: Any) -> None:
    async for _ in consumer:
        pass


REBALANCES: dict[str, Callable[[FakeCluster], None]] = {
    "on_revoked": take_away,
    "on_lost": lambda cluster: cluster.groups.fence(next(iter(cluster.groups.members))),
}


@pytest.mark.parametrize("function", [broken, broken_later])
@pytest.mark.parametrize("which", REBALANCES)
async def test_it_is_raised_at_the_next_record_and_the_member_leaves(which: str, function: Any) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 100, per_batch=100)
        async with in_group(client, **{which: function}) as consumer:
            await take(consumer, 3)
            REBALANCES[which](cluster)
            if which == "on_lost":
                await until(lambda: consumer._parts.failure)
            else:
                seen = len(cluster.groups.heartbeats)
                await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            for _ in range(2):
                with pytest.raises(CallbackFailed) as raised:
                    await soon(read_on(consumer))
                assert is_told(raised, which)
            await until(lambda: not cluster.groups.members)
            for call in (consumer.commit, lambda: consumer.seek("t", 0, 0)):
                with pytest.raises(CallbackFailed):
                    await soon(call())
        if which == "on_revoked":
            assert cluster.groups.offsets["t", 0] == 3


async def test_what_the_handler_works_on_is_finished_and_committed_before_others_get_it() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t", 2), 0, 100, per_batch=100)
        told: list[object] = []

        def second_time(keys: object) -> None:
            told.append(keys)
            if len(told) == 2:
                broken()

        async with in_group(client, on_assigned=second_time) as consumer:
            await take(consumer, 3)
            cluster.groups.members[next(iter(cluster.groups.members))].target -= {("id-t-1", 1)}
            cluster.groups.epoch += 1
            await until(lambda: len(consumer.assignment) == 1)
            cluster.groups.assign()
            await until(lambda: consumer._parts.failure)
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            assert len(cluster.groups.members) == 1  # the handler has record 2, and its time
            with pytest.raises(CallbackFailed):
                await soon(anext(consumer))
            await until(lambda: not cluster.groups.members)
            assert cluster.groups.offsets["t", 0] == 3


@pytest.mark.parametrize("early", [True, False])
async def test_where_nobody_has_asked_closing_raises_it_once(early: bool) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        consumer = in_group(client, **{"on_assigned" if early else "on_revoked": broken})
        await consumer.start()
        if early:
            await until(lambda: not cluster.groups.members and cluster.groups.heartbeats)
        else:
            await take(consumer, 2)
        with pytest.raises(CallbackFailed) as raised:
            await soon(consumer.close())
        assert is_told(raised, "on_assigned" if early else "on_revoked")
        await soon(consumer.close())
        assert not cluster.groups.members
        assert cluster.groups.offsets.get(("t", 0)) == (None if early else 2)


async def test_a_block_that_is_left_by_it_raises_it_once() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        with pytest.raises(CallbackFailed) as raised:
            async with in_group(client, on_assigned=broken, on_revoked=broken) as consumer:
                await soon(anext(consumer))
        assert is_told(raised, "on_assigned")
        assert raised.value.__context__ is raised.value.__cause__


@pytest.mark.parametrize("grouped", [{}, {"group": "g"}])
@pytest.mark.parametrize("which", ["on_error", "an interceptor"])
async def test_what_is_called_for_a_record_fails_for_that_record(which: str, grouped: dict[str, Any]) -> None:
    def at_the_second(record: Any) -> Any:
        return broken() if record.offset == 2 else record

    options: dict[str, Any] = {"interceptors": [at_the_second]}
    if which == "on_error":
        options = {"value": dict, "on_error": lambda error: broken() if error.offset == 2 else None}
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t", **grouped, **options) as consumer:
            if which != "on_error":
                assert [(await soon(anext(consumer))).offset for _ in range(2)] == [0, 1]
            for _ in range(2):
                with pytest.raises(CallbackFailed, match=r"on_error|interceptor .*at_the_second") as raised:
                    await soon(anext(consumer))
                assert type(raised.value.__cause__) is ValueError
            await soon(consumer.seek("t", 0, 3))
            if which != "on_error":
                assert (await soon(anext(consumer))).offset == 3


async def test_what_the_user_raises_on_purpose_stays_what_it_is() -> None:
    class Enough(OttlaError):
        pass

    def stop(_: object) -> None:
        raise Enough("of it.")

    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t", value=dict, on_error=stop) as consumer:
            with pytest.raises(Enough):
                await soon(anext(consumer))


def test_in_the_blocking_sdk_it_is_the_same(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 100, per_batch=100)
    with connect_sync(fake.servers) as client:
        with client.consumer("t", group="g", on_revoked=broken) as consumer:
            assert [next(consumer).offset for _ in range(3)] == [0, 1, 2]
            take_away(fake)
            seen = len(fake.groups.heartbeats)
            until_sync(lambda: len(fake.groups.heartbeats) > seen + 3)
            with pytest.raises(CallbackFailed) as raised:
                list(consumer)
            assert is_told(raised, "on_revoked")
            until_sync(lambda: not fake.groups.members)
        with pytest.raises(CallbackFailed) as raised, client.consumer("t", group="g", on_revoked=broken) as consumer:
            next(consumer)
        assert is_told(raised, "on_revoked")
        assert not fake.groups.members


class Mine:
    """An assignor; ``broken`` for all members that lead."""

    name, cooperative = "mine", True

    def __init__(self, is_broken: bool) -> None:
        self.is_broken = is_broken

    def assign(self, members: Any, partitions: Any) -> Any:
        everything = frozenset(TopicPartition(topic, n) for topic, count in partitions.items() for n in range(count))
        return broken() if self.is_broken else {sorted(members)[0]: everything}


async def test_a_leader_whose_assignor_fails_makes_room_for_another() -> None:
    classic = {"group": "g", "protocol": "classic", "session_timeout_s": 30.0}
    async with real_cluster(nodes=1, num_partitions=2) as servers, connect(servers) as client:
        await client.admin.create_topic("t")
        async with client.consumer("t", assignors=(Mine(True),), **classic) as first:
            with pytest.raises(CallbackFailed) as raised:
                await asyncio.wait_for(anext(first), 20)
            assert is_told(raised, "the assignor mine")
            async with client.consumer("t", assignors=(Mine(False),), **classic) as second, asyncio.timeout(20):
                while len(second.assignment) < 2:
                    await asyncio.sleep(0.01)
