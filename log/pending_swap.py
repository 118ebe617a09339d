"""A cleaned segment on its way into the log: what swap.py finishes after a crash, while the node lives."""

from collections.abc import Sequence
from pathlib import Path

from .directory import DataDirectory
from .segment import Segment
from .segment_names import SWAP
from .segments import SegmentList
from .storage import Storage
from .swap import is_compacted, mark_compacted


class PendingSwap:
    """One of a log, between ``prepare`` and ``finish``."""

    def __init__(self, storage: Storage, directory: Path, shared: DataDirectory, segments: SegmentList) -> None:
        self._storage = storage
        self._directory = directory
        self._shared = shared
        self._segments = segments
        self.segment: Segment | None = None  # about to replace others: named so on disk, not yet in the log

    def prepare(self, old: Sequence[Segment], new: Segment) -> bool:
        """See ``PartitionLog.prepare_swap``."""
        held = tuple(self._segments)
        if old[0] not in held or old[-1] not in held[:-1] or old[-1].next_offset != new.next_offset:
            return False
        with self._shared.guarded():
            if not is_compacted(self._storage, self._directory):
                mark_compacted(self._storage, self._directory)
            new.rename(SWAP)
        self.segment = new
        return True

    def finish(self, old: Sequence[Segment], new: Segment) -> bool:
        """See ``PartitionLog.swap``."""
        if self.segment is not new:
            return False
        self.segment = None
        with self._shared.guarded(fatal=True):
            self._segments.replace(old, new)
        return True

    def forget(self) -> None:
        """What is cut off must not come back with a cleaned segment, neither now nor at the next start."""
        swap, self.segment = self.segment, None
        if swap is not None:
            swap.delete()
            self._storage.sync_directory(self._directory)
