"""Opening a partition's directory: which batches on disk are whole, and what they say of epochs and producers.

One pass over every batch header checks that offsets run on (without a gap, unless the log has been compacted) and
rebuilds index, epochs and producers.
From the recovery point on, unless the last run ended cleanly, it also reads the records and checks their CRC: there
a power cut may have torn the tail. A torn tail is cut off. Damage anywhere else, or with a good batch
behind it, is not a torn tail: it stays as it is, and the log does not open (CorruptLog).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import read_epochs
from .errors import CorruptBatch, CorruptLog
from .leader_epochs import LeaderEpochCache
from .model import Offset
from .producer_state import ProducerStateManager
from .records import HEADER_SIZE, MAGIC, RecordBatch
from .segment import LOG_SUFFIX, VERIFY_BYTES, Extent, Segment
from .storage import Storage
from .swap import finish_swaps, is_compacted
from .validation import check_stored

BASE_OFFSET_DIGITS = 20
MAGIC_POSITION = 16
OFFSETS_AHEAD_MAX = 1 << 31


@dataclass(slots=True)
class Recovered:
    """What a directory holds. ``segments`` is never empty."""

    segments: list[Segment]
    epochs: LeaderEpochCache
    producers: ProducerStateManager
    cut_bytes: int  # of a torn tail


def recover(
    storage: Storage,
    directory: Path,
    *,
    index_interval_bytes: int,
    recovery_point: Offset,
    clean: bool,
    now_ms: int,
) -> Recovered:
    """Read ``directory`` as the module says. Raises CorruptLog, and then has changed nothing."""
    finish_swaps(storage, directory, index_interval_bytes=index_interval_bytes)
    segments = _open_segments(storage, directory, index_interval_bytes)
    recovery = _Recovery(storage, directory, segments, recovery_point, clean, now_ms)
    try:
        return recovery.run()
    except BaseException:
        for segment in segments:
            segment.close()
        raise


def _open_segments(storage: Storage, directory: Path, index_interval_bytes: int) -> list[Segment]:
    bases = [
        Offset(int(name.removesuffix(LOG_SUFFIX)))
        for name in storage.listdir(directory)
        if name.endswith(LOG_SUFFIX) and name[:BASE_OFFSET_DIGITS].isdecimal()
    ]
    return [
        Segment(storage, directory, base, index_interval_bytes=index_interval_bytes, create=not bases)
        for base in bases or [Offset(0)]
    ]


class _Recovery:
    def __init__(
        self,
        storage: Storage,
        directory: Path,
        segments: list[Segment],
        recovery_point: Offset,
        clean: bool,
        now_ms: int,
    ) -> None:
        self._segments = segments
        self._recovery_point = recovery_point
        self._clean = clean
        self._has_gaps = is_compacted(storage, directory)
        self._now_ms = now_ms
        self._producers = ProducerStateManager()
        # Whole segments are checked, from the one that holds the recovery point: its earlier batches are cheap and
        # the tail of a log that ends below its recovery point must not slip through.
        self._verify_from = max((s.base_offset for s in segments if s.base_offset <= recovery_point), default=Offset(0))
        self._epochs = LeaderEpochCache()
        self._epochs_on_disk = read_epochs(storage, directory) or () if clean else ()

    def run(self) -> Recovered:
        cut_bytes = 0
        for number, segment in enumerate(self._segments):
            if number and segment.base_offset != self._segments[number - 1].next_offset:
                raise CorruptLog(
                    f"{segment.path}: the segment before ends at offset {self._segments[number - 1].next_offset}; "
                    "restore the missing file, or remove the directory to refetch the replica"
                )
            damage = self._scan(segment)
            if damage is not None:
                cut_bytes = self._judge(number, *damage)
                break
        end = self._segments[-1].next_offset
        if end < self._recovery_point:
            raise CorruptLog(
                f"{self._segments[-1].path}: the log ends at offset {end}, and had been durable up to "
                f"{self._recovery_point}; restore the file, or remove the directory to refetch the replica"
            )
        for epoch, start in self._epochs_on_disk[-1:]:  # one that has no batch yet is known to the file only
            if start == end:
                self._epochs.assign(epoch, start)
        return Recovered(self._segments, self._epochs, self._producers, cut_bytes)

    def _scan(self, segment: Segment) -> tuple[int, CorruptBatch] | None:
        """Take in the segment's batches. Where they end too early: the position, and why."""
        verify = not self._clean and segment.base_offset >= self._verify_from
        position = 0
        segment.reset_indexes()
        try:
            for position, batch in segment.scan(content=verify):
                self._take(segment, position, batch, verify)
                position += batch.size_bytes
        except CorruptBatch as error:
            return position, error
        return None

    def _take(self, segment: Segment, position: int, batch: RecordBatch, verify: bool) -> None:
        check_stored(batch)
        gap = batch.base_offset - segment.next_offset
        if gap < 0 or (gap and not self._has_gaps):
            raise CorruptBatch(f"offset {batch.base_offset} follows where {segment.next_offset} was due")
        if verify:
            batch.verify_crc()
        assert batch.leader_epoch is not None
        self._epochs.assign(batch.leader_epoch, batch.base_offset)
        self._producers.update(batch, self._now_ms)
        segment.note_batch(Extent.of(batch), position)
        segment.next_offset = batch.next_offset

    def _judge(self, number: int, position: int, error: CorruptBatch) -> int:
        """Cut a torn tail off and return its bytes, or raise CorruptLog."""
        segment, later = self._segments[number], self._segments[number + 1 :]
        reason = self._why_not_torn(segment, position, later)
        if reason is not None:
            raise CorruptLog(
                f"{segment.path}: damaged at byte {position} ({error}), and {reason}; the log is good up to offset "
                f"{segment.next_offset}. Restore the file, or remove the directory to refetch the replica"
            ) from error
        for empty in reversed(later):
            empty.delete()
        del self._segments[number + 1 :]
        cut_bytes = segment.size_bytes - position
        segment.cut_at(position, segment.next_offset)
        return cut_bytes

    def _why_not_torn(self, segment: Segment, position: int, later: Sequence[Segment]) -> str | None:
        if self._clean:
            return "the last run ended cleanly"
        if segment.next_offset < self._recovery_point:
            return f"it had been durable up to offset {self._recovery_point}"
        if any(other.size_bytes for other in later):
            return "more segments follow"
        if (found := find_batch(segment, position + 1)) is not None:
            return f"a good batch follows at byte {found}"
        return None


def find_batch(segment: Segment, position: int) -> int | None:
    """Where, at or after ``position``, a batch with a true CRC and a later offset starts; None if nowhere."""
    while position + HEADER_SIZE <= segment.size_bytes:
        window = segment.read_range(position, VERIFY_BYTES)
        candidate = window.find(MAGIC, MAGIC_POSITION)
        while candidate >= 0:
            if _is_batch(segment, window, position, candidate - MAGIC_POSITION):
                return position + candidate - MAGIC_POSITION
            candidate = window.find(MAGIC, candidate + 1)
        position += max(1, len(window) - HEADER_SIZE + 1)
    return None


def _is_batch(segment: Segment, window: bytes, window_start: int, at: int) -> bool:
    if at + HEADER_SIZE > len(window):
        return False
    try:
        header = RecordBatch.parse_header(window, at)
        ahead = header.base_offset - segment.next_offset
        if not 0 <= ahead < OFFSETS_AHEAD_MAX or header.last_offset_delta < 0:
            return False
        if window_start + at + header.size_bytes > segment.size_bytes:
            return False
        RecordBatch.parse(segment.read_range(window_start + at, header.size_bytes)).verify_crc()
    except CorruptBatch:
        return False
    return True
