"""A broker's line to the controller: heartbeats, and commands whose outcome is always found out.

Every command carries (broker, broker epoch, sequence), so it may be sent again, to the same controller or the next,
until its outcome is known: the state machine executes it once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from ottla.log.clock import Clock
from ottla.log.model import BrokerEpoch, BrokerId
from ottla.raft.commands import Body, Command, Requester
from ottla.raft.controller import Controller, SubmitOutcome
from ottla.raft.digests import ImageDigest
from ottla.raft.image import RESULT_WINDOW
from ottla.raft.results import Refused, Result, decode_result
from ottla.raft.sessions import Heartbeat, HeartbeatAnswer

log = structlog.get_logger(__name__)

NOT_REGISTERED = BrokerEpoch(0)
"""The epoch of a broker that only asks; it opens no session."""
BEATS_MISSED = 4
"""Heartbeats whose time passes without an answer before the stream is given up: well within a session, so that a
controller that hangs costs no broker its place with the next one."""
COMMANDS_MAX = 1_000
"""Commands with a time-out that are unresolved at once, given up by their callers or not."""
BARRIERS_MAX = 64
"""Barriers asked for at once; more wait here. With the commands they stay below what a control stream takes."""
RETRY_S = 0.05
"""Between attempts, while there is no controller to ask."""
FIRST_RETRY_S = 0.005
"""At a start the first follow sooner, twice as long after each other: a node that is alone leads at once."""


class ControllerUnavailable(Exception):
    """No controller answered in time. The command may still be executed."""


class LinkLost(Exception):
    """The stream to the controller broke; what was asked has an unknown outcome."""


class SubmitReply(Protocol):
    """What an attempt brought; see raft.controller.Submitted."""

    @property
    def outcome(self) -> SubmitOutcome: ...
    @property
    def index(self) -> int | None: ...
    @property
    def result(self) -> bytes | None: ...
    @property
    def reason(self) -> str: ...


class Link(Protocol):
    """A way to one controller: in this process or over a control stream. Methods raise LinkLost."""

    async def submit(self, command: Command) -> SubmitReply: ...

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer: ...

    async def barrier(self) -> int | None: ...

    def close(self) -> None: ...


class LocalLink:
    """The controller is this very node."""

    def __init__(self, controller: Controller, broker_id: BrokerId) -> None:
        self._controller = controller
        self._broker_id = broker_id
        self._opened_for: BrokerEpoch | None = None

    async def submit(self, command: Command) -> SubmitReply:
        return await self._controller.submit(command)

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        if beat.broker_epoch not in (self._opened_for, NOT_REGISTERED):
            self.close()
            self._controller.stream_opened(self._broker_id, beat.broker_epoch)
            self._opened_for = beat.broker_epoch
        return self._controller.heartbeat(beat)

    async def barrier(self) -> int | None:
        return await self._controller.barrier()

    def close(self) -> None:
        if self._opened_for is not None:
            self._controller.stream_closed(self._broker_id, self._opened_for)
            self._opened_for = None


class ControllerChannel:
    """Finds the controller and keeps a link to it.

    ``leader``: who the quorum says leads, or None. ``dial``: opens a link to that node; raises LinkLost or OSError.
    """

    def __init__(
        self,
        *,
        local: BrokerId,
        leader: Callable[[], int | None],
        dial: Callable[[int], Awaitable[Link]],
        clock: Clock,
        heartbeat_s: float,
        digest: Callable[[], ImageDigest | None] = lambda: None,
    ) -> None:
        self._local = local
        self._leader = leader
        self._dial = dial
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._digest = digest
        self._link: Link | None = None
        self._linked_to: int | None = None
        self._dialing = asyncio.Lock()
        self._barring = asyncio.Semaphore(BARRIERS_MAX)
        self._broker_epoch: BrokerEpoch | None = None
        self._next_sequence = 0
        self._unresolved: set[int] = set()
        self._resolved = asyncio.Event()
        self._tasks: set[asyncio.Task[tuple[Result, int]]] = set()
        self._limited: set[asyncio.Task[tuple[Result, int]]] = set()  # those of ``_tasks`` that had a time-out
        self.last_answer: HeartbeatAnswer | None = None
        self.heard_at_s: float | None = None

    # --- commands ----------------------------------------------------------------------------------------------------

    async def register(self, body: Body) -> tuple[Result, int]:
        """Send a registration, idempotent by itself, until it has an outcome. Returns it and its index."""
        return await self._until_known(Command(0, None, body))

    def registered(self, broker_epoch: BrokerEpoch) -> None:
        """From now on commands and heartbeats are this incarnation's."""
        self._broker_epoch = broker_epoch

    async def commit_index(self) -> int:
        """How far the quorum has committed, as an active controller says: for a node that is not registered yet."""
        rest_s = FIRST_RETRY_S
        while True:
            link = await self._connected()
            if link is not None:
                try:
                    answer = await link.heartbeat(Heartbeat(self._local, NOT_REGISTERED, 0))
                except LinkLost:
                    self._drop(link)
                else:
                    if answer.active:
                        return answer.commit_index
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, RETRY_S)

    async def barrier(self, timeout_s: float) -> int:
        """A metadata index that shows everything committed before this call. Raises ControllerUnavailable."""
        try:
            async with asyncio.timeout(timeout_s), self._barring:
                while True:
                    index = await self._ask_barrier()
                    if index is not None:
                        return index
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise ControllerUnavailable(f"no controller could tell within {timeout_s} s what is current") from None

    async def _ask_barrier(self) -> int | None:
        link = await self._connected()
        if link is None:
            return None
        try:
            # None may be a commit that is slow: no reason to break off what else is under way on this stream. Whether
            # it still leads its heartbeats' answers say.
            return await link.barrier()
        except LinkLost:
            self._drop(link)
            return None

    async def submit(
        self, body: Body, timeout_s: float | None = None, *, change_id: str | None = None
    ) -> tuple[Result, int]:
        """Have the quorum decide ``body`` once. Returns its result and its index in the quorum's log.
        ``change_id``: the client's, so that another attempt of it by another broker is the same change.

        Raises ControllerUnavailable after ``timeout_s``; the command goes on in the background even then, so that its
        sequence is not left open.
        """
        assert self._broker_epoch is not None, "registered before anything is submitted"
        if timeout_s is not None and len(self._limited) >= COMMANDS_MAX:
            raise ControllerUnavailable(f"{COMMANDS_MAX} commands wait for a controller already")
        task = asyncio.create_task(self._resolve(body, self._broker_epoch, change_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if timeout_s is not None:
            self._limited.add(task)
            task.add_done_callback(self._limited.discard)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise ControllerUnavailable(f"no controller answered within {timeout_s} s") from None

    async def _resolve(self, body: Body, epoch: BrokerEpoch, change_id: str | None) -> tuple[Result, int]:
        while self._unresolved and self._next_sequence - min(self._unresolved) >= RESULT_WINDOW:
            self._resolved.clear()
            await self._resolved.wait()
        sequence = self._next_sequence
        self._next_sequence += 1
        self._unresolved.add(sequence)
        try:
            return await self._until_known(Command(0, Requester(self._local, epoch, sequence), body, change_id))
        finally:
            self._unresolved.discard(sequence)
            self._resolved.set()

    async def _until_known(self, command: Command) -> tuple[Result, int]:
        while True:
            link = await self._connected()
            if link is not None:
                try:
                    reply = await link.submit(command)
                except LinkLost:
                    self._drop(link)
                else:
                    if reply.outcome is SubmitOutcome.OK:
                        assert reply.result is not None
                        assert reply.index is not None
                        return decode_result(reply.result), reply.index
                    if reply.outcome is SubmitOutcome.FAILED and reply.reason == "COMMAND_TOO_LARGE":
                        return Refused("INVALID_REQUEST", "the request makes a command above 1 MiB"), 0
                    if reply.outcome is SubmitOutcome.NOT_CONTROLLER:
                        self._drop(link)
            await asyncio.sleep(RETRY_S)

    # --- the link ----------------------------------------------------------------------------------------------------

    async def _connected(self) -> Link | None:
        """The link to the present leader, dialled if needed; None while there is none."""
        leader = self._leader()
        if self._link is not None and self._linked_to == leader:
            return self._link
        async with self._dialing:
            leader = self._leader()
            if self._link is not None:
                if self._linked_to == leader:
                    return self._link
                self._drop(self._link)
            if leader is None:
                return None
            try:
                self._link = await self._dial(leader)
            except (LinkLost, OSError, TimeoutError) as error:
                log.debug("controller.unreachable", controller=leader, problem=str(error))
                return None
            self._linked_to = leader
            return self._link

    def _drop(self, link: Link) -> None:
        link.close()
        if self._link is link:
            self._link = self._linked_to = None

    # --- heartbeats --------------------------------------------------------------------------------------------------

    async def beat_forever(self, applied_index: Callable[[], int]) -> None:
        """Send heartbeats until cancelled."""
        while True:
            started_s = self._clock.monotonic()
            await self._beat(applied_index())
            spent_s = self._clock.monotonic() - started_s
            await asyncio.sleep(max(0.0, self._heartbeat_s - spent_s) if self._link is not None else RETRY_S)

    async def _beat(self, applied_index: int) -> None:
        assert self._broker_epoch is not None
        link = await self._connected()
        if link is None:
            return
        try:
            async with asyncio.timeout(BEATS_MISSED * self._heartbeat_s):
                answer = await link.heartbeat(self._make_beat(self._broker_epoch, applied_index))
        except (LinkLost, TimeoutError):
            self._drop(link)
            return
        self.last_answer, self.heard_at_s = answer, self._clock.monotonic()
        if not answer.active:
            self._drop(link)

    def _make_beat(self, epoch: BrokerEpoch, applied_index: int) -> Heartbeat:
        return Heartbeat(self._local, epoch, applied_index, self._digest())

    async def close(self) -> None:
        """Give up what is unresolved and hang up."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            self._drop(self._link)
