"""Cleaning one compacted log beside its traffic: which keys are newest, then old segments written anew.

Everything here runs in an executor, in pieces: ``note_dirty`` and ``rewrite`` are generators that yield about every
megabyte, so that nothing else waits long for an executor or for the interpreter. They read through files of their own
and touch nothing that the event loop owns; what they made is taken into the log, or not, by the loop.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from .compaction import CleaningStats, CompactionRules, cleaned, note_keys
from .errors import CorruptBatch
from .key_map import KeyMap
from .model import Offset
from .records import HEADER_SIZE, RecordBatch
from .segment import Segment
from .segment_names import CLEANED
from .segment_reader import Extent
from .storage import Buffer, File, Storage

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A segment to be cleaned, as it was when the cleaning was planned."""

    path: Path
    base_offset: Offset
    next_offset: Offset
    size_bytes: int

    @classmethod
    def of(cls, segment: Segment) -> "Source":
        """That of ``segment``."""
        return cls(segment.path, segment.base_offset, segment.next_offset, segment.size_bytes)


def note_dirty(storage: Storage, sources: Sequence[Source], keys: KeyMap) -> Iterator[None]:
    """Take in the keys from ``keys.end`` on, until ``sources`` end or the map is full. Raises CorruptBatch."""
    first_dirty = keys.end
    for source in sources:
        with closing(storage.open(source.path)) as file:
            for batch in batches_of(file, source):
                if batch is None:
                    yield
                elif batch.next_offset > first_dirty and not note_keys(batch, keys):
                    return
        keys.end = max(keys.end, source.next_offset)


@dataclass(slots=True)
class Rewriting:
    """Makes one segment out of neighbours. ``segment``: the new one, synced, once it is done; None where nothing of
    the sources would go."""

    storage: Storage
    sources: Sequence[Source]
    rules: CompactionRules
    index_interval_bytes: int
    stats: CleaningStats = field(default_factory=CleaningStats)
    segment: Segment | None = None

    def run(self) -> Iterator[None]:
        """Raises CorruptBatch, OSError; what was written is then gone."""
        target = self._make_target()
        changed = len(self.sources) > 1
        try:
            for source in self.sources:
                for changed_here in self._rewrite(source, target):
                    changed = changed or changed_here
                    yield
            if changed:
                target.seal()
                target.sync()
                target.sync_indexes()
                self.segment = target
            else:
                target.delete()
        except Exception:
            target.delete()
            raise

    def _make_target(self) -> Segment:
        first = self.sources[0]
        return Segment(
            self.storage,
            first.path.parent,
            first.base_offset,
            index_interval_bytes=self.index_interval_bytes,
            create=True,
            state=CLEANED,
        )

    def _rewrite(self, source: Source, target: Segment) -> Iterator[bool]:
        """Yields, after each piece, whether anything has changed so far."""
        is_last = source is self.sources[-1]
        parts: list[Buffer] = []
        extents: list[Extent] = []
        changed = False
        with closing(self.storage.open(source.path)) as file:
            for batch in batches_of(file, source):
                if batch is None:
                    _write(target, parts, extents)
                    yield changed
                    continue
                # The last batch stays, be it empty: the next segment starts where this one ends.
                keep_empty = is_last and batch.next_offset == source.next_offset
                kept = cleaned(batch, self.rules, self.stats, keep_empty=keep_empty)
                changed = changed or kept is not batch.buffer
                if kept:
                    parts.append(kept)
                    extents.append(Extent.of(RecordBatch.parse_header(kept)))
        _write(target, parts, extents)
        yield changed


def _write(target: Segment, parts: list[Buffer], extents: list[Extent]) -> None:
    if parts:
        target.append(parts, extents)
        parts.clear()
        extents.clear()


def batches_of(file: File, source: Source) -> Iterator[RecordBatch | None]:
    """The batches with their records, each with a true CRC, and a None after each piece. Raises CorruptBatch."""
    position = 0
    while position < source.size_bytes:
        window = file.read(position, min(PIECE_BYTES, source.size_bytes - position))
        size = RecordBatch.parse_header(window).size_bytes
        if size > len(window):
            window = file.read(position, size)
        start = 0
        while start + HEADER_SIZE <= len(window):
            if start + RecordBatch.parse_header(window, start).size_bytes > len(window):
                break
            batch = RecordBatch.parse(window, start)
            batch.verify_crc()
            start += batch.size_bytes
            yield batch
        if not start:
            raise CorruptBatch(f"{source.path}: the batch at byte {position} is cut short")
        position += start
        yield None
