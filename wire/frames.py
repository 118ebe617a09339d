"""WebSocket frames (RFC 6455, section 5), bytes in and messages out: no sockets, no loop.

A ``FrameReader`` says where the next bytes are to be put, so that a large payload is read to where it stays. Small ones
are cut out of a buffer that all readers of a loop share: between two calls nothing of anybody's is in it.
"""

import enum
import struct
from collections.abc import Callable
from typing import TypeAlias

from .masks import KEY_BYTES, apply_mask

Payload: TypeAlias = bytes | bytearray

SCRATCH_BYTES = 256 << 10
LARGE_BYTES = 16 << 10
"""An unfinished payload at least so long gets a place of its own; a shorter one waits in the rest."""
GROW_BYTES = 1 << 20
"""How much room a peer's word is worth: a place grows by as much as has come or this, whatever was announced."""
CONTROL_BYTES_MAX = 125

_WHOLE_BINARY = 0x82
_FIN = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_CONTROL = 0x08
_MASKED = 0x80
_SHORT = struct.Struct(">BB")
_MEDIUM = struct.Struct(">BBH")
_LONG = struct.Struct(">BBQ")
_NOTHING = memoryview(b"")


class Opcode(enum.IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    """Why a stream ends (RFC 6455, section 7.4.1)."""

    OK = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL_CLOSURE = 1006  # never on the wire: it ended without a word
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011


class FrameError(ValueError):
    """The other side does not speak the protocol; ``code`` says in what way."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame_header(opcode: int, size: int, *, masked: bool = False) -> bytes:
    """What stands before the payload (and before its key) of a message in one frame."""
    mask = _MASKED if masked else 0
    if size <= CONTROL_BYTES_MAX:
        return _SHORT.pack(_FIN | opcode, mask | size)
    if size < 1 << 16:
        return _MEDIUM.pack(_FIN | opcode, mask | 126, size)
    return _LONG.pack(_FIN | opcode, mask | 127, size)


class _Head:
    """A frame's head, read."""

    __slots__ = ("final", "key", "opcode", "size")

    def __init__(self, opcode: int, final: bool, size: int, key: bytes) -> None:
        self.opcode, self.final, self.size, self.key = opcode, final, size, key


class FrameReader:
    """Cuts what is received into messages and gives each to ``take(opcode, payload)``, in the call that completes it.

    ``masked``: whether the peer must mask, as clients do. ``message_bytes_max`` (125 at least) bounds a message, in
    however many fragments. ``take`` may call ``pause``; then the rest waits until ``resume``.
    """

    def __init__(
        self, take: Callable[[int, Payload], None], scratch: bytearray, *, masked: bool, message_bytes_max: int
    ) -> None:
        self._take = take
        self._data = scratch
        self._scratch = memoryview(scratch)
        self._masked = masked
        self._mask_bit = _MASKED if masked else 0
        self._small_start = 2 + (KEY_BYTES if masked else 0)
        self._max = message_bytes_max
        self._rest = _NOTHING  # of the last bytes: the beginning of a frame, or all that came after a pause
        self._head: _Head | None = None  # of the large payload that is being read to its own place
        self._body = bytearray()
        self._filled = 0
        self._fragments: bytearray | None = None
        self._fragments_opcode = 0
        self.paused = False

    # --- where bytes go ----------------------------------------------------------------------------------------------

    def buffer(self) -> memoryview:
        """Where the next bytes belong, until ``received``."""
        head = self._head
        if head is None:
            return self._scratch
        if self._filled == len(self._body):
            # A new one, for whoever filled the old one may still hold it, and what is held cannot grow.
            self._body = self._body + bytes(min(head.size - self._filled, max(self._filled, GROW_BYTES)))
        return memoryview(self._body)[self._filled :]

    def received(self, size: int) -> None:
        """So many bytes were put into ``buffer``. Raises FrameError."""
        if (message := self.whole_message(size)) is not None:
            self._take(Opcode.BINARY, message)
        elif self._head is not None:
            self._filled += size
            if self._filled == self._head.size:
                self._end_large(self._head)
        elif self._rest:
            rest, self._rest = self._rest, _NOTHING
            self._cut(memoryview(b"".join((rest, self._scratch[:size]))), stays=True)
        else:
            self._cut(self._scratch[:size], stays=False)

    def whole_message(self, size: int) -> Payload | None:
        """What was put into ``buffer``, where it is one short binary message and nothing else, as it nearly always is
        where one is awaited; it is then not given to ``take``. None: ``received`` is to be called."""
        data, start = self._data, self._small_start
        if self._head is not None or self._rest or self.paused or size < start or data[0] != _WHOLE_BINARY:
            return None
        length = data[1] ^ self._mask_bit
        if length == 126:
            length = data[2] << 8 | data[3]
            start += 2
            if not 126 <= length <= self._max:
                return None
        elif length > 126:
            return None
        if size != length + start or self._fragments is not None:
            return None
        payload = data[start:size]
        if not self._masked:
            return bytes(payload)
        apply_mask(bytes(data[start - KEY_BYTES : start]), payload)
        return payload

    def feed(self, data: bytes) -> None:
        """Bytes that came by another way. Raises FrameError."""
        view = memoryview(data)
        while len(view):
            room = self.buffer()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            del room
            view = view[size:]
            self.received(size)

    @property
    def waiting_bytes(self) -> int:
        """How much has come and was not given yet."""
        return len(self._rest)

    def pause(self) -> None:
        """Give no more messages, but for one that is half here: what has come already waits."""
        self.paused = True

    def resume(self) -> None:
        """Give what waits, until it is through or ``take`` pauses again. Raises FrameError."""
        self.paused = False
        rest, self._rest = self._rest, _NOTHING
        self._cut(rest, stays=True)

    def _end_large(self, head: _Head) -> None:
        body, self._body, self._head = self._body, bytearray(), None
        self._complete(head, body)

    # --- frames ------------------------------------------------------------------------------------------------------

    def _cut(self, data: memoryview, *, stays: bool) -> None:
        """Every whole frame of ``data``; what is left begins the next. ``stays``: nobody writes over it."""
        at, end = 0, len(data)
        while not self.paused and end - at >= 2:
            start, head = self._read_head(data, at)
            if head is None:
                break
            if start + head.size > end:
                if head.size >= LARGE_BYTES:
                    self._begin_large(head, data[start:])
                    return
                break
            at = start + head.size
            self._complete(head, self._payload(head, data[start:at]))
        if at < end:
            self._rest = data[at:] if stays else memoryview(bytes(data[at:]))

    def _payload(self, head: _Head, data: memoryview) -> Payload:
        return bytearray(data) if head.key else bytes(data)

    def _begin_large(self, head: _Head, data: memoryview) -> None:
        self._body = bytearray(min(head.size, len(data) + GROW_BYTES))
        self._body[: len(data)] = data
        self._filled = len(data)
        self._head = head

    def _read_head(self, data: memoryview, at: int) -> tuple[int, _Head | None]:
        """Where the payload starts; None where the head is not here yet. Raises FrameError."""
        first, second = data[at], data[at + 1]
        size = second & 0x7F
        start = at + 2
        if size == 126:
            if len(data) < start + 2:
                return at, None
            size = data[start] << 8 | data[start + 1]
            start += 2
        elif size == 127:
            if len(data) < start + 8:
                return at, None
            size = int.from_bytes(data[start : start + 8], "big")
            start += 8
        self._check(first, bool(second & _MASKED), size)
        key = b""
        if self._masked:
            if len(data) < start + KEY_BYTES:
                return at, None
            key = bytes(data[start : start + KEY_BYTES])
            start += KEY_BYTES
        return start, _Head(first & _OPCODE, bool(first & _FIN), size, key)

    def _check(self, first: int, masked: bool, size: int) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "reserved bits are set, and no extension was agreed on")
        if masked is not self._masked:
            wrong = "a client's frame is not masked" if self._masked else "a server's frame is masked"
            raise FrameError(CloseCode.PROTOCOL_ERROR, wrong)
        if opcode & _CONTROL:
            if size > CONTROL_BYTES_MAX or not first & _FIN or opcode > Opcode.PONG:
                raise FrameError(CloseCode.PROTOCOL_ERROR, f"a control frame {opcode} of {size} bytes, or in fragments")
            return
        if opcode > Opcode.BINARY:
            raise FrameError(CloseCode.PROTOCOL_ERROR, f"there is no frame {opcode}")
        if (opcode == Opcode.CONTINUATION) is (self._fragments is None):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments of two messages, or of none")
        before = len(self._fragments) if self._fragments is not None else 0
        if before + size > self._max:
            message = f"a message of {before + size} bytes; this side takes {self._max}"
            raise FrameError(CloseCode.MESSAGE_TOO_BIG, message)

    def _complete(self, head: _Head, payload: Payload) -> None:
        if head.key:
            assert isinstance(payload, bytearray)
            apply_mask(head.key, payload)
        if head.opcode & _CONTROL or (head.final and self._fragments is None):
            self._take(head.opcode, payload)
        else:
            self._gather(head, payload)

    def _gather(self, head: _Head, payload: Payload) -> None:
        if self._fragments is None:
            self._fragments, self._fragments_opcode = bytearray(), head.opcode
        self._fragments += payload
        if head.final:
            message, self._fragments = self._fragments, None
            self._take(self._fragments_opcode, message)
