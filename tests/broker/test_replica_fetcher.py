"""The follower's stream: acknowledge first, name again what could not go on, believe nothing stale."""

import asyncio
from collections.abc import Callable

import pytest

from ottla.broker import replica_fetcher
from ottla.broker.replica_fetcher import Fetchers, ReplicaFetcher
from ottla.broker.throttle import TokenBucket
from ottla.client.error_codes import ErrorCode
from ottla.client.frames import ResponseFrame
from ottla.client.protocol import DivergingEpoch, FetchResponse, FetchResult, ReplicaFetchRequest
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.records import BatchBuilder
from ottla.raft.commands import FenceBroker

from .small_quorum import OTHER, TOPIC, A, B, C, HandClock, OneBroker, SmallQuorum


class FakeLink:
    def __init__(self) -> None:
        self.sent: asyncio.Queue[ReplicaFetchRequest] = asyncio.Queue()
        self.closed = False
        self.on_answer: Callable[[ResponseFrame], None] | None = None
        self.on_end: Callable[[str], None] | None = None

    def send(self, request: ReplicaFetchRequest) -> None:
        self.sent.put_nowait(request)

    def deliver(self, on_answer: Callable[[ResponseFrame], None], on_end: Callable[[str], None]) -> None:
        self.on_answer, self.on_end = on_answer, on_end

    def abort(self) -> None:
        self.on_end("aborted")

    async def close(self) -> None:
        self.closed = True

    def answer(self, *results: FetchResult, body: bytes = b"") -> None:
        self.on_answer(ResponseFrame(1, FetchResponse(results), memoryview(body)))

    async def next(self) -> ReplicaFetchRequest:
        return await asyncio.wait_for(self.sent.get(), 10)


class World:
    def __init__(self, broker: OneBroker) -> None:
        self.broker = broker
        self.links: asyncio.Queue[FakeLink] = asyncio.Queue()
        self.made = 0
        self.fetchers = Fetchers(self.make)

    def make(self, leader) -> ReplicaFetcher:
        self.made += 1

        async def connect() -> FakeLink:
            link = FakeLink()
            self.links.put_nowait(link)
            return link

        return ReplicaFetcher(leader, connect, wait_s_max=60, partition_bytes_max=1 << 20)

    async def link(self) -> FakeLink:
        return await asyncio.wait_for(self.links.get(), 10)


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(replica_fetcher, "RETRY_S", 0.001)
    monkeypatch.setattr(replica_fetcher, "RECONNECT_S", (0.001, 0.002))
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, B, A, C)
    quorum.create("u", OTHER, B, A, C)
    broker = OneBroker(quorum)
    world = World(broker)
    broker.manager.fetchers = world.fetchers
    await broker.start()
    yield world
    broker.manager.deactivate()
    await world.fetchers.stop()


def named(request: ReplicaFetchRequest) -> dict[str, int]:
    return {asked.topic_id[0]: asked.fetch_offset for asked in request.changed}


def leaders_batch(offset: int, value: bytes = b"v", epoch: int = 0) -> bytes:
    builder = BatchBuilder()
    builder.append(None, value, timestamp_ms=1)
    return builder.build(None, None, None, Offset(offset), LeaderEpoch(epoch), False)


def result(topic_id=TOPIC, *, size=0, epoch=0, error=ErrorCode.NONE, **more) -> FetchResult:
    return FetchResult(topic_id, 0, error, size=size, leader_epoch=LeaderEpoch(epoch), **more)


async def test_one_stream_for_all_partitions_and_the_next_fetch_acknowledges(world):
    link = await world.link()
    first = await link.next()
    assert named(first) == {"T": 0, "U": 0}
    assert first.forgotten == ()
    batch = leaders_batch(0)
    link.answer(result(size=len(batch), high_watermark=Offset(0)), body=batch)
    assert named(await link.next()) == {"T": 1}, "only what moved"
    assert world.broker.replica().log.log_end_offset == 1
    link.answer(result(high_watermark=Offset(1)))
    assert named(await link.next()) == {}
    assert world.broker.replica().high_watermark == 1
    assert world.made == 1


async def test_an_error_is_asked_about_again_later(world):
    link = await world.link()
    await link.next()
    link.answer(result(error=ErrorCode.UNKNOWN_TOPIC_ID))
    seen = [named(await link.next()), named(await link.next())]
    assert {"T": 0} in seen, "the retry hurries past the long poll that is out"


async def test_divergence_truncates_and_asks_again(world):
    link = await world.link()
    await link.next()
    data = leaders_batch(0) + leaders_batch(1)
    link.answer(result(size=len(data), high_watermark=Offset(0)), body=data)
    await link.next()
    link.answer(result(diverging=DivergingEpoch(LeaderEpoch(0), Offset(1))))
    assert named(await link.next()) == {"T": 1}
    assert world.broker.replica().log.log_end_offset == 1


async def test_an_answer_of_another_epoch_is_dropped(world):
    link = await world.link()
    await link.next()
    batch = leaders_batch(0)
    link.answer(result(size=len(batch), epoch=4, high_watermark=Offset(1)), body=batch)
    await link.next()
    assert world.broker.replica().log.log_end_offset == 0
    assert world.broker.replica().high_watermark == 0


async def test_an_answer_that_overlaps_a_change_of_role_is_dropped(world):
    quorum = world.broker.quorum
    link = await world.link()
    await link.next()
    quorum.decide(FenceBroker(B, quorum.epochs[B]))  # A leads T and U now
    await world.broker.see()
    batch = leaders_batch(0)
    link.answer(result(size=len(batch), high_watermark=Offset(1)), body=batch)
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.broker.replica().log.log_end_offset == 0
    assert link.closed, "nothing is left to pull from there"


def rotten_batch(offset: int) -> bytes:
    batch = bytearray(leaders_batch(offset))
    batch[-1] ^= 1
    return bytes(batch)


@pytest.mark.parametrize("bad", [leaders_batch(7) + leaders_batch(7), rotten_batch(0), leaders_batch(0)[:-1]])
async def test_damaged_batches_come_again_on_another_stream_and_then_the_leader_is_told(world, monkeypatch, bad):
    monkeypatch.setattr(replica_fetcher, "DAMAGED_RETRY_S", 0.001)
    first = await world.link()
    await first.next()
    first.answer(result(size=len(bad), high_watermark=Offset(8)), body=bad)
    second = await world.link()
    assert first.closed, "what is wrong may be the stream"
    assert damaged(await second.next()) == {"T": True, "U": False}
    second.answer(result(size=len(bad), high_watermark=Offset(8)), body=bad)
    while "T" not in (told := damaged(await second.next())):
        pass
    assert told == {"T": True}
    assert not second.closed, "other partitions come on it too"
    replica = world.broker.replica()
    assert (replica.log.log_end_offset, replica.high_watermark) == (0, 0)
    good = leaders_batch(0)
    second.answer(result(size=len(good), high_watermark=Offset(0)), body=good)
    while "T" not in (told := damaged(await second.next())):
        pass
    assert told == {"T": False}, "it was appended"


def damaged(request: ReplicaFetchRequest) -> dict[str, bool]:
    return {asked.topic_id[0]: asked.damaged for asked in request.changed}


@pytest.mark.parametrize("how", ["lost", "torn body", "not a fetch"])
async def test_a_lost_stream_is_a_new_session_where_everything_is_named(world, how):
    link = await world.link()
    await link.next()
    batch = leaders_batch(0)
    link.answer(result(size=len(batch), high_watermark=Offset(0)), body=batch)
    await link.next()
    if how == "lost":
        link.on_end("broke")
    elif how == "torn body":
        link.answer(result(size=500), body=b"short")
    else:
        link.on_answer(ResponseFrame(1, object(), memoryview(b"")))
    again = await world.link()
    assert link.closed
    assert named(await again.next()) == {"T": 1, "U": 0}


async def test_a_leader_that_says_nothing_is_given_up(world, monkeypatch):
    monkeypatch.setattr(replica_fetcher, "ANSWER_SLACK_S", -59.999)
    first = await world.link()
    first.abort()  # the next stream has the shorter patience
    link = await world.link()
    await link.next()
    again = await world.link()
    assert link.closed
    assert named(await again.next()) == {"T": 0, "U": 0}


async def test_never_more_than_two_requests_are_out(world):
    link = await world.link()
    await link.next()
    fetcher = world.fetchers._fetchers[B]
    for _ in range(5):
        fetcher.follow(world.broker.replica())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert link.sent.qsize() == 1
    assert fetcher._outstanding == 2


async def test_a_copy_that_is_only_being_made_asks_for_more_when_the_throttle_lets_it(world, monkeypatch):
    """The other partition, in sync, is asked for at once all the same."""
    monkeypatch.setattr(replica_fetcher, "HELD_BACK_S_MAX", 0.001)
    link = await world.link()
    await link.next()
    clock = HandClock()
    fetcher = world.broker.manager.fetchers._fetchers[B]
    fetcher._taking = bucket = TokenBucket(lambda: 10, clock)
    world.broker.replica().joining = True
    batch = leaders_batch(0)
    link.answer(
        result(size=len(batch), high_watermark=Offset(0)),
        result(OTHER, size=len(batch), high_watermark=Offset(0)),
        body=batch + batch,
    )
    assert named(await link.next()) == {"U": 1}
    assert bucket.allowance() == 0
    link.answer()
    assert named(await link.next()) == {}, "held back, however often it is looked at"
    clock.seconds += 1000
    assert named(await link.next()) == {"T": 1}
