"""One connection: answers in the requests' order, produces begun as they come, limits, and what ends it."""

import asyncio
import struct
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from ottla.broker.kafka.caller import Caller, Hangup, Parts
from ottla.broker.kafka.connection import JOINED_BYTES_MAX, Connection
from ottla.broker.kafka.header import Header, response_header
from ottla.broker.kafka.limits import Limits
from ottla.broker.kafka.versions import ApiKey

from .kio_bytes import on_the_wire

LIMITS = Limits(requests=4, request_bytes=10_000, frame_bytes=1 << 20, first_s=10.0, frame_timeout_s=30.0, idle_s=600.0)


class FakeTransport(asyncio.Transport):
    """Remembers what was written, and whether it is read from."""

    def __init__(self) -> None:
        super().__init__(extra={"peername": ("10.0.0.9", 1), "sockname": ("10.0.0.1", 9092)})
        self.written: list[bytes] = []
        self.reading = True
        self.aborted = False
        self.ended = False

    def write(self, data: Any) -> None:
        assert not self.ended
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        assert not self.ended
        self.ended = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


class FakeDoor:
    """Answers each request when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.answers: dict[int, asyncio.Future[Parts]] = {}
        self.inflight = 0
        self.has_room: asyncio.Event | None = None
        self.stays = True
        self.partial = 0
        self.unsent_bytes = 0

    def future(self, header: Header) -> asyncio.Future[Parts]:
        self.begun.append(header.correlation_id)
        future: asyncio.Future[Parts] = asyncio.get_running_loop().create_future()
        self.answers[header.correlation_id] = future
        return future

    def begin_produce(self, caller: Caller, header: Header, frame: memoryview) -> Awaitable[Parts] | None:
        if frame[-1:] == b"!":
            self.begun.append(header.correlation_id)
            return None
        if frame[-1:] == b"x":
            raise Hangup("as asked")
        return self.future(header)

    async def answer(self, caller: Caller, header: Header, frame: memoryview) -> Parts:
        return await self.future(header)

    def opened(self, connection: Connection) -> bool:
        return self.stays

    def closed(self, connection: Connection) -> None: ...

    def taken(self, size: int) -> bool:
        self.inflight += size
        return self.has_room is None

    async def room(self) -> None:
        assert self.has_room is not None
        await self.has_room.wait()

    def given(self, size: int) -> None:
        self.inflight -= size

    def unsent(self, change: int) -> None:
        self.unsent_bytes += change

    def holds(self, change: int) -> bool:
        self.partial += change
        return self.partial <= 1 << 20


class Story:
    def __init__(self, limits: Limits = LIMITS) -> None:
        self.door = FakeDoor()
        self.transport = FakeTransport()
        self.connection = Connection(self.door, limits, bytearray(1 << 16))
        self.connection.connection_made(self.transport)

    def send(self, key: ApiKey, number: int, tail: bytes = b"") -> None:
        version = {ApiKey.PRODUCE: 8, ApiKey.HEARTBEAT: 3, ApiKey.API_VERSIONS: 2}[key]
        frame = struct.pack(">hhih", key, version, number, 0) + tail
        self.receive(on_the_wire(frame))

    def receive(self, data: bytes) -> None:
        while data:
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.connection.buffer_updated(size)
            data = data[size:]

    async def answer(self, number: int, body: bytes = b"") -> None:
        self.door.answers[number].set_result((response_header(ApiKey.HEARTBEAT, 3, number), body))
        await settle()

    @property
    def answered(self) -> list[int]:
        return [struct.unpack_from(">i", written, 4)[0] for written in self.transport.written if len(written) >= 8]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_produces_are_begun_as_they_come_and_answered_in_order() -> None:
    story = Story()
    for number in (1, 2, 3):
        story.send(ApiKey.PRODUCE, number)
    assert story.door.begun == [1, 2, 3], "before anything was waited for"
    await settle()
    await story.answer(3)
    await story.answer(2)
    assert story.answered == []
    await story.answer(1)
    assert story.answered == [1, 2, 3]
    assert story.door.inflight == 0


async def test_anything_else_waits_for_what_came_before_and_is_waited_for() -> None:
    story = Story()
    story.send(ApiKey.PRODUCE, 1)
    story.send(ApiKey.HEARTBEAT, 2)
    story.send(ApiKey.PRODUCE, 3)
    await settle()
    assert story.door.begun == [1]
    await story.answer(1)
    assert story.door.begun == [1, 2], "a produce behind another request is not begun before it is over"
    await story.answer(2)
    assert story.door.begun == [1, 2, 3]
    await story.answer(3)
    assert story.answered == [1, 2, 3]


async def test_what_wants_no_answer_gets_none() -> None:
    story = Story()
    story.send(ApiKey.PRODUCE, 1, b"!")
    story.send(ApiKey.PRODUCE, 2)
    await settle()
    await story.answer(2)
    assert story.answered == [2]
    assert len(story.transport.written) == 1
    assert story.door.inflight == 0


async def test_a_large_answer_is_written_in_its_pieces_and_none_is_missing() -> None:
    story = Story()
    story.send(ApiKey.HEARTBEAT, 1)
    await settle()
    pieces = [b"%d" % number * JOINED_BYTES_MAX for number in range(3)]
    story.door.answers[1].set_result(pieces)
    await settle()
    whole = b"".join(pieces)
    assert b"".join(story.transport.written) == struct.pack(">i", len(whole)) + whole
    assert whole not in story.transport.written


async def test_a_failed_produce_without_answer_ends_the_connection() -> None:
    story = Story()
    story.send(ApiKey.PRODUCE, 1, b"x")
    assert story.transport.aborted
    story.connection.connection_lost(None)
    assert story.door.inflight == 0


async def test_too_many_requests_stop_the_reading_until_some_are_answered() -> None:
    story = Story()
    for number in range(4):
        story.send(ApiKey.PRODUCE, number)
    assert not story.transport.reading
    await settle()
    await story.answer(0)
    assert story.transport.reading


async def test_too_many_bytes_stop_it_too() -> None:
    story = Story()
    story.send(ApiKey.PRODUCE, 1, bytes(LIMITS.request_bytes))
    assert not story.transport.reading
    await settle()
    await story.answer(1)
    assert story.transport.reading


async def test_nothing_is_read_while_the_node_has_no_room() -> None:
    story = Story()
    story.door.has_room = asyncio.Event()
    story.send(ApiKey.PRODUCE, 1)
    assert not story.transport.reading
    await settle()
    await story.answer(1)
    assert not story.transport.reading
    story.door.has_room.set()
    await settle()
    assert story.transport.reading


async def test_a_client_that_does_not_read_gets_no_next_answer_made() -> None:
    story = Story()
    story.send(ApiKey.HEARTBEAT, 1)
    story.send(ApiKey.HEARTBEAT, 2)
    await settle()
    story.connection.pause_writing()
    await story.answer(1)
    assert story.door.begun == [1]
    assert story.door.unsent_bytes > 0
    story.connection.resume_writing()
    await settle()
    assert story.door.begun == [1, 2]
    assert story.door.unsent_bytes == 0


async def test_what_a_lost_client_did_not_take_counts_no_longer() -> None:
    story = Story()
    story.send(ApiKey.HEARTBEAT, 1)
    await settle()
    story.connection.pause_writing()
    await story.answer(1)
    assert story.door.unsent_bytes > 0
    story.connection.connection_lost(None)
    await settle()
    assert story.door.unsent_bytes == 0


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">hhih", 4711, 0, 1, 0),
        struct.pack(">hhih", ApiKey.PRODUCE, 99, 1, 0),
        struct.pack(">hhih", ApiKey.PRODUCE, 2, 1, 0),
        struct.pack(">hhih", ApiKey.HEARTBEAT, 3, 1, 500) + b"short",
        struct.pack(">hhih", ApiKey.HEARTBEAT, 3, 1, 2) + b"\xff\xfe",
    ],
)
async def test_a_request_that_is_none_ends_its_connection(frame: bytes) -> None:
    story = Story()
    story.receive(on_the_wire(frame))
    assert story.transport.aborted
    story.connection.connection_lost(None)
    assert story.door.inflight == 0


async def test_versions_of_api_versions_that_are_unknown_are_answered_all_the_same() -> None:
    story = Story()
    story.receive(on_the_wire(struct.pack(">hhi", ApiKey.API_VERSIONS, 99, 5) + b"whatever"))
    await settle()
    assert story.door.begun == [5]


async def test_a_lost_connection_gives_back_all_that_it_took() -> None:
    story = Story()
    story.send(ApiKey.PRODUCE, 1)
    story.send(ApiKey.HEARTBEAT, 2)
    story.receive(struct.pack(">i", 500_000) + b"part")
    assert 0 < story.door.partial < 500_000
    await settle()
    story.connection.connection_lost(None)
    await settle()
    assert (story.door.inflight, story.door.partial) == (0, 0)
    assert all(future.cancelled() for future in story.door.answers.values())


async def test_a_connection_that_is_lost_as_soon_as_it_asked_gives_back_too() -> None:
    story = Story()
    story.send(ApiKey.HEARTBEAT, 1)
    story.connection.connection_lost(None)  # before the task that would have answered took its first step
    await settle()
    assert (story.door.inflight, story.door.begun) == (0, [])


async def test_no_more_produces_are_begun_than_may_be_unanswered() -> None:
    story = Story()
    one = on_the_wire(struct.pack(">hhih", ApiKey.PRODUCE, 8, 1, 0))
    story.receive(b"".join(one[:8] + struct.pack(">i", number) + one[12:] for number in range(20)))
    assert story.door.begun == list(range(LIMITS.requests))
    await settle()
    await story.answer(0)
    assert story.door.begun == list(range(LIMITS.requests + 1))


async def test_too_much_that_is_not_whole_ends_the_connection_that_brings_it() -> None:
    story = Story()
    story.door.partial = 1 << 20
    story.receive(struct.pack(">i", 500_000) + b"part")
    assert story.transport.aborted


async def test_one_that_may_not_stay_is_closed_at_once() -> None:
    story = Story()
    story.door.stays = False
    transport = FakeTransport()
    Connection(story.door, LIMITS, bytearray(64)).connection_made(transport)
    assert transport.aborted


async def test_deadlines_first_word_whole_request_idle() -> None:
    story, loop = Story(), asyncio.get_running_loop()
    left = story.connection.deadline_s - loop.time()
    assert LIMITS.first_s - 1 < left <= LIMITS.first_s
    story.receive(struct.pack(">i", 500_000) + b"part")
    assert story.connection.deadline_s - loop.time() <= LIMITS.first_s, "the first must be whole by then"
    story.receive(bytes(499_996))
    story = Story()
    story.send(ApiKey.HEARTBEAT, 1)
    assert LIMITS.frame_timeout_s < story.connection.deadline_s - loop.time() <= LIMITS.idle_s
    story.receive(struct.pack(">i", 500_000) + b"part")
    assert story.connection.deadline_s - loop.time() <= LIMITS.frame_timeout_s


async def test_idle_is_who_has_asked_nothing_since_its_last_answer() -> None:
    story, loop = Story(), asyncio.get_running_loop()
    story.send(ApiKey.HEARTBEAT, 1)
    await settle()
    story.connection.deadline_s = loop.time()
    await story.answer(1)
    assert story.connection.deadline_s - loop.time() > LIMITS.idle_s - 1


async def test_who_takes_no_answer_in_time_is_hung_up_on() -> None:
    story = Story(replace(LIMITS, frame_timeout_s=0.0))
    story.send(ApiKey.HEARTBEAT, 1)
    await settle()
    story.connection.pause_writing()
    await story.answer(1)
    await settle()
    assert story.transport.aborted


async def test_requests_that_wait_are_known_as_busy() -> None:
    story = Story()
    story.send(ApiKey.HEARTBEAT, 1)
    assert story.connection.busy
    await settle()
    await story.answer(1)
    assert not story.connection.busy


async def test_one_that_is_idle_ends_as_soon_as_the_door_finishes() -> None:
    story = Story()
    story.connection.finish()
    story.connection.finish()
    assert story.transport.ended
    assert not story.transport.aborted


async def test_one_that_is_busy_ends_after_its_last_answer_and_takes_no_more_requests() -> None:
    story = Story()
    for key, number in ((ApiKey.PRODUCE, 1), (ApiKey.HEARTBEAT, 2), (ApiKey.PRODUCE, 3)):
        story.send(key, number)
    await settle()
    story.connection.finish()
    story.send(ApiKey.PRODUCE, 4)
    for number in (1, 2, 3):
        assert not story.transport.ended
        await story.answer(number)
    assert story.transport.ended
    assert (story.door.begun, story.answered) == ([1, 2, 3], [1, 2, 3])
    assert story.door.inflight == 0


async def test_one_that_finishes_is_read_on_for_an_end_with_unread_bytes_would_be_a_reset() -> None:
    story = Story()
    for number in range(4):
        story.send(ApiKey.PRODUCE, number)
    await settle()
    assert not story.transport.reading
    story.connection.finish()
    assert story.transport.reading
    story.send(ApiKey.PRODUCE, 4)
    assert story.transport.reading
    for number in range(4):
        await story.answer(number)
    assert story.door.begun == [0, 1, 2, 3]


async def test_half_a_request_is_forgotten_where_the_door_finishes() -> None:
    story = Story()
    story.receive(struct.pack(">i", 500_000) + b"part")
    story.connection.finish()
    assert story.transport.ended
    story.receive(bytes(600_000))
    assert (story.door.partial, story.door.begun, story.transport.aborted) == (0, [], False)
