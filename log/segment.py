"""A segment: batches in one ``.log`` file named by its base offset, sparse indexes of offsets and times beside it."""

from collections.abc import Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path

from .errors import CorruptBatch, CorruptLog
from .index import INT32_MAX
from .model import Offset
from .producer_snapshot import SNAPSHOT_SUFFIX
from .records import RecordBatch
from .segment_names import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX
from .segment_reader import TAIL_BYTES_MAX, Extent, ScannedBatch, SegmentReader
from .storage import Buffer, Storage
from .time_index import TimedOffset, TimeIndex
from .validation import check_stored


def follows(expected: Offset, base_offset: Offset, cleaned_to: Offset) -> bool:
    """Whether a batch, or segment, of ``base_offset`` may come where ``expected`` was due: there, or later where
    compaction has been, below ``cleaned_to``."""
    return base_offset == expected or expected < base_offset <= cleaned_to


class Segment(SegmentReader):
    """A segment as it grows, is cut, synced, sealed, renamed and deleted; and the times of its records."""

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        base_offset: Offset,
        *,
        index_interval_bytes: int,
        create: bool,
        state: str = "",
    ) -> None:
        """As ``SegmentReader``."""
        super().__init__(
            storage, directory, base_offset, index_interval_bytes=index_interval_bytes, create=create, state=state
        )
        self.time_index = TimeIndex(storage, self._named(TIME_INDEX_SUFFIX), base_offset)
        self.first_append_ms: int | None = None  # when this process first appended: the age that rolls a segment
        self.closed = False
        self._storage = storage
        self._unindexed_bytes = 0
        self._largest: TimedOffset | None = None
        self._largest_is_known = True
        self.last_batch: RecordBatch | None = None  # its header, as ``ends_soundly`` found it; None in an empty file
        self.index_bytes = 0  # of the larger index, were there one entry more
        self.indexes_unsynced = False  # sealed, and the index files are not known to be durable
        self.cut_unsynced = False  # what was cut off may come back with a power cut
        self.is_sealed = False  # the index files say all there is to say
        if create:
            self.reset_indexes()  # files that an earlier segment of this name may have left say nothing of this one

    @property
    def largest_timestamp_ms(self) -> int | None:
        """Of all records; None where none has a timestamp."""
        largest = self._largest_timestamp()
        return None if largest is None else largest.timestamp_ms

    @property
    def largest_timestamp_offset(self) -> Offset | None:
        """Last offset of the first batch that has the largest timestamp."""
        largest = self._largest_timestamp()
        return None if largest is None else largest.offset

    def has_room_for(self, size_bytes: int, last_offset: Offset, segment_bytes: int) -> bool:
        """Whether batches of this size, up to ``last_offset``, fit into a segment of ``segment_bytes``."""
        fits = self.size_bytes + size_bytes <= min(segment_bytes, INT32_MAX)
        return fits and last_offset - self.base_offset <= INT32_MAX

    def append(self, parts: Sequence[Buffer], extents: Sequence[Extent]) -> None:
        """Write whole batches, given as byte parts, as one gathered write.

        OSError: the file has been cut back to what it was and nothing changed. CorruptLog: it could not be cut
        back, and this segment must not be written again.
        """
        try:
            self._file.append_many(parts)
        except OSError as error:
            self._cut_back(error)
            raise
        self._remember_start(self.next_offset, self.size_bytes)
        short = len(extents) == 1 and extents[0].size_bytes <= TAIL_BYTES_MAX
        self._tail = (self.next_offset, b"".join(parts)) if short else None
        self.is_sealed = False
        for extent in extents:
            self.note_batch(extent, self.size_bytes)
            self.size_bytes += extent.size_bytes
        self.next_offset = Offset(extents[-1].last_offset + 1)
        if self.index.file.wants_flush:
            self.try_to_flush_indexes()

    def note_batch(self, extent: Extent, position: int) -> None:
        """Take the batch at ``position`` into the indexes if their last entries are far enough back (Kafka's
        LogSegment.append)."""
        if not self._largest_is_known:
            self._largest_timestamp()
        self._note_timestamp(extent)
        if self._unindexed_bytes > self._index_interval_bytes:
            self.index.append(extent.last_offset, position)
            if self._largest is not None:
                self.time_index.append_if_later(self._largest)
            self.index_bytes = max(self.index.bytes_if_grown(), self.time_index.bytes_if_grown())
            self._unindexed_bytes = 0
        self._unindexed_bytes += extent.size_bytes

    def reset_indexes(self) -> None:
        """Forget the indexes, before a scan that calls ``note_batch`` for every batch."""
        self.index.start_anew()
        self.time_index.start_anew()
        self._largest, self._largest_is_known = None, True
        self._unindexed_bytes = self.index_bytes = 0

    def find_time(self, timestamp_ms: int) -> ScannedBatch | None:
        """The first batch that has a record of ``timestamp_ms`` or later; None if there is none. Reads headers from
        the index entry before it on. Raises CorruptLog on impossible lengths."""
        largest = self._largest_timestamp()
        if largest is None or largest.timestamp_ms < timestamp_ms:
            return None
        entry = self.time_index.lookup(timestamp_ms)
        start = None if entry is None else self._position_of_timed(entry)
        try:
            for found in self.scan(start or 0):
                if found.batch.max_timestamp >= timestamp_ms:
                    return found
        except CorruptBatch as error:
            raise CorruptLog(str(error)) from error
        return None

    def ends_soundly(self, cleaned_to: Offset) -> bool:
        """Look at the tail of an old file only, from the last index entry on: whether it ends with a whole batch, and
        the index files say what they must. Sets ``next_offset`` and ``last_batch``. ``cleaned_to``: see
        ``follows``."""
        if not (self.index.file.is_whole() and self.time_index.file.is_whole()):
            return False
        position = self._indexed_position(self.index.last)
        if position is None:
            return False
        try:
            return self._take_tail(position, cleaned_to)
        except CorruptBatch:
            return False

    def truncate_to(self, offset: Offset) -> None:
        """Drop all batches above ``offset``, a ``batch_start``."""
        if offset < self.next_offset:
            self.cut_at(self.position_of(offset), offset)

    def cut_at(self, position: int, next_offset: Offset) -> None:
        """Drop the bytes from ``position``, where the batch that starts with ``next_offset`` is or would be."""
        self._starts.clear()
        self._tail = None
        self._file.truncate(position)
        self.cut_unsynced = True
        self.index.truncate_to_position(position)
        self.time_index.truncate_to(next_offset)
        self._largest, self._largest_is_known = None, False
        self.is_sealed = False
        self.size_bytes = position
        last = self.index.last
        self._unindexed_bytes = position - (last.position if last is not None else 0)
        self.next_offset = next_offset

    def sync(self) -> None:
        """Make the file durable. Called from executors: a file closed meanwhile has nothing more to lose here."""
        self.cut_unsynced = False  # first: it may be cut meanwhile
        try:
            self._file.sync()
        except OSError:
            if not self.closed:
                raise

    def seal(self) -> None:
        """No more is appended: complete the indexes and write them out, unsynced. On OSError, not all is written."""
        self._tail = None
        if (largest := self._largest_timestamp()) is not None:
            self.time_index.append_if_later(largest)
        self._flush_indexes()
        self.is_sealed = self.indexes_unsynced = True

    def sync_indexes(self) -> None:
        """Make the index files of a sealed segment durable. For executors, as ``sync``."""
        self.indexes_unsynced = False
        try:
            for path in (self.index.path, self.time_index.path):
                with closing(self._storage.open(path)) as file:
                    file.sync()
        except OSError:
            if not self.closed:
                raise

    def try_to_seal(self) -> None:
        """As ``seal``; a full disk must not stop the log for what can be rebuilt."""
        with suppress(OSError, CorruptLog):
            self.seal()

    def try_to_flush_indexes(self) -> None:
        """Write the indexes out. A full disk must not stop the log for what can be rebuilt."""
        with suppress(OSError):
            self._flush_indexes()

    def _flush_indexes(self) -> None:
        # In this order: up to the last entry of the offset index, the time index on disk has everything.
        self.time_index.flush()
        self.index.flush()

    def close(self) -> None:
        """Let go of the file."""
        self.closed = True
        self._file.close()

    def rename(self, state: str) -> None:
        """Give the files names that end with ``state`` ("": part of the log); durable once the directory is synced.
        The indexes first: one without its segment is nothing, and one that is missing is rebuilt."""
        before, self._state = self.paths, state
        self.index.path = self.index.file.path = self._named(INDEX_SUFFIX)
        self.time_index.path = self.time_index.file.path = self._named(TIME_INDEX_SUFFIX)
        self.path = self._named(LOG_SUFFIX)
        for old, new in reversed(tuple(zip(before, self.paths, strict=True))):
            with suppress(FileNotFoundError) if old != before[0] else nullcontext():
                self._storage.replace(old, new)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files, as they are called now, that of the records first."""
        return tuple(map(self._named, (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX)))

    def delete(self) -> None:
        """Close and remove its files; durable once the directory is synced."""
        self.close()
        for path in self.paths:
            self._storage.remove(path)
        if not self._state:
            self._storage.remove(self._named(SNAPSHOT_SUFFIX))

    def _cut_back(self, cause: OSError) -> None:
        try:
            if self._file.size() != self.size_bytes:
                self._file.truncate(self.size_bytes)
        except OSError as error:
            raise CorruptLog(
                f"{self.path}: a write failed ({cause}) and what it left cannot be cut off ({error}); restart the node"
            ) from error

    def _take_tail(self, position: int, cleaned_to: Offset) -> bool:
        unindexed, expected, latest, last = 0, self.base_offset, -1, None
        for start, last in self.scan(position):
            check_stored(last)
            if start and start == position:
                expected = max(expected, last.base_offset)  # the index vouches for this one
            if not follows(expected, last.base_offset, cleaned_to) or unindexed > self._index_interval_bytes:
                return False  # out of place, or without the entry that it would have
            expected = last.next_offset
            unindexed += last.size_bytes
            latest = max(latest, last.max_timestamp)
        timed = self.time_index.last
        if latest > (-1 if timed is None else timed.timestamp_ms):
            return False  # the time index is completed before it is left
        self.next_offset, self.last_batch, self._unindexed_bytes = expected, last, unindexed
        self._largest, self._largest_is_known, self.is_sealed = None, False, True
        return True

    def _note_timestamp(self, extent: Extent) -> None:
        largest = self._largest
        if extent.max_timestamp_ms > (-1 if largest is None else largest[0]):
            self._largest = TimedOffset(extent.max_timestamp_ms, extent.last_offset)

    def _largest_timestamp(self) -> TimedOffset | None:
        """Looked for when it is first asked for: the time index has it but for the batches after the last entry of the
        offset index, because it is written first."""
        if not self._largest_is_known:
            self._largest_is_known = True
            self._largest = entry = self.time_index.last
            position = self._indexed_position(self.index.last)
            if position is None or (entry is not None and self._position_of_timed(entry) is None):
                self._largest, position = None, 0
            try:
                for found in self.scan(position):
                    self._note_timestamp(Extent.of(found.batch))
            except CorruptBatch as error:
                raise CorruptLog(str(error)) from error
        return self._largest

    def _position_of_timed(self, entry: TimedOffset) -> int | None:
        """Where the batch starts that an entry of the time index speaks of; None if there is no such batch."""
        try:
            position = self._find(entry.offset) if entry.offset >= self.base_offset else None
        except CorruptLog:
            position = None
        if position is None:
            return None
        batch = self._header_at(position)
        if batch is None or batch.last_offset != entry.offset or batch.max_timestamp != entry.timestamp_ms:
            return None
        return position
