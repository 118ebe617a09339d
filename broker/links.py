"""Streams between nodes as the dialing side holds them: WebSockets behind the mutual handshake."""

import asyncio
import contextlib

import aiohttp
import msgspec

from ottla.client.frames import BadFrame, ResponseFrame, decode_response, encode_frame
from ottla.client.protocol import ReplicaFetchRequest
from ottla.log.chance import Chance
from ottla.raft.commands import Command
from ottla.raft.controller import SubmitOutcome
from ottla.raft.handshake import HandshakeRefused, PeerIdentity, Purpose, introduce
from ottla.raft.sessions import Heartbeat, HeartbeatAnswer

from . import control_messages as control
from .controller_channel import LinkLost

CONTROL_PATH = "/internal/control"
REPLICA_PATH = "/internal/replica"
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 6.0
"""A controller that says nothing for so long is asked no more: longer than a proposal may take."""


class Dialer:
    """Opens streams to other nodes in this node's name."""

    def __init__(
        self, session: aiohttp.ClientSession, local: PeerIdentity, secret: bytes | None, chance: Chance, frame_max: int
    ) -> None:
        self._session = session
        self._local = local
        self._secret = secret
        self._chance = chance
        self._frame_max = frame_max

    async def dial(self, host: str, port: int, node_id: int, purpose: Purpose) -> aiohttp.ClientWebSocketResponse:
        """A proved stream. Raises LinkLost with the reason."""
        path = {"control": CONTROL_PATH, "replica": REPLICA_PATH}[purpose]
        shown = f"[{host}]" if ":" in host else host
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                ws = await self._session.ws_connect(
                    f"http://{shown}:{port}{path}", compress=0, max_msg_size=self._frame_max
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LinkLost(f"{host}:{port}: {error or type(error).__name__}") from error
        try:
            await introduce(ws, self._local, purpose, self._secret, self._chance, CONNECT_TIMEOUT_S, expected=node_id)
        except (HandshakeRefused, aiohttp.ClientError, OSError, TimeoutError) as error:
            await hang_up(ws)
            raise LinkLost(f"{host}:{port}: {error}") from error
        except BaseException:  # cancelled: nobody else would close it
            await hang_up(ws)
            raise
        return ws


async def hang_up(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Close, without waiting long for a peer that may be gone."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, RuntimeError):
        async with asyncio.timeout(1):
            await ws.close()


class ControlLink:
    """A control stream: numbered questions, answers in any order."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._waiting: dict[int, asyncio.Future[control.Answer]] = {}
        self._number = 0
        self._reader = asyncio.create_task(self._read())

    async def submit(self, command: Command) -> "Reply":
        answer = await self._ask(control.Submit(command))
        if not isinstance(answer, control.SubmitAnswer) or answer.outcome not in SubmitOutcome.__members__:
            raise LinkLost(f"the controller answered {answer}")
        return Reply(SubmitOutcome[answer.outcome], answer.index, answer.result, answer.reason)

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        answer = await self._ask(control.Beat(beat))
        if not isinstance(answer, control.BeatAnswer):
            raise LinkLost(f"the controller answered {answer}")
        return answer.answer

    async def barrier(self) -> int | None:
        answer = await self._ask(control.Barrier())
        if not isinstance(answer, control.BarrierAnswer):
            raise LinkLost(f"the controller answered {answer}")
        return answer.index

    async def _ask(self, ask: control.Ask) -> control.Answer:
        if self._reader.done():
            raise LinkLost("the control stream is closed")
        self._number += 1
        number = self._number
        future: asyncio.Future[control.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._ws.send_bytes(control.encode(number, ask))
                return await future
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LinkLost(f"the controller does not answer: {error or type(error).__name__}") from error
        finally:
            self._waiting.pop(number, None)

    async def _read(self) -> None:
        try:
            async for frame in self._ws:
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    break
                number, answer = control.decode_answer(frame.data)
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (msgspec.MsgspecError, aiohttp.ClientError, OSError):
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LinkLost("the control stream broke"))

    def close(self) -> None:
        self._reader.cancel()
        closing = asyncio.create_task(hang_up(self._ws))
        closing.add_done_callback(lambda task: task.exception())


class Reply(msgspec.Struct, frozen=True):
    """An attempt's outcome; see raft.controller.Submitted."""

    outcome: SubmitOutcome
    index: int | None
    result: bytes | None
    reason: str


class ReplicaLink:
    """A replica stream: fetches out, answers back in order."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._number = 0

    async def send(self, request: ReplicaFetchRequest) -> None:
        """Raises LinkLost."""
        self._number += 1
        try:
            await self._ws.send_bytes(encode_frame(self._number, request))
        except (aiohttp.ClientError, OSError) as error:
            raise LinkLost(str(error)) from error

    async def receive(self) -> ResponseFrame:
        """The next answer. Raises LinkLost where the stream ends or makes no sense."""
        try:
            frame = await self._ws.receive()
            if frame.type is not aiohttp.WSMsgType.BINARY:
                raise LinkLost(f"the replica stream ended ({frame.type.name})")
            return decode_response(frame.data)
        except (aiohttp.ClientError, OSError, BadFrame) as error:
            raise LinkLost(str(error)) from error

    def abort(self) -> None:
        """Have the stream end soon: whoever receives then gets LinkLost."""
        closing = asyncio.create_task(hang_up(self._ws))
        closing.add_done_callback(lambda task: task.exception())

    async def close(self) -> None:
        await hang_up(self._ws)
