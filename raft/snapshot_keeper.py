"""Takes snapshots when the engine says they are due, and fetches and installs the leader's when it offers one.

At most one of each is under way. What reads or writes the disk, encodes or decodes runs in the executor; what changes
engine or state is one step on the loop.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp

from ottla.log.chance import Chance
from ottla.log.clock import Clock
from ottla.log.storage import Storage

from .compaction import SnapshotOffer
from .engine import SafeSyncObj
from .group_commit import RunBlocking
from .recovery import Opened, open_log
from .snapshot import (
    Snapshot,
    SnapshotDamaged,
    SnapshotId,
    SnapshotMeta,
    SnapshotStore,
    decode_snapshot,
    encode_snapshot,
)
from .snapshot_transfer import SnapshotDesk, SnapshotFetcher, TransferFailed
from .transport import Endpoint
from .wal import EntryId, WriteAheadLog
from .wal_segments import WalFull

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 5.0
"""Between tries to write a snapshot on a disk that is full."""
FETCH_RETRY_S = 0.5
"""Between tries to fetch one."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Captured(NamedTuple):
    """A state that no longer changes. ``encode`` runs in an executor: all at once, or piece by piece, with syncs of
    the log between them."""

    feature_level: int
    encode: Callable[[], bytes | Iterator[bytes]]


class StateHooks(NamedTuple):
    """The state machine as snapshots see it.

    ``snapshot`` is called on the loop and captures the state after the last applied command. ``restore`` is called
    in an executor with a state's bytes, and raises ValueError on others; what it returns is called on the loop and
    puts that state in place of the present one, without raising.
    """

    snapshot: Callable[[], Captured]
    restore: Callable[[bytes], Callable[[], None]]


class SnapshotKeeper:
    """A voter's snapshots. Call ``recover``, ``start``, then ``look`` after each turn of the engine.

    ``failed`` is told of a job that ended in an error that is fatal. Without ``hooks`` it takes and fetches nothing.
    """

    def __init__(
        self,
        *,
        cluster_id: str,
        voters: Mapping[int, Endpoint],
        directory: Path,
        storage: Storage,
        clock: Clock,
        chance: Chance,
        secret: bytes | None,
        hooks: StateHooks | None,
        run_blocking: RunBlocking,
        wake: Callable[[], None],
        failed: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._cluster_id = cluster_id
        self._voters = voters
        self._directory = directory
        self._storage = storage
        self._clock = clock
        self._hooks = hooks
        self._run_blocking = run_blocking
        self._wake = wake
        self._failed = failed
        self._store = SnapshotStore(directory / "snapshots", storage, cluster_id)
        self._fetcher = SnapshotFetcher(secret, cluster_id, chance)
        self.desk = SnapshotDesk(self._store, secret, cluster_id, run_blocking)
        self.jobs: set[asyncio.Task[None]] = set()
        self.installed = 0  # snapshots of a leader, since the start
        self._saving = asyncio.Lock()  # one file at a time
        self._taking = self._fetching = False
        self._asking: tuple[int, asyncio.Timeout] | None = None  # the leader that a fetch waits for
        self._not_before = self._fetch_not_before = 0.0

    async def recover(self) -> tuple[WriteAheadLog, SnapshotId | None]:
        """The log, and the snapshot whose state was restored. Raises WalDamaged, SnapshotDamaged, OSError."""
        path = self._directory / "wal"
        opened: Opened = await self._run_blocking(lambda: open_log(path, self._storage, self._store))
        if opened.snapshot is None:
            return opened.wal, None
        try:
            await self._restore(opened.snapshot)
        except BaseException:
            opened.wal.close()
            raise
        return opened.wal, opened.snapshot.id

    async def _restore(self, snapshot: Snapshot) -> None:
        hooks = self._hooks
        if hooks is None:
            raise SnapshotDamaged("there is a snapshot, and nothing here that could read it")
        try:
            put = await self._run_blocking(lambda: hooks.restore(snapshot.state))
        except ValueError as error:
            raise SnapshotDamaged(f"the snapshot at entry {snapshot.id.index} cannot be read: {error}") from error
        put()

    def start(self, session: aiohttp.ClientSession) -> None:
        """Fetch through ``session``, which stays the caller's."""
        self._fetcher.session = session

    def look(self, core: SafeSyncObj) -> None:
        """Begin what is due."""
        hooks, now = self._hooks, self._clock.monotonic()
        if hooks is None:
            return
        due, offer = core.snapshot_due, core.snapshot_offer
        if due is not None and not self._taking and now >= self._not_before:
            self._taking = True
            self._begin(self._take(core, due, hooks.snapshot()), "raft-snapshot")
        if offer is not None and self._asking is not None and self._asking[0] != offer.node_id:
            self._asking[1].reschedule(0)  # another leads: who was asked may be gone without a word
            self._asking = None
        if offer is not None and not self._fetching and now >= self._fetch_not_before:
            self._fetching = True
            self._begin(self._fetch(core, hooks, offer), "raft-snapshot-fetch")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        job = asyncio.create_task(work, name=name)
        self.jobs.add(job)
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        self.jobs.discard(job)
        if not job.cancelled() and job.exception() is not None:
            self._failed(job)

    async def _take(self, core: SafeSyncObj, place: EntryId, captured: Captured) -> None:
        meta = SnapshotMeta(place.index, place.term, self._cluster_id, captured.feature_level)
        try:
            taken = await self._save(await self._in_steps(_encode(meta, captured)))
        except OSError as error:
            self._complain(error)
            return
        finally:
            self._taking = False
        log.info("snapshot at entry %d: %d bytes", place.index, taken.id.size)
        core.snapshot_taken(taken.id)

    async def _save(self, data: bytes) -> Snapshot:
        async with self._saving:
            return await self._in_steps(self._store.saving(data))

    async def _in_steps(self, work: Generator[None, None, T]) -> T:
        """``work`` in the executor, one step a call: a sync of the log that was asked for meanwhile comes next."""
        while (end := await self._run_blocking(lambda: _step(work))) is None:
            pass
        result: T = end.value
        return result

    def _complain(self, error: OSError) -> None:
        if error.errno not in _NO_SPACE:
            raise error  # the disk's word is not to be believed any more
        self._not_before = self._clock.monotonic() + RETRY_S
        log.warning("no room for a snapshot; the log grows meanwhile: %s", error)

    async def _fetch(self, core: SafeSyncObj, hooks: StateHooks, offer: SnapshotOffer) -> None:
        try:
            data = await self._ask(offer)
            # Read before it is kept: a start could not pass by a file whose state this release cannot hold.
            put = await self._run_blocking(lambda: self._read(hooks, data))
            snapshot = await self._save(data)
            self._install(core, snapshot, put)
        except (TransferFailed, SnapshotDamaged, ValueError, WalFull) as problem:
            log.warning("snapshot of node %d at entry %d: %s", offer.node_id, offer.snapshot.index, problem)
            self._decline(core, offer)
        except OSError as error:
            self._decline(core, offer)
            self._complain(error)
        finally:
            self._fetching = False
            self._wake()

    async def _ask(self, offer: SnapshotOffer) -> bytes:
        try:
            async with asyncio.timeout(None) as patience:
                self._asking = (offer.node_id, patience)
                return await self._fetcher.fetch(self._voters[offer.node_id].url, offer.snapshot)
        except TimeoutError:
            raise TransferFailed("another node leads now, and is asked") from None
        finally:
            self._asking = None

    def _read(self, hooks: StateHooks, data: bytes) -> Callable[[], None]:
        return hooks.restore(decode_snapshot(data, self._cluster_id).state)

    def _decline(self, core: SafeSyncObj, offer: SnapshotOffer) -> None:
        self._fetch_not_before = self._clock.monotonic() + FETCH_RETRY_S
        if core.snapshot_offer == offer:
            core.snapshot_offer = None  # the leader makes it again with each heartbeat

    def _install(self, core: SafeSyncObj, snapshot: Snapshot, put: Callable[[], None]) -> None:
        if not core.may_install(snapshot.id):
            core.snapshot_offer = None
            return
        core.install(snapshot.id)
        put()
        self.installed += 1
        log.info("installed the snapshot of the leader at entry %d", snapshot.id.index)


def _encode(meta: SnapshotMeta, captured: Captured) -> Generator[None, None, bytes]:
    state = captured.encode()
    if isinstance(state, bytes):
        return encode_snapshot(meta, state)
    pieces = []
    for piece in state:
        pieces.append(piece)
        yield
    return encode_snapshot(meta, *pieces)


def _step(work: Generator[None, None, Any]) -> StopIteration | None:
    # Its end is returned, not raised: a future cannot carry a StopIteration.
    try:
        next(work)
    except StopIteration as end:
        return end
    return None
