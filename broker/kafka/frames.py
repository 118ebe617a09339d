"""Bytes in, whole requests out: | length: i32 | that many bytes |. Pure.

Small requests are read into a buffer that all connections share, and copied out of it; a request of which only the
beginning has come gets a buffer of its own, into which the rest is read at once, so that a large batch is copied for
its first part only. Such a buffer grows as bytes come: who merely announces much costs nothing.
"""

from .wire import INT32, Malformed

SHARED_BYTES = 256 << 10
GROWN_FROM_BYTES = 64 << 10
"""The first buffer of a request that is announced to be larger, and of which little has come."""
HEADSTART = 8
"""A request of which much has come at once has room for so many times as much: it is copied once, and no more."""
SMALLEST_REQUEST = 10
"""Key, version, correlation id and the length of a client's name."""


class SpokeHttp(Malformed):
    """The client came to the wrong door, and can be told so in its own words."""


class FrameReader:
    """One connection's requests. ``shared``: used between ``buffer`` and ``received`` only, which must follow each
    other without another reader's calls between them."""

    def __init__(self, shared: bytearray, bytes_max: int) -> None:
        self._shared = memoryview(shared)
        self._bytes_max = bytes_max
        self._start = bytearray()  # of a length that is not whole yet
        self._frame = bytearray()
        self._length = 0  # of the request that is being read; 0: none is
        self._filled = 0

    @property
    def held_bytes(self) -> int:
        """What is kept for a request that is not whole."""
        return len(self._frame)

    @property
    def between_requests(self) -> bool:
        """Whether nothing of a next request has come."""
        return not self._length and not self._start

    def buffer(self) -> memoryview:
        """Where the next bytes go."""
        return memoryview(self._frame)[self._filled :] if self._length else self._shared

    def received(self, size: int) -> list[memoryview]:
        """The requests that are whole now that ``size`` more bytes are in the buffer. Raises Malformed."""
        if not self._length:
            return self._split(self._shared[:size])
        self._filled += size
        if self._filled == self._length:
            return [self._finish()]
        if self._filled == len(self._frame):
            # A larger one, and not this one longer: whoever reads into it may still hold a view.
            grown = bytearray(min(self._length, 2 * len(self._frame)))
            grown[: self._filled] = self._frame
            self._frame = grown
        return []

    def _finish(self) -> memoryview:
        whole, self._frame = self._frame, bytearray()
        self._length = self._filled = 0
        return memoryview(whole).toreadonly()

    def _split(self, data: memoryview) -> list[memoryview]:
        if self._start:
            data = memoryview(bytes(self._start) + bytes(data))
            self._start = bytearray()
        frames: list[memoryview] = []
        position = 0
        while len(data) - position >= INT32.size:
            length = self._checked(INT32.unpack_from(data, position)[0])
            position += INT32.size
            end = position + length
            if end > len(data):
                self._begin(length, data[position:])
                return frames
            frames.append(memoryview(bytes(data[position:end])))
            position = end
        self._start += data[position:]
        return frames

    def _begin(self, length: int, first: memoryview) -> None:
        self._length, self._filled = length, len(first)
        self._frame = bytearray(min(length, max(GROWN_FROM_BYTES, HEADSTART * len(first))))
        self._frame[: len(first)] = first

    def _checked(self, length: int) -> int:
        if SMALLEST_REQUEST <= length <= self._bytes_max:
            return length
        if INT32.pack(length) in (b"GET ", b"POST", b"HEAD", b"PUT "):
            raise SpokeHttp("this is HTTP: HTTP has a port of its own")
        if INT32.pack(length)[:2] == b"\x16\x03":
            raise Malformed("this is TLS, which this port does not speak")
        raise Malformed(f"a request of {length} bytes: {SMALLEST_REQUEST} to {self._bytes_max} are taken")
