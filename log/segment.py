"""A segment: consecutive batches in one ``.log`` file named by its base offset, with a sparse index beside it."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .errors import CorruptBatch, CorruptLog
from .index import INT32_MAX, OffsetIndex
from .model import Offset
from .records import HEADER_SIZE, RecordBatch
from .storage import Buffer, File, Storage

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
CLEANED, SWAP, DELETED = ".cleaned", ".swap", ".deleted"
"""What follows the suffix of a file that is being made, that replaces others, or that is out of the log (as Kafka's)."""
SCAN_BYTES = 4096
"""A header scan reads this much at once: small batches share a read, large ones waste little of it."""
VERIFY_BYTES = 1 << 20
KNOWN_STARTS_MAX = 64

# What a read must know of a batch: | base_offset: i64 | length: i32 | 11 bytes | last_offset_delta: i32 |
EXTENT = struct.Struct(">qi11xi")


class Extent(NamedTuple):
    """A batch about to be appended: its last offset and its size in bytes."""

    last_offset: Offset
    size_bytes: int


class ScannedBatch(NamedTuple):
    """A batch found on disk. ``batch.buffer`` is empty unless its content was asked for."""

    position: int
    batch: RecordBatch


def segment_name(base_offset: Offset, suffix: str = LOG_SUFFIX) -> str:
    """20 digits, so that names sort as offsets do."""
    return f"{base_offset:020d}{suffix}"


class Segment:
    """Batches from ``base_offset``. Their bytes are the file's; the index and a few known starts find them.

    Invariant: the file holds ``size_bytes`` bytes of whole batches, in the order of their offsets, up to
    ``next_offset``; compaction leaves gaps.
    """

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
        """Open the file, or make it. ``next_offset`` is to be set by whoever scans an old one. ``state``: what is
        appended to the files' names while they are not, or not any more, part of the log."""
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.path = directory / segment_name(base_offset, LOG_SUFFIX + state)
        index_path = directory / segment_name(base_offset, INDEX_SUFFIX + state)
        self.index = OffsetIndex(storage, index_path, base_offset)
        self.first_append_ms: int | None = None  # when this process first appended: the age that rolls a segment
        self.closed = False
        self._storage = storage
        self._file: File = storage.open(self.path, create=create)
        self.size_bytes = self._file.size()
        self._index_interval_bytes = index_interval_bytes
        self._unindexed_bytes = 0
        self._starts: dict[Offset, int] = {}  # offsets known to start a batch: where readers at the tail come back to

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
        for extent in extents:
            self.note_batch(extent.last_offset, self.size_bytes, extent.size_bytes)
            self.size_bytes += extent.size_bytes
        self.next_offset = Offset(extents[-1].last_offset + 1)

    def note_batch(self, last_offset: Offset, position: int, size_bytes: int) -> None:
        """Give the batch an index entry if the last one is far enough back (Kafka's LogSegment.append)."""
        if self._unindexed_bytes > self._index_interval_bytes:
            self.index.append(last_offset, position)
            self._unindexed_bytes = 0
        self._unindexed_bytes += size_bytes

    def reset_index(self) -> None:
        """Forget the index, before a scan that calls ``note_batch`` for every batch."""
        self.index.reset()
        self._unindexed_bytes = 0

    def read(self, offset: Offset, max_bytes: int, upper_bound: Offset) -> bytes:
        """Whole batches from the one that contains ``offset``, all below ``upper_bound``: up to ``max_bytes``, or
        one batch that is larger. Empty if there is none. Raises CorruptLog on impossible lengths."""
        start = self._find(offset)
        if start is None:
            return b""
        data = self._file.read(start, min(max(max_bytes, HEADER_SIZE), self.size_bytes - start))
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
        """Where the batches that end at or below ``offset`` end: the first offset of the batch that contains it, or
        where the gap begins that compaction left there. ``offset`` itself above the last batch."""
        position = self.position_of(offset)
        if position == self.size_bytes:
            return offset
        start = self.base_offset
        for at, batch in self.scan(self.index.position_before(position)):
            if at >= position:
                break
            start = batch.next_offset
        return start

    def truncate_to(self, offset: Offset) -> None:
        """Drop all batches above ``offset``, a ``batch_start``."""
        if offset < self.next_offset:
            self.cut_at(self.position_of(offset), offset)

    def cut_at(self, position: int, next_offset: Offset) -> None:
        """Drop the bytes from ``position``, where the batch that starts with ``next_offset`` is or would be."""
        self._starts.clear()
        self._file.truncate(position)
        self.index.truncate_to_position(position)
        self.size_bytes = position
        self._unindexed_bytes = position - self.index.last_position
        self.next_offset = next_offset

    def sync(self) -> None:
        """Make the file durable. Called from executors: a file closed meanwhile has nothing more to lose here."""
        try:
            self._file.sync()
        except OSError:
            if not self.closed:
                raise

    def flush_index(self) -> None:
        """Write the index out. A full disk must not stop the log for what can be rebuilt."""
        with suppress(OSError):
            self.index.flush()

    def close(self) -> None:
        """Let go of the file."""
        self.closed = True
        self._file.close()

    def rename(self, state: str) -> None:
        """Give the files names that end with ``state`` ("": part of the log); durable once the directory is synced.
        The index first: one without its segment is nothing, and one that is missing is rebuilt."""
        index_path = self.path.with_name(segment_name(self.base_offset, INDEX_SUFFIX + state))
        with suppress(FileNotFoundError):  # it is written when the segment is full
            self._storage.replace(self.index.path, index_path)
        self.index.path = index_path
        path = self.path.with_name(segment_name(self.base_offset, LOG_SUFFIX + state))
        self._storage.replace(self.path, path)
        self.path = path

    def delete(self) -> None:
        """Close and remove both files; durable once the directory is synced."""
        self.close()
        self._storage.remove(self.path)
        self._storage.remove(self.index.path)

    def _cut_back(self, cause: OSError) -> None:
        try:
            if self._file.size() != self.size_bytes:
                self._file.truncate(self.size_bytes)
        except OSError as error:
            raise CorruptLog(
                f"{self.path}: a write failed ({cause}) and what it left cannot be cut off ({error}); restart the node"
            ) from error

    def _find(self, offset: Offset) -> int | None:
        """Where the batch with the first last offset >= ``offset`` starts."""
        if offset >= self.next_offset:
            return None
        if (known := self._starts.get(offset)) is not None:
            return known
        position = self.index.lookup(offset)
        while position < self.size_bytes:
            window = self._file.read(position, max(self._index_interval_bytes, EXTENT.size))
            cursor = 0
            while cursor + EXTENT.size <= len(window):
                base_offset, length, last_delta = EXTENT.unpack_from(window, cursor)
                if base_offset + last_delta >= offset:
                    return position + cursor
                cursor += self._checked_size(length, position + cursor)
            position += cursor
        return None

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
