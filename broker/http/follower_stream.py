"""The leader's end of a follower's stream: requests in, answers out in their order, without a task between.

A request is answered as soon as there are data or errors, and with nothing once its wait is over or a newer request
has come: a follower has two out only to have the first one's answer now.
"""

import asyncio
from collections import deque

import structlog

from ottla.client.frames import BadFrame, decode_request, frame_parts
from ottla.client.protocol import ReplicaFetchRequest
from ottla.raft.transport import BAD_FRAME
from ottla.wire.frames import CloseCode, Payload
from ottla.wire.stream import Stream, StreamEnded

from ..metrics import Metrics
from ..replica_session import RESPONSE_BYTES_MAX, ReplicaSession

log = structlog.get_logger(__name__)


class FollowerStream:
    """One follower's stream, until it ends."""

    def __init__(self, stream: Stream, session: ReplicaSession, metrics: Metrics) -> None:
        self._stream = stream
        self._session = session
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._requests: deque[tuple[ReplicaFetchRequest, float]] = (
            deque()
        )  # with the loop's time of their latest answer
        self._answered = 0
        self._looking = False  # soon
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._over = asyncio.Event()
        self._farewell = CloseCode.OK
        self._reason = b""

    async def run(self) -> None:
        """Answer until the follower leaves or says something that is no request."""
        self._session.when_ready(self._look_soon)
        self._stream.deliver(self._take, self._over.set)
        try:
            await self._over.wait()
        finally:
            self._over.set()
            if self._timer is not None:
                self._timer.cancel()
            self._session.close()
        await self._stream.close(self._farewell, self._reason)

    def _take(self, message: Payload) -> None:
        if self._over.is_set():
            return
        try:
            self._receive(decode_request(message).message)
        except BadFrame as error:
            log.warning("replica.stream.refused", follower=self._session.follower, problem=str(error))
            self._end(CloseCode.PROTOCOL_ERROR, BAD_FRAME)
        except Exception:
            self._fail()

    def _receive(self, request: object) -> None:
        if not isinstance(request, ReplicaFetchRequest):
            raise BadFrame(f"{type(request).__name__} does not belong on this stream")
        if self._session.clock.closed:
            self._end(CloseCode.OK)
            return
        self._session.receive(request)
        self._requests.append((request, self._loop.time() + request.max_wait_ms / 1000))
        self._answer_what_is_due()

    # --- answers -----------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        # Not now: whoever appends is in the middle of it, and may have more for the same answer.
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        try:
            self._answer_what_is_due()
        except Exception:
            self._fail()

    def _answer_what_is_due(self) -> None:
        requests = self._requests
        while requests and not self._over.is_set():
            request, due_s = requests[0]
            if not self._session.ready and len(requests) == 1 and (left_s := due_s - self._loop.time()) > 0:
                self._look_again(left_s)
                return
            requests.popleft()
            self._answer(request)

    def _answer(self, request: ReplicaFetchRequest) -> None:
        response, parts = self._session.collect(min(request.max_bytes, RESPONSE_BYTES_MAX))
        self._answered += 1
        for part in parts:
            self._metrics.bytes_to_replicas += len(part)
        try:
            self._stream.send(*frame_parts(self._answered, response, parts))
        except StreamEnded:
            self._over.set()

    def _look_again(self, left_s: float) -> None:
        """One timer for all waits: nearly every one is over long before its time, and the next one looks."""
        due_s = self._loop.time() + left_s
        if self._timer is None or due_s < self._timer_due_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_due_s = self._loop.call_later(left_s, self._expire), due_s

    def _expire(self) -> None:
        self._timer = None
        self._look()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, code: CloseCode, reason: bytes = b"") -> None:
        self._farewell, self._reason = code, reason
        self._over.set()

    def _fail(self) -> None:
        # The follower waits for this answer and we for its next request: the stream must end, or both do for ever.
        log.exception("replica.stream.failed", follower=self._session.follower)
        self._end(CloseCode.INTERNAL_ERROR)
