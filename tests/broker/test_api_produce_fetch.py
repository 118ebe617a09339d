"""Produce and fetch as clients meet them, over real logs."""

import asyncio

import pytest

from ottla.broker.api.fetch import LongPolls, fetch
from ottla.broker.api.key_gate import KeyGate
from ottla.broker.api.list_offsets import list_offsets
from ottla.broker.api.produce import PendingProduce
from ottla.broker.replica_session import ReplicaSession
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    EARLIEST,
    LATEST,
    FetchPartition,
    FetchRequest,
    ListOffsetsRequest,
    OffsetQuery,
    ProducePartition,
    ProduceRequest,
    ReplicaFetchRequest,
)
from ottla.log.model import LeaderEpoch
from ottla.log.records import batches_in
from ottla.raft.commands import DeleteTopic, FenceBroker
from ottla.wire.deadlines import Deadlines

from .small_quorum import OTHER, TOPIC, A, B, C, OneBroker, SmallQuorum, a_batch

LONG_MS = 60_000


@pytest.fixture
async def broker() -> OneBroker:
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C)
    quorum.create("alone", OTHER, A)
    broker = OneBroker(quorum)
    await broker.start()
    return broker


def produce(broker: OneBroker, *batches: bytes, acks=-1, topics=(TOPIC,), timeout_ms=LONG_MS) -> PendingProduce:
    targets = tuple(ProducePartition(topic, 0, len(b)) for topic, b in zip(topics, batches, strict=True))
    pending = PendingProduce(
        broker.manager, KeyGate(broker.manager.run_blocking), ProduceRequest(acks, timeout_ms, targets)
    )
    pending.append([memoryview(batch) for batch in batches])
    return pending


class Followers:
    """B and C, who acknowledge when told to."""

    def __init__(self, broker: OneBroker) -> None:
        self.broker = broker
        epochs = broker.quorum.epochs
        self.sessions = [ReplicaSession(b, epochs[b], broker.manager.find, broker.clock) for b in (B, C)]

    def acknowledge(self, offset: int) -> None:
        epoch = self.broker.replica().leader_epoch
        for session in self.sessions:
            session.receive(ReplicaFetchRequest(0, 1, (FetchPartition(TOPIC, 0, offset, epoch),)))


async def waiting(pending: PendingProduce) -> asyncio.Task:
    task = asyncio.create_task(pending.response())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def result_of(pending):
    (result,) = (await pending.response()).partitions
    return result


async def test_acks_all_waits_for_every_in_sync_replica(broker):
    followers = Followers(broker)
    task = await waiting(produce(broker, a_batch(count=2)))
    followers.acknowledge(0)
    await asyncio.sleep(0)
    assert not task.done()
    followers.acknowledge(2)
    (result,) = (await task).partitions
    assert (result.error, result.base_offset, result.log_start_offset) == (ErrorCode.NONE, 0, 0)


async def test_it_is_told_once_and_leaves_nothing_behind(broker):
    followers, deadlines, told = Followers(broker), Deadlines(), []
    pending = produce(broker, a_batch())
    pending.when_done(told.append, deadlines)
    assert (told, len(deadlines)) == ([], 1)
    followers.acknowledge(1)
    assert [result.error for response in told for result in response.partitions] == [ErrorCode.NONE]
    assert not len(deadlines)
    known = produce(broker, a_batch(), acks=1)
    known.when_done(told.append, deadlines)
    assert (len(told), len(deadlines)) == (2, 0), "in the call, where all is known"


async def test_who_is_forgotten_is_told_nothing_and_waited_for_nowhere(broker):
    followers, deadlines, told = Followers(broker), Deadlines(), []
    pending = produce(broker, a_batch())
    pending.when_done(told.append, deadlines)
    pending.forget()
    assert not len(deadlines)
    assert not len(broker.replica()._acks)
    followers.acknowledge(1)
    assert told == []
    assert broker.replica().high_watermark == 1


async def test_acks_one_and_none_wait_for_nobody(broker):
    result = await result_of(produce(broker, a_batch(), acks=1))
    assert (result.error, result.base_offset) == (ErrorCode.NONE, 0)
    produce(broker, a_batch(), acks=0)
    assert broker.replica().log.log_end_offset == 2
    assert broker.replica().high_watermark == 0, "acknowledged by the leader is not committed"


async def test_a_lone_replica_commits_at_once(broker):
    result = await result_of(produce(broker, a_batch(), topics=(OTHER,)))
    assert (result.error, broker.replica(OTHER).high_watermark) == (ErrorCode.NONE, 1)


async def test_too_few_replicas_before_the_append_write_nothing(broker):
    broker.quorum.alter_isr(TOPIC, A)
    await broker.see()
    result = await result_of(produce(broker, a_batch()))
    assert (result.error, result.base_offset) == (ErrorCode.NOT_ENOUGH_REPLICAS, None)
    assert broker.replica().log.log_end_offset == 0
    assert (await result_of(produce(broker, a_batch(), acks=1))).error is ErrorCode.NONE


async def test_too_few_replicas_after_the_append(broker):
    pending = produce(broker, a_batch(), timeout_ms=1)
    broker.quorum.alter_isr(TOPIC, A)
    await broker.see()
    result = await result_of(pending)
    assert result.error is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    assert len(broker.replica()._acks) == 0, "one who gave up waits no longer"


async def test_slow_replicas_are_a_time_out(broker):
    assert (await result_of(produce(broker, a_batch(), timeout_ms=1))).error is ErrorCode.REQUEST_TIMED_OUT
    assert len(broker.replica()._acks) == 0


async def test_a_leadership_lost_before_the_commit_is_told_with_the_new_leader(broker):
    task = await waiting(produce(broker, a_batch()))
    broker.quorum.decide(FenceBroker(A, broker.quorum.epochs[A]))
    await broker.see()
    (result,) = (await task).partitions
    assert (result.error, result.leader) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, B)
    assert (await result_of(produce(broker, a_batch()))).error is ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_no_acknowledgement_once_the_image_names_another_leader(broker):
    """The zombie: its followers answer, but the epoch is over."""
    followers = Followers(broker)
    task = await waiting(produce(broker, a_batch()))
    broker.quorum.decide(FenceBroker(A, broker.quorum.epochs[A]))
    broker.manager.image = broker.quorum.image  # the step that takes the role away has not come to this partition yet
    followers.acknowledge(1)
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_a_duplicate_has_its_first_offset_and_waits_for_the_same_commit(broker):
    followers = Followers(broker)
    batch = a_batch(producer=(1, 0, 0))
    first = await waiting(produce(broker, batch))
    again = await waiting(produce(broker, batch))
    later = await waiting(produce(broker, a_batch(producer=(1, 0, 1))))
    retried = await waiting(produce(broker, batch))
    assert broker.replica().log.log_end_offset == 2
    followers.acknowledge(1)
    for task in (first, again, retried):
        (result,) = (await task).partitions
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 0)
    assert not later.done()
    followers.acknowledge(2)
    assert (await later).partitions[0].base_offset == 1
    assert (await result_of(produce(broker, batch))).base_offset == 0, "a late retry is acknowledged at once"


async def test_bad_batches_and_bad_requests_change_nothing(broker):
    gap = a_batch(producer=(1, 0, 5))
    damaged = bytearray(a_batch())
    damaged[-1] ^= 1
    for data, error in (
        (gap, ErrorCode.UNKNOWN_PRODUCER_ID),
        (bytes(damaged), ErrorCode.CORRUPT_MESSAGE),
        (b"", ErrorCode.CORRUPT_MESSAGE),
        (b"\0" * 80, ErrorCode.CORRUPT_MESSAGE),
    ):
        assert (await result_of(produce(broker, data))).error is error
    assert (await result_of(produce(broker, a_batch(), acks=2))).error is ErrorCode.INVALID_REQUIRED_ACKS
    assert broker.replica().log.log_end_offset == 0


async def test_each_partition_of_a_request_has_its_own_result(broker):
    pending = produce(broker, a_batch(), a_batch(), a_batch(), topics=(OTHER, "X" * 22, OTHER))
    errors = [result.error for result in (await pending.response()).partitions]
    assert errors == [ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.INVALID_REQUEST]


def ask(*partitions: FetchPartition, wait_ms=0, min_bytes=1, max_bytes=1 << 20) -> FetchRequest:
    return FetchRequest(wait_ms, min_bytes, max_bytes, partitions)


async def fetch_one(broker, offset=0, **more):
    response, parts = await fetch(broker.manager, ask(FetchPartition(TOPIC, 0, offset, **more)))
    return response.partitions[0], parts[0]


async def test_consumers_see_what_is_committed_and_no_more(broker):
    produce(broker, a_batch(), acks=1)
    produce(broker, a_batch(), acks=1)
    result, data = await fetch_one(broker)
    assert (result.error, result.high_watermark, data) == (ErrorCode.NONE, 0, b"")
    for between in (1, 2):
        result, data = await fetch_one(broker, between)
        assert (result.error, data) == (ErrorCode.NONE, b""), "between high watermark and log end there is nothing yet"
    Followers(broker).acknowledge(1)
    result, data = await fetch_one(broker)
    assert [batch.base_offset for batch in batches_in(data)] == [0]
    result, _ = await fetch_one(broker, 3)
    assert result.error is ErrorCode.OFFSET_OUT_OF_RANGE


async def test_epochs_fence_readers(broker):
    result, _ = await fetch_one(broker, current_leader_epoch=LeaderEpoch(1))
    assert result.error is ErrorCode.UNKNOWN_LEADER_EPOCH
    broker.quorum.decide(FenceBroker(A, broker.quorum.epochs[A]))
    await broker.see()
    result, _ = await fetch_one(broker, current_leader_epoch=LeaderEpoch(0))
    assert result.error is ErrorCode.FENCED_LEADER_EPOCH
    result, _ = await fetch_one(broker)
    assert (result.error, result.leader) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, B)


async def test_a_reader_past_a_truncation_is_told_where(broker):
    produce(broker, a_batch(), acks=1)
    result, _ = await fetch_one(broker, 5, last_fetched_epoch=LeaderEpoch(0))
    assert result.diverging is not None
    assert result.diverging.end_offset == 1


@pytest.mark.parametrize(("partitions", "more"), [((), {}), ((FetchPartition(TOPIC, 0, 0),), {"min_bytes": 0})])
async def test_who_asks_for_nothing_waits_for_nothing(broker, partitions, more):
    response, _ = await asyncio.wait_for(fetch(broker.manager, ask(*partitions, wait_ms=LONG_MS, **more)), 10)
    assert len(response.partitions) == len(partitions)


async def test_a_fetch_of_many_partitions_lets_others_go_on_and_misses_no_news_meanwhile(broker):
    """The first partition has news while the last ones are read."""
    many = [FetchPartition(TOPIC, 0, 0), *(FetchPartition(OTHER, 0, 0) for _ in range(4_999))]
    task = asyncio.create_task(fetch(broker.manager, ask(*many, wait_ms=LONG_MS)))
    await asyncio.sleep(0)
    assert not task.done()
    produce(broker, a_batch(), acks=1)
    Followers(broker).acknowledge(1)
    response, parts = await asyncio.wait_for(task, 30)
    assert any(parts)
    assert len(response.partitions) == 5_000


async def polling(broker, *partitions, **more) -> asyncio.Task:
    task = asyncio.create_task(fetch(broker.manager, ask(*partitions, wait_ms=LONG_MS, **more)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_long_poll_wakes_for_the_commit_not_for_the_append(broker):
    task = await polling(broker, FetchPartition(TOPIC, 0, 0), FetchPartition(OTHER, 0, 0))
    produce(broker, a_batch(), acks=1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    Followers(broker).acknowledge(1)
    _, parts = await task
    assert [bool(part) for part in parts] == [True, False]
    assert broker.replica()._readers == {}


@pytest.mark.parametrize("change", ["lost", "deleted"])
async def test_a_long_poll_wakes_when_the_role_goes(broker, change):
    task = await polling(broker, FetchPartition(TOPIC, 0, 0))
    lost = FenceBroker(A, broker.quorum.epochs[A])
    broker.quorum.decide(lost if change == "lost" else DeleteTopic(TOPIC))
    await broker.see()
    response, _ = await task
    expected = {"lost": ErrorCode.NOT_LEADER_OR_FOLLOWER, "deleted": ErrorCode.UNKNOWN_TOPIC_ID}
    assert response.partitions[0].error is expected[change]


async def test_a_cancelled_long_poll_watches_nothing(broker):
    task = await polling(broker, FetchPartition(TOPIC, 0, 0))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert broker.replica()._readers == {}


async def test_long_polls_that_are_ended_are_answered_at_once_and_so_is_who_comes_later(broker):
    polls, request = LongPolls(), ask(FetchPartition(TOPIC, 0, 0), wait_ms=LONG_MS)
    task = asyncio.create_task(fetch(broker.manager, request, polls))
    other = await polling(broker, FetchPartition(TOPIC, 0, 0))
    polls.end()
    later = fetch(broker.manager, request, polls)
    for each in (task, later):
        response, parts = await asyncio.wait_for(each, 10)
        assert (response.partitions[0].error, parts) == (ErrorCode.NONE, [b""])
    assert not other.done(), "it came through another door"
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert broker.replica()._readers == {}


async def test_more_than_an_answer_may_hold_is_never_waited_for(broker):
    produce(broker, a_batch(b"x" * 500), topics=(OTHER,))
    produce(broker, a_batch(b"x" * 500), topics=(OTHER,))
    request = ask(FetchPartition(OTHER, 0, 0), wait_ms=LONG_MS, min_bytes=1 << 30, max_bytes=500)
    _, parts = await asyncio.wait_for(fetch(broker.manager, request), 10)
    assert len(list(batches_in(parts[0]))) == 1, "one batch, though it is larger than asked"


async def test_only_the_first_batch_may_be_larger_than_the_budget(broker):
    for topic, size in ((OTHER, 100), (TOPIC, 5000)):
        produce(broker, a_batch(b"x" * size), acks=1, topics=(topic,))
    Followers(broker).acknowledge(1)
    request = ask(FetchPartition(OTHER, 0, 0), FetchPartition(TOPIC, 0, 0), max_bytes=1000)
    response, parts = await fetch(broker.manager, request)
    assert parts[0]
    assert not parts[1]
    assert [result.size for result in response.partitions] == [len(parts[0]), 0]
    _, parts = await fetch(broker.manager, ask(FetchPartition(TOPIC, 0, 0), max_bytes=1000))
    assert len(parts[0]) > 5000


async def test_a_disk_that_cannot_be_read_is_a_coded_error(broker):
    for _ in range(2):  # the last one is still in memory
        produce(broker, a_batch(), topics=(OTHER,))
    broker.storage.fail("read", name_contains="alone-0")
    response, _ = await fetch(broker.manager, ask(FetchPartition(OTHER, 0, 0)))
    assert response.partitions[0].error is ErrorCode.KAFKA_STORAGE_ERROR


async def test_latest_is_the_high_watermark_and_unknown_until_the_epoch_is_covered(broker):
    async def where(position, topic=TOPIC):
        request = ListOffsetsRequest((OffsetQuery(topic, 0, position),))
        return (await list_offsets(broker.manager, request)).partitions[0]

    produce(broker, a_batch(), acks=1)
    assert ((await where(LATEST)).offset, (await where(EARLIEST)).offset) == (0, 0)
    broker.replica().leader.epoch_start = 1  # as after a failover: one record of an older epoch is not committed yet
    answer = await where(LATEST)
    assert (answer.error, answer.offset) == (ErrorCode.OFFSET_NOT_AVAILABLE, None)
    Followers(broker).acknowledge(1)
    assert (await where(LATEST)).offset == 1
    assert (await where("middle")).error is ErrorCode.INVALID_REQUEST
