"""A segment: batches in one ``.log`` file named by its base offset, sparse indexes of offsets and times beside it."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from .errors import CorruptBatch, CorruptLog
from .index import INT32_MAX, IndexedBatch, OffsetIndex
from .model import Offset
from .producer_snapshot import SNAPSHOT_SUFFIX
from .records import HEADER_SIZE, RecordBatch
from .storage import Buffer, File, Storage
from .time_index import TimedOffset, TimeIndex
from .validation import check_stored

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TXN_INDEX_SUFFIX = ".txnindex"
SCAN_BYTES = 4096
"""A header scan reads this much at once: small batches share a read, large ones waste little of it."""
VERIFY_BYTES = 1 << 20
ALIGNED_READ_BYTES_MIN = 64 << 10
"""Below it, a copy of what was read costs less than looking for where a batch ends."""
KNOWN_STARTS_MAX = 64

# What a read must know of a batch: | base_offset: i64 | length: i32 | 11 bytes | last_offset_delta: i32 |
EXTENT = struct.Struct(">qi11xi")


class Extent(NamedTuple):
    """A batch about to be appended: its last offset, its size in bytes, and its largest timestamp (-1: none)."""

    last_offset: Offset
    size_bytes: int
    max_timestamp_ms: int

    @classmethod
    def of(cls, batch: RecordBatch) -> "Extent":
        """That of ``batch``."""
        return cls(batch.last_offset, batch.size_bytes, batch.max_timestamp)


class ScannedBatch(NamedTuple):
    """A batch found on disk. ``batch.buffer`` is empty unless its content was asked for."""

    position: int
    batch: RecordBatch


def segment_name(base_offset: Offset, suffix: str = LOG_SUFFIX) -> str:
    """20 digits, so that names sort as offsets do."""
    return f"{base_offset:020d}{suffix}"


def follows(expected: Offset, base_offset: Offset, cleaned_to: Offset) -> bool:
    """Whether a batch, or segment, of ``base_offset`` may come where ``expected`` was due: there, or later where
    compaction has been, below ``cleaned_to``."""
    return base_offset == expected or expected < base_offset <= cleaned_to


class Segment:
    """Batches from ``base_offset``. Their bytes are the file's; the indexes and a few known starts find them.

    Invariant: the file holds ``size_bytes`` bytes of whole batches in the order of their offsets, up to
    ``next_offset``. What an index says of a batch is checked against the batch; where it is wrong, the search
    begins at the segment's start: a bad index costs time, never a record.
    """

    def __init__(
        self, storage: Storage, directory: Path, base_offset: Offset, *, index_interval_bytes: int, create: bool
    ) -> None:
        """Open the file, or make it. ``next_offset`` is to be set by whoever scans an old one."""
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.path = directory / segment_name(base_offset)
        self.index = OffsetIndex(storage, directory / segment_name(base_offset, INDEX_SUFFIX), base_offset)
        self.time_index = TimeIndex(storage, directory / segment_name(base_offset, TIME_INDEX_SUFFIX), base_offset)
        self.first_append_ms: int | None = None  # when this process first appended: the age that rolls a segment
        self.closed = False
        self._storage = storage
        self._file: File = storage.open(self.path, create=create)
        self.size_bytes = self._file.size()
        self._index_interval_bytes = index_interval_bytes
        self._unindexed_bytes = 0
        self._starts: dict[Offset, int] = {}  # offsets known to start a batch: where readers at the tail come back to
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

    def read(self, offset: Offset, max_bytes: int, upper_bound: Offset) -> bytes:
        """Whole batches from the one that contains ``offset``, all below ``upper_bound``: up to ``max_bytes``, or
        one batch that is larger. Empty if there is none. Raises CorruptLog on impossible lengths."""
        start = self._find(offset)
        if start is None:
            return b""
        data = self._file.read(start, self._bytes_to_read(start, max(max_bytes, HEADER_SIZE)))
        end, next_offset = self._whole_batches(data, start, upper_bound)
        if end == 0:
            return self._read_one(data, start, upper_bound)
        self._remember_start(next_offset, start + end)
        return data if end == len(data) else data[:end]

    def scan(self, position: int = 0, *, content: bool = False) -> Iterator[ScannedBatch]:
        """Batches from ``position`` (where one starts) in order, without their records unless ``content``.

        Raises CorruptBatch at the first place that does not hold a whole batch; the CRC is not looked at.
        """
        window, window_start = b"", 0
        while position < self.size_bytes:
            if position + HEADER_SIZE > window_start + len(window):
                window, window_start = self._file.read(position, VERIFY_BYTES if content else SCAN_BYTES), position
            batch = RecordBatch.parse_header(window, position - window_start)
            end = position + batch.size_bytes
            if end > self.size_bytes:
                raise CorruptBatch(
                    f"{self.path}: the batch at byte {position} has {batch.size_bytes} bytes, the file ends before"
                )
            if content:
                if end > window_start + len(window):
                    size = max(batch.size_bytes, VERIFY_BYTES)
                    window, window_start = self._file.read(position, size), position
                batch = RecordBatch.parse(window, position - window_start)
            yield ScannedBatch(position, batch)
            position = end

    def read_range(self, position: int, size: int) -> bytes:
        """Bytes of the file, for recovery."""
        return self._file.read(position, size)

    def position_of(self, offset: Offset) -> int:
        """Where the batch that contains ``offset`` starts; the end of the file if all are below it."""
        start = self._find(offset)
        return self.size_bytes if start is None else start

    def batch_start(self, offset: Offset) -> Offset:
        """First offset of the batch that contains ``offset``; ``offset`` itself above the last batch."""
        position = self.position_of(offset)
        if position == self.size_bytes:
            return offset
        base_offset: Offset = EXTENT.unpack(self._file.read(position, EXTENT.size))[0]
        return base_offset

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
        """Drop the batch that starts at ``offset`` and all after it."""
        if offset < self.next_offset:
            self.cut_at(self.position_of(offset), offset)

    def cut_at(self, position: int, next_offset: Offset) -> None:
        """Drop the bytes from ``position``, where the batch that starts with ``next_offset`` is or would be."""
        self._starts.clear()
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

    def delete(self) -> None:
        """Close and remove its files; durable once the directory is synced."""
        self.close()
        self._storage.remove(self.path)
        self._storage.remove(self.index.path)
        for suffix in (TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, SNAPSHOT_SUFFIX):
            self._storage.remove(self.path.with_name(segment_name(self.base_offset, suffix)))

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

    def _indexed_position(self, entry: IndexedBatch | None) -> int | None:
        """The position of an entry of the offset index, 0 if there is no entry; None if it is not true."""
        if entry is None:
            return 0
        batch = self._header_at(entry.position) if 0 <= entry.position < self.size_bytes else None
        return entry.position if batch is not None and batch.last_offset == entry.last_offset else None

    def _header_at(self, position: int) -> RecordBatch | None:
        try:
            return RecordBatch.parse_header(self._file.read(position, HEADER_SIZE))
        except CorruptBatch:
            return None

    def _find(self, offset: Offset) -> int | None:
        """Where the batch with the first last offset >= ``offset`` starts."""
        if offset >= self.next_offset:
            return None
        if (known := self._starts.get(offset)) is not None:
            return known
        position = self._indexed_position(self.index.lookup(offset)) or 0
        while position < self.size_bytes:
            window = self._file.read(position, max(self._index_interval_bytes, EXTENT.size))
            cursor = 0
            while cursor + EXTENT.size <= len(window):
                base_offset, length, last_delta = EXTENT.unpack_from(window, cursor)
                if base_offset + last_delta >= offset:
                    return position + cursor
                cursor += self._checked_size(length, position + cursor)
            position += cursor
        raise CorruptLog(f"{self.path}: no batch holds offset {offset}; restart the node to check the log")

    def _bytes_to_read(self, start: int, max_bytes: int) -> int:
        """How much to read at ``start``: to where a batch ends, if an index entry tells, or the last one would have to
        be cut off again, which costs a copy of all."""
        left = self.size_bytes - start
        if left <= max_bytes or max_bytes < ALIGNED_READ_BYTES_MIN:
            return min(left, max_bytes)
        boundary = self.index.position_not_above(start + max_bytes)
        return boundary - start if boundary > start else max_bytes

    def _whole_batches(self, data: bytes, start: int, upper_bound: Offset) -> tuple[int, Offset]:
        """How many bytes of ``data`` are whole batches below the bound, and the offset after them."""
        position, next_offset = 0, Offset(0)
        limit = len(data)
        if upper_bound >= self.next_offset:
            upper_bound = self.next_offset
        while position + HEADER_SIZE <= limit:
            base_offset, length, last_delta = EXTENT.unpack_from(data, position)
            end = position + self._checked_size(length, start + position)
            if end > limit or base_offset + last_delta >= upper_bound:
                break
            position, next_offset = end, Offset(base_offset + last_delta + 1)
        return position, next_offset

    def _read_one(self, data: bytes, start: int, upper_bound: Offset) -> bytes:
        """The batch at ``start``, larger than what was asked for."""
        base_offset, length, last_delta = EXTENT.unpack_from(data)
        if base_offset + last_delta >= self.next_offset:  # else whoever reads here would wait for ever
            raise CorruptLog(f"{self.path}: impossible offsets at byte {start}; restart the node to check the log")
        if base_offset + last_delta >= upper_bound:
            return b""
        size = self._checked_size(length, start)
        whole = self._file.read(start, size)
        if len(whole) < size:
            raise CorruptLog(f"{self.path}: the batch at byte {start} is cut short; restart the node to check the log")
        return whole

    def _checked_size(self, length: int, position: int) -> int:
        size = length + 12
        if size < HEADER_SIZE:
            raise CorruptLog(f"{self.path}: impossible batch length {length} at byte {position}; restart the node")
        return size

    def _remember_start(self, offset: Offset, position: int) -> None:
        starts = self._starts
        starts.pop(offset, None)
        starts[offset] = position
        if len(starts) > KNOWN_STARTS_MAX:
            del starts[next(iter(starts))]
