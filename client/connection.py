"""One stream to one node: pipelined requests, answers in any order."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp

from ottla.log.chance import Chance
from ottla.wire.deadlines import Deadlines
from ottla.wire.frames import CloseCode, Payload
from ottla.wire.stream import Stream, StreamEnded
from ottla.wire.upgrade import UpgradeRefused, open_stream

from .errors import OttlaError
from .frames import MAX_FRAME_BYTES, BadFrame, Buffer, decode_response, frame_parts
from .protocol import ErrorResponse, Request, Response

STREAM_PATH = "/v1/stream"
CONNECT_TIMEOUT_S = 2.0
PING_INTERVAL_S = PONG_WAIT_S = 5.0
"""A node that says nothing for so long is pinged, and given up after as long again: a host that lost its power resets
nothing, and some requests may wait for a minute."""
UNANSWERED_MAX = 1_000
"""Requests of one stream that may wait for their answer; the next one waits for room."""


class ConnectionLost(OttlaError):
    """The stream broke; what was asked may or may not have been done."""

    code = "OTTLA-CONNECTION-LOST"
    retriable = True


class Answer(NamedTuple):
    """A response and the batches behind it, valid for as long as they are referred to."""

    message: Response
    body: memoryview


class Connection:
    """Made by ``open``; once lost it stays so."""

    def __init__(self, stream: Stream, address: str) -> None:
        self.address = address
        self._stream = stream
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._room = asyncio.Semaphore(UNANSWERED_MAX)
        self._lost: ConnectionLost | None = None
        self._deadlines = Deadlines()
        stream.deliver(self._take, self._ended)

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, host: str, port: int, chance: Chance) -> "Connection":
        """Connect. Raises ConnectionLost with the reason."""
        shown = f"[{host}]" if ":" in host else host
        address = f"{shown}:{port}"
        url = f"http://{address}{STREAM_PATH}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                stream = await open_stream(
                    session,
                    url,
                    chance,
                    message_bytes_max=MAX_FRAME_BYTES,
                    ping_interval_s=PING_INTERVAL_S,
                    pong_wait_s=PONG_WAIT_S,
                )
        except UpgradeRefused as error:
            reason = "it is not ready" if error.status == 503 else str(error)
            raise ConnectionLost(f"{address}: {reason}.") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectionLost(f"{address}: {_short(error)}.") from error
        return cls(stream, address)

    @property
    def usable(self) -> bool:
        """Whether a request may still be answered."""
        return self._lost is None and not self._stream.closed

    async def request(self, message: Request, batches: Sequence[Buffer] = (), *, timeout_s: float) -> Answer:
        """Send and await the answer. Raises ConnectionLost, also after ``timeout_s``. An ErrorResponse is an answer."""
        if self._room.locked() or not self._stream.writable:
            try:
                async with asyncio.timeout(timeout_s):  # a node that does not read stops us from sending, too
                    return await (await self.send(message, batches))
            except TimeoutError:
                raise self._unanswered(timeout_s) from None
        number, future = await self._expect()
        deadline = self._deadlines.add(
            timeout_s, lambda: None if future.done() else future.set_exception(self._unanswered(timeout_s))
        )
        try:
            if self._lost is None:
                self._put(number, message, batches)
            return await future
        finally:
            self._deadlines.discard(deadline)
            self._waiting.pop(number, None)
            self._room.release()

    def _unanswered(self, timeout_s: float) -> ConnectionLost:
        return ConnectionLost(f"{self.address} did not answer within {timeout_s:g} s.")

    async def send(self, message: Request, batches: Sequence[Buffer] = ()) -> "asyncio.Future[Answer]":
        """Send in the order of the calls; the future brings the answer or ConnectionLost. Cancel it to forget it."""
        number, future = await self._expect()
        future.add_done_callback(lambda done: self._forget(number, done))
        if self._lost is not None:
            return future
        try:
            await self._write(number, message, batches)
        except BaseException:  # cancelled: nobody will ask for the answer
            future.cancel()
            raise
        return future

    async def _expect(self) -> tuple[int, "asyncio.Future[Answer]"]:
        """A request's number and what its answer will be, once there is room for one more. Whoever asked makes the
        room free again."""
        await self._room.acquire()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._number += 1
        number = self._number
        self._waiting[number] = future
        if self._lost is not None:
            future.set_exception(self._lost)
        return number, future

    async def send_unanswered(self, message: Request, batches: Sequence[Buffer] = ()) -> None:
        """Send a request that gets no answer (acks=0). Raises ConnectionLost."""
        if self._lost is not None:
            raise self._lost
        self._number += 1
        await self._write(self._number, message, batches)
        if self._lost is not None:
            raise self._lost

    async def _write(self, number: int, message: Request, batches: Sequence[Buffer]) -> None:
        self._put(number, message, batches)
        if not self._stream.writable:
            try:
                await self._stream.drain()
            except StreamEnded as error:
                self._lose(str(error))

    def _put(self, number: int, message: Request, batches: Sequence[Buffer]) -> None:
        try:
            self._stream.send(*frame_parts(number, message, batches))
        except StreamEnded as error:
            self._lose(str(error))

    def _forget(self, number: int, future: "asyncio.Future[Answer]") -> None:
        self._waiting.pop(number, None)
        self._room.release()
        if not future.cancelled():
            future.exception()  # seen: who was cancelled while waiting need not hear that the stream was lost

    def _take(self, frame: Payload) -> None:
        try:
            number, message, body = decode_response(frame)
        except BadFrame as error:
            self._lose(_short(error))
            self._stream.abort()
            return
        if number == 0 and isinstance(message, ErrorResponse):
            self._lose(message.message)
            return
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(Answer(message, body))

    def _ended(self) -> None:
        closed = self._stream.close_code != CloseCode.ABNORMAL_CLOSURE
        self._lose("the node closed the stream" if closed else self._stream.reason)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = ConnectionLost(f"{self.address}: {reason}.")
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(self._lost)

    async def close(self) -> None:
        """End the stream; whoever waits gets ConnectionLost."""
        self._lose("closed")
        await self._stream.close()


def _short(error: BaseException) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(cause) or type(cause).__name__
