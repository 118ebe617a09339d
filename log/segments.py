"""The segments of one log, in order; the last one is appended to."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from .config import LogConfig
from .failpoints import failpoint
from .model import Offset
from .records import RecordBatch
from .segment import Segment
from .segment_names import DELETED
from .storage import Storage


class SegmentList:
    """Invariant: there is at least one, and each starts where the one before it ends.

    Only ``sync_above`` is called beside the event loop.
    """

    def __init__(self, storage: Storage, directory: Path, config: LogConfig, segments: Sequence[Segment]) -> None:
        assert segments
        self._storage = storage
        self._directory = directory
        self.config = config
        self._segments = list(segments)
        self.active = self._segments[-1]  # the one appended to; kept, for each record asks for it ten times
        self._names_unsynced = True
        self._sealed_unsynced = deque(segment for segment in self._segments if segment.indexes_unsynced)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def start_offset(self) -> Offset:
        """First offset of all."""
        return self._segments[0].base_offset

    def containing(self, offset: Offset) -> Segment:
        """The segment that holds ``offset``, or would."""
        return self._segments[max(0, bisect_right(self._segments, offset, key=_base_offset) - 1)]

    def batch_start(self, offset: Offset) -> Offset:
        """First offset of the batch that contains ``offset``."""
        return self.containing(offset).batch_start(offset)

    def roll_if_needed(self, size_bytes: int, last_offset: Offset, now_ms: int) -> bool:
        """Start a new segment if batches of this size and last offset do not go into the active one, or it is too
        old; returns whether. OSError leaves all as it was."""
        active = self.active
        if active.size_bytes == 0:  # an empty segment takes a batch of any size
            return False
        old = active.first_append_ms is not None and now_ms - active.first_append_ms >= self.config.segment_ms
        has_room = active.has_room_for(size_bytes, last_offset, self.config.segment_bytes)
        if has_room and not old and active.index_bytes <= self.config.segment_index_bytes:
            return False
        if active.cut_unsynced:
            # Rare, so waited for: else a power cut might leave what was cut off here, and the new segment behind it.
            active.sync()
        self.roll()
        return True

    def runs(self, batches: Sequence[RecordBatch]) -> Iterator[list[RecordBatch]]:
        """``batches`` in runs that fit one segment each, as they will be rolled. Each is to be appended before the
        next is asked for."""
        run: list[RecordBatch] = []
        run_bytes = 0
        for batch in batches:
            size = run_bytes + batch.size_bytes
            if run and not self.active.has_room_for(size, batch.last_offset, self.config.segment_bytes):
                yield run  # its append rolls if need be: what is active afterwards decides over the rest
                run, size = [], batch.size_bytes
            run.append(batch)
            run_bytes = size
        if run:
            yield run

    def truncate_to(self, offset: Offset) -> None:
        """Drop what starts at ``offset``, where a batch starts, and above; at least one segment stays."""
        kept = bisect_right(self._segments, offset, key=_base_offset)
        if kept > 1 and self._segments[kept - 1].base_offset == offset:
            kept -= 1  # nothing of it would be left
        self._drop(kept)
        self.active.truncate_to(offset)

    def start_anew_at(self, offset: Offset) -> None:
        """Drop everything, and start with an empty segment at ``offset``."""
        dropped = list(self._segments)
        for segment in reversed(dropped):
            segment.delete()
        self._storage.sync_directory(self._directory)  # a power cut must not leave an old segment beside the new
        self._segments = [self._new(offset)]
        self.active = self._segments[-1]

    def roll(self) -> None:
        """Start a new segment where the active one ends, which has batches. OSError leaves all as it was."""
        active = self.active
        assert active.size_bytes > 0
        active.seal()
        self._segments.append(self._new(active.next_offset))
        self.active = self._segments[-1]
        self._sealed_unsynced.append(active)

    def set_aside_first(self, count: int) -> list[Segment]:
        """Take the first ``count`` out of the log, never all. Their files keep their bytes, under names that the next
        start removes. The lowest goes first, so that a crash leaves no gap."""
        assert 0 <= count < len(self._segments)
        gone: list[Segment] = []
        while len(gone) < count:
            self._segments[0].close()  # first: a sync under way, which opens files by name, must know
            self._segments[0].rename(DELETED)
            gone.append(self._segments.pop(0))
        return gone

    def replace(self, old: Sequence[Segment], new: Segment) -> None:
        """Put ``new``, which is durable under its SWAP name, in the place of its neighbours ``old``. A crash in the
        middle is finished by the next start (swap.py)."""
        first = self._segments.index(old[0])
        assert self._segments[first : first + len(old)] == list(old)
        assert first + len(old) < len(self._segments)
        assert (new.base_offset, new.next_offset) == (old[0].base_offset, old[-1].next_offset)
        for segment in old:
            segment.close()
            segment.rename(DELETED)
        new.rename("")
        self._segments[first : first + len(old)] = [new]

    def note_names_changed(self) -> None:
        """A file of the directory was replaced or removed: the next sync makes that durable."""
        self._names_unsynced = True

    def durable_up_to(self, end: Offset) -> Offset:
        """``end``, or less where a segment before it could not write its indexes: recovery must not come to rely on
        them."""
        bases = (segment.base_offset for segment in tuple(self._segments)[:-1] if not segment.is_sealed)
        return min(end, min(bases, default=end))

    def sync_above(self, recovery_point: Offset) -> None:
        """Make durable the names, then what the segments that reach above ``recovery_point`` hold at this moment, and
        the indexes of those that were sealed. Called from executors: everything is captured first."""
        segments, names_unsynced = tuple(self._segments), self._names_unsynced
        if names_unsynced:
            self._names_unsynced = False
            self._storage.sync_directory(self._directory)
        for segment in segments:
            if segment.next_offset > recovery_point or segment.cut_unsynced:
                segment.sync()
        while self._sealed_unsynced:
            self._sealed_unsynced.popleft().sync_indexes()

    @failpoint("log.roll")
    def _new(self, base_offset: Offset) -> Segment:
        interval = self.config.index_interval_bytes
        segment = Segment(self._storage, self._directory, base_offset, index_interval_bytes=interval, create=True)
        assert segment.size_bytes == 0
        self._names_unsynced = True
        return segment

    def _drop(self, kept: int) -> None:
        """Remove all but the first ``kept``, last one first, durably: a power cut must not leave a gap."""
        if kept == len(self._segments):
            return
        while len(self._segments) > kept:
            dropped = self._segments.pop()
            self.active = self._segments[-1]
            dropped.delete()
        self._storage.sync_directory(self._directory)


def _base_offset(segment: Segment) -> Offset:
    return segment.base_offset
