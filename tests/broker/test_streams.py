"""The data plane's stream: order, pipelining, limits, and anything that is not a request."""

import asyncio
import contextlib
import random

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from ottla.broker.config import Settings
from ottla.broker.http.streams import DataStream, InflightBudget
from ottla.client.error_codes import ErrorCode
from ottla.client.frames import PREFIX, decode_response, encode_frame, split_batches
from ottla.client.protocol import (
    DescribeNodeRequest,
    ErrorResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    InitProducerIdRequest,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceResult,
)
from ottla.wire.upgrade import accept_stream

from .small_quorum import TOPIC

CLOSE = aiohttp.ClientWSTimeout(ws_close=0.05)
SETTINGS = replace(Settings(), frame_bytes_max=1 << 16, stream_requests_max=4)


class FakeProduce:
    """A produce that is done when its gate is."""

    def __init__(self, gate: asyncio.Future) -> None:
        self.gate = gate

    def forget(self) -> None:
        self.gate.cancel()


class FakeApi:
    """Answers when told to, in any order."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[object] = asyncio.Queue()
        self.gates: list[asyncio.Future] = []

    def begin(self, request, body):
        split_batches(body, ())
        return self._begun(request)

    def begin_produce(self, request, batches):
        if request.acks == 0:
            self.begun.put_nowait(request)
            return None
        return FakeProduce(self._begun(request))

    def when_produced(self, pending, tell):
        pending.gate.add_done_callback(lambda gate: gate.cancelled() or tell(gate.result()[0]))

    def _begun(self, request):
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        self.begun.put_nowait(request)
        return gate

    async def next(self):
        return await asyncio.wait_for(self.begun.get(), 10)


class FakeDisk:
    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()

    @property
    def has_room(self) -> bool:
        return self.room.is_set()

    async def wait_for_room(self) -> None:
        await self.room.wait()


class Door:
    def __init__(self, settings: Settings = SETTINGS, total: int = 1 << 30) -> None:
        self.api = FakeApi()
        self.settings = settings
        self.total = InflightBudget(total)
        self.over = asyncio.Event()
        self.disk = FakeDisk()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response, stream = await accept_stream(request, message_bytes_max=self.settings.frame_bytes_max)
        try:
            await DataStream(stream, self.api, self.settings, self.total, self.disk).run()
        finally:
            self.over.set()
            await stream.close()
        return response

    @contextlib.asynccontextmanager
    async def open(self):
        app = web.Application()
        app.router.add_get("/", self.handle)
        async with (
            TestServer(app) as server,
            aiohttp.ClientSession() as session,
            session.ws_connect(server.make_url("/"), max_msg_size=0, timeout=CLOSE) as ws,
        ):
            yield ws


async def answer(ws) -> tuple[int, object, bytes]:
    message = await asyncio.wait_for(ws.receive(), 10)
    assert message.type is aiohttp.WSMsgType.BINARY, message
    frame = decode_response(message.data)
    return frame.correlation_id, frame.message, bytes(frame.body)


async def ends_with_a_reason(ws) -> str:
    number, message, _ = await answer(ws)
    assert number == 0
    assert isinstance(message, ErrorResponse)
    assert message.error is ErrorCode.INVALID_REQUEST
    message_2 = await asyncio.wait_for(ws.receive(), 10)
    assert message_2.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)
    assert ws.close_code == aiohttp.WSCloseCode.UNSUPPORTED_DATA
    return message.message


def produce(size: int = 3, acks: int = -1) -> ProduceRequest:
    return ProduceRequest(acks, 1000, (ProducePartition(TOPIC, 0, size),))


async def test_requests_begin_in_order_and_answers_leave_as_they_complete():
    door = Door()
    async with door.open() as ws:
        for number in (7, 8, 9):
            await ws.send_bytes(encode_frame(number, produce(number), [b"x" * number]))
        assert [(await door.api.next()).partitions[0].size for _ in range(3)] == [7, 8, 9]
        for place in (2, 0, 1):
            door.api.gates[place].set_result((ProduceResponse(()), []))
            assert (await answer(ws))[0] == (7, 8, 9)[place]


async def test_batches_follow_their_answer():
    door = Door()
    async with door.open() as ws:
        await ws.send_bytes(encode_frame(1, FetchRequest(0, 0, 100, (FetchPartition(TOPIC, 0, 0),))))
        await door.api.next()
        door.api.gates[0].set_result((FetchResponse(()), [b"ab", b"c"]))
        assert await answer(ws) == (1, FetchResponse(()), b"abc")


async def test_no_answer_to_acks_none():
    door = Door()
    async with door.open() as ws:
        await ws.send_bytes(encode_frame(1, produce(acks=0), [b"xyz"]))
        await ws.send_bytes(encode_frame(2, DescribeNodeRequest()))
        await door.api.next()
        await door.api.next()
        door.api.gates[0].set_result((ProduceResponse(()), []))
        assert (await answer(ws))[0] == 2


async def test_a_bug_behind_a_request_answers_it_and_the_stream_goes_on():
    door = Door()
    async with door.open() as ws:
        for number in (1, 2):
            await ws.send_bytes(encode_frame(number, DescribeNodeRequest()))
            await door.api.next()
        door.api.gates[0].set_exception(RuntimeError("oh"))
        number, message, _ = await answer(ws)
        assert (number, message.error) == (1, ErrorCode.UNKNOWN_SERVER_ERROR)
        door.api.gates[1].set_result((ProduceResponse(()), []))
        assert (await answer(ws))[0] == 2


def framed(header: bytes) -> bytes:
    return PREFIX.pack(4 + len(header), len(header)) + header


def bad_frames() -> list[bytes]:
    """Nobody can be told which request was meant."""
    good = encode_frame(1, produce(), [b"xyz"])
    chance = random.Random(5)
    header = b"\x92\x01" + b"\x91" * 5000  # nested deeper than any message
    return [
        b"",
        b"\0",
        good[:-1],
        good + b"!",
        good[:12],
        PREFIX.pack(4, 2**32 - 1),
        PREFIX.pack(4, 0),
        framed(header),
        framed(msgspec.msgpack.encode(("one", ["describe-node"]))),
        framed(msgspec.msgpack.encode((0, ["no such request"]))),
        framed(msgspec.msgpack.encode((-1, ["no such request"]))),
        framed(msgspec.msgpack.encode((True, ["no such request"]))),
        framed(msgspec.msgpack.encode({"a": 1})),
        framed(b""),
        *(chance.randbytes(chance.randrange(1, 60)) for _ in range(6)),
    ]


@pytest.mark.parametrize("frame", bad_frames(), ids=range(len(bad_frames())))
async def test_what_is_no_request_is_told_and_ends_the_stream(frame):
    door = Door()
    async with door.open() as ws:
        await ws.send_bytes(frame)
        await ends_with_a_reason(ws)
        await asyncio.wait_for(door.over.wait(), 10)
        assert door.api.gates == []


def bad_messages() -> list[bytes]:
    """Of number 7, and no requests."""
    number = 7
    return [
        encode_frame(number, produce(4), [b"xyz"]),
        encode_frame(number, produce(2), [b"xyz"]),
        encode_frame(number, InitProducerIdRequest(), [b"xyz"]),
        encode_frame(number, ProduceResponse(())),
        framed(msgspec.msgpack.encode((number, ["no such request"]))),
        framed(msgspec.msgpack.encode((number, ["produce", "all", 1000, []]))),
        framed(msgspec.msgpack.encode((number,))),
        framed(msgspec.msgpack.encode((number, ["produce", -1, 1000, [["x", -1, 5]]]))),
    ]


@pytest.mark.parametrize("frame", bad_messages(), ids=range(len(bad_messages())))
async def test_a_message_that_is_no_request_is_answered_and_the_stream_goes_on(frame):
    door = Door()
    async with door.open() as ws:
        for _ in range(10):  # more than may be under way at once
            await ws.send_bytes(frame)
            number, message, _ = await answer(ws)
            assert (number, message.error) == (7, ErrorCode.INVALID_REQUEST)
            assert message.message
        assert door.api.gates == []
        await ws.send_bytes(encode_frame(8, DescribeNodeRequest()))
        await door.api.next()
        door.api.gates[0].set_result((ProduceResponse(()), []))
        assert (await answer(ws))[0] == 8
    await asyncio.wait_for(door.total.idle(), 10)


async def test_text_is_told_and_ends_the_stream():
    door = Door()
    async with door.open() as ws:
        await ws.send_str("hello")
        message = await asyncio.wait_for(ws.receive(), 10)
        assert (message.data, message.extra) == (1003, "a stream carries binary frames only")


async def test_a_frame_over_the_limit_closes_with_the_code_for_it():
    door = Door()
    async with door.open() as ws:
        await ws.send_bytes(b"x" * (SETTINGS.frame_bytes_max + 1))
        await asyncio.wait_for(ws.receive(), 10)
        assert ws.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await asyncio.wait_for(door.over.wait(), 10)


@pytest.mark.parametrize("request_", [encode_frame(1, DescribeNodeRequest()), encode_frame(1, produce(), [b"xyz"])])
async def test_what_was_begun_ends_with_the_stream(request_: bytes):
    door = Door()
    async with door.open() as ws:
        await ws.send_bytes(request_)
        await door.api.next()
        await ws.send_bytes(b"hello")
        await ends_with_a_reason(ws)
        await asyncio.wait_for(door.over.wait(), 10)
        assert door.api.gates[0].cancelled()
        await asyncio.wait_for(door.total.idle(), 10)


async def read_again_once(door: Door, ws, free) -> None:
    """The stream is not read until ``free`` has been called."""
    await ws.send_bytes(encode_frame(99, DescribeNodeRequest()))
    for _ in range(20):
        await asyncio.sleep(0)
    assert door.api.begun.empty(), "a full stream is not read"
    free()
    assert isinstance(await door.api.next(), DescribeNodeRequest)


@pytest.mark.parametrize("produces", [False, True])
async def test_too_many_requests_stop_the_reading(produces: bool):
    door = Door()
    request, batches = (produce(), [b"xyz"]) if produces else (DescribeNodeRequest(), [])
    async with door.open() as ws:
        for number in range(SETTINGS.stream_requests_max):
            await ws.send_bytes(encode_frame(number, request, batches))
            await door.api.next()
        await read_again_once(door, ws, lambda: door.api.gates[2].set_result((ProduceResponse(()), [])))


async def test_too_many_bytes_of_one_stream_stop_its_reading():
    door = Door(replace(SETTINGS, stream_inflight_bytes_max=100))
    async with door.open() as ws:
        await ws.send_bytes(encode_frame(1, produce(200), [b"x" * 200]))
        await door.api.next()
        await read_again_once(door, ws, lambda: door.api.gates[0].set_result((ProduceResponse(()), [])))


async def test_too_many_bytes_of_all_streams_stop_the_reading():
    door = Door(total=100)
    door.total.take(90)
    async with door.open() as ws:
        await ws.send_bytes(encode_frame(1, produce(200), [b"x" * 200]))
        await door.api.next()
        await read_again_once(door, ws, lambda: door.api.gates[0].set_result((ProduceResponse(()), [])))


async def test_a_full_disk_queue_stops_the_reading():
    door = Door()
    door.disk.room.clear()
    async with door.open() as ws:
        await ws.send_bytes(encode_frame(1, produce(acks=0), [b"xyz"]))
        await door.api.next()
        await read_again_once(door, ws, door.disk.room.set)


async def test_idle_consumers_keep_no_producer_from_being_read():
    door = Door(total=1 << 20)
    async with door.open() as ws:
        poll = FetchRequest(60_000, 1, 1 << 22, (FetchPartition(TOPIC, 0, 0),))
        for number in range(3):
            await ws.send_bytes(encode_frame(number, poll))
            await door.api.next()
        await ws.send_bytes(encode_frame(9, produce(), [b"xyz"]))
        assert isinstance(await door.api.next(), ProduceRequest)


async def test_a_client_that_never_reads_is_dropped_and_its_memory_given_back():
    door = Door(replace(SETTINGS, stream_send_timeout_ms=50))
    async with door.open() as ws:
        for number in range(3):
            await ws.send_bytes(encode_frame(number, FetchRequest(0, 0, 1 << 22, (FetchPartition(TOPIC, 0, 0),))))
            await door.api.next()
        ws._response.connection.transport.pause_reading()
        for gate in door.api.gates:
            gate.set_result((FetchResponse(()), [b"x" * (8 << 20)]))
        await asyncio.wait_for(door.over.wait(), 10)
        await asyncio.wait_for(door.total.idle(), 10)


async def test_a_produces_answer_counts_until_the_client_takes_it():
    door = Door(replace(SETTINGS, stream_send_timeout_ms=50))
    long = ProduceResponse((ProduceResult(TOPIC, 0, ErrorCode.NONE, message="x" * (8 << 20)),))
    async with door.open() as ws:
        for number in range(3):
            await ws.send_bytes(encode_frame(number, produce(), [b"xyz"]))
            await door.api.next()
        ws._response.connection.transport.pause_reading()
        for gate in door.api.gates:
            gate.set_result((long, []))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not door.total._idle.is_set()
        await asyncio.wait_for(door.over.wait(), 10)
        await asyncio.wait_for(door.total.idle(), 10)


async def test_budgets():
    budget = InflightBudget(10)
    budget.take(9)
    await budget.wait()
    budget.take(9)
    waiting = asyncio.ensure_future(budget.wait())
    idle = asyncio.ensure_future(budget.idle())
    budget.give(8)
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(1)
    await waiting
    assert not idle.done()
    budget.give(9)
    await idle
