"""A node that is no voter: it applies what the quorum has committed, told by any voter (tail.py), and has no vote.

It keeps nothing on disk of the quorum's log: a start takes a voter's snapshot and what came after it. Its face is
MetadataQuorum's, so that the rest of a node does not care which one it has.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp
import msgspec
from aiohttp import web

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from .applied_index import AppliedIndex
from .group_commit import RunBlocking
from .handshake import PeerIdentity
from .proposals import Proposal, QuorumUnavailable, failed
from .pysyncobj_core import regular_command
from .snapshot import SnapshotDamaged, SnapshotId, decode_snapshot
from .snapshot_keeper import StateHooks
from .snapshot_transfer import SnapshotFetcher, TransferFailed
from .tail import TailAnswer, View
from .tail_asker import TailAsker, TailFailed
from .transport import Endpoint
from .wal import EntryId

log = logging.getLogger(__name__)

BEHIND_S = 1.0
"""A voter that stays behind what was committed so long ago, or knows no leader for so long, is left for another."""
RETRY_S = 0.05
RETRY_MAX_S = 1.0
FIRST_ENTRY = EntryId(1, 0)
"""The same in every log, and nothing to the state machine."""


class MetadataObserver:
    """``apply`` and ``state``: as MetadataQuorum's. ``committed`` is the highest commit index that this node has heard
    of in another way (its heartbeats' answers), 0 for none. ``on_fatal`` is called once if it must not go on.
    """

    is_leader = is_active = False

    def __init__(
        self,
        *,
        local: PeerIdentity,
        voters: Mapping[int, Endpoint],
        session: aiohttp.ClientSession,
        clock: Clock,
        chance: Chance,
        secret: bytes | None,
        apply: Callable[[int, int, bytes], bytes],
        state: StateHooks,
        committed: Callable[[], int],
        run_blocking: RunBlocking,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        assert local.node_id not in voters
        self._cluster_id = local.cluster_id
        self._voters = dict(voters)
        self._clock = clock
        self._apply = apply
        self._hooks = state
        self._committed = committed
        self._run_blocking = run_blocking
        self._on_fatal = on_fatal
        self._asker = TailAsker(session, secret, local.cluster_id, chance)
        self._fetcher = SnapshotFetcher(secret, local.cluster_id, chance)
        self._fetcher.session = session
        self._applied = AppliedIndex()
        self._last = FIRST_ENTRY
        self._view = View(0, 0)
        self._commit_index = 0
        self._patience = _Patience()
        self._heard_at = clock.monotonic()
        self._silent = 0  # voters left in a row since one answered
        # Where to begin: observers spread over the voters.
        self._order = sorted(voters)
        self._turn = local.node_id % len(self._order)
        self._task: asyncio.Task[None] | None = None
        self.snapshots_installed = 0

    # Life

    async def start(self) -> None:
        """Begin to follow the voters, in the background."""
        self._applied.value = self._last.index
        self._task = asyncio.create_task(self._run(), name="metadata-observer")

    async def stop(self) -> None:
        """Apply nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._applied.stop()

    async def _run(self) -> None:
        retry_s = RETRY_S
        while True:
            number = self._order[self._turn]
            before = self._last
            try:
                await self._follow(self._voters[number].url)
            except (TailFailed, TransferFailed, SnapshotDamaged) as problem:
                log.info("left voter %d for another: %s", number, problem)
            except Exception as error:  # Diverged, or a state this release cannot hold
                log.critical("OTTLA-METADATA-STOPPED: voter %d: %s", number, error, exc_info=error)
                self._applied.stop()
                self._on_fatal(error)
                return
            self._turn = (self._turn + 1) % len(self._order)
            self._note_silence()
            retry_s = RETRY_S if self._last != before else min(2 * retry_s, RETRY_MAX_S)
            await asyncio.sleep(retry_s)

    def _note_silence(self) -> None:
        # Where no voter answers, what the last one said of a leader is no news to wait for, or to hand over to.
        self._silent += 1
        silence_s = self._clock.monotonic() - self._heard_at
        if self._view.leader_id != 0 and self._silent >= len(self._order) and silence_s > BEHIND_S:
            self._view = View(0, self._view.term)
            self._applied.changed(self._last.index)

    # Following one voter

    async def _follow(self, url: str) -> None:
        """Until it fails us. Raises what says how."""
        self._patience = _Patience()
        while True:
            answer = await self._asker.ask(url, self._last, self._view)
            self._heard_at, self._silent = self._clock.monotonic(), 0
            if answer.snapshot is not None:
                await self._restore(url, answer.snapshot)
            self._take(answer)
            self._check_freshness(answer.view)

    def _take(self, answer: TailAnswer) -> None:
        for command, index, term in answer.entries:
            if index != self._last.index + 1:
                raise TailFailed(f"entry {index} after entry {self._last.index}")
            regular = regular_command(command)
            if regular is not None:
                self._apply(index, term, regular)
            self._last = EntryId(index, term)
        self._commit_index = max(self._commit_index, answer.applied_index)
        # A voter that stood for a later term and was never heard of again must not hide for ever who leads.
        if answer.view.term >= self._view.term or (self._view.leader_id == 0 and answer.view.leader_id != 0):
            self._view = answer.view
        self._applied.changed(self._last.index)

    async def _restore(self, url: str, snapshot: SnapshotId) -> None:
        if snapshot.index <= self._last.index:
            raise TailFailed("it has lost what comes next, and offers an old snapshot")
        data = await self._fetcher.fetch(url, snapshot)
        put = await self._run_blocking(lambda: self._hooks.restore(decode_snapshot(data, self._cluster_id).state))
        put()
        self._last = EntryId(snapshot.index, snapshot.term)
        self.snapshots_installed += 1
        log.info("took the snapshot at entry %d", snapshot.index)

    def _check_freshness(self, view: View) -> None:
        led = view.leader_id != 0 and view.term >= self._view.term
        if self._patience.is_over(self._clock.monotonic(), self._last.index, self._committed(), led=led):
            raise TailFailed("it stays behind the quorum, or knows no leader")

    # MetadataQuorum's face

    async def raft_handler(self, request: web.Request) -> web.StreamResponse:
        """Refuses: only voters speak Raft."""
        return _no_voter()

    snapshot_handler = tail_handler = raft_handler

    def add_listener(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop whenever the leader or the applied index changed. It must not raise."""
        self._applied.add_listener(callback)

    async def propose(self, command: bytes, timeout_s: float | None = None) -> Proposal:
        """Always FAILED: only the leader may."""
        return failed("NOT_LEADER")

    async def read_barrier(self, timeout_s: float | None = None) -> int:
        """Raises QuorumUnavailable: only the leader may."""
        raise QuorumUnavailable("this node is an observer of the quorum")

    async def wait_applied(self, index: int, timeout_s: float) -> None:
        """Return once entry ``index`` is applied here. Raises TimeoutError."""
        await self._applied.wait(index, timeout_s)

    @property
    def leader_id(self) -> int | None:
        """Who leads, as far as the voter knows that this node listens to."""
        return self._view.leader_id or None

    @property
    def term(self) -> int:
        return self._view.term

    @property
    def commit_index(self) -> int:
        return self._commit_index

    @property
    def applied_index(self) -> int:
        return self._last.index

    @property
    def last_index(self) -> int:
        """As applied_index: an observer has nothing uncommitted."""
        return self._last.index

    @property
    def voters(self) -> Mapping[int, Endpoint]:
        return self._voters


class _Patience(msgspec.Struct):
    """Notices a voter that does not bring us forward. ``aim``: a commit index heard of at ``since``."""

    aim: int = 0
    since: float | None = None
    leaderless_since: float | None = None

    def is_over(self, now: float, applied: int, committed: int, *, led: bool) -> bool:
        """Whether it was behind, or without a leader, for BEHIND_S."""
        if applied >= self.aim:
            self.aim, self.since = committed, now
        if led:
            self.leaderless_since = None
        elif self.leaderless_since is None:
            self.leaderless_since = now
        behind = self.since is not None and applied < self.aim and now - self.since > BEHIND_S
        return behind or (self.leaderless_since is not None and now - self.leaderless_since > BEHIND_S)


def _no_voter() -> web.Response:
    detail = "this node is an observer of the quorum, no voter"
    return web.json_response({"code": "OTTLA-NOT-A-VOTER", "detail": detail}, status=404)
