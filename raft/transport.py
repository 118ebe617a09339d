"""Raft messages over aiohttp WebSockets: the dialer sends, the acceptor receives, so one socket per direction.

PySyncObj needs of a transport: per pair in order, at most once, and a connection that lost something ends. So each
frame carries its number on the connection, a gap ends the connection, and a peer's new connection ends its old one.

    frame  | sequence on this connection, from 0: u64 | message (codec.py) ... |

Nothing here calls into the engine: what happens is put on an inbox, which the driver empties between ticks.
"""

import asyncio
import contextlib
import logging
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import aiohttp
from aiohttp import web
from pysyncobj.node import Node

from ottla.log.chance import Chance

from .barrier import BarrierTransport
from .codec import MAX_MESSAGE_BYTES, AppendEntries, MalformedMessage, Message, decode, encode
from .handshake import HandshakeRefused, PeerIdentity, accept, introduce

log = logging.getLogger(__name__)

RAFT_PATH = "/internal/raft"
QUEUE_MESSAGES_MAX = 10_000
QUEUE_BYTES_MAX = 16 << 20
INBOX_MAX = 2_000
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
PING_S = 2.0
CONNECT_TIMEOUT_S = 3.0
BAD_FRAME = b"OTTLA-BAD-FRAME"
"""What the close frame of a stream says that brought bytes which are no message."""

_SEQUENCE = struct.Struct(">Q")


class Endpoint(NamedTuple):
    """Where a voter listens, and the data directory that proves it is still itself (None: any)."""

    host: str
    port: int
    directory_id: str | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class Connected(NamedTuple):
    """Messages to ``node_id`` leave again, or no more."""

    node_id: int
    up: bool


class Received(NamedTuple):
    """A message came."""

    node_id: int
    message: Message


Event: TypeAlias = Connected | Received


class _Link:
    """What waits to go to one peer."""

    def __init__(self) -> None:
        self.up = False
        self.broken = False  # overflowed: the dialer must drop the connection
        self.wake = asyncio.Event()
        self.met = asyncio.Event()  # the peer came to us: it is there to be dialed
        self._heartbeat: bytes | None = None
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0

    def put(self, message: Message) -> None:
        data = encode(message)
        self.wake.set()
        if isinstance(message, AppendEntries) and not message.entries:
            self._heartbeat = data  # overtakes bulk; only the newest is of interest
            return
        self._queue.append(data)
        self._queued_bytes += len(data)
        if len(self._queue) > QUEUE_MESSAGES_MAX or self._queued_bytes > QUEUE_BYTES_MAX:
            self.broken = True

    def take(self) -> bytes | None:
        if self._heartbeat is not None:
            data, self._heartbeat = self._heartbeat, None
            return data
        if not self._queue:
            return None
        data = self._queue.popleft()
        self._queued_bytes -= len(data)
        return data

    def reset(self, *, up: bool) -> None:
        self.up, self.broken = up, False
        self._heartbeat = None
        self._queue.clear()
        self._queued_bytes = 0
        self.wake.clear()


class RaftTransport(BarrierTransport):
    """The voter's side of all its Raft streams. ``wake`` is called when the inbox has something."""

    def __init__(
        self,
        local: PeerIdentity,
        peers: Mapping[int, Endpoint],
        secret: bytes | None,
        chance: Chance,
        wake: Callable[[], None],
    ) -> None:
        super().__init__()
        self._local = local
        self._peers = dict(peers)
        self._secret = secret
        self._chance = chance
        self._wake = wake
        known = {node_id: peer.directory_id for node_id, peer in peers.items() if peer.directory_id is not None}
        self._directories = known or None
        self._links = {node_id: _Link() for node_id in peers}
        self._inbound: dict[int, web.WebSocketResponse] = {}
        self._inbox: deque[Event] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._session: aiohttp.ClientSession | None = None
        self._dialers: list[asyncio.Task[None]] = []
        self.refusals: dict[int, HandshakeRefused] = {}  # the last refusal per peer, for status pages

    # The engine's side

    def deliver(self, node: Node, message: Message) -> bool:
        """Queue ``message`` for ``node``; False while there is no connection."""
        link = self._links[node.id]
        if not link.up or link.broken:
            return False
        link.put(message)
        return True

    def take_events(self) -> list[Event]:
        """Everything that happened since the last call, in order."""
        events = list(self._inbox)
        self._inbox.clear()
        self._room.set()
        return events

    def _happened(self, event: Event) -> None:
        self._inbox.append(event)
        if len(self._inbox) >= INBOX_MAX:
            self._room.clear()
        self._wake()

    # Life

    def start(self, session: aiohttp.ClientSession) -> None:
        """Dial every peer from now on, through ``session``, which stays the caller's."""
        self._session = session
        self._dialers = [
            asyncio.create_task(self._dial(node_id, peer), name=f"raft-to-{node_id}")
            for node_id, peer in self._peers.items()
        ]

    async def stop(self) -> None:
        """End all connections."""
        self._session = None
        for task in self._dialers:
            task.cancel()
        await asyncio.gather(*self._dialers, return_exceptions=True)
        self._dialers = []
        for ws in list(self._inbound.values()):
            await _close(ws)

    # Sending

    async def _dial(self, node_id: int, peer: Endpoint) -> None:
        backoff = BACKOFF_FIRST_S
        while True:
            # Here, not in the pause: it may come while we still dial where it was not listening yet.
            self._links[node_id].met.clear()
            try:
                if await self._converse(node_id, peer):
                    backoff = BACKOFF_FIRST_S
            except HandshakeRefused as refused:
                if self.refusals.get(node_id) is None or self.refusals[node_id].code != refused.code:
                    log.warning("node %s at %s:%s: %s", node_id, peer.host, peer.port, refused)
                self.refusals[node_id] = refused
                backoff = BACKOFF_MAX_S
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await self._pause(self._links[node_id], backoff * (0.5 + self._chance.random() / 2))
            backoff = min(backoff * 2, BACKOFF_MAX_S)

    async def _pause(self, link: _Link, seconds: float) -> None:
        # Cut short when the peer dials us: it could not be answered, not even with a vote, until we have dialed it.
        await asyncio.sleep(min(seconds, BACKOFF_FIRST_S))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - BACKOFF_FIRST_S):
                await link.met.wait()

    async def _converse(self, node_id: int, peer: Endpoint) -> bool:
        """One connection, from dialing to its end. Whether it got as far as sending."""
        assert self._session is not None
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            ws = await self._session.ws_connect(peer.url + RAFT_PATH, compress=0, heartbeat=PING_S, max_msg_size=4096)
        link = self._links[node_id]
        try:
            await introduce(
                ws, self._local, "raft", self._secret, self._chance, expected=node_id, directories=self._directories
            )
            self.refusals.pop(node_id, None)
            link.reset(up=True)
            self._happened(Connected(node_id, True))
            await self._pump(link, ws)
            return True
        finally:
            if link.up:
                link.reset(up=False)
                self._happened(Connected(node_id, False))
            await _close(ws)

    async def _pump(self, link: _Link, ws: aiohttp.ClientWebSocketResponse) -> None:
        # Reading is for pongs and the close frame: nothing else comes this way.
        ended = asyncio.create_task(ws.receive())
        ended.add_done_callback(lambda _: link.wake.set())
        sequence = 0
        try:
            while not ended.done() and not link.broken:
                while (data := link.take()) is not None and not link.broken:
                    await ws.send_bytes(_SEQUENCE.pack(sequence) + data)
                    sequence += 1
                await link.wake.wait()
                link.wake.clear()
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, OSError, RuntimeError):
                await ended

    # Receiving

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """The aiohttp handler of RAFT_PATH."""
        if self._session is None:
            raise web.HTTPServiceUnavailable(text="OTTLA-NOT-READY: Raft has not started on this node\n")
        ws = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_BYTES + _SEQUENCE.size)
        await ws.prepare(request)
        try:
            peer = await accept(
                ws, self._local, self._secret, self._chance, purpose="raft", directories=self._directories
            )
        except (HandshakeRefused, ConnectionError) as refused:
            log.warning("refused a Raft stream from %s: %s", request.remote, refused)
            return ws
        if peer.node_id not in self._peers or self._session is None:
            await _close(ws)
            return ws
        self._links[peer.node_id].met.set()
        old, self._inbound[peer.node_id] = self._inbound.get(peer.node_id), ws
        if old is not None:
            closing = asyncio.create_task(_close(old))  # its frames are dropped from this line on
            closing.add_done_callback(lambda task: task.exception())
        try:
            await self._receive(peer.node_id, ws)
        finally:
            if self._inbound.get(peer.node_id) is ws:
                del self._inbound[peer.node_id]
            await _close(ws)
        return ws

    async def _receive(self, node_id: int, ws: web.WebSocketResponse) -> None:
        expected = 0
        async for frame in ws:
            if frame.type is not aiohttp.WSMsgType.BINARY or self._inbound.get(node_id) is not ws:
                return
            try:
                message = _decode_frame(frame.data, expected)
            except MalformedMessage as error:
                log.warning("ended the Raft stream of node %s: %s", node_id, error)
                await _close(ws, aiohttp.WSCloseCode.PROTOCOL_ERROR, BAD_FRAME)
                return
            expected += 1
            await self._room.wait()
            if self._inbound.get(node_id) is not ws:
                return
            self._happened(Received(node_id, message))


def _decode_frame(data: bytes, expected: int) -> Message:
    if len(data) < _SEQUENCE.size:
        raise MalformedMessage(f"a frame of {len(data)} bytes")
    (sequence,) = _SEQUENCE.unpack_from(data)
    if sequence != expected:
        raise MalformedMessage(f"frame {sequence} where {expected} belongs")
    return decode(memoryview(data)[_SEQUENCE.size :])


async def _close(
    ws: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    code: int = aiohttp.WSCloseCode.OK,
    reason: bytes = b"",
) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, RuntimeError):
        async with asyncio.timeout(1):
            await ws.close(code=code, message=reason)
