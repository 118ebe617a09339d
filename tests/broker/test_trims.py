"""Logs that start later: deletion as clients ask for it, followers that learn of it, gaps that compaction leaves, and
where a time is."""

import asyncio
from pathlib import Path

import pytest

from ottla.broker.api.delete_records import delete_records
from ottla.broker.api.list_offsets import list_offsets
from ottla.broker.partition_follower import FollowerStep
from ottla.broker.replica_session import ReplicaSession
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    AT_TIME,
    EARLIEST,
    MAX_TIME,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    FetchPartition,
    ListOffsetsRequest,
    OffsetQuery,
    ReplicaFetchRequest,
)
from ottla.log.compression import Compression
from ottla.log.config import LogConfig
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.records import BatchBuilder, RecordBatch, batches_in
from ottla.raft.commands import FenceBroker

from .small_quorum import OTHER, TOPIC, A, B, C, OneBroker, SmallQuorum, a_batch


@pytest.fixture
async def broker() -> OneBroker:
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C)
    quorum.create("alone", OTHER, A)
    broker = OneBroker(quorum)
    await broker.start()
    return broker


def session(broker: OneBroker, follower) -> ReplicaSession:
    return ReplicaSession(follower, broker.quorum.epochs[follower], broker.manager.find, broker.clock)


def fetch(session: ReplicaSession, offset: int, log_start: int, epoch: int = 0):
    asked = FetchPartition(TOPIC, 0, offset, LeaderEpoch(epoch), log_start_offset=log_start)
    session.receive(ReplicaFetchRequest(0, 1 << 20, (asked,)))
    response, _ = session.collect(1 << 20)
    return response.partitions


def append(broker: OneBroker, count: int, topic=TOPIC) -> None:
    for _ in range(count):
        broker.replica(topic).append(memoryview(a_batch()), need_all=False)


async def delete(broker: OneBroker, *targets: tuple[object, int | None], timeout_ms: int = 60_000):
    partitions = tuple(DeleteRecordsPartition(topic, 0, offset) for topic, offset in targets)
    return (await delete_records(broker.manager, DeleteRecordsRequest(timeout_ms, partitions))).partitions


# --- deletion --------------------------------------------------------------------------------------------------------


async def test_a_deletion_is_answered_once_all_live_replicas_start_there(broker):
    followers = [session(broker, B), session(broker, C)]
    append(broker, 5)
    for follower in followers:
        fetch(follower, 5, 0)
    task = asyncio.create_task(delete(broker, (TOPIC, 3)))
    await asyncio.sleep(0.01)
    assert not task.done()
    assert broker.replica().log.log_start_offset == 3
    (told,) = fetch(followers[0], 5, 0)
    assert told.log_start_offset == 3
    fetch(followers[0], 5, 3)
    await asyncio.sleep(0.01)
    assert not task.done(), "C has not followed yet"
    fetch(followers[1], 5, 3)
    (result,) = await task
    assert (result.error, result.low_watermark) == (ErrorCode.NONE, 3)


async def test_who_waits_at_the_leader_is_told_at_once(broker):
    append(broker, 5)
    follower = session(broker, B)
    for one in (follower, session(broker, C)):
        fetch(one, 5, 0)
    follower.collect(1 << 20)
    follower.receive(ReplicaFetchRequest(60_000, 1 << 20))
    told = asyncio.Event()
    follower.when_ready(told.set)
    assert not follower.ready
    deletion = asyncio.create_task(delete(broker, (TOPIC, None), timeout_ms=1))
    await asyncio.wait_for(told.wait(), 10)
    assert follower.ready
    response, _ = follower.collect(1 << 20)
    assert [result.log_start_offset for result in response.partitions] == [5]
    await deletion


async def test_dead_replicas_are_not_waited_for(broker):
    append(broker, 5)
    for follower in (B, C):
        fetch(session(broker, follower), 5, 0)
    task = asyncio.create_task(delete(broker, (TOPIC, 2)))
    fetch(session(broker, B), 5, 2)
    broker.quorum.decide(FenceBroker(C, broker.quorum.epochs[C]))
    await broker.see()
    fetch(session(broker, B), 5, 2)
    (result,) = await task
    assert (result.error, result.low_watermark) == (ErrorCode.NONE, 2)


async def test_what_is_refused_and_that_the_others_are_done(broker):
    append(broker, 3, OTHER)
    replica = broker.replica(OTHER)
    above, fine = await delete(broker, (OTHER, 4), (OTHER, 2))
    assert (above.error, fine.error, fine.low_watermark) == (ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.NONE, 2)
    (again,) = await delete(broker, (OTHER, 1))
    assert (again.error, again.low_watermark) == (ErrorCode.NONE, 2), "it does not go back"
    replica.log.config = LogConfig(cleanup_policy=frozenset({"compact"}))
    (refused,) = await delete(broker, (OTHER, 3))
    assert refused.error is ErrorCode.POLICY_VIOLATION
    (unknown,) = await delete(broker, ("X" * 22, 3))
    assert unknown.error is ErrorCode.UNKNOWN_TOPIC_ID


async def test_time_runs_out_and_the_deletion_stands(broker):
    append(broker, 2)
    for follower in (B, C):
        fetch(session(broker, follower), 2, 0)
    (result,) = await delete(broker, (TOPIC, 1), timeout_ms=1)
    assert result.error is ErrorCode.REQUEST_TIMED_OUT
    assert broker.replica().log.log_start_offset == 1


async def test_a_deletion_outlives_a_restart_and_reads_below_are_refused(broker):
    broker.storage.sync_directory(Path("/"))
    append(broker, 5, OTHER)
    await delete(broker, (OTHER, 4))
    again = OneBroker(broker.quorum, broker.storage.crash(3))
    await again.start()
    replica = again.manager.replicas[next(key for key in again.manager.replicas if key.topic_id == OTHER)]
    assert replica.log.log_start_offset == 4
    assert replica.high_watermark >= 4
    assert replica.log.log_end_offset >= 4, "no offset is given away twice"


# --- followers -------------------------------------------------------------------------------------------------------


async def test_a_follower_below_its_leaders_start_begins_anew(broker):
    append(broker, 5)
    for follower in (B, C):
        fetch(session(broker, follower), 5, 0)
    await delete(broker, (TOPIC, 4), timeout_ms=1)
    late = session(broker, B)
    (result,) = fetch(late, 2, 0)
    assert (result.error, result.log_start_offset) == (ErrorCode.OFFSET_OUT_OF_RANGE, 4)


async def test_a_followers_steps(broker):
    """As a follower of another: begin anew, take a gap, follow the start, take a batch that begins below it."""
    broker.quorum.decide(FenceBroker(A, broker.quorum.epochs[A]))
    replica = broker.replica()
    append(broker, 2)
    replica.leave()
    replica.apply(FollowerStep(start_anew_at=Offset(10)), memoryview(b""))
    assert (replica.log.log_start_offset, replica.log.log_end_offset, replica.high_watermark) == (10, 10, 10)
    wide = stored(8, 4)
    replica.apply(FollowerStep(append=True, high_watermark=Offset(12), log_start=Offset(10)), memoryview(wide))
    assert (replica.log.log_start_offset, replica.log.log_end_offset, replica.high_watermark) == (10, 12, 12)
    replica.apply(FollowerStep(append=True, high_watermark=Offset(22)), memoryview(stored(20, 2)))
    assert replica.log.log_end_offset == 22
    assert [b.base_offset for b in batches_in(replica.log.read(Offset(13), 1 << 20, Offset(22)))] == [20]
    replica.apply(FollowerStep(high_watermark=Offset(20), log_start=Offset(30)), memoryview(b""))
    assert replica.log.log_start_offset == 20, "never above what is committed here"
    again = OneBroker(broker.quorum, broker.storage.kill())
    await again.start()
    assert again.replica().log.log_end_offset == 22, "a gap is no damage"


def stored(base_offset: int, count: int) -> bytes:
    builder = BatchBuilder()
    for _ in range(count):
        builder.append(b"k", b"v", timestamp_ms=1)
    return builder.build(base_offset=Offset(base_offset), leader_epoch=LeaderEpoch(0))


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.LZ4])
async def test_offsets_by_time_are_those_of_records(broker, compression):
    replica = broker.replica(OTHER)
    times = [[100, 300, 200], [250, 50], [400, 400], [10]]
    for batch in times:
        builder = BatchBuilder(compression)
        for time in batch:
            builder.append(None, b"v", timestamp_ms=time)
        replica.append(memoryview(builder.build()), need_all=False)
    flat = [time for batch in times for time in batch]

    async def where(position, time=None):
        query = OffsetQuery(OTHER, 0, position, None, time)
        (result,) = (await list_offsets(broker.manager, ListOffsetsRequest((query,)))).partitions
        assert not result.error
        return result.offset, result.timestamp_ms

    for asked in (0, 50, 100, 101, 200, 250, 299, 300, 301, 400, 401):
        first = next(((at, time) for at, time in enumerate(flat) if time >= asked), (None, None))
        assert await where(AT_TIME, asked) == first, asked
    assert await where(MAX_TIME) == (5, 400)
    replica.log.advance_log_start(Offset(2))
    assert await where(AT_TIME, 250) == (3, 250), "the record at 1 is deleted, its batch is not"
    assert await where(AT_TIME, 300) == (5, 400)
    assert await where(EARLIEST) == (2, None)
    replica.leader.high_watermark = Offset(5)
    assert await where(AT_TIME, 300) == (None, None), "not committed"
    assert await where(MAX_TIME) == (None, None)


async def test_a_time_without_a_batch_that_claims_it_is_found_behind(broker):
    """Compaction may leave an empty batch with the time of what it held."""
    replica = broker.replica(OTHER)
    for time in (900, 5, 901):
        builder = BatchBuilder()
        builder.append(b"k", b"v", timestamp_ms=time)
        replica.append(memoryview(builder.build()), need_all=False)
    replica.log.advance_log_start(Offset(1))
    query = OffsetQuery(OTHER, 0, AT_TIME, None, 900)
    (result,) = (await list_offsets(broker.manager, ListOffsetsRequest((query,)))).partitions
    assert (result.offset, result.leader_epoch) == (2, 0)
    assert RecordBatch.parse(replica.log.read(Offset(2), 1, Offset(3))).max_timestamp == 901
