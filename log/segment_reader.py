"""The reading side of a segment: batches in one ``.log`` file, found by a sparse index of offsets beside it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import CorruptBatch, CorruptLog
from .index import IndexedBatch, OffsetIndex
from .model import Offset
from .records import HEADER_SIZE, RecordBatch
from .segment_names import INDEX_SUFFIX, LOG_SUFFIX, segment_name
from .storage import File, Storage

SCAN_BYTES = 4096
"""A header scan reads this much at once: small batches share a read, large ones waste little of it."""
VERIFY_BYTES = 1 << 20
ALIGNED_READ_BYTES_MIN = 64 << 10
"""Below it, a copy of what was read costs less than looking for where a batch ends."""
KNOWN_STARTS_MAX = 64
TAIL_BYTES_MAX = 8 << 10
"""A batch up to this that was appended last stays in memory: its followers ask for just that, and nothing else."""

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


class SegmentReader:
    """Batches from ``base_offset``. Their bytes are the file's; the index and a few known starts find them.

    Invariant: the file holds ``size_bytes`` bytes of whole batches in the order of their offsets, up to
    ``next_offset``; compaction leaves gaps. What the index says of a batch is checked against the batch; where it is
    wrong, the search begins at the segment's start: a bad index costs time, never a record.
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
        self._state = state
        self.path = directory / segment_name(base_offset, LOG_SUFFIX + state)
        self.index = OffsetIndex(storage, self._named(INDEX_SUFFIX), base_offset)
        self._file: File = storage.open(self.path, create=create)
        self.size_bytes = self._file.size()
        self._index_interval_bytes = index_interval_bytes
        self._starts: dict[Offset, int] = {}  # offsets known to start a batch: where readers at the tail come back to
        self._tail: tuple[Offset, bytes] | None = None  # the last batch, where it is small, and its first offset

    def read(self, offset: Offset, max_bytes: int, upper_bound: Offset) -> bytes:
        """Whole batches from the one that contains ``offset``, all below ``upper_bound``: up to ``max_bytes``, or
        one batch that is larger. Empty if there is none. Raises CorruptLog on impossible lengths."""
        tail = self._tail
        if tail is not None and offset == tail[0] and upper_bound >= self.next_offset and len(tail[1]) <= max_bytes:
            return tail[1]
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
        """Where the batches that end at or below ``offset`` end: the first offset of the batch that contains it, or
        where the gap begins that compaction left there. ``offset`` itself above the last batch."""
        position = self.position_of(offset)
        if position == self.size_bytes:
            return offset
        start = self.base_offset
        for at, batch in self.scan(self._indexed_position(self.index.lookup(Offset(offset - 1))) or 0):
            if at >= position:
                break
            start = batch.next_offset
        return start

    def _named(self, suffix: str) -> Path:
        return self.path.with_name(segment_name(self.base_offset, suffix + self._state))

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
