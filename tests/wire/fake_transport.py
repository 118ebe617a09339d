"""A transport that keeps what it is given, and aiohttp's protocol behind a stream."""

import asyncio


class FakeTransport:
    """As much of asyncio.Transport as a Stream asks for."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof = False
        self.protocol: asyncio.BufferedProtocol | None = None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            asyncio.get_running_loop().call_soon(protocol.connection_lost, None)


class FakeHttp:
    """aiohttp's half of the connection."""

    def __init__(self) -> None:
        self.lost: list[BaseException | None] = []

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)


def give(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """As transports do, in pieces of what the buffer holds."""
    view = memoryview(data)
    while len(view):
        room = protocol.get_buffer(-1)
        assert len(room), "an empty buffer is an error to a transport"
        size = min(len(room), len(view))
        room[:size] = view[:size]
        view = view[size:]
        protocol.buffer_updated(size)  # with the room still held, as transports have it, some until the next one
