"""What can be asked of a partition's log, and read from it; partition_log.py is what changes it."""

from pathlib import Path

from .errors import OffsetOutOfRange
from .leader_epochs import LeaderEpochCache
from .model import LeaderEpoch, Offset, OffsetAndEpoch, ProducerId, TopicId, TopicPartition
from .producer_snapshot import SnapshotEntry
from .producer_state import ProducerStateManager
from .recovery import Recovered
from .retention import SegmentFacts
from .segment import Segment
from .segments import SegmentList
from .storage import Storage
from .swap import is_compacted
from .sync_point import SyncPoint


class LogView:
    """Invariants: log_start_offset and recovery_point <= log_end_offset; each segment starts where the one before
    ends, the log starts in the first, and the last one is appended to."""

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        recovered: Recovered,
        segments: SegmentList,
        recovery_point: Offset,
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.directory = directory
        self.cut_bytes = recovered.cut_bytes  # of a torn tail, at this opening
        self._storage = storage
        self._segments = segments
        self._log_start = segments.start_offset
        self._epochs = recovered.epochs
        self._producers: ProducerStateManager = recovered.producers
        unsynced = sum(s.size_bytes for s in recovered.segments if s.next_offset > recovery_point)
        self._sync_point = SyncPoint(max(recovery_point, self._log_start), unsynced)

    @property
    def log_start_offset(self) -> Offset:
        """First offset still readable. Segments below it go with the next retention."""
        return self._log_start

    @property
    def log_end_offset(self) -> Offset:
        """Next offset to be assigned."""
        return self._segments.active.next_offset

    @property
    def recovery_point(self) -> Offset:
        """Everything below it is durable."""
        return self._sync_point.recovery_point

    @property
    def unsynced_bytes(self) -> int:
        """Appended and not yet known to be durable."""
        return self._sync_point.unsynced_bytes

    @property
    def size_bytes(self) -> int:
        """Of all segments, indexes not counted."""
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def segment_count(self) -> int:
        """Files of records, at least one."""
        return len(self._segments)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them; the last one is appended to."""
        return tuple(self._segments)

    @property
    def has_gaps(self) -> bool:
        """Whether compaction may have left some between offsets. Looks into the directory."""
        return is_compacted(self._storage, self.directory)

    def facts(self) -> list[SegmentFacts]:
        """What retention and cleaning ask of each segment."""
        return [
            SegmentFacts(s.base_offset, s.next_offset, s.size_bytes, s.largest_timestamp_ms) for s in self._segments
        ]

    def read(self, offset: Offset, max_bytes: int, upper_bound: Offset) -> bytes:
        """Whole batches as stored, from the one that contains ``offset``: at most ``max_bytes``, or one batch that
        is larger, and none that reaches ``upper_bound``. Empty where there is none. Raises OffsetOutOfRange."""
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, self.log_end_offset)
        if offset >= upper_bound:
            return b""
        active = self._segments.active
        segment = active if offset >= active.base_offset else self._segments.containing(offset)
        return segment.read(offset, max_bytes, upper_bound)

    def first_batch_at_time(self, timestamp_ms: int) -> Offset | None:
        """Where to read from for the first record of ``timestamp_ms`` or later: it is in that batch or in a later one.
        None: there is no such record. Raises CorruptLog."""
        for segment in self._segments:
            found = segment.find_time(timestamp_ms) if segment.next_offset > self._log_start else None
            if found is not None:
                return max(found.batch.base_offset, self._log_start)
        return None

    @property
    def largest_timestamp_offset(self) -> Offset | None:
        """Last offset of the first batch that has the largest timestamp of all; None where no record has one."""
        newest = max(self._segments, key=lambda segment: segment.largest_timestamp_ms or -1)
        return newest.largest_timestamp_offset

    @property
    def latest_epoch(self) -> LeaderEpoch | None:
        """The highest leader epoch that has begun in this log, be it without records."""
        return self._epochs.cache.latest

    @property
    def epochs(self) -> LeaderEpochCache:
        """All of them, as they are now."""
        return LeaderEpochCache(self._epochs.entries)

    def epoch_of(self, offset: Offset) -> LeaderEpoch | None:
        """The leader epoch in which ``offset`` was, or will be, written."""
        return self._epochs.cache.epoch_of(offset)

    def end_offset_for_epoch(self, epoch: LeaderEpoch) -> OffsetAndEpoch | None:
        """The largest epoch here that is not above ``epoch``, and where it ends (KIP-101, KIP-279). None if
        ``epoch`` is above all epochs here; one below them all ended where they begin."""
        return self._epochs.cache.end_offset_for(epoch, self.log_end_offset)

    def producers(self) -> list[SnapshotEntry]:
        """The remembered batches of every idempotent producer, each producer's oldest first."""
        return self._producers.capture()

    def last_batches(self) -> dict[ProducerId, Offset]:
        """The last offset of each idempotent producer's last batch."""
        return self._producers.last_offsets()
