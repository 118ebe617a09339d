"""Takes snapshots when the engine says they are due, and fetches and installs the leader's when it offers one.

At most one of each is under way. What reads or writes the disk, encodes or decodes runs in the executor; what changes
engine or state is one step on the loop.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ottla.log.clock import Clock

from .compaction import SnapshotOffer
from .engine import SafeSyncObj
from .group_commit import RunBlocking
from .snapshot import Snapshot, SnapshotDamaged, SnapshotMeta, SnapshotStore, decode_snapshot, encode_snapshot
from .snapshot_transfer import SnapshotFetcher, TransferFailed
from .transport import Endpoint
from .wal import EntryId
from .wal_segments import WalFull

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Between tries to write a snapshot on a disk that is full."""
FETCH_RETRY_S = 0.5
"""Between tries to fetch one."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Captured(NamedTuple):
    """A state that no longer changes. ``encode`` runs in an executor."""

    feature_level: int
    encode: Callable[[], bytes]


class StateHooks(NamedTuple):
    """The state machine as snapshots see it.

    ``snapshot`` is called on the loop and captures the state after the last applied command. ``restore`` is called
    in an executor with a state's bytes, and raises ValueError on others; what it returns is called on the loop and
    puts that state in place of the present one, without raising.
    """

    snapshot: Callable[[], Captured]
    restore: Callable[[bytes], Callable[[], None]]


class SnapshotKeeper:
    """``look`` after each turn of the engine. Its tasks end by themselves; ``failed`` is told of what is fatal."""

    def __init__(
        self,
        *,
        core: SafeSyncObj,
        hooks: StateHooks,
        store: SnapshotStore,
        fetcher: SnapshotFetcher,
        voters: Mapping[int, Endpoint],
        cluster_id: str,
        clock: Clock,
        run_blocking: RunBlocking,
        wake: Callable[[], None],
        spawn: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._core = core
        self._hooks = hooks
        self._store = store
        self._fetcher = fetcher
        self._voters = voters
        self._cluster_id = cluster_id
        self._clock = clock
        self._run_blocking = run_blocking
        self._wake = wake
        self._spawn = spawn
        self._taking = self._fetching = False
        self._not_before = self._fetch_not_before = 0.0
        self.installed = 0  # snapshots of a leader, since the start

    def look(self) -> None:
        """Begin what is due."""
        due = self._core.snapshot_due
        now = self._clock.monotonic()
        if due is not None and not self._taking and now >= self._not_before:
            self._taking = True
            self._spawn(asyncio.create_task(self._take(due, self._hooks.snapshot()), name="raft-snapshot"))
        offer = self._core.snapshot_offer
        if offer is not None and not self._fetching and now >= self._fetch_not_before:
            self._fetching = True
            self._spawn(asyncio.create_task(self._fetch(offer), name="raft-snapshot-fetch"))

    async def _take(self, place: EntryId, captured: Captured) -> None:
        meta = SnapshotMeta(place.index, place.term, self._cluster_id, captured.feature_level)
        try:
            # Two calls, so that a sync of the log may come between them.
            data = await self._run_blocking(lambda: encode_snapshot(meta, captured.encode()))
            taken: Snapshot = await self._run_blocking(lambda: self._store.save(data))
        except OSError as error:
            self._complain(error)
            return
        finally:
            self._taking = False
        log.info("snapshot at entry %d: %d bytes", place.index, taken.id.size)
        self._core.snapshot_taken(taken.id)

    def _complain(self, error: OSError) -> None:
        if error.errno not in _NO_SPACE:
            raise error  # the disk's word is not to be believed any more
        self._not_before = self._clock.monotonic() + RETRY_S
        log.warning("no room for a snapshot; the log grows meanwhile: %s", error)

    async def _fetch(self, offer: SnapshotOffer) -> None:
        try:
            data = await self._fetcher.fetch(self._voters[offer.node_id].url, offer.snapshot)
            # Read before it is kept: a start could not pass by a file whose state this release cannot hold.
            put = await self._run_blocking(lambda: self._read(data))
            snapshot: Snapshot = await self._run_blocking(lambda: self._store.save(data))
            self._install(snapshot, put)
        except (TransferFailed, SnapshotDamaged, ValueError, WalFull) as problem:
            log.warning("snapshot of node %d at entry %d: %s", offer.node_id, offer.snapshot.index, problem)
            self._decline(offer)
        except OSError as error:
            self._decline(offer)
            self._complain(error)
        finally:
            self._fetching = False
            self._wake()

    def _read(self, data: bytes) -> Callable[[], None]:
        return self._hooks.restore(decode_snapshot(data, self._cluster_id).state)

    def _decline(self, offer: SnapshotOffer) -> None:
        self._fetch_not_before = self._clock.monotonic() + FETCH_RETRY_S
        if self._core.snapshot_offer == offer:
            self._core.snapshot_offer = None  # the leader makes it again with each heartbeat

    def _install(self, snapshot: Snapshot, put: Callable[[], None]) -> None:
        if not self._core.may_install(snapshot.id):
            self._core.snapshot_offer = None
            return
        self._core.install(snapshot.id)
        put()
        self.installed += 1
        log.info("installed the snapshot of the leader at entry %d", snapshot.id.index)
