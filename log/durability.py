"""How a log becomes durable: the syncs beside the loop, the clean stop, and the word given about acknowledgements."""

import threading
from pathlib import Path

from .directory import NO_SPACE, DataDirectory
from .epoch_file import EpochFile
from .errors import StorageFailed, StorageFull
from .flush_promise import FlushPromise
from .model import Offset
from .producer_snapshot import ProducerSnapshots
from .producer_state import ProducerStateManager
from .segments import SegmentList
from .storage import Storage
from .sync_point import SyncPoint


class Durability:
    """Invariant: the recovery point passes nothing whose epochs, producer snapshots and indexes recovery would miss.

    ``sync`` and ``settle_promise`` run beside the event loop, all else on it.
    """

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        shared: DataDirectory,
        segments: SegmentList,
        epochs: EpochFile,
        snapshots: ProducerSnapshots,
        sync_point: SyncPoint,
    ) -> None:
        self._directory = directory
        self._shared = shared
        self._segments = segments
        self._epochs = epochs
        self._snapshots = snapshots
        self._sync_point = sync_point
        self.promise = FlushPromise(storage, directory)
        self._promise_from = self._end  # what is below may have been acknowledged without a sync
        self._sync_lock = threading.Lock()  # of the background and of an acknowledgement, in two executors
        self.closed = False

    @property
    def _end(self) -> Offset:
        return self._segments.active.next_offset

    def sync(self) -> Offset:
        """See ``PartitionLog.sync``."""
        if self._shared.failed is not None:
            raise StorageFailed(f"{self._directory}: {self._shared.failed}")
        with self._sync_lock:
            return self._sync()

    def _sync(self) -> Offset:
        point = self._sync_point
        if self.closed:
            return point.recovery_point
        began = point.begin()
        end = self._end
        if not self._epochs.is_saved:  # a full disk: recovery must not come to believe the file
            return point.recovery_point
        end = self._segments.durable_up_to(end)
        try:
            self._sync_beside()
            self._segments.sync_above(point.recovery_point)
        except OSError as error:
            if self.closed:
                return point.recovery_point
            failure = StorageFailed(f"{self._directory}: sync failed: {error}")
            self._shared.fail(failure)
            raise failure from error
        point.reached(began, end)
        return point.recovery_point

    def _sync_beside(self) -> None:
        """What recovery takes from beside the segments, before the recovery point passes it."""
        if not self._epochs.is_synced:
            self._segments.note_names_changed()
            self._epochs.sync()
        try:
            written = self._snapshots.write()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return  # an older one takes its place: recovery reads more
        if written:
            self._segments.note_names_changed()

    def lower_recovery_point(self, offset: Offset) -> None:
        """Before synced bytes are cut, the checkpoint of the recovery point must know: a log that ends below its
        recovery point has lost what was durable, and does not open."""
        fell = offset < self._sync_point.recovery_point
        self._sync_point.set(min(offset, self._sync_point.recovery_point))
        if fell:
            self._shared.before_recovery_point_falls()

    def settle(self, producers: ProducerStateManager) -> None:
        """See ``PartitionLog.settle``."""
        with self._shared.guarded():
            self._epochs.try_to_save()
            active = self._segments.active
            active.try_to_seal()
            if active.is_sealed:
                active.sync_indexes()
            self._snapshots.take(self._end, producers.capture())
        if self.sync() != self._end:
            raise StorageFull(f"{self._directory}: the disk is full: what is beside the log could not be written")

    def promise_from_now(self) -> None:
        """Acknowledgements wait for syncs from here on."""
        self._promise_from = self._end

    def settle_promise(self, wanted: bool) -> None:
        """Give the word, or take it back. Not before all that had been acknowledged without a sync is durable."""
        if self.closed or self.promise.given == wanted:
            return
        with self._shared.guarded():
            if not wanted:
                self.promise.take_back()
            elif self._sync_point.recovery_point >= min(self._promise_from, self._end):
                self.promise.give()
