"""Opening a partition's directory: which batches on disk are whole, and what they say of epochs and producers.

What a sync has made durable is taken from the files beside it: the indexes, the leader epochs, the newest snapshot of
the producers. Of a segment below the recovery point, or of any after a clean stop, only the tail is looked at (does it
end where the next one begins, in the epoch that the epoch file says); where a file is missing or says otherwise, the
batches' headers are read instead. From the segment of the recovery point on, unless the last run ended cleanly, every
batch is read and its CRC checked: there a power cut may have torn the tail. A torn tail is cut off. Damage anywhere
else, or with a good batch behind it, is not a torn tail: it stays as it is, and the log does not open (CorruptLog).
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import read_epochs
from .damage import why_not_torn
from .epoch_file import EpochFile
from .errors import CorruptBatch, CorruptLog
from .leader_epochs import EpochStart, LeaderEpochCache
from .model import Offset
from .producer_snapshot import SNAPSHOT_SUFFIX, UNWRITTEN_SUFFIX, ProducerSnapshots
from .producer_state import ProducerStateManager
from .records import RecordBatch
from .segment import Segment, follows
from .segment_names import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX
from .segment_reader import Extent
from .storage import Storage
from .validation import check_stored

BASE_OFFSET_DIGITS = 20
BESIDE_A_SEGMENT = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX)
OFFSET_MAX = Offset((1 << 63) - 1)


@dataclass(slots=True)
class Recovered:
    """What a directory holds. ``segments`` is never empty."""

    segments: list[Segment]
    epochs: EpochFile
    producers: ProducerStateManager
    snapshots: ProducerSnapshots
    cut_bytes: int  # of a torn tail
    is_settled: bool  # stopped cleanly, and nothing was missing


class _EpochsDisagree(Exception):
    """The epoch file does not say what the batches say."""


def recover(
    storage: Storage,
    directory: Path,
    *,
    index_interval_bytes: int,
    recovery_point: Offset,
    clean: bool,
    now_ms: int,
    cleaned_to: Offset = Offset(0),  # noqa: B008
    power_was_lost: bool = False,
) -> Recovered:
    """Read ``directory`` as the module says. Raises CorruptLog, and then has changed no record.

    ``cleaned_to``: below it compaction may have left gaps between offsets. ``power_was_lost``: the machine has been
    started again since the log was written, for all that is known: what was not synced may have holes.
    """
    names = storage.listdir(directory)
    segments = _open_segments(storage, directory, names, index_interval_bytes)
    snapshots = ProducerSnapshots(storage, directory)
    saved = read_epochs(storage, directory)

    def run(epochs: Sequence[EpochStart] | None) -> Recovered:
        recovery = _Recovery(segments, snapshots, recovery_point, clean, now_ms, cleaned_to, power_was_lost, epochs)
        cut_bytes = recovery.run()
        file = EpochFile(storage, directory, recovery.epochs, saved=(saved or ()) == recovery.epochs.entries)
        file.try_to_save()
        settled = clean and file.is_saved and recovery.is_settled
        return Recovered(segments, file, recovery.producers, snapshots, cut_bytes, settled)

    try:
        try:
            recovered = run(saved)
        except _EpochsDisagree:
            recovered = run(None)
    except BaseException:
        for segment in segments:
            segment.close()
        raise
    _remove_leftovers(storage, directory, names, {segment.base_offset for segment in segments})
    return recovered


def base_offset_in(name: str, suffix: str) -> Offset | None:
    """The base offset of the segment whose file has this name; None if it is no such file."""
    digits = name.removesuffix(suffix)
    if not name.endswith(suffix) or len(digits) != BASE_OFFSET_DIGITS or not digits.isascii() or not digits.isdecimal():
        return None
    return Offset(int(digits)) if int(digits) <= OFFSET_MAX else None


def _open_segments(storage: Storage, directory: Path, names: Iterable[str], index_interval_bytes: int) -> list[Segment]:
    bases = [base for name in names if (base := base_offset_in(name, LOG_SUFFIX)) is not None]
    return [
        Segment(storage, directory, base, index_interval_bytes=index_interval_bytes, create=not bases)
        for base in bases or [Offset(0)]
    ]


def _remove_leftovers(storage: Storage, directory: Path, names: Iterable[str], bases: set[Offset]) -> None:
    """Indexes of segments that are gone, and snapshots that were never finished."""
    for name in names:
        base = next((base for suffix in BESIDE_A_SEGMENT if (base := base_offset_in(name, suffix)) is not None), None)
        orphan = base is not None and base not in bases
        if orphan or name.endswith(SNAPSHOT_SUFFIX + UNWRITTEN_SUFFIX):
            with suppress(OSError):
                storage.remove(directory / name)


class _Recovery:
    """One pass over the segments, in order."""

    def __init__(
        self,
        segments: list[Segment],
        snapshots: ProducerSnapshots,
        recovery_point: Offset,
        clean: bool,
        now_ms: int,
        cleaned_to: Offset,
        power_was_lost: bool,
        epochs: Sequence[EpochStart] | None,
    ) -> None:
        self._segments = segments
        self._snapshots = snapshots
        self._recovery_point = recovery_point
        self._clean = clean
        self._now_ms = now_ms
        self._cleaned_to = cleaned_to
        self._power_was_lost = power_was_lost
        self._epochs_are_known = epochs is not None
        # Whole segments are checked, from the one that holds the recovery point: its earlier batches are cheap and
        # the tail of a log that ends below its recovery point must not slip through.
        reached = (s.base_offset for s in segments if s.base_offset <= recovery_point)
        self._verify_from = OFFSET_MAX if clean else max(reached, default=Offset(0))
        self.epochs = LeaderEpochCache(epochs or ())
        self.epochs.truncate_from_end(self._verify_from)
        self.producers = ProducerStateManager()
        self._producers_from = self._load_producers()
        self._headers_from = min(self._verify_from, self._producers_from) if self._epochs_are_known else Offset(0)

    def run(self) -> int:
        """Returns the bytes of a torn tail that was cut off."""
        cut_bytes = 0
        for number, segment in enumerate(self._segments):
            if number and (gap := self._gap_before(number)) is not None:
                cut_bytes = self._judge(number - 1, self._segments[number - 1].size_bytes, gap)
                break
            damage = self._take_in(number, segment)
            if damage is not None:
                cut_bytes = self._judge(number, *damage)
                break
        self._check_end(self._segments[-1].next_offset)
        self._settle()
        return cut_bytes

    @property
    def is_settled(self) -> bool:
        """Whether all that a clean stop writes was there."""
        last = self._segments[-1]
        return last.is_sealed and not last.indexes_unsynced and self._producers_from == last.next_offset

    def _load_producers(self) -> Offset:
        """From the newest snapshot that can be believed; returns the offset from which on batches add to it."""
        newest = self._snapshots.newest(OFFSET_MAX if self._clean else self._recovery_point)
        if newest is None:
            return Offset(0)
        offset, entries = newest
        self.producers.restore(entries, self._now_ms)
        return offset

    def _gap_before(self, number: int) -> CorruptBatch | None:
        before, segment = self._segments[number - 1 : number + 1]
        if follows(before.next_offset, segment.base_offset, self._cleaned_to):
            return None
        return CorruptBatch(f"the next segment starts at {segment.base_offset}, where {before.next_offset} was due")

    def _check_end(self, end: Offset) -> None:
        durable = max(self._recovery_point, self._producers_from)
        if end < durable:
            raise CorruptLog(
                f"{self._segments[-1].path}: the log ends at offset {end}, and had been durable up to "
                f"{durable}; restore the file, or remove the directory to refetch the replica"
            )

    def _settle(self) -> None:
        """What the files beside the segments say of more than there is goes."""
        end = self._segments[-1].next_offset
        self.epochs.truncate_from_end(Offset(end + 1))
        if not self._clean:
            self._snapshots.drop_above(self._recovery_point)
        self._snapshots.keep_only({self._producers_from, *(segment.base_offset for segment in self._segments)})
        for segment in self._segments[:-1]:
            if segment.base_offset >= self._verify_from:
                segment.try_to_seal()

    def _take_in(self, number: int, segment: Segment) -> tuple[int, CorruptBatch] | None:
        """Where the segment's batches end too early: the position, and why."""
        if segment.base_offset >= self._verify_from:
            return self._scan(segment, verify=True)
        later = self._segments[number + 1 :]
        # Rolled at the recovery point: the sync that would have made its indexes durable has not come.
        indexes_unsynced = not self._clean and later[0].base_offset >= self._recovery_point
        if indexes_unsynced or not segment.ends_soundly(self._cleaned_to):
            return self._scan(segment, verify=not later)
        if not later or later[0].base_offset > self._headers_from:
            # Verified, if anything: without a snapshot at the very end, nothing else vouches for where a log ends that
            # was stopped cleanly.
            return self._scan_from(segment, max(self._headers_from, segment.base_offset), verify=not later)
        self._check_epoch(segment)
        return None

    def _scan(self, segment: Segment, *, verify: bool) -> tuple[int, CorruptBatch] | None:
        """Take in every batch, and build the indexes."""
        position = 0
        segment.reset_indexes()
        segment.next_offset = segment.base_offset
        segment.cut_unsynced = verify  # a process that died may have cut it without a sync
        try:
            for position, batch in segment.scan(content=verify):
                self._check_place(segment, batch)
                if verify:
                    batch.verify_crc()
                self._take(batch)
                segment.note_batch(Extent.of(batch), position)
                segment.next_offset = batch.next_offset
                position += batch.size_bytes
        except CorruptBatch as error:
            return position, error
        if not verify:
            segment.try_to_seal()
        return None

    def _scan_from(self, segment: Segment, offset: Offset, *, verify: bool) -> tuple[int, CorruptBatch] | None:
        """Take in what the batches from ``offset`` on say of epochs and producers."""
        position = segment.position_of(offset)
        expected = None
        try:
            for _, batch in segment.scan(position, content=verify):
                check_stored(batch)
                if verify:
                    batch.verify_crc()
                if expected is not None and not follows(expected, batch.base_offset, self._cleaned_to):
                    raise CorruptBatch(f"offset {batch.base_offset} follows where {expected} was due")
                self._take(batch)
                expected = batch.next_offset
                position += batch.size_bytes
        except CorruptBatch as error:
            return position, error
        self._check_epoch(segment)
        return None

    def _check_place(self, segment: Segment, batch: RecordBatch) -> None:
        check_stored(batch)
        if not follows(segment.next_offset, batch.base_offset, self._cleaned_to):
            raise CorruptBatch(f"offset {batch.base_offset} follows where {segment.next_offset} was due")

    def _take(self, batch: RecordBatch) -> None:
        assert batch.leader_epoch is not None
        latest = self.epochs.latest
        if batch.base_offset >= self._verify_from or not self._epochs_are_known:
            if self._epochs_are_known and latest is not None and batch.leader_epoch < latest:
                raise _EpochsDisagree
            self.epochs.assign(batch.leader_epoch, batch.base_offset)
        elif self.epochs.epoch_of(batch.base_offset) != batch.leader_epoch:
            raise _EpochsDisagree
        if batch.base_offset >= self._producers_from:
            self.producers.update(batch, self._now_ms)

    def _check_epoch(self, segment: Segment) -> None:
        last = segment.last_batch
        if not self._epochs_are_known or last is None:
            return
        if self.epochs.epoch_of(last.base_offset) != last.leader_epoch:
            raise _EpochsDisagree

    def _judge(self, number: int, position: int, error: CorruptBatch) -> int:
        """Cut a torn tail off and return its bytes, or raise CorruptLog."""
        segment, later = self._segments[number], self._segments[number + 1 :]
        reason = why_not_torn(
            segment,
            position,
            later,
            clean=self._clean,
            recovery_point=self._recovery_point,
            power_was_lost=self._power_was_lost,
        )
        if reason is not None:
            raise CorruptLog(
                f"{segment.path}: damaged at byte {position} ({error}), and {reason}; the log is good up to offset "
                f"{segment.next_offset}. Restore the file, or remove the directory to refetch the replica"
            ) from error
        cut_bytes = segment.size_bytes - position + sum(other.size_bytes for other in later)
        for other in reversed(later):
            other.delete()
        del self._segments[number + 1 :]
        segment.cut_at(position, segment.next_offset)
        return cut_bytes
