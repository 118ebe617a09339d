"""One WebSocket of binary messages, from the handshake on.

aiohttp makes the HTTP part of it; then this protocol takes its place on the transport. A message is handed over in the
call that received its last byte, so who answers at once costs no task, no future and no turn of the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from ottla.log.chance import Chance

from .frames import CONTROL_BYTES_MAX, SCRATCH_BYTES, CloseCode, FrameError, FrameReader, Opcode, Payload, frame_header
from .keepalive import Keepalive
from .masks import Keys, apply_mask

CLOSE_WAIT_S = 1.0
"""How long a peer may take to answer a farewell."""
QUEUE_MESSAGES_MAX = 16
"""Messages that wait for ``receive_bytes``; then the peer is not read."""
BACKLOG_BYTES = 64 << 10
"""What may come while messages are held back."""
WRITE_BUFFER_BYTES = 256 << 10
"""Above this ``drain`` waits for the peer to take some of it."""
JOIN_BYTES_MAX = 16 << 10
"""A head and a payload up to this are copied together; a larger one is handed over beside its head."""


REASON_BYTES_MAX = CONTROL_BYTES_MAX - 2

Part = Payload | memoryview


class StreamEnded(ConnectionError):
    """The stream is over; the text says why."""


class HttpProtocol(Protocol):
    """aiohttp's side of the connection, which must still learn that it was lost."""

    def connection_lost(self, exc: BaseException | None) -> None: ...


_scratches: "WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray]" = WeakKeyDictionary()


def _scratch_of(loop: asyncio.AbstractEventLoop) -> bytearray:
    scratch = _scratches.get(loop)
    if scratch is None:
        scratch = _scratches[loop] = bytearray(SCRATCH_BYTES)
    return scratch


class Stream(asyncio.BufferedProtocol):
    """One end. Messages go to whoever awaits ``receive_bytes``, or to the callback given to ``deliver``.

    A peer that was silent for ``ping_interval_s`` is pinged, and left if nothing comes for ``pong_wait_s`` after that.
    ``mask``: where the dialing side's keys come from; the other side sends unmasked. ``on_lost`` is called when the
    connection is gone.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        http: HttpProtocol,
        *,
        message_bytes_max: int,
        mask: Chance | None = None,
        ping_interval_s: float | None = None,
        pong_wait_s: float | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport: Final = transport
        self._http = http
        self._keys = Keys(mask) if mask is not None else None
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(
            self._take, _scratch_of(self._loop), masked=mask is None, message_bytes_max=message_bytes_max
        )
        self._queue: deque[Payload] = deque()
        self._on_message: Callable[[Payload], None] | None = None
        self._on_end: Callable[[], None] = lambda: None
        self._held = False  # by pause(), until resume()
        self._reading_stopped = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()
        self._plain = False  # messages go to a callback, and neither side has said or done anything to end this
        self._broken = False  # the peer does not speak the protocol
        self._dropping = False  # it is being closed: what still comes is for nobody
        self._farewell_sent = False
        self._farewell_came = False
        self.close_code: int | None = None
        self.reason = "the connection was lost"
        self._keepalive: Keepalive | None = None
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if ping_interval_s is not None:
            pong_wait_s = pong_wait_s or ping_interval_s / 2
            self._keepalive = Keepalive(ping_interval_s, pong_wait_s, self._ping, self._give_up)

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""
        return self._farewell_sent or self._farewell_came or self._ended.is_set()

    @property
    def writable(self) -> bool:
        """Whether ``drain`` would return at once."""
        return self._writable.is_set()

    async def ended(self) -> None:
        """Until the connection is gone, or the peer has said farewell."""
        await self._ended.wait()

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, *parts: Part) -> None:
        """One binary message, of parts that stand side by side. Raises StreamEnded. Never waits: see ``drain``."""
        if (not self._plain and self.closed) or self._transport.is_closing():
            raise StreamEnded(self.reason)
        self._write(Opcode.BINARY, parts)

    async def send_bytes(self, *parts: Part) -> None:
        """``send``, then ``drain``."""
        self.send(*parts)
        if not self._writable.is_set():
            await self.drain()

    async def drain(self) -> None:
        """Until the peer has taken most of what was sent. Raises StreamEnded."""
        await self._writable.wait()
        if self._ended.is_set():
            raise StreamEnded(self.reason)

    def _write(self, opcode: int, parts: tuple[Part, ...]) -> None:
        size = sum(map(len, parts))
        head = frame_header(opcode, size, masked=self._keys is not None)
        if self._keys is not None:
            key = self._keys.next()
            masked = bytearray().join(parts)
            apply_mask(key, masked)
            head, parts = head + key, (masked,)
        if size <= JOIN_BYTES_MAX:
            self._transport.write(b"".join((head, *parts)))
        else:
            self._transport.writelines((head, *parts))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def receive_bytes(self) -> Payload:
        """The next message. Raises StreamEnded."""
        while not self._queue:
            if self.closed:
                raise StreamEnded(self.reason)
            self._arrived.clear()
            await self._arrived.wait()
        message = self._queue.popleft()
        if not self._queue and not self._held:
            self._read_on()
        return message

    def deliver(self, on_message: Callable[[Payload], None], on_end: Callable[[], None] = lambda: None) -> None:
        """From now on messages are handed to ``on_message``, those that wait first; ``on_end`` is called once, when
        nothing can come any more. Neither may raise."""
        self._on_message, self._on_end = on_message, on_end
        self._plain = not (self.closed or self._broken or self._dropping)
        while self._queue and not self._held:
            on_message(self._queue.popleft())
        if not self._held and not self._queue:
            self._read_on()

    def pause(self) -> None:
        """Hand over nothing more. What comes waits; above BACKLOG_BYTES the peer waits, too."""
        self._held = True
        self._reader.pause()

    def resume(self) -> None:
        """Go on after ``pause``: what has waited comes first, in this call."""
        self._held = False
        while self._queue and self._on_message is not None:
            self._on_message(self._queue.popleft())
            if self._held:
                return
        self._read_on()

    def _read_on(self) -> None:
        if self._reader.paused:
            self._guarded(self._reader.resume)
        if self._reader.paused:
            return
        if self._ended.is_set():
            self._tell_end()
        elif self._reading_stopped and not self._transport.is_closing():
            self._reading_stopped = False
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._keepalive is not None:
            self._keepalive.heard_at_s = self._loop.time()
        if self._plain and (message := self._reader.whole_message(nbytes)) is not None:
            assert self._on_message is not None
            self._on_message(message)  # the usual case, without what the others need
            return
        if self._broken:
            return
        self._guarded(self._reader.received, nbytes)
        # Not at once: a transport that is not read does not notice that its peer is gone.
        if self._reader.paused and self._reader.waiting_bytes >= BACKLOG_BYTES and not self._transport.is_closing():
            self._reading_stopped = True
            self._transport.pause_reading()

    def feed(self, data: bytes) -> None:
        """Bytes that came before this protocol did."""
        self._guarded(self._reader.feed, data)

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except FrameError as error:
            self._break_off(error)

    def _break_off(self, error: FrameError) -> None:
        """Say why, and read on without a look until the peer hangs up: closing a socket that holds unread bytes would
        reset the connection, and the reason could be lost with it."""
        self._broken = True
        self.reason = str(error)
        self._say_farewell(error.code, self.reason.encode())
        self._end()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        self._loop.call_later(CLOSE_WAIT_S, self._transport.abort)

    def _take(self, opcode: int, payload: Payload) -> None:
        if self._farewell_came or self._broken:
            return
        if opcode == Opcode.BINARY:
            self._take_message(payload)
        elif opcode == Opcode.TEXT:
            raise FrameError(CloseCode.UNSUPPORTED_DATA, "a stream carries binary frames only")
        elif opcode == Opcode.PING and not self.closed and self.writable:
            # A peer that reads nothing gets none: they would pile up.
            self._write(Opcode.PONG, (payload,))
        elif opcode == Opcode.CLOSE:
            self._take_farewell(payload)

    def _take_message(self, payload: Payload) -> None:
        if self._farewell_sent or self._dropping:
            return
        if self._on_message is not None:
            self._on_message(payload)
            return
        self._queue.append(payload)
        self._arrived.set()
        if len(self._queue) >= QUEUE_MESSAGES_MAX:
            self._reader.pause()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _take_farewell(self, payload: Payload) -> None:
        self._farewell_came = True
        self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
        if not self._farewell_sent:
            said = bytes(payload[2:]).decode("utf-8", "replace")
            self.reason = f"the peer closed the stream{': ' + said if said else ''}"
            self._say_farewell(CloseCode.OK, b"")
        self._end()
        self._transport.close()

    def _say_farewell(self, code: int, reason: bytes) -> None:
        if not self._farewell_sent and not self._transport.is_closing():
            self._farewell_sent = True
            self._write(Opcode.CLOSE, (code.to_bytes(2, "big") + reason[:REASON_BYTES_MAX],))

    async def close(self, code: int = CloseCode.OK, message: bytes = b"") -> None:
        """Say farewell, wait a while for the peer's, and hang up. What has waited is dropped."""
        if not self.closed:
            self.reason = "this side closed the stream"
            self._say_farewell(code, message)
        self._dropping, self._held, self._plain = True, False, False
        self._queue.clear()
        self._read_on()
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._ended.wait()
        except TimeoutError:
            self.abort()
        finally:
            self._transport.close()

    def abort(self) -> None:
        """Hang up without a word; what was not sent is lost."""
        self._transport.abort()

    def _end(self) -> None:
        if self._ended.is_set():
            return
        self._plain = False
        if self._keepalive is not None:
            self._keepalive.stop()
        self._ended.set()
        self._arrived.set()
        self._writable.set()
        if not self._reader.paused or self._broken:
            self._tell_end()

    def _tell_end(self) -> None:
        """Once; after what has waited was handed over."""
        tell, self._on_end = self._on_end, lambda: None
        tell()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.close_code is None:
            self.close_code = CloseCode.ABNORMAL_CLOSURE
        if exc is not None and not self.closed:
            self.reason = str(exc) or type(exc).__name__
        self._end()
        self._http.connection_lost(exc)
        self._on_lost()

    def eof_received(self) -> bool:
        return False

    def _ping(self) -> None:
        if not self.closed:
            self._write(Opcode.PING, (b"",))

    def _give_up(self) -> bool:
        if self._reading_stopped:
            return False  # its pong would wait behind what we do not read
        self.reason = "the peer answers no ping"
        self.abort()
        return True
