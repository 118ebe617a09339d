"""What goes to one peer: at once while its connection takes it, and else from a bounded queue."""

import asyncio
import struct
from collections import deque

from ottla.wire.stream import Stream, StreamEnded

from .codec import AppendEntries, Message, encode

QUEUE_MESSAGES_MAX = 10_000
QUEUE_BYTES_MAX = 16 << 20
SEQUENCE = struct.Struct(">Q")
"""How each frame begins: its number on its connection, from 0."""


class Outbound:
    """One peer's. Between ``open`` and ``close`` there is a connection; what an ended one had not sent is dropped."""

    def __init__(self) -> None:
        self.met = asyncio.Event()  # the peer came to us: it is there to be dialed
        self._stream: Stream | None = None
        self._over: asyncio.Event | None = None  # of this connection
        self._sequence = 0
        self._heartbeat: bytes | None = None
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._draining: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether there is a connection that will take messages."""
        return self._stream is not None and self._over is not None and not self._over.is_set()

    def open(self, stream: Stream) -> asyncio.Event:
        """Send over ``stream`` from now on; the event is set when it is of no use any longer."""
        self._stream, self._over = stream, asyncio.Event()
        stream.deliver(lambda _: None, self._over.set)  # pongs and the farewell are all that comes this way
        return self._over

    def close(self) -> None:
        """There is no connection any longer."""
        if self._draining is not None:
            self._draining.cancel()
        self._draining = self._stream = self._over = None
        self._sequence = 0
        self._heartbeat = None
        self._queue.clear()
        self._queued_bytes = 0

    def put(self, message: Message) -> None:
        """Send it, now or in its turn. A connection that keeps too much waiting is given up."""
        data = encode(message)
        if isinstance(message, AppendEntries) and not message.entries:
            self._heartbeat = data  # overtakes bulk; only the newest is of interest
        else:
            self._queue.append(data)
            self._queued_bytes += len(data)
        self._flush()
        if len(self._queue) > QUEUE_MESSAGES_MAX or self._queued_bytes > QUEUE_BYTES_MAX:
            self._give_up()

    def _flush(self) -> None:
        stream = self._stream
        try:
            while stream is not None and self._draining is None and (data := self._take()) is not None:
                stream.send(SEQUENCE.pack(self._sequence), data)
                self._sequence += 1
                if not stream.writable:
                    self._draining = asyncio.create_task(self._drain(stream))
        except StreamEnded:
            self._give_up()

    def _take(self) -> bytes | None:
        if self._heartbeat is not None:
            data, self._heartbeat = self._heartbeat, None
            return data
        if not self._queue:
            return None
        data = self._queue.popleft()
        self._queued_bytes -= len(data)
        return data

    async def _drain(self, stream: Stream) -> None:
        try:
            await stream.drain()
        except StreamEnded:
            self._give_up()
            return
        self._draining = None
        self._flush()

    def _give_up(self) -> None:
        if self._over is not None:
            self._over.set()
