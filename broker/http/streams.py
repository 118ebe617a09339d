"""The data plane: a WebSocket of pipelined frames per client stream.

Requests are begun in the order they arrive (so produces are appended in that order); answers leave as they complete.
A stream whose unanswered requests are too many or too large is simply not read until some are answered.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

import structlog

from ottla.client.error_codes import ErrorCode
from ottla.client.frames import BadFrame, Buffer, RequestFrame, decode_request, frame_parts, split_batches
from ottla.client.protocol import ACKS_NONE, ErrorResponse, FetchRequest, ProduceRequest, ProduceResponse
from ottla.log.errors import LogError
from ottla.wire.frames import CloseCode, Payload
from ottla.wire.stream import Stream, StreamEnded

from ..api.dispatch import Answer, Api
from ..api.produce import PendingProduce
from ..config import Settings
from ..replica_session import RESPONSE_BYTES_MAX
from ..watchdog import Watchdog

log = structlog.get_logger(__name__)

STREAM_PATH = "/v1/stream"


class InflightBudget:
    """Bytes of unanswered requests, of one stream or of all. ``full``: whether the next request should wait."""

    def __init__(self, limit: int) -> None:
        self.full = False
        self._limit = limit
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._used = 0

    def take(self, size: int) -> None:
        """A request of ``size`` is being answered."""
        if not self._used:
            self._idle.clear()
        self._used += size
        if self._used >= self._limit and not self.full:
            self.full = True
            self._room.clear()

    def give(self, size: int) -> None:
        """It has been."""
        self._used -= size
        if self.full and self._used < self._limit:
            self.full = False
            self._room.set()
        if not self._used:
            self._idle.set()

    async def wait(self) -> None:
        """Until there is room for one more request."""
        await self._room.wait()

    async def idle(self) -> None:
        """Until nothing is unanswered."""
        await self._idle.wait()


class DiskRoom(Protocol):
    """Whether the disk keeps up with what is appended."""

    @property
    def has_room(self) -> bool: ...

    async def wait_for_room(self) -> None: ...


async def _refusal(why: str) -> Answer:
    """The answer to what is no request, though somebody waits for one."""
    return ErrorResponse(ErrorCode.INVALID_REQUEST, why), []


class DataStream:
    """One client stream."""

    def __init__(self, stream: Stream, api: Api, settings: Settings, total: InflightBudget, disk: DiskRoom) -> None:
        self._stream = stream
        self._api = api
        self._bytes = InflightBudget(settings.stream_inflight_bytes_max)
        self._requests = InflightBudget(settings.stream_requests_max)
        self._total = total
        self._disk = disk
        self._send_s = settings.stream_send_timeout_ms / 1000
        self._sending = 0
        self._watchdog = Watchdog(self._send_s, self._stuck)
        self._answering: set[asyncio.Task[Any]] = set()
        self._producing: dict[int, tuple[PendingProduce, int]] = {}  # with the sizes of their requests
        self._produces = 0
        self._waiting: asyncio.Task[None] | None = None  # for room, while the stream is not read
        self._refused: str | None = None
        self._finished = False
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until the client leaves or says something that is not a request."""
        self._stream.deliver(self._take, self._over.set)
        try:
            await self._over.wait()
            if self._refused is not None:
                await self._refuse(self._refused)
        finally:
            self._watchdog.stop()
            self._forget_produces()
            working = [*self._answering, *([self._waiting] if self._waiting is not None else [])]
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    def finish(self) -> None:
        """Begin no more requests; what was begun is answered."""
        self._finished = True
        self._stream.pause()

    async def leave(self) -> None:
        """Say farewell: this node is going away."""
        await self._stream.close(CloseCode.GOING_AWAY)

    def _take(self, message: Payload) -> None:
        if self._over.is_set():
            return
        try:
            self._begin(decode_request(message), len(message))
        except BadFrame as error:
            if error.correlation_id is None:
                self._refused = str(error)
                self._over.set()
                return
            self._answer_later(error.correlation_id, _refusal(str(error)), len(message))
        if self._requests.full or self._bytes.full or self._total.full or not self._disk.has_room:
            self._stream.pause()
            self._waiting = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        """Read on once there is room."""
        await self._requests.wait()
        await self._bytes.wait()
        await self._total.wait()
        with contextlib.suppress(LogError):  # a failed disk is told to each produce, not here
            await self._disk.wait_for_room()
        self._waiting = None
        if not self._finished:
            self._stream.resume()

    # --- produces: the hot path, without a task --------------------------------------------------------------------

    def _begin_produce(self, correlation_id: int, request: ProduceRequest, body: memoryview, size: int) -> None:
        pending = self._api.begin_produce(request, split_batches(body, [target.size for target in request.partitions]))
        if request.acks == ACKS_NONE:
            return
        self._produces += 1
        number = self._produces
        self._producing[number] = pending, size
        self._requests.take(1)
        self._bytes.take(size)
        self._total.take(size)
        self._api.when_produced(pending, lambda response: self._produced(number, correlation_id, response))

    def _produced(self, number: int, correlation_id: int, response: ProduceResponse) -> None:
        _, size = self._producing.pop(number)
        if self._is_sent(frame_parts(correlation_id, response)) and not self._stream.writable:
            self._keep(asyncio.create_task(self._drain()), size, size)  # it counts until the client takes it
        else:
            self._give_back(size, size)

    def _forget_produces(self) -> None:
        """The client has gone."""
        while self._producing:
            pending, size = self._producing.popitem()[1]
            pending.forget()
            self._give_back(size, size)

    # --- all else ----------------------------------------------------------------------------------------------------

    def _begin(self, frame: RequestFrame, size: int) -> None:
        try:
            if isinstance(frame.message, ProduceRequest):
                self._begin_produce(frame.correlation_id, frame.message, frame.body, size)
                return
            answer = self._api.begin(frame.message, frame.body)
        except BadFrame as error:
            raise BadFrame(str(error), frame.correlation_id or None) from error
        # A fetch counts with all that it may bring on its own stream, but among all streams only with what it has
        # brought: idle consumers, who wait for nothing, must not keep producers from being read.
        expected = min(frame.message.max_bytes, RESPONSE_BYTES_MAX) if isinstance(frame.message, FetchRequest) else 0
        self._answer_later(frame.correlation_id, answer, size, expected)

    def _answer_later(self, correlation_id: int, answer: Awaitable[Answer], size: int, expected: int = 0) -> None:
        self._requests.take(1)
        self._bytes.take(size + expected)
        self._total.take(size)
        task = asyncio.create_task(self._answer(correlation_id, answer))
        self._keep(task, size + expected, size, answer)

    def _keep(self, task: asyncio.Task[Any], bytes_: int, total: int, answer: Awaitable[Answer] | None = None) -> None:
        self._answering.add(task)
        task.add_done_callback(lambda done: self._answered(done, answer, bytes_, total))

    def _give_back(self, bytes_: int, total: int) -> None:
        self._requests.give(1)
        self._bytes.give(bytes_)
        self._total.give(total)

    def _answered(self, task: asyncio.Task[Any], answer: Awaitable[Answer] | None, bytes_: int, total: int) -> None:
        self._answering.discard(task)
        self._give_back(bytes_, total)
        if isinstance(answer, Coroutine):
            answer.close()  # of a task that was cancelled before its first step
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("request.failed", problem=repr(error), exc_info=error)

    async def _answer(self, correlation_id: int, answer: Awaitable[Answer]) -> None:
        try:
            response, parts = await answer
        except Exception as error:
            log.exception("request.failed")
            response, parts = ErrorResponse(ErrorCode.UNKNOWN_SERVER_ERROR, f"a bug of ours: {error!r}"), []
        brought = sum(map(len, parts))
        self._total.take(brought)
        try:
            await self._send(frame_parts(correlation_id, response, parts))
        finally:
            self._total.give(brought)

    async def _send(self, frame: list[Buffer]) -> bool:
        """Whether the client took it. One that reads nothing for too long is dropped, with the memory it holds."""
        if not self._is_sent(frame):
            return False
        if self._stream.writable:
            return True
        return await self._drain()

    def _is_sent(self, frame: list[Buffer]) -> bool:
        try:
            self._stream.send(*frame)
        except StreamEnded:  # a client may leave before its answer
            return False
        return True

    async def _drain(self) -> bool:
        self._sending += 1
        self._watchdog.guard()
        try:
            await self._stream.drain()
        except StreamEnded:
            return False
        finally:
            self._sending -= 1
            if not self._sending:
                self._watchdog.rest()
        return True

    def _stuck(self) -> None:
        log.warning("stream.stuck", seconds=self._send_s)
        self._stream.abort()

    async def _refuse(self, why: str) -> None:
        log.warning("stream.refused", why=why)
        answer = ErrorResponse(ErrorCode.INVALID_REQUEST, why, "The stream is closed: open another one.")
        if await self._send(frame_parts(0, answer)):
            await self._stream.close(CloseCode.UNSUPPORTED_DATA, why.encode()[:100])
