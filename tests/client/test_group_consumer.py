"""A consumer in a group: nothing is skipped, commits never pass the handler, one owner at a time, leaving is quick."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client.client import Client, connect
from ottla.client.commits import CommitFailed
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import ConfigError, OttlaError
from ottla.client.group_consumer import GroupConsumer
from ottla.client.reading import NotAssigned
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill

SECONDS_MAX = 8
QUICK = {"commit_interval_s": 0.01}


async def soon(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, SECONDS_MAX)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.002)


async def take(consumer: GroupConsumer, count: int) -> list[tuple[int, int]]:
    return [(r.partition, r.offset) for r in [await soon(consumer.__anext__()) for _ in range(count)]]


def in_group(client: Client, **options: Any) -> GroupConsumer:
    return client.consumer("t", group="g", **QUICK, **options)


async def test_a_member_alone_reads_everything_and_the_next_goes_on_where_it_left() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 3)
        for number in range(3):
            fill(topic, number, 10)
        async with in_group(client) as consumer:
            assert sorted(await take(consumer, 30)) == [(p, o) for p in range(3) for o in range(10)]
            assert len(consumer.assignment) == 3
            assert set(consumer.lag().values()) == {0}
        assert cluster.groups.offsets == {("t", number): 10 for number in range(3)}
        assert not cluster.groups.members  # it left at once
        fill(topic, 1, 2)
        async with in_group(client) as consumer:
            assert await take(consumer, 2) == [(1, 10), (1, 11)]


async def test_an_automatic_commit_never_passes_what_is_in_hand() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        async with in_group(client) as consumer:
            await take(consumer, 3)  # 0 and 1 are finished, 2 is being handled
            await until(lambda: cluster.groups.offsets.get(("t", 0)) == 2)
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            assert cluster.groups.offsets["t", 0] == 2
            await consumer.commit()  # the handler says that it is done
            assert cluster.groups.offsets["t", 0] == 3


async def test_an_exception_in_the_handler_leaves_its_record_to_the_next() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)

        async def fail_at(offset: int) -> None:
            async with in_group(client) as consumer:
                async for record in consumer:
                    if record.offset == offset:
                        raise RuntimeError("the handler failed")

        with pytest.raises(RuntimeError):
            await fail_at(4)
        assert cluster.groups.offsets["t", 0] == 4
        async with in_group(client) as consumer:
            assert await take(consumer, 1) == [(0, 4)]


async def test_a_seek_from_inside_a_loop_leaves_the_next_record_in_hand() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)

        async def fail_after_a_seek() -> None:
            async with in_group(client) as consumer:
                async for record in consumer:
                    if record.offset == 1:
                        await consumer.seek("t", 0, offset=5)
                    if record.offset == 6:
                        raise RuntimeError("the handler failed")

        with pytest.raises(RuntimeError):
            await fail_after_a_seek()
        assert cluster.groups.offsets["t", 0] == 6


async def test_a_batch_is_finished_when_the_next_is_asked_for() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 20)
        async with in_group(client) as consumer:
            batches = consumer.batches(max_records=6)
            assert [r.offset for r in await soon(anext(batches))] == list(range(6))
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            assert cluster.groups.offsets.get(("t", 0), 0) == 0
            assert [r.offset for r in await soon(anext(batches))] == list(range(6, 12))
            await until(lambda: cluster.groups.offsets["t", 0] == 6)


async def test_a_second_member_gets_its_part_once_the_first_has_let_go_and_committed() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 4)
        for number in range(4):
            fill(topic, number, 5)
        told: list[tuple[str, int]] = []
        first = in_group(client, on_revoked=lambda keys: told.append(("revoked", len(keys))))
        async with first:
            assert len(await take(first, 20)) == 20
            handling = asyncio.create_task(soon(first.__anext__()))  # all is finished, waits for more
            second = in_group(client, on_assigned=lambda keys: told.append(("assigned", len(keys))))
            async with second:
                await second.start()
                await until(lambda: len(second.assignment) == 2)
                assert told == [("revoked", 2), ("assigned", 2)]
                assert not first.assignment & second.assignment
                assert cluster.groups.offsets == {("t", number): 5 for number in range(4)}
                moved = min(second.assignment).partition
                fill(topic, moved, 1)
                cluster.wake()
                assert await take(second, 1) == [(moved, 5)]
            await until(lambda: len(first.assignment) == 4)  # it left at once
            handling.cancel()
        assert not cluster.groups.double_owners


async def test_a_revocation_waits_for_the_handler_and_commits_what_it_finished() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client) as consumer:
            await take(consumer, 3)
            next(iter(cluster.groups.members.values())).target = set()
            cluster.groups.epoch += 1
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 5)
            assert len(consumer.assignment) == 1  # the record in hand is not finished
            assert cluster.groups.offsets["t", 0] == 2
            following = asyncio.create_task(consumer.__anext__())
            await until(lambda: not consumer.assignment)
            assert cluster.groups.offsets["t", 0] == 3
            assert not following.done()  # nothing more of what was revoked
            following.cancel()


async def test_a_member_leaves_though_the_coordinator_has_just_moved() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client, auto_commit=False) as consumer:  # a last commit would find out
            await take(consumer, 3)
            cluster.groups.interval_ms = 60_000  # and so would a heartbeat
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen)
            cluster.groups.coordinator = 2
        assert not cluster.groups.members, "the others would wait for its session to end"


async def test_who_commits_by_hand_may_do_so_before_a_partition_goes() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)

        async def commit(keys: object) -> None:
            await consumer.commit()

        consumer = in_group(client, auto_commit=False, on_revoked=commit)
        async with consumer:
            await take(consumer, 3)
            next(iter(cluster.groups.members.values())).target = set()
            cluster.groups.epoch += 1
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 5)
            following = asyncio.create_task(consumer.__anext__())
            await until(lambda: not consumer.assignment)
            assert cluster.groups.offsets == {("t", 0): 3}
            following.cancel()


async def test_a_commit_in_a_callback_finishes_nothing_that_the_handler_has() -> None:
    """The callback knows nothing of the handler, which is in the middle of a record of another partition."""
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 2)
        for number in range(2):
            fill(topic, number, 3)
        committed: list[dict[tuple[str, int], int]] = []

        async def commit(keys: object) -> None:
            await asyncio.wait_for(consumer.commit(), SECONDS_MAX)
            committed.append(dict(cluster.groups.offsets))

        consumer = in_group(client, auto_commit=False, on_revoked=commit)
        async with consumer:
            (kept, offset) = (await take(consumer, 2))[-1]
            (member,) = cluster.groups.members.values()
            member.target = {key for key in member.target if key[1] == kept}
            cluster.groups.epoch += 1
            await until(lambda: committed)
            assert committed[0].get(("t", kept), 0) == offset, "its record is still being handled"
            await asyncio.wait_for(consumer.commit(), SECONDS_MAX)  # now the handler says that it is done
            assert cluster.groups.offsets["t", kept] == offset + 1


async def test_a_commit_in_a_callback_passes_no_record_of_a_handler_that_was_waited_for_long_enough() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)

        async def commit(keys: object) -> None:
            await consumer.commit()

        consumer = in_group(client, auto_commit=False, on_revoked=commit, max_poll_interval_s=0.05)
        async with consumer:
            await take(consumer, 3)
            next(iter(cluster.groups.members.values())).target = set()
            cluster.groups.epoch += 1
            await until(lambda: not consumer.assignment)
            assert cluster.groups.offsets == {("t", 0): 2}


async def test_a_slow_handler_keeps_its_membership_and_its_place() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client, max_poll_interval_s=0.02) as consumer:
            await take(consumer, 2)
            await until(lambda: consumer._parts._slow)
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            assert len(cluster.groups.members) == 1
            assert await take(consumer, 3) == [(0, 2), (0, 3), (0, 4)]


async def test_a_fenced_member_loses_all_and_joins_again_where_the_group_is() -> None:
    lost: list[int] = []

    async def on_lost(keys: object) -> None:
        lost.append(len(keys))  # type: ignore[arg-type]

    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        async with in_group(client, auto_commit=False, on_lost=on_lost) as consumer:
            await take(consumer, 4)
            await consumer.commit()
            await take(consumer, 3)
            cluster.groups.fence(next(iter(cluster.groups.members)))
            with pytest.raises(CommitFailed):
                await soon(consumer.commit())
            taken = [offset for _, offset in await take(consumer, 2)]  # before it knows, after it, or one of each
            await until(lambda: lost == [1] and consumer.assignment)
            again = [offset for offset in taken if offset < 7]
            assert taken == [7, 8][: 2 - len(again)] + [4, 5][: len(again)]
            assert consumer.position("t", 0) == 4 + len(again)
            assert cluster.groups.offsets["t", 0] == 4


async def test_a_commit_that_was_held_up_leaves_out_what_is_no_longer_owned() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        async with in_group(client, auto_commit=False) as consumer:
            await take(consumer, 4)
            cluster.groups.commit_errors = [ErrorCode.STALE_MEMBER_EPOCH]
            held_up = consumer.commit_nowait()
            await until(lambda: not cluster.groups.commit_errors)
            cluster.groups.fence(next(iter(cluster.groups.members)))
            cluster.groups.commit_errors = [ErrorCode.STALE_MEMBER_EPOCH] * 3
            await asyncio.wait([held_up], timeout=SECONDS_MAX)
            await until(lambda: len(consumer.assignment) == 1)  # the same, another tenure
            assert held_up.done()
            assert ("t", 0) not in cluster.groups.offsets


async def test_a_stale_epoch_is_learnt_and_the_commit_made_again() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        async with in_group(client, auto_commit=False) as consumer:
            await take(consumer, 4)
            cluster.groups.assign()  # the epoch rises; the member does not know yet
            member = next(iter(cluster.groups.members.values()))
            member.epoch = cluster.groups.epoch
            cluster.groups.heartbeats.clear()
            member.epoch -= 1
            cluster.groups.commit_errors = [ErrorCode.STALE_MEMBER_EPOCH] * 2
            await soon(consumer.commit())
            assert cluster.groups.offsets["t", 0] == 4


async def test_the_coordinator_moves_and_loads() -> None:
    async with FakeCluster(3) as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 10)
        async with in_group(client, auto_commit=False) as consumer:
            await take(consumer, 2)
            cluster.groups.coordinator, cluster.groups.loading = 3, True
            commit = consumer.commit_nowait()
            seen = len(cluster.requests)
            await until(lambda: len(cluster.requests) > seen + 4)
            assert not commit.done()
            cluster.groups.loading = False
            await soon(commit)
            assert cluster.groups.offsets["t", 0] == 2
            assert await take(consumer, 1) == [(0, 2)]


async def test_several_topics_and_one_that_is_deleted() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("a"), 0, 3)
        fill(cluster.create("b", 2), 1, 3)
        async with client.consumer(["a", "b"], group="g", **QUICK) as consumer:
            seen = {(r.topic, r.partition, r.offset) for r in [await soon(consumer.__anext__()) for _ in range(6)]}
            assert seen == {("a", 0, n) for n in range(3)} | {("b", 1, n) for n in range(3)}
            assert await consumer.committed(("a", 0)) is not None
            await consumer.seek("b", 1, offset=1)
            assert [await take(consumer, 2)] == [[(1, 1), (1, 2)]]
            with pytest.raises(NotAssigned) as elsewhere:
                consumer.position("b", 7)
            assert elsewhere.value.code == "OTTLA-NOT-ASSIGNED"


async def test_latest_starts_at_the_end_where_nothing_is_committed() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        async with in_group(client, start="latest") as consumer:
            reading = asyncio.create_task(soon(consumer.__anext__()))
            await until(lambda: consumer.assignment and consumer.position("t", 0) == 5)
            fill(topic, 0, 1)
            cluster.wake()
            assert (await reading).offset == 5


async def test_cancellation_ends_it_and_leaves_the_group() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 3)
        handled: list[int] = []

        async def work() -> None:
            async with in_group(client) as consumer:
                async for record in consumer:
                    handled.append(record.offset)

        task = asyncio.create_task(work())
        await until(lambda: len(handled) == 3)
        task.cancel()
        await asyncio.wait([task], timeout=SECONDS_MAX)
        assert task.cancelled()
        assert not cluster.groups.members
        assert cluster.groups.offsets["t", 0] == 3


async def test_a_static_member_keeps_its_place_and_a_taken_name_is_waited_for() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 3)
        async with in_group(client, instance_id="one") as consumer:
            await take(consumer, 1)
            async with in_group(client, instance_id="one") as twin:
                reading = asyncio.create_task(twin.__anext__())
                seen = len(cluster.groups.heartbeats)
                await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
                assert len(cluster.groups.members) == 1
                await consumer.close()
                assert cluster.groups.heartbeats[-1].member_epoch in (-2, 0)
                assert (await soon(reading)).offset == 1


async def test_a_refusal_for_good_ends_iteration_with_its_code() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 3)
        answer = cluster.groups.answer

        def refuse(node: int, request: Any) -> Any:
            response = answer(node, request)
            if hasattr(response, "heartbeat_interval_ms"):
                response.error = ErrorCode.GROUP_MAX_SIZE_REACHED
            return response

        cluster.groups.answer = refuse  # type: ignore[method-assign]
        async with in_group(client) as consumer:
            with pytest.raises(OttlaError) as raised:
                await soon(consumer.__anext__())
            assert raised.value.code == "OTTLA-GROUP-MAX-SIZE-REACHED"


async def test_a_callback_that_raises_is_heard() -> None:
    def refuse(keys: object) -> None:
        raise ValueError("not today")

    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 3)
        async with in_group(client, on_assigned=refuse) as consumer:
            with pytest.raises(OttlaError, match="not today"):
                await soon(consumer.__anext__())


async def test_everything_read_ahead_stays_within_one_bound() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        for name in ("a", "b"):
            topic = cluster.create(name, 2)
            for number in range(2):
                fill(topic, number, 40, per_batch=1, size=1_000)
        consumer = client.consumer(["a", "b"], group="g", prefetch_bytes=8_000, partition_bytes=3_000, **QUICK)
        async with consumer:
            for _ in range(160):
                await soon(consumer.__anext__())
                assert consumer._fetcher.read_ahead.buffered_bytes <= 8_000 + 1_200


@pytest.mark.parametrize(
    "options",
    [{"partitions": [0]}, {"start": 5}, {"commit_interval_s": 0}, {"instance_id": ""}, {"max_poll_interval": 3}],
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    client = connect("127.0.0.1:1")
    with pytest.raises(ConfigError):
        client.consumer("t", group="g", **options)
    with pytest.raises(ConfigError):
        client.consumer(["a", "b"])  # type: ignore[call-overload]


async def test_a_batch_that_is_given_up_while_it_fills_is_not_passed_over() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        consumer = in_group(client)
        with pytest.raises(TimeoutError):  # five are here, and six are waited for
            await asyncio.wait_for(anext(consumer.batches(max_records=6, max_wait=SECONDS_MAX)), 0.3)
        seen = len(cluster.groups.heartbeats)
        await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
        assert cluster.groups.offsets.get(("t", 0), 0) == 0
        assert [r.offset for r in await soon(anext(consumer.batches(max_records=3)))] == [0, 1, 2]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(consumer.batches(max_records=6, max_wait=SECONDS_MAX)), 0.3)
        await consumer.close()
        assert cluster.groups.offsets["t", 0] == 3


async def test_a_consumer_that_was_closed_does_not_join_any_more() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        late, early = in_group(client), in_group(client)
        reading = asyncio.create_task(early.__anext__())
        await asyncio.sleep(0)  # it looks for its topic
        await early.close()
        await late.close()
        for work in (reading, late.__anext__(), late.start()):
            with pytest.raises(OttlaError) as closed:
                await soon(work)
            assert closed.value.code == "OTTLA-CLOSED"
        async with in_group(client) as consumer:
            assert await take(consumer, 1) == [(0, 0)]
        assert len({beat.member_id for beat in cluster.groups.heartbeats}) == 1


async def test_a_pause_while_a_batch_is_handled_finishes_nothing_of_it() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 2)
        for number in range(2):
            fill(topic, number, 3)
        async with in_group(client) as consumer:
            batch = await soon(anext(consumer.batches(max_records=6, max_wait=SECONDS_MAX)))
            assert {record.partition for record in batch} == {0, 1}
            consumer.pause()
            seen = len(cluster.groups.heartbeats)
            await until(lambda: len(cluster.groups.heartbeats) > seen + 3)
            assert not any(cluster.groups.offsets.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": "g" * 256},
        {"group": "\ud800"},
        {"group": 5},
        {"instance_id": 5},
        {"instance_id": "i" * 250},
        {"assignor": "a" * 256},
        {"rack": "r" * 256},
        {"max_poll_interval_s": 1e9},
        {"session_timeout_s": 1e9, "protocol": "classic"},
        {"session_timeout_s": 30},
        {"max_wait_ms": 2**31},
        {"fetch_bytes": 2**31},
        {"partition_bytes": 2**31},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_what_no_node_would_take_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        connect("127.0.0.1:1").consumer("t", **{"group": "g", **wrong})
    longest = {"group": "\U0001f4a5" * 255, "instance_id": "i" * 249, "rack": "r" * 255, "max_poll_interval_s": 2e6}
    connect("127.0.0.1:1").consumer("t", **longest)


@pytest.mark.parametrize("offset", [-1, 1 << 63])
async def test_a_commit_of_what_is_no_offset_is_refused_at_once(offset: int) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 1)
        async with in_group(client, auto_commit=False) as consumer:
            await take(consumer, 1)
            with pytest.raises(ConfigError):
                await soon(consumer.commit({("t", 0): offset}))
            with pytest.raises(ConfigError):
                consumer.commit_nowait({("t", 0): offset})
        assert not cluster.groups.commits
