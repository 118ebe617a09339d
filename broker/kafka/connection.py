"""One client's connection: requests in, answers out in the requests' order.

Produces are begun as they come, so that the batches of one client are appended in its order and wait for their replicas
together. Everything else waits for what came before it, as in Kafka, where a connection has one request in hand: a
client may rely on a commit being over before what it sent next is looked at.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Coroutine
from itertools import islice
from typing import cast

import structlog

from ..watchdog import Watchdog
from .caller import Caller, Hangup, Parts, Requests
from .frames import FrameReader, SpokeHttp
from .header import Header, read_header
from .limits import Limits
from .versions import ApiKey
from .wire import INT32, Malformed

log = structlog.get_logger(__name__)

JOINED_BYTES_MAX = 16 << 10
WRONG_DOOR = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"OTTLA-WRONG-PORT: this port speaks Kafka's protocol. HTTP has a port of its own, 7080 unless it was set.\r\n"
)


class _Request:
    __slots__ = ("answer", "begun", "frame", "header")

    def __init__(self, header: Header, frame: memoryview) -> None:
        self.header = header
        self.frame = frame
        self.begun = False
        self.answer: Awaitable[Parts] | None = None


class Connection(asyncio.BufferedProtocol):
    """``deadline_s``: when the door hangs up unless something happens before."""

    def __init__(self, door: Requests, limits: Limits, shared: bytearray) -> None:
        self._door = door
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(shared, limits.frame_bytes)
        self._held = 0
        self._queue: deque[_Request] = deque()
        self._queued_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._serving: asyncio.Task[None] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._watchdog = Watchdog(limits.frame_timeout_s, self._stuck)
        self._finishing = False  # nothing more is read, and what was is answered
        self._closing = False
        self.caller = Caller("", "")
        self.deadline_s = self._loop.time() + limits.first_s

    # --- told by the transport ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        self.caller = Caller(_host(transport, "peername"), _host(transport, "sockname"))
        if not self._door.opened(self):
            self._abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._door.closed(self)
        self._hold(0)
        self._watchdog.stop()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        for task in (self._serving, self._holding):
            if task is not None:
                task.cancel()
        if self._serving is None:
            self._drop_queue()  # else once its task is done, which may end before its first step

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing or self._finishing:
            return  # taken all the same: an end whose bytes nobody took would reach the client as a reset
        was_between = self._reader.between_requests
        try:
            frames = self._reader.received(nbytes)
            if self._reader.held_bytes != self._held and not self._hold(self._reader.held_bytes):
                raise Malformed("too much is kept for requests that are not whole")
            for frame in frames:
                self._receive(frame)
        except (Malformed, Hangup) as error:
            self._refuse(error)
            return
        self._set_deadline(bool(frames), was_between)

    def _set_deadline(self, came: bool, was_between: bool) -> None:
        """A request that has begun must be whole in time, however many bytes of it come meanwhile."""
        now_s, between = self._loop.time(), self._reader.between_requests
        if came:
            self.deadline_s = now_s + (self._limits.idle_s if between else self._limits.frame_timeout_s)
        elif was_between and not between:
            self.deadline_s = min(self.deadline_s, now_s + self._limits.frame_timeout_s)

    def eof_received(self) -> bool:
        return False  # the client takes no more answers either: close

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # --- requests ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._queue)

    def _hold(self, size: int) -> bool:
        change, self._held = size - self._held, size
        return self._door.holds(change)

    def _receive(self, frame: memoryview) -> None:
        header = read_header(frame)
        self._queue.append(_Request(header, frame))
        self._queued_bytes += len(frame)
        has_room = self._door.taken(len(frame))
        self._begin_produces()
        if not has_room and self._holding is None:
            self._holding = self._loop.create_task(self._door.room())
            self._holding.add_done_callback(self._has_room)
        self._pause_or_resume()
        if self._serving is None:
            self._serving = self._loop.create_task(self._serve())
            self._serving.add_done_callback(self._served)

    def _begin_produces(self) -> None:
        """Those before which nothing else waits, as many as may be unanswered."""
        for request in islice(self._queue, self._limits.requests):
            if request.header.key is not ApiKey.PRODUCE:
                return
            if not request.begun:
                request.begun = True
                request.answer = self._door.begin_produce(self.caller, request.header, request.frame)

    async def _serve(self) -> None:
        """Answer until nothing is left."""
        try:
            while self._queue and not self._closing:
                request = self._queue[0]
                parts = await self._answer(request)
                if parts is not None:
                    await self._send(parts)
                self._answered(self._queue.popleft())
                self._begin_produces()
                self._pause_or_resume()
        except (Malformed, Hangup) as error:
            self._refuse(error)
        except Exception:
            log.exception("kafka.request.failed", api=self._queue[0].header.key.name if self._queue else None)
            self._abort()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving = None
        if self._closing:
            self._drop_queue()
        elif self._queue:  # came between the last look and now
            self._serving = self._loop.create_task(self._serve())
            self._serving.add_done_callback(self._served)
        elif self._finishing:
            self._say_goodbye()

    async def _answer(self, request: _Request) -> Parts | None:
        if request.begun:
            return None if request.answer is None else await request.answer
        return await self._door.answer(self.caller, request.header, request.frame)

    def _answered(self, request: _Request) -> None:
        self._queued_bytes -= len(request.frame)
        self._door.given(len(request.frame))

    def _drop_queue(self) -> None:
        while self._queue:
            request = self._queue.popleft()
            self._answered(request)
            if isinstance(request.answer, Coroutine):
                request.answer.close()

    # --- what is read, and written -----------------------------------------------------------------------------------

    def _pause_or_resume(self) -> None:
        full = len(self._queue) >= self._limits.requests or self._queued_bytes >= self._limits.request_bytes
        wanted = (full or self._holding is not None) and not self._finishing
        if wanted == self._paused or self._transport is None or self._closing:
            return
        self._paused = wanted
        if wanted:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _has_room(self, task: asyncio.Task[None]) -> None:
        self._holding = None
        self._pause_or_resume()

    async def _send(self, parts: Parts) -> None:
        transport = self._transport
        if self._closing or transport is None:
            return
        sized = sum(map(len, parts))
        length = INT32.pack(sized)
        if sized <= JOINED_BYTES_MAX:
            transport.write(b"".join((length, *parts)))
        else:
            transport.write(b"".join((length, parts[0])))
            for part in parts[1:]:
                transport.write(part)
        if self._reader.between_requests:
            self.deadline_s = self._loop.time() + self._limits.idle_s
        if self._drained is not None:
            self._watchdog.guard()
            self._door.unsent(sized)
            try:
                await self._drained  # a client that does not read is not read, and no next answer is made
            finally:
                self._watchdog.rest()
                self._door.unsent(-sized)

    def _stuck(self) -> None:
        log.warning("kafka.stuck", client=self.caller.client_id, host=self.caller.host)
        self._abort()

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Take no more requests, answer those that came, and let the client know that this was all."""
        if self._finishing or self._closing:
            return
        self._finishing = True
        self._hold(0)
        self._pause_or_resume()
        if self._serving is None:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Once what was written is out: the client reads all of it, then our end, and closes."""
        if self._transport is not None:
            self._transport.write_eof()

    def _refuse(self, error: Exception) -> None:
        if not self._closing:
            level = log.info if isinstance(error, Hangup) else log.warning
            level("kafka.hung_up", why=str(error), client=self.caller.client_id, host=self.caller.host)
        if isinstance(error, SpokeHttp) and self._transport is not None and not self._closing:
            self._closing = True
            self._transport.write(WRONG_DOOR)
            self._transport.close()
        else:
            self._abort()

    def _abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self) -> None:
        """Close; what is unanswered stays so."""
        with contextlib.suppress(RuntimeError):
            self._abort()


def _host(transport: asyncio.BaseTransport, which: str) -> str:
    address = transport.get_extra_info(which)
    return str(address[0]) if isinstance(address, tuple) and address else ""
