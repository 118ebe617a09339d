"""Streams from other nodes: control (to the controller) and replica (to a leader), behind the mutual handshake."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import aiohttp
import msgspec
import structlog
from aiohttp import web

from ottla.client.frames import BadFrame, decode_request, encode_frame
from ottla.client.protocol import ReplicaFetchRequest
from ottla.log.chance import Chance
from ottla.log.model import BrokerEpoch, BrokerId
from ottla.raft.controller import Controller
from ottla.raft.handshake import HandshakeRefused, PeerIdentity, Purpose, accept
from ottla.raft.transport import BAD_FRAME

from .. import control_messages as control
from ..controller_channel import NOT_REGISTERED
from ..metrics import Metrics
from ..replica_manager import ReplicaManager
from ..replica_session import ReplicaSession

log = structlog.get_logger(__name__)

CONTROL_REQUESTS_MAX = 512
CONTROL_FRAME_MAX = 2 << 20
CLOSE_TIMEOUT_S = 1.0


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
        self._open: dict[web.WebSocketResponse, None] = {}  # in the order they came, which a set would not keep
        self._sessions: dict[BrokerId, ReplicaSession] = {}  # each follower's newest

    async def _accept(
        self, request: web.Request, purpose: Purpose, frame_max: int
    ) -> tuple[web.WebSocketResponse, PeerIdentity | None]:
        ws = web.WebSocketResponse(compress=False, max_msg_size=frame_max)
        await ws.prepare(request)
        self._metrics.connections.labels(kind=purpose).inc()
        try:
            peer = await accept(
                ws,
                self._local,
                self._secret,
                self._chance,
                timeout_s=self._handshake_s,
                purpose=purpose,
                directories=self._directories(),
            )
        except (HandshakeRefused, ConnectionError) as refused:
            log.warning("handshake.refused", purpose=purpose, remote=request.remote, problem=str(refused))
            return ws, None
        self._open[ws] = None
        return ws, peer

    async def close(self) -> None:
        """End every stream: this node is stopping."""
        closing = (ws.close() for ws in list(self._open))
        with contextlib.suppress(TimeoutError):  # a peer that hangs answers no farewell
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*closing, return_exceptions=True)

    # --- control -----------------------------------------------------------------------------------------------------

    async def control(self, request: web.Request) -> web.WebSocketResponse:
        """Heartbeats and commands of one broker."""
        ws, peer = await self._accept(request, "control", CONTROL_FRAME_MAX)
        if peer is None:
            return ws
        conversation = _ControlConversation(ws, self._controller, BrokerId(peer.node_id))
        try:
            await conversation.run()
        finally:
            self._open.pop(ws, None)
            await conversation.close()
        return ws

    # --- replica -----------------------------------------------------------------------------------------------------

    async def replica(self, request: web.Request) -> web.WebSocketResponse:
        """Fetches of one follower."""
        ws, peer = await self._accept(request, "replica", CONTROL_FRAME_MAX)
        if peer is None:
            return ws
        try:
            registration = self._manager.image.brokers.get(BrokerId(peer.node_id))
            if registration is None or registration.incarnation_id != peer.incarnation:
                return ws  # its registration has not reached this node's image yet; it will dial again
            await self._serve_replica(ws, registration.broker_id, registration.broker_epoch)
        finally:
            self._open.pop(ws, None)
            await ws.close()
        return ws

    async def _serve_replica(self, ws: web.WebSocketResponse, follower: BrokerId, epoch: BrokerEpoch) -> None:
        session = ReplicaSession(follower, epoch, self._manager.find, self._manager.clock, self._manager.giving)
        before, self._sessions[follower] = self._sessions.get(follower), session
        if before is not None:
            before.close()  # what still comes over that stream was sent before this one was dialed
        waits: asyncio.Queue[ReplicaFetchRequest] = asyncio.Queue()
        answering = asyncio.create_task(self._answer_fetches(ws, session, waits))
        try:
            async for message in ws:
                if message.type is not aiohttp.WSMsgType.BINARY or answering.done() or waits.qsize() > 2:
                    break
                if session.clock.closed:
                    break
                frame = decode_request(message.data)
                if not isinstance(frame.message, ReplicaFetchRequest):
                    break
                session.receive(frame.message)
                waits.put_nowait(frame.message)
        except BadFrame as error:
            log.warning("replica.stream.refused", follower=follower, problem=str(error))
            await _refuse(ws)
        finally:
            session.close()
            if self._sessions.get(follower) is session:
                del self._sessions[follower]
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _answer_fetches(
        self, ws: web.WebSocketResponse, session: ReplicaSession, waits: asyncio.Queue[ReplicaFetchRequest]
    ) -> None:
        number = 0
        try:
            while True:
                request = await waits.get()
                response, parts = await session.answer(request.max_wait_ms / 1000, request.max_bytes)
                number += 1
                self._metrics.bytes_to_replicas.inc(sum(map(len, parts)))
                await ws.send_bytes(encode_frame(number, response, parts))
        except (ConnectionError, aiohttp.ClientError):
            return
        except Exception:
            # The follower waits for this answer and we for its next request: the stream must end, or both do for ever.
            log.exception("replica.stream.failed", follower=session.follower)
            await ws.close(code=aiohttp.WSCloseCode.INTERNAL_ERROR)


class _ControlConversation:
    def __init__(self, ws: web.WebSocketResponse, controller: Controller, broker_id: BrokerId) -> None:
        self._ws = ws
        self._controller = controller
        self._broker_id = broker_id
        self._opened_for: BrokerEpoch | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async for message in self._ws:
            if message.type is not aiohttp.WSMsgType.BINARY or len(self._tasks) >= CONTROL_REQUESTS_MAX:
                return
            try:
                number, ask = control.decode_ask(message.data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                log.warning("control.stream.refused", broker=self._broker_id, problem=str(error))
                await _refuse(self._ws)
                return
            if isinstance(ask, control.Submit) and not control.may_submit(self._broker_id, ask.command):
                log.warning("control.stream.refused", broker=self._broker_id, problem=f"it may not ask for {ask}"[:300])
                await _refuse(self._ws)
                return
            if isinstance(ask, control.Beat):
                await self._beat(number, ask)
            else:
                work = self._submit(number, ask) if isinstance(ask, control.Submit) else self._bar(number)
                task = asyncio.create_task(work)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _beat(self, number: int, ask: control.Beat) -> None:
        if ask.beat.broker_id != self._broker_id:
            return  # a node speaks for itself only
        if ask.beat.broker_epoch not in (self._opened_for, NOT_REGISTERED):
            self._left()
            self._controller.stream_opened(self._broker_id, ask.beat.broker_epoch)
            self._opened_for = ask.beat.broker_epoch
        await self._send(number, control.BeatAnswer(self._controller.heartbeat(ask.beat)))

    async def _submit(self, number: int, ask: control.Submit) -> None:
        submitted = await self._controller.submit(ask.command)
        answer = control.SubmitAnswer(
            submitted.outcome.value, submitted.leader_id, submitted.index, submitted.result, submitted.reason
        )
        await self._send(number, answer)

    async def _bar(self, number: int) -> None:
        await self._send(number, control.BarrierAnswer(await self._controller.barrier()))

    async def _send(self, number: int, answer: control.Answer) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):  # a broker that left will ask again
            await self._ws.send_bytes(control.encode(number, answer))

    def _left(self) -> None:
        if self._opened_for is not None:
            self._controller.stream_closed(self._broker_id, self._opened_for)
            self._opened_for = None

    async def close(self) -> None:
        self._left()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ws.close()


async def _refuse(ws: web.WebSocketResponse) -> None:
    """End a stream that brought bytes which are no message, and say so."""
    with contextlib.suppress(TimeoutError, ConnectionError, aiohttp.ClientError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await ws.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR, message=BAD_FRAME)
