"""The epochs that a commit names, and what a consumer that goes on from one learns of a log that went another way."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ottla.client.client import connect
from ottla.client.epoch_trail import RUNS_MAX, EpochTrail
from ottla.client.protocol import FetchRequest
from ottla.client.reading import LogTruncated, Partition
from ottla.client.testing import cluster as real_cluster
from ottla.log.model import LeaderEpoch, Offset, TopicId
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import in_group, soon, take, until

BATCH = st.tuples(st.integers(1, 4), st.integers(0, 1))  # records, and by how much the epoch rises
STEPS = st.lists(st.one_of(BATCH, st.integers(0, 30)), max_size=30)  # a batch, or a jump to an offset


@given(STEPS)
def test_the_trail_knows_what_was_read_and_nothing_else(steps: list[Any]) -> None:
    trail, known, end, epoch = EpochTrail(), dict[int, int](), 0, 0
    for step in steps:
        if isinstance(step, int):
            known = {offset: was for offset, was in known.items() if offset < step} if step - 1 in known else {}
            assert trail.go_to(Offset(step)) == known.get(step - 1)
            end = step
        else:
            count, rise = step
            epoch += rise
            trail.add(Offset(end), Offset(end + count), LeaderEpoch(epoch))
            known |= dict.fromkeys(range(end, end + count), epoch)
            end += count
        for offset in range(40):
            assert trail.before(offset) == known.get(offset - 1)


def test_a_trail_is_bounded() -> None:
    trail = EpochTrail()
    for number in range(2 * RUNS_MAX):
        trail.add(Offset(number), Offset(number + 1), LeaderEpoch(number))
    assert trail.before(RUNS_MAX) is None
    assert [trail.before(number) for number in (RUNS_MAX + 1, 2 * RUNS_MAX)] == [RUNS_MAX, 2 * RUNS_MAX - 1]


def test_what_was_read_ahead_and_dropped_is_forgotten() -> None:
    partition = Partition("t", TopicId("T"), 0, 0)
    for base, epoch in ((0, 3), (5, 4)):
        partition.fetched(SimpleNamespace(base_offset=base, next_offset=base + 5, leader_epoch=epoch))
    partition.moved_to(Offset(3))
    assert partition.trail.before(7) == 4
    partition.rewind()
    assert (partition.fetch_offset, partition.last_epoch, partition.trail.before(7)) == (3, 3, None)


async def test_a_commit_names_the_epoch_of_the_last_record_and_not_of_what_is_read_ahead() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        cluster.move("t", 0, 1)
        fill(topic, 0, 5)
        async with in_group(client) as consumer:
            committed = cluster.groups.epochs
            await take(consumer, 1)
            assert consumer.metrics().buffered_bytes > 0  # the second batch
            await take(consumer, 5)
            await until(lambda: cluster.groups.offsets.get(("t", 0)) == 5)
            assert committed["t", 0] == 0
            await consumer.commit()
            assert (cluster.groups.offsets["t", 0], committed["t", 0]) == (6, 1)
            await consumer.commit({("t", 0): 3})
            assert committed["t", 0] == 0
            await consumer.commit({("t", 0): 300})  # what it has not read it knows nothing of
            assert committed["t", 0] is None
            await consumer.seek("t", 0, 8)
            await consumer.commit()
            assert (cluster.groups.offsets["t", 0], committed["t", 0]) == (8, 1)
        del cluster.requests[:]
        async with in_group(client) as consumer:
            assert await take(consumer, 1) == [(0, 8)]
        first = next(request for request in cluster.requests if isinstance(request, FetchRequest))
        assert (first.partitions[0].fetch_offset, first.partitions[0].last_fetched_epoch) == (8, 1)


async def test_an_epoch_of_which_compaction_left_nothing_is_no_truncation() -> None:
    """A replica that copies such a log never hears of it."""
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        for leader in (1, 0, 1):
            fill(topic, 0, 5)
            cluster.move("t", 0, leader)
        async with client.consumer("t") as consumer:
            assert [(await soon(anext(consumer))).offset for _ in range(8)] == list(range(8))
            del topic.partitions[0].batches[1]
            consumer.pause()  # what was read ahead is dropped
            consumer.resume()
            assert [(await soon(anext(consumer))).offset for _ in range(5)] == list(range(10, 15))


async def test_a_leader_that_knows_of_no_epoch_is_not_asked_again_and_again() -> None:
    """Its copy was made when nothing was left of the log."""
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        async with in_group(client) as consumer:
            await take(consumer, 5)
        state = topic.partitions[0]
        state.start, state.batches = 5, []
        del cluster.requests[:]
        async with in_group(client, max_wait_ms=50) as consumer:
            reading = asyncio.create_task(take(consumer, 1))
            await until(lambda: len([each for each in cluster.requests if isinstance(each, FetchRequest)]) > 2)
            fill(topic, 0, 1)
            cluster.wake()
            assert await reading == [(0, 5)]
            asked = [each.partitions[0] for each in cluster.requests if isinstance(each, FetchRequest)]
            assert [each.last_fetched_epoch for each in asked[:3]] == [0, None, None]


@pytest.mark.parametrize("reset", ["error", "earliest"])
async def test_a_group_that_goes_on_in_a_log_that_went_another_way_is_told(reset: str) -> None:
    """Where it had read to, others have written by now: without the epoch it would read on behind them."""
    with real_cluster(3) as servers:
        async with connect(servers) as client:
            await client.admin.create_topic("t", partitions=1, replication=2, config={"min.insync.replicas": 1})
            (told,) = (await client.admin.describe_topic("t")).partitions
            leader = int(told.state.leader)
            (other,) = {int(each) for each in told.state.replicas} - {leader}
            async with client.producer() as producer:
                await producer.send("t", b"both")
                servers.kill(other)
                await producer.send("t", b"only one")
                await producer.send("t", b"only one")
            async with client.consumer("t", group="g", commit_interval_s=0.05) as consumer:
                assert [(await soon(anext(consumer))).offset for _ in range(3)] == [0, 1, 2]
            servers.kill(leader)
            servers.start(other)
            async with asyncio.timeout(30):
                while not (await client.admin.elect_leaders([("t", 0)], unclean=True, leader=other)).changed:
                    await asyncio.sleep(0.05)
            async with client.producer() as producer:
                for _ in range(4):
                    await producer.send("t", b"another")
            read = []
            async with client.consumer("t", group="g", auto_offset_reset=reset) as consumer:
                if reset == "error":
                    with pytest.raises(LogTruncated) as truncated:
                        await soon(anext(consumer))
                    assert truncated.value.offset == 1
                    await consumer.seek("t", 0, truncated.value.offset)
                read = [await soon(anext(consumer)) for _ in range(4)]
            assert [(record.offset, record.value) for record in read] == [(n, b"another") for n in range(1, 5)]
