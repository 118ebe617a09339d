"""Streams from other nodes: control (to the controller) and replica (to a leader), behind the mutual handshake."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import msgspec
import structlog
from aiohttp import web

from ottla.log.chance import Chance
from ottla.log.model import BrokerEpoch, BrokerId
from ottla.raft.controller import Controller
from ottla.raft.handshake import HandshakeRefused, PeerIdentity, Purpose, accept
from ottla.raft.transport import BAD_FRAME
from ottla.wire.frames import CloseCode, Payload
from ottla.wire.stream import Stream, StreamEnded
from ottla.wire.upgrade import accept_stream

from .. import control_messages as control
from ..controller_channel import NOT_REGISTERED
from ..metrics import Metrics
from ..replica_manager import ReplicaManager
from ..replica_session import ReplicaSession
from .follower_stream import FollowerStream

log = structlog.get_logger(__name__)

CONTROL_REQUESTS_MAX = 512
CONTROL_FRAME_MAX = 2 << 20


class InternalStreams:
    """The accepting side of the streams between nodes."""

    def __init__(
        self,
        *,
        local: PeerIdentity,
        secret: bytes | None,
        chance: Chance,
        directories: Callable[[], Mapping[int, str]],
        controller: Controller,
        manager: ReplicaManager,
        metrics: Metrics,
        handshake_s: float,
    ) -> None:
        self._local = local
        self._secret = secret
        self._chance = chance
        self._directories = directories
        self._controller = controller
        self._manager = manager
        self._metrics = metrics
        self._handshake_s = handshake_s
        self._open: dict[Stream, None] = {}  # in the order they came, which a set would not keep
        self._sessions: dict[BrokerId, ReplicaSession] = {}  # each follower's newest

    async def _accept(
        self, request: web.Request, purpose: Purpose
    ) -> tuple[web.StreamResponse, Stream, PeerIdentity | None]:
        response, stream = await accept_stream(request, message_bytes_max=CONTROL_FRAME_MAX)
        self._metrics.connections.labels(kind=purpose).inc()
        try:
            peer = await accept(
                stream,
                self._local,
                self._secret,
                self._chance,
                timeout_s=self._handshake_s,
                purpose=purpose,
                directories=self._directories(),
            )
        except (HandshakeRefused, ConnectionError) as refused:
            log.warning("handshake.refused", purpose=purpose, remote=request.remote, problem=str(refused))
            return response, stream, None
        self._open[stream] = None
        return response, stream, peer

    async def close(self) -> None:
        """End every stream: this node is stopping."""
        await asyncio.gather(*(stream.close() for stream in list(self._open)), return_exceptions=True)

    # --- control -----------------------------------------------------------------------------------------------------

    async def control(self, request: web.Request) -> web.StreamResponse:
        """Heartbeats and commands of one broker."""
        response, stream, peer = await self._accept(request, "control")
        if peer is not None:
            try:
                await _ControlConversation(stream, self._controller, BrokerId(peer.node_id)).run()
            finally:
                self._open.pop(stream, None)
        return response

    # --- replica -----------------------------------------------------------------------------------------------------

    async def replica(self, request: web.Request) -> web.StreamResponse:
        """Fetches of one follower."""
        response, stream, peer = await self._accept(request, "replica")
        if peer is None:
            return response
        try:
            registration = self._manager.image.brokers.get(BrokerId(peer.node_id))
            if registration is not None and registration.incarnation_id == peer.incarnation:
                await self._serve_replica(stream, registration.broker_id, registration.broker_epoch)
            # Otherwise its registration has not reached this node's image yet; it will dial again.
        finally:
            self._open.pop(stream, None)
            await stream.close()
        return response

    async def _serve_replica(self, stream: Stream, follower: BrokerId, epoch: BrokerEpoch) -> None:
        session = ReplicaSession(follower, epoch, self._manager.find, self._manager.clock, self._manager.giving)
        before, self._sessions[follower] = self._sessions.get(follower), session
        if before is not None:
            before.close()  # what still comes over that stream was sent before this one was dialed
        try:
            await FollowerStream(stream, session, self._metrics).run()
        finally:
            if self._sessions.get(follower) is session:
                del self._sessions[follower]


class _ControlConversation:
    def __init__(self, stream: Stream, controller: Controller, broker_id: BrokerId) -> None:
        self._stream = stream
        self._controller = controller
        self._broker_id = broker_id
        self._opened_for: BrokerEpoch | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._refused = False

    async def run(self) -> None:
        """Until the broker leaves or says something that is none of its business."""
        self._stream.deliver(self._take, self._over.set)
        try:
            await self._over.wait()
        finally:
            self._over.set()
            self._left()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            code, reason = (CloseCode.PROTOCOL_ERROR, BAD_FRAME) if self._refused else (CloseCode.OK, b"")
            await self._stream.close(code, reason)

    def _take(self, message: Payload) -> None:
        if self._over.is_set():
            return
        if len(self._tasks) >= CONTROL_REQUESTS_MAX or not self._stream.writable:  # it takes no answers
            self._over.set()
            return
        try:
            number, ask = control.decode_ask(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(str(error))
            return
        if isinstance(ask, control.Submit) and not control.may_submit(self._broker_id, ask.command):
            self._refuse(f"it may not ask for {ask}"[:300])
        elif isinstance(ask, control.Beat):
            self._beat(number, ask)
        else:
            task = asyncio.create_task(
                self._submit(number, ask) if isinstance(ask, control.Submit) else self._bar(number)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _refuse(self, problem: str) -> None:
        log.warning("control.stream.refused", broker=self._broker_id, problem=problem)
        self._refused = True
        self._over.set()

    def _beat(self, number: int, ask: control.Beat) -> None:
        if ask.beat.broker_id != self._broker_id:
            return  # a node speaks for itself only
        if ask.beat.broker_epoch not in (self._opened_for, NOT_REGISTERED):
            self._left()
            self._controller.stream_opened(self._broker_id, ask.beat.broker_epoch)
            self._opened_for = ask.beat.broker_epoch
        with contextlib.suppress(StreamEnded):  # a broker that left will ask again
            self._stream.send(control.encode(number, control.BeatAnswer(self._controller.heartbeat(ask.beat))))

    async def _submit(self, number: int, ask: control.Submit) -> None:
        submitted = await self._controller.submit(ask.command)
        answer = control.SubmitAnswer(
            submitted.outcome.value, submitted.leader_id, submitted.index, submitted.result, submitted.reason
        )
        await self._send(number, answer)

    async def _bar(self, number: int) -> None:
        await self._send(number, control.BarrierAnswer(await self._controller.barrier()))

    async def _send(self, number: int, answer: control.Answer) -> None:
        with contextlib.suppress(StreamEnded):
            await self._stream.send_bytes(control.encode(number, answer))

    def _left(self) -> None:
        if self._opened_for is not None:
            self._controller.stream_closed(self._broker_id, self._opened_for)
            self._opened_for = None
