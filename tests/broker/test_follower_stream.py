"""The leader's end of a follower's stream: when a request is answered, and how the stream ends."""

import asyncio

import pytest

from ottla.broker.http.follower_stream import FollowerStream
from ottla.broker.metrics import Metrics
from ottla.broker.replica_session import ReplicaSession
from ottla.client.frames import decode_response, encode_frame
from ottla.client.protocol import DescribeNodeRequest, FetchPartition, ReplicaFetchRequest
from ottla.log.model import LeaderEpoch
from ottla.wire.frames import CloseCode
from ottla.wire.stream import StreamEnded

from .small_quorum import TOPIC, A, B, C, OneBroker, SmallQuorum, a_batch

BUDGET = 1 << 20


class FakeStream:
    """What a Stream is to its user."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost = False
        self.closed_with: tuple[int, bytes] | None = None

    def deliver(self, on_message, on_end) -> None:
        self.on_message, self.on_end = on_message, on_end

    def send(self, *parts) -> None:
        if self.lost:
            raise StreamEnded("lost")
        self.sent.put_nowait(b"".join(parts))

    async def close(self, code: int = CloseCode.OK, message: bytes = b"") -> None:
        self.closed_with = (code, message)

    async def next(self) -> tuple[int, object, bytes]:
        frame = decode_response(await asyncio.wait_for(self.sent.get(), 10))
        return frame.correlation_id, frame.message, bytes(frame.body)


class World:
    def __init__(self, broker: OneBroker) -> None:
        self.broker = broker
        self.stream = FakeStream()
        self.session = ReplicaSession(B, broker.quorum.epochs[B], broker.manager.find, broker.clock)
        self.follower = FollowerStream(self.stream, self.session, Metrics())
        self.task = asyncio.create_task(self.follower.run())

    def ask(self, *asked: FetchPartition, wait_ms: int = 60_000) -> None:
        self.stream.on_message(encode_frame(1, ReplicaFetchRequest(wait_ms, BUDGET, asked)))

    def append(self, value: bytes = b"v") -> None:
        self.broker.replica().append(memoryview(a_batch(value, 1)), need_all=True)

    async def over(self) -> tuple[int, bytes]:
        await asyncio.wait_for(self.task, 10)
        return self.stream.closed_with


def name(offset: int = 0) -> FetchPartition:
    return FetchPartition(TOPIC, 0, offset, LeaderEpoch(0))


@pytest.fixture
async def world():
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    world = World(broker)
    await asyncio.sleep(0)
    yield world
    world.stream.on_end()
    await asyncio.wait_for(world.task, 10)


async def test_data_that_is_there_is_answered_in_the_call_that_asks(world):
    world.append()
    world.ask(name(0))
    assert world.stream.sent.qsize() == 1
    number, message, body = await world.stream.next()
    assert number == 1
    assert [result.size for result in message.partitions] == [len(body)]


async def test_an_append_ends_the_long_poll_and_all_of_one_step_go_together(world):
    world.ask(name(0))
    assert world.stream.sent.empty()
    world.append(b"one")
    world.append(b"two")
    _, message, body = await world.stream.next()
    assert len(message.partitions) == 1
    assert b"one" in body
    assert b"two" in body
    assert world.stream.sent.empty()


async def test_a_newer_request_hurries_the_answer_of_the_one_before(world):
    world.ask(name(0))
    assert world.stream.sent.empty()
    world.ask(name(0))
    assert (await world.stream.next())[2] == b""
    assert world.stream.sent.empty(), "the newer one waits"
    world.append()
    assert (await world.stream.next())[0] == 2


async def test_a_wait_that_is_over_is_answered_with_nothing(world):
    world.ask(name(0), wait_ms=60_000)
    world.ask(wait_ms=1)
    assert (await world.stream.next())[0] == 1
    assert (await world.stream.next())[0] == 2, "a shorter wait than the one before it"


async def test_whoever_sends_something_else_is_told_and_the_session_ends(world):
    world.stream.on_message(encode_frame(1, DescribeNodeRequest()))
    assert await world.over() == (CloseCode.PROTOCOL_ERROR, b"OTTLA-BAD-FRAME")
    assert world.session.clock.closed
    world.ask(name(0))
    assert world.stream.sent.empty()


async def test_a_bug_of_ours_ends_the_stream_and_hangs_nobody(world, monkeypatch):
    def bug(budget: int):
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.session, "collect", bug)
    world.ask(name(0))
    world.append()
    assert await world.over() == (CloseCode.INTERNAL_ERROR, b"")


async def test_a_stream_that_was_lost_is_answered_no_more(world):
    world.ask(name(0))
    world.stream.lost = True
    world.append()
    await world.over()
    assert world.session.clock.closed
