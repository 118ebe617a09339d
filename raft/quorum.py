"""The metadata quorum as the rest of Ottla sees it: propose bytes, learn what became of them, read what is true.

This is the engine's driver too: it empties the transport's inbox into it, ticks it when something happened or is
due, and never does one inside the other.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from pysyncobj.config import FAIL_REASON

from ottla.log.chance import Chance
from ottla.log.clock import Clock
from ottla.log.storage import Storage

from .applied_index import AppliedIndex
from .engine import SafeSyncObj
from .group_commit import GroupCommit, RunBlocking
from .handshake import PeerIdentity
from .proposals import (
    Outcome as Outcome,
    Proposal as Proposal,
    QuorumSettings as QuorumSettings,
    QuorumUnavailable as QuorumUnavailable,
    failed,
    proposal_of,
)
from .pysyncobj_core import Applied, Timing
from .snapshot_keeper import SnapshotKeeper, StateHooks
from .snapshot_transfer import SNAPSHOT_PATH
from .tail import TAIL_PATH, TailAnswer, View, answer_tail
from .tail_desk import TailDesk
from .transport import RAFT_PATH, Connected, Endpoint, RaftTransport
from .wal import EntryId, WriteAheadLog
from .wal_format import MAX_COMMAND_BYTES

log = logging.getLogger(__name__)

PROPOSALS_MAX = 10_000


class MetadataQuorum:
    """One voter of the metadata quorum. ``voters`` is everybody, this node included.

    ``apply(index, term, command)`` is called on the loop for every committed command in order, after every start from
    the first one that no snapshot has; it is deterministic and does not raise. ``state`` takes and restores
    snapshots; without it there are none, and the log grows. ``on_fatal`` is called once if this node must not go
    on: a failed sync, a broken invariant. ``run_blocking`` runs one function at a time off the loop.
    """

    def __init__(
        self,
        *,
        local: PeerIdentity,
        voters: Mapping[int, Endpoint],
        directory: Path,
        storage: Storage,
        clock: Clock,
        chance: Chance,
        secret: bytes | None,
        apply: Callable[[int, int, bytes], bytes],
        state: StateHooks | None = None,
        settings: QuorumSettings | None = None,
        run_blocking: RunBlocking,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        assert local.node_id in voters
        self._local = local
        self._voters = dict(voters)
        self._clock = clock
        self._chance = chance
        self._apply = apply
        self._settings = settings or QuorumSettings()
        self._run_blocking = run_blocking
        self._on_fatal = on_fatal
        self._next_turn: asyncio.Handle | None = None
        self._context = contextvars.copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        others = {node_id: endpoint for node_id, endpoint in voters.items() if node_id != local.node_id}
        self._transport = RaftTransport(local, others, secret, chance, self._wake)
        self._keeper = SnapshotKeeper(
            cluster_id=local.cluster_id,
            voters=voters,
            directory=directory,
            storage=storage,
            clock=clock,
            chance=chance,
            secret=secret,
            hooks=state,
            run_blocking=run_blocking,
            wake=self._wake,
            failed=self._task_ended,
        )
        self._wal: WriteAheadLog | None = None
        self._core: SafeSyncObj | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._applied = AppliedIndex()
        self._seen: tuple[object, ...] = ()
        self._open: dict[asyncio.Future[Applied], None] = {}  # proposals without an outcome, in order
        self._barrier: asyncio.Future[Applied] | None = None  # a no-op that is not in the log yet
        self._ended = False
        self._tail = TailDesk(self._look_at_tail, secret, local.cluster_id)
        self.add_listener(self._tail.changed)

    # Life

    async def start(self) -> None:
        """Recover state and log, then take part. Raises WalDamaged, SnapshotDamaged or OSError where they cannot be
        trusted."""
        self._wal, snapshot = await self._keeper.recover()
        settings = self._settings
        self._core = SafeSyncObj(
            self._local.node_id,
            [node_id for node_id in self._voters if node_id != self._local.node_id],
            wal=self._wal,
            transport=self._transport,
            clock=self._clock,
            chance=self._chance,
            apply=self._apply,
            timing=Timing(settings.heartbeat_s, settings.election_min_s, settings.election_max_s),
            snapshot=snapshot,
            compaction=settings.compaction,
        )
        commit = GroupCommit(self._wal, self._run_blocking, self._synced)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        self._keeper.start(self._session)
        self._transport.start(self._session)
        self._tasks = [self._spawn(commit.run(), "raft-sync")]
        self._wake()

    async def stop(self) -> None:
        """Hand leadership over if this node has it, briefly trying, and end. Open proposals become UNKNOWN."""
        if self._core is not None and not self._ended:
            await self._hand_over()
        self._end()
        tasks = [*self._tasks, *self._keeper.jobs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = []
        await self._transport.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._wal is not None:
            wal, self._wal = self._wal, None
            await self._run_blocking(wal.close)  # after whatever sync is still on its way

    def add_routes(self, app: web.Application) -> None:
        """Register the internal routes that the other voters dial."""
        app.router.add_get(RAFT_PATH, self._transport.handle)
        app.router.add_get(SNAPSHOT_PATH, self._keeper.desk.handle)
        app.router.add_get(TAIL_PATH, self._tail.handle)

    async def raft_handler(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler of the Raft route, for a node whose routes are made before it is formed."""
        return await self._transport.handle(request)

    async def snapshot_handler(self, request: web.Request) -> web.Response:
        """The aiohttp handler of the snapshot route, likewise."""
        return await self._keeper.desk.handle(request)

    async def tail_handler(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler of the route that observers follow."""
        return await self._tail.handle(request)

    def _look_at_tail(self, after: EntryId) -> TailAnswer | None:
        if self._core is None or self._wal is None or self._ended:
            return None
        core, view = self._core, View(self.leader_id or 0, self.term)
        return answer_tail(self._wal, core.applied_index, core.newest_snapshot, view, after)

    async def _hand_over(self) -> None:
        assert self._core is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.hand_over_s):
                while self._core.is_leader and len(self._voters) > 1 and not self._ended:
                    self._core.hand_over()
                    await asyncio.sleep(self._settings.heartbeat_s / 4)

    def _end(self) -> None:
        """From here on nothing is promised."""
        self._ended = True
        for handle in (self._timer, self._next_turn):
            if handle is not None:
                handle.cancel()
        for future in list(self._open):
            if not future.done():
                future.set_exception(QuorumUnavailable("this node's Raft has stopped"))
        self._applied.stop()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._ended:
            return
        error = task.exception()
        assert error is not None  # the tasks only end by failing
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.critical("OTTLA-RAFT-STOPPED: %s", error, exc_info=error)
        for other in (*self._tasks, *self._keeper.jobs):
            other.cancel()
        self._end()
        self._on_fatal(error)

    # The driver. No task: waking one costs an idle node as much as what there is to do.

    def _wake(self) -> None:
        """Have a turn soon: all that happens until then is dealt with in it."""
        if self._next_turn is None and self._core is not None and not self._ended:
            self._next_turn = asyncio.get_running_loop().call_soon(self._drive, context=self._context)

    def _drive(self) -> None:
        assert self._core is not None
        self._next_turn = None
        try:
            self._turn(self._core)
            if not self._ended:
                self._set_timer(self._core.next_deadline())
        except Exception as error:
            self._fail(error)

    def _set_timer(self, deadline: float) -> None:
        # A deadline mostly moves away, with each heartbeat: a timer that comes too early is cheaper than a new one.
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._time_is_up, context=self._context)

    def _time_is_up(self) -> None:
        self._timer = None
        if self._next_turn is None:
            self._drive()

    def _turn(self, core: SafeSyncObj) -> None:
        self._barrier = None  # its no-op enters the log in this tick; later readers need another
        for event in self._transport.take_events():
            if isinstance(event, Connected):
                core.connected(event.node_id, event.up)
            else:
                core.receive(event.node_id, event.message)
        if core.is_due:
            core.doTick(0)
        self._keeper.look(core)
        self._announce(core)

    def _synced(self) -> None:
        assert self._core is not None
        self._core.released()
        self._wake()

    def _announce(self, core: SafeSyncObj) -> None:
        seen = (core.is_leader, core.is_active, core.leader_id, core.term, core.applied_index)
        if seen == self._seen:
            return
        self._seen = seen
        self._applied.changed(core.applied_index)

    # What the rest of Ottla does with it

    def add_listener(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop whenever leadership or the applied index changed. It must not raise."""
        self._applied.add_listener(callback)

    async def propose(self, command: bytes, timeout_s: float | None = None) -> Proposal:
        """Commit ``command`` and wait until it is applied here. Only the leader may.

        Never raises but for cancellation, and never waits longer than ``timeout_s``; both leave the command UNKNOWN.
        """
        if len(command) > MAX_COMMAND_BYTES:
            return failed(f"COMMAND_TOO_LARGE: {len(command)} bytes, at most {MAX_COMMAND_BYTES}")
        if self._core is None or self._ended or not self._core.is_leader:
            return failed("NOT_LEADER")
        if len(self._open) >= PROPOSALS_MAX:
            return failed("QUEUE_FULL")
        future = self._submit(self._core, command, no_op=False)
        try:
            async with asyncio.timeout(self._settings.propose_timeout_s if timeout_s is None else timeout_s):
                return proposal_of(await future)
        except TimeoutError:
            return Proposal(Outcome.UNKNOWN, None, None, "TIMEOUT")
        except QuorumUnavailable as stopped:
            return Proposal(Outcome.UNKNOWN, None, None, f"STOPPED: {stopped}")
        finally:
            self._open.pop(future, None)

    def _submit(self, core: SafeSyncObj, command: bytes, *, no_op: bool) -> "asyncio.Future[Applied]":
        future: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._open[future] = None
        future.add_done_callback(lambda done: self._open.pop(done, None))
        core.propose(command, lambda outcome: None if future.done() else future.set_result(outcome), no_op=no_op)
        self._wake()
        return future

    async def read_barrier(self, timeout_s: float | None = None) -> int:
        """An index such that whoever has applied it sees everything committed before this call.

        Commits a no-op, shared by all who call in the same turn of the loop (Raft paper, section 8, with a log entry
        in place of a round of heartbeats). Raises QuorumUnavailable.
        """
        if self._core is None or self._ended or not self._core.is_leader:
            raise QuorumUnavailable("this node does not lead the quorum")
        if self._barrier is None:
            self._barrier = self._submit(self._core, b"", no_op=True)
            self._barrier.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(self._settings.propose_timeout_s if timeout_s is None else timeout_s):
                outcome = await asyncio.shield(self._barrier)
        except TimeoutError:
            raise QuorumUnavailable("a majority of the voters did not answer in time") from None
        if outcome.error != FAIL_REASON.SUCCESS:
            raise QuorumUnavailable("this node lost the leadership")
        return outcome.index

    async def wait_applied(self, index: int, timeout_s: float) -> None:
        """Return once entry ``index`` is applied here. Raises TimeoutError."""
        await self._applied.wait(index, timeout_s)

    @property
    def is_leader(self) -> bool:
        """This node leads, as far as it knows."""
        return self._core is not None and not self._ended and self._core.is_leader

    @property
    def is_active(self) -> bool:
        """This node leads and has applied all that was committed before it did: it may decide."""
        return self.is_leader and self._core is not None and self._core.is_active

    @property
    def leader_id(self) -> int | None:
        """Who leads, as far as this node knows."""
        return None if self._core is None or self._ended else self._core.leader_id

    @property
    def term(self) -> int:
        return 0 if self._core is None else self._core.term

    @property
    def commit_index(self) -> int:
        return 0 if self._core is None else self._core.commit_index

    @property
    def applied_index(self) -> int:
        return 0 if self._core is None else self._core.applied_index

    @property
    def last_index(self) -> int:
        """Last entry of this node's log, committed or not."""
        return 0 if self._wal is None else self._wal.last_index

    @property
    def snapshots_installed(self) -> int:
        """How often since the start a leader's snapshot took the place of the state here."""
        return self._keeper.installed

    @property
    def voters(self) -> Mapping[int, Endpoint]:
        return self._voters


def _retrieve(future: "asyncio.Future[Applied]") -> None:
    if not future.cancelled():
        future.exception()
