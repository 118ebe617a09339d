"""Streams between nodes as the dialing side holds them: WebSockets behind the mutual handshake."""

import asyncio
from collections.abc import Callable

import aiohttp
import msgspec

from ottla.client.frames import BadFrame, ResponseFrame, decode_response, frame_parts
from ottla.client.protocol import ReplicaFetchRequest
from ottla.log.chance import Chance
from ottla.raft.commands import Command
from ottla.raft.controller import SubmitOutcome
from ottla.raft.handshake import PeerIdentity, Purpose, introduce
from ottla.raft.sessions import Heartbeat, HeartbeatAnswer
from ottla.wire.frames import Payload
from ottla.wire.stream import Stream, StreamEnded
from ottla.wire.upgrade import open_stream

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

    async def dial(self, host: str, port: int, node_id: int, purpose: Purpose) -> Stream:
        """A proved stream. Raises LinkLost with the reason."""
        path = {"control": CONTROL_PATH, "replica": REPLICA_PATH}[purpose]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}{path}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                stream = await open_stream(self._session, url, self._chance, message_bytes_max=self._frame_max)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LinkLost(f"{host}:{port}: {error or type(error).__name__}") from error
        try:
            await introduce(
                stream, self._local, purpose, self._secret, self._chance, CONNECT_TIMEOUT_S, expected=node_id
            )
        except (OSError, TimeoutError) as error:
            stream.abort()
            raise LinkLost(f"{host}:{port}: {error}") from error
        except BaseException:  # cancelled: nobody else would close it
            stream.abort()
            raise
        return stream


def hang_up(stream: Stream) -> None:
    """Close, without waiting for a peer that may be gone."""
    closing = asyncio.create_task(stream.close())
    closing.add_done_callback(lambda task: task.cancelled() or task.exception())


class ControlLink:
    """A control stream: numbered questions, answers in any order."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._waiting: dict[int, asyncio.Future[control.Answer]] = {}
        self._number = 0
        stream.deliver(self._take, self._ended)

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
        self._number += 1
        number = self._number
        future: asyncio.Future[control.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._stream.send_bytes(control.encode(number, ask))
                return await future
        except (StreamEnded, TimeoutError) as error:
            raise LinkLost(f"the controller does not answer: {error or type(error).__name__}") from error
        finally:
            self._waiting.pop(number, None)

    def _take(self, frame: Payload) -> None:
        try:
            number, answer = control.decode_answer(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._stream.abort()
            return
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(answer)

    def _ended(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkLost("the control stream broke"))

    def close(self) -> None:
        self._ended()
        hang_up(self._stream)


class Reply(msgspec.Struct, frozen=True):
    """An attempt's outcome; see raft.controller.Submitted."""

    outcome: SubmitOutcome
    index: int | None
    result: bytes | None
    reason: str


class ReplicaLink:
    """A replica stream: fetches out, answers back in order."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._number = 0

    def deliver(self, on_answer: Callable[[ResponseFrame], None], on_end: Callable[[str], None]) -> None:
        """Hand each answer over as it comes, and once why no more will: the stream ended, or makes no sense."""

        def take(frame: Payload) -> None:
            try:
                answer = decode_response(frame)
            except BadFrame as error:
                self._stream.reason = str(error)
                self._stream.abort()
                return
            on_answer(answer)

        self._stream.deliver(take, lambda: on_end(self._stream.reason))

    def send(self, request: ReplicaFetchRequest) -> None:
        """Raises LinkLost."""
        self._number += 1
        try:
            self._stream.send(*frame_parts(self._number, request))
        except StreamEnded as error:
            raise LinkLost(str(error)) from error

    def abort(self) -> None:
        """Have the stream end now; ``on_end`` tells."""
        self._stream.abort()

    async def close(self) -> None:
        await self._stream.close()
