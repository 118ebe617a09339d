"""A closed consumer says so at every door, and hands out nothing more, not even of what it has."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client import sync
from ottla.client.callbacks import CallbackFailed
from ottla.client.client import connect
from ottla.client.errors import OttlaError
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, SECONDS_MAX, in_group, soon, until

GROUPED = pytest.mark.parametrize("grouped", [{}, {"group": "g", **QUICK}], ids=["alone", "in a group"])
ONE = ("t", 0)
DOORS: dict[str, Callable[[Any], Any]] = {
    "enter": lambda consumer: consumer.__aenter__(),
    "start": lambda consumer: consumer.start(),
    "anext": lambda consumer: consumer.__anext__(),
    "loop": lambda consumer: anext(aiter(consumer)),
    "batches": lambda consumer: anext(consumer.batches()),
    "beginning_offsets": lambda consumer: consumer.beginning_offsets(),
    "end_offsets": lambda consumer: consumer.end_offsets(),
    "seek": lambda consumer: consumer.seek("t", 0, 1),
    "pause": lambda consumer: consumer.pause(),
    "resume": lambda consumer: consumer.resume(),
}
ALONE = DOORS | {
    "read_to_end": lambda consumer: anext(consumer.read_to_end()),
    "fetch_batches": lambda consumer: anext(consumer.fetch_batches()),
    "offsets_for_times": lambda consumer: consumer.offsets_for_times({0: 1}),
    "seek_to_time": lambda consumer: consumer.seek_to_time(1),
}
IN_GROUP = DOORS | {
    "commit": lambda consumer: consumer.commit(),
    "commit these": lambda consumer: consumer.commit({ONE: 1}),
    "commit_nowait": lambda consumer: consumer.commit_nowait(),
    "committed": lambda consumer: consumer.committed(ONE),
    "committed of all": lambda consumer: consumer.committed(),
    "position": lambda consumer: consumer.position("t", 0),
    "offsets_for_times": lambda consumer: consumer.offsets_for_times({ONE: 1}),
}


async def refused(work: Callable[[], Any]) -> None:
    async def ask() -> None:
        await work()

    with pytest.raises(OttlaError) as raised:
        await soon(ask())
    assert raised.value.code == "OTTLA-CLOSED"


async def test_every_door_of_a_consumer_of_one_topic() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10, per_batch=10)
        async with client.consumer("t") as consumer:
            await soon(anext(consumer))
        for work in ALONE.values():
            await refused(lambda work=work: work(consumer))
        assert consumer.position(0) == 1  # where to begin another time
        assert consumer.metrics().records_read == 1


async def test_every_door_of_a_consumer_in_a_group() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10, per_batch=10)
        async with in_group(client) as consumer:
            await soon(anext(consumer))
        commits = len(cluster.groups.commits)
        for work in IN_GROUP.values():
            await refused(lambda work=work: work(consumer))
        assert (consumer.assignment, consumer.lag()) == (frozenset(), {})
        assert len(cluster.groups.commits) == commits
        assert cluster.groups.offsets[ONE] == 1


@GROUPED
async def test_a_loop_that_is_on_ends_when_another_task_closes(grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10, per_batch=10)
        async with client.consumer("t", **grouped) as consumer:
            seen = []

            async def read() -> None:
                async for record in consumer:
                    seen.append(record.offset)
                    await asyncio.create_task(consumer.close())

            await refused(read)
            assert seen == [0]


async def test_a_batch_that_fills_while_another_task_closes_is_for_the_next_owner() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        consumer = in_group(client)
        reading = asyncio.create_task(anext(consumer.batches(max_records=6, max_wait=SECONDS_MAX)))  # type: ignore[arg-type]
        await until(lambda: consumer._reader.records_read == 5)
        await soon(consumer.close())
        await refused(lambda: reading)
        assert cluster.groups.offsets.get(ONE, 0) == 0


async def test_on_revoked_may_still_commit_while_it_closes() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)

        async def commit(keys: Any) -> None:
            assert consumer.assignment == keys
            assert consumer.position("t", 0) == 1
            await consumer.commit()

        async with in_group(client, auto_commit=False, on_revoked=commit) as consumer:
            await soon(anext(consumer))
        assert cluster.groups.offsets[ONE] == 1


@GROUPED
async def test_nothing_that_crossed_to_another_thread_is_handed_out(grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster:
        fill(cluster.create("t"), 0, 10, per_batch=10)

        def work() -> None:
            with sync.connect(cluster.servers) as client:
                with client.consumer("t", **grouped) as consumer:
                    assert next(consumer).offset == 0
                for door in (lambda: next(consumer), consumer.__enter__, lambda: next(consumer.batches())):
                    with pytest.raises(OttlaError) as raised:
                        door()
                    assert raised.value.code == "OTTLA-CLOSED"
                if not grouped:
                    assert consumer.position(0) == 1

        await asyncio.to_thread(work)
        assert cluster.groups.offsets.get(ONE, 1) == 1


@GROUPED
async def test_the_end_of_a_client_is_that_of_its_consumers(grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster:
        fill(cluster.create("t"), 0, 5)
        client = connect(cluster.servers)
        handling, waiting = client.consumer("t", **grouped), client.consumer("t", start="latest")
        for _ in range(3):  # 0 and 1 are finished, 2 is being handled
            await soon(anext(handling))
        await waiting.start()
        wait = asyncio.ensure_future(anext(waiting))
        await until(lambda: waiting.position(0) == 5)
        cluster.requests.clear()
        await soon(client.close())
        await refused(lambda: wait)
        for work in (lambda: anext(handling), lambda: anext(handling.batches()), waiting.start):
            await refused(work)
        asked = len(cluster.requests)
        await soon(handling.close())
        await soon(client.close())
        assert len(cluster.requests) == asked
        assert not cluster.groups.members  # it has left, with what was finished
        assert cluster.groups.offsets == ({ONE: 2} if grouped else {})


async def test_what_a_callback_raises_at_the_end_of_a_client_is_heard_once_all_is_closed() -> None:
    def refuse(keys: Any) -> None:
        raise ValueError("not today")

    async with FakeCluster() as cluster:
        fill(cluster.create("t"), 0, 5)
        client = connect(cluster.servers)
        consumer = client.consumer("t", group="g", on_revoked=refuse)
        await soon(anext(consumer))
        with pytest.raises(CallbackFailed, match="not today"):
            await soon(client.close())
        assert not cluster.groups.members
        await soon(client.close())
        await refused(lambda: anext(consumer))


@GROUPED
async def test_the_end_of_a_blocking_client_is_that_of_its_consumers(grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster:
        fill(cluster.create("t"), 0, 5)

        def work() -> None:
            client = sync.connect(cluster.servers)
            consumer = client.consumer("t", **grouped)
            assert [next(consumer).offset for _ in range(3)] == [0, 1, 2]
            client.close()
            with pytest.raises(OttlaError) as raised:
                next(consumer)
            assert raised.value.code == "OTTLA-CLOSED"

        await asyncio.to_thread(work)
        assert cluster.groups.offsets == ({ONE: 2} if grouped else {})
        assert not cluster.groups.members
