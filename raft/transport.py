"""Raft messages over WebSockets: the dialer sends, the acceptor receives, so one socket per direction.

PySyncObj needs of a transport: per pair in order, at most once, and a connection that lost something ends. So each
frame carries its number on the connection, a gap ends the connection, and a peer's new connection ends its old one.

    frame  | sequence on this connection, from 0: u64 | message (codec.py) ... |

Nothing here calls into the engine: what happens is put on an inbox, which the driver empties between ticks.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import aiohttp
from aiohttp import web
from pysyncobj.node import Node

from ottla.log.chance import Chance
from ottla.wire.frames import CloseCode, Payload
from ottla.wire.stream import Stream
from ottla.wire.upgrade import accept_stream, open_stream

from .barrier import BarrierTransport
from .codec import MAX_MESSAGE_BYTES, MalformedMessage, Message, decode
from .handshake import HandshakeRefused, PeerIdentity, accept, introduce
from .outbound import SEQUENCE, Outbound

log = logging.getLogger(__name__)

RAFT_PATH = "/internal/raft"
INBOX_MAX = 2_000
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
PING_S = 2.0
CONNECT_TIMEOUT_S = 3.0
BAD_FRAME = b"OTTLA-BAD-FRAME"
"""What the close frame of a stream says that brought bytes which are no message."""


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
        self._links = {node_id: Outbound() for node_id in peers}
        self._inbound: dict[int, Stream] = {}
        self._inbox: deque[Event] = deque()
        self._held_back: list[Stream] = []  # not read until the inbox has room
        self._session: aiohttp.ClientSession | None = None
        self._dialers: list[asyncio.Task[None]] = []
        self.refusals: dict[int, HandshakeRefused] = {}  # the last refusal per peer, for status pages

    # The engine's side

    def deliver(self, node: Node, message: Message) -> bool:
        """Queue ``message`` for ``node``; False while there is no connection."""
        link = self._links[node.id]
        if not link.up:
            return False
        link.put(message)
        return True

    def take_events(self) -> list[Event]:
        """Everything that happened since the last call, in order."""
        events = list(self._inbox)
        self._inbox.clear()
        held_back, self._held_back = self._held_back, []
        for stream in held_back:
            stream.resume()
        return events

    def _happened(self, event: Event) -> None:
        self._inbox.append(event)
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
        await asyncio.gather(*(stream.close() for stream in list(self._inbound.values())))

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
            except Exception:  # a bug, which must not leave a peer undialed for ever
                log.exception("node %s at %s:%s: the connection failed", node_id, peer.host, peer.port)
            await self._pause(self._links[node_id], backoff * (0.5 + self._chance.random() / 2))
            backoff = min(backoff * 2, BACKOFF_MAX_S)

    async def _pause(self, link: Outbound, seconds: float) -> None:
        # Cut short when the peer dials us: it could not be answered, not even with a vote, until we have dialed it.
        await asyncio.sleep(min(seconds, BACKOFF_FIRST_S))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - BACKOFF_FIRST_S):
                await link.met.wait()

    async def _converse(self, node_id: int, peer: Endpoint) -> bool:
        """One connection, from dialing to its end. Whether it got as far as sending."""
        assert self._session is not None
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            stream = await open_stream(
                self._session, peer.url + RAFT_PATH, self._chance, message_bytes_max=4096, ping_interval_s=PING_S
            )
        link = self._links[node_id]
        try:
            await introduce(
                stream, self._local, "raft", self._secret, self._chance, expected=node_id, directories=self._directories
            )
            self.refusals.pop(node_id, None)
            over = link.open(stream)
            self._happened(Connected(node_id, True))
            try:
                await over.wait()
            finally:
                link.close()
                self._happened(Connected(node_id, False))
            return True
        finally:
            await stream.close()

    # Receiving

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler of RAFT_PATH."""
        if self._session is None:
            raise web.HTTPServiceUnavailable(text="OTTLA-NOT-READY: Raft has not started on this node\n")
        response, stream = await accept_stream(request, message_bytes_max=MAX_MESSAGE_BYTES + SEQUENCE.size)
        try:
            peer = await accept(
                stream, self._local, self._secret, self._chance, purpose="raft", directories=self._directories
            )
        except (HandshakeRefused, ConnectionError) as refused:
            log.warning("refused a Raft stream from %s: %s", request.remote, refused)
            return response
        if peer.node_id not in self._peers or self._session is None:
            await stream.close()
            return response
        self._links[peer.node_id].met.set()
        old, self._inbound[peer.node_id] = self._inbound.get(peer.node_id), stream
        if old is not None:
            closing = asyncio.create_task(old.close())  # its frames are dropped from this line on
            closing.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await self._receive(peer.node_id, stream)
        finally:
            if self._inbound.get(peer.node_id) is stream:
                del self._inbound[peer.node_id]
            await stream.close()
        return response

    async def _receive(self, node_id: int, stream: Stream) -> None:
        over, expected, malformed = asyncio.Event(), 0, False

        def take(data: Payload) -> None:
            nonlocal expected, malformed
            if self._inbound.get(node_id) is not stream or over.is_set():
                over.set()
                return
            try:
                message = _decode_frame(data, expected)
            except MalformedMessage as error:
                log.warning("ended the Raft stream of node %s: %s", node_id, error)
                malformed = True
                over.set()
                return
            expected += 1
            self._happened(Received(node_id, message))
            if len(self._inbox) >= INBOX_MAX:
                stream.pause()
                self._held_back.append(stream)

        stream.deliver(take, over.set)
        await over.wait()
        if malformed:
            await stream.close(CloseCode.PROTOCOL_ERROR, BAD_FRAME)


def _decode_frame(data: Payload, expected: int) -> Message:
    if len(data) < SEQUENCE.size:
        raise MalformedMessage(f"a frame of {len(data)} bytes")
    (sequence,) = SEQUENCE.unpack_from(data)
    if sequence != expected:
        raise MalformedMessage(f"frame {sequence} where {expected} belongs")
    return decode(memoryview(data)[SEQUENCE.size :])
