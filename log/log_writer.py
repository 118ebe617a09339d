"""What replication changes of a partition's log: appends as a leader or a follower, epochs, truncations."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .clock import Clock
from .config import LogConfig
from .directory import DataDirectory
from .durability import Durability
from .errors import CorruptLog, StorageFull
from .failpoints import failpoint
from .log_view import LogView
from .model import LeaderEpoch, Offset, TopicId, TopicPartition
from .pending_swap import PendingSwap
from .records import HEADER_SIZE, RecordBatch
from .recovery import Recovered
from .segment_reader import Extent
from .segments import SegmentList
from .storage import Buffer, Storage
from .swap import is_compacted, mark_compacted
from .validation import validated, validated_from_leader


class AppendResult(NamedTuple):
    """Where a leader stored a batch, or had stored it when it came first."""

    base_offset: Offset
    last_offset: Offset
    log_append_time_ms: int | None  # None: the producer's timestamps stand
    log_start_offset: Offset
    is_duplicate: bool


class LogWriter(LogView):
    """The log's only writer, on the event loop."""

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        clock: Clock,
        data_directory: DataDirectory,
        recovered: Recovered,
        recovery_point: Offset,
    ) -> None:
        """Use ``open``."""
        segments = SegmentList(storage, directory, config, recovered.segments)
        super().__init__(storage, directory, topic_partition, topic_id, recovered, segments, recovery_point)
        self._clock = clock
        self._shared = data_directory
        self.first_dirty_offset = self._log_start  # below it the last cleaning has left each key once
        self.cuts = 0  # truncations so far: who works beside the loop asks whether one came meanwhile
        self._producers.expiration_ms = data_directory.producer_expiration_ms
        self._snapshots = recovered.snapshots
        self._is_settled = recovered.is_settled  # nothing has changed since it was stopped cleanly
        self._swap = PendingSwap(storage, directory, data_directory, segments)
        self._durability = Durability(
            storage, directory, data_directory, segments, self._epochs, self._snapshots, self._sync_point
        )

    @property
    def config(self) -> LogConfig:
        """What was set; may be replaced at any time, and holds from the next append."""
        return self._segments.config

    @config.setter
    def config(self, config: LogConfig) -> None:
        if config.flushes_before_ack and not self.config.flushes_before_ack:
            self._durability.promise_from_now()
        self._segments.config = config

    def append_as_leader(
        self, data: Buffer, leader_epoch: LeaderEpoch, *, may_be_forgotten: bool = False
    ) -> AppendResult:
        """Append the one batch that ``data`` is at the log's end, under ``leader_epoch``. ``may_be_forgotten``: see
        ``ProducerStateManager.check``.

        Raises CorruptBatch, InvalidBatch, RecordTooLarge, OutOfOrderSequence, InvalidProducerEpoch,
        UnknownProducerId, StorageFull or StorageFailed; the log is then what it was.
        """
        assert self.latest_epoch is None or leader_epoch >= self.latest_epoch
        batch = validated(data, self.config, self._clock.now_ms())
        duplicate = self._producers.check(batch, may_be_forgotten=may_be_forgotten)
        by_broker = self.config.message_timestamp_type == "LogAppendTime"
        if duplicate is not None:
            time_ms = duplicate.timestamp if by_broker else None
            return AppendResult(duplicate.base_offset, duplicate.last_offset, time_ms, self.log_start_offset, True)
        time_ms = self._clock.now_ms() if by_broker else None
        header = batch.stamped_header(self.log_end_offset, leader_epoch, time_ms)
        self._append_run([batch], (header, memoryview(data)[HEADER_SIZE:]))
        return AppendResult(batch.base_offset, batch.last_offset, time_ms, self.log_start_offset, False)

    def append_as_follower(self, data: Buffer) -> Offset:
        """Append whole batches exactly as the leader stored them; returns the new log end.

        Everything is checked before anything is written. Raises CorruptBatch, UnexpectedOffset, StorageFull or
        StorageFailed. Where a segment ends inside of ``data``, what went into it stays if the rest fails: the log
        is whole either way.
        """
        self._start_inside_first(data)
        batches = validated_from_leader(data, self.log_end_offset, self.latest_epoch)
        self._expect_gaps(batches)
        if len(batches) == 1:
            self._append_run(batches, (data,))
            return self.log_end_offset
        view = memoryview(data)
        position = 0
        for run in self._segments.runs(batches):
            size = sum(batch.size_bytes for batch in run)
            self._append_run(run, (view[position : position + size],))
            position += size
        return self.log_end_offset

    def assign_epoch_start(self, epoch: LeaderEpoch) -> None:
        """A new leader's epoch starts at the log's end. Raises StorageFailed.

        On a full disk the epoch is known in memory only: a leader must be able to serve reads and to lead again once
        there is room. The file follows with the next record, before the recovery point does.
        """
        try:
            with self._shared.guarded():
                self._assign_epochs([(epoch, self.log_end_offset)])
        except StorageFull:
            self._epochs.assign_in_memory(epoch, self.log_end_offset)

    @failpoint("log.truncate")
    def truncate_to(self, offset: Offset) -> None:
        """Drop the batch that contains ``offset`` and all after it; everything, where the log starts above it. Raises
        StorageFailed."""
        if offset < self.log_start_offset:
            self.truncate_fully_and_start_at(offset)
            return
        if offset >= self.log_end_offset:
            # Epochs that began at the end and got no record go all the same: a follower that went on naming one
            # would be told for ever that it diverges.
            self._forget_from(self.log_end_offset)
            return
        with self._shared.guarded():
            offset = self._segments.batch_start(offset)
            self._forget_swap()
            self._durability.lower_recovery_point(offset)
        self.first_dirty_offset = min(self.first_dirty_offset, offset)
        self._log_start = min(self._log_start, offset)  # it may lie inside of the batch
        with self._shared.guarded(fatal=True):
            self._segments.truncate_to(offset)
            self._sync_point.set(min(offset, self.recovery_point))  # again: a sync may have begun before the cut
            self._forget_from(offset)

    def truncate_fully_and_start_at(self, offset: Offset) -> None:
        """Drop everything; the log is empty and starts and ends at ``offset``. Raises StorageFailed."""
        with self._shared.guarded():
            self._forget_swap()
            self._durability.lower_recovery_point(Offset(0))
        with self._shared.guarded(fatal=True):
            self._segments.start_anew_at(offset)
            self._log_start = self.first_dirty_offset = offset
            self._sync_point.set(offset)
            self._snapshots.drop_all()
            self._forget_from(Offset(0))

    def advance_log_start(self, offset: Offset) -> bool:
        """Nothing below ``offset`` is read any more. Returns whether that is new. In memory: the checkpoint and the
        removal of files are for later."""
        assert offset <= self.log_end_offset
        if offset <= self._log_start:
            return False
        self._log_start = offset
        self.first_dirty_offset = max(self.first_dirty_offset, offset)
        self._epochs.cache.truncate_from_start(offset)
        return True

    def _start_inside_first(self, data: Buffer) -> None:
        """The leader's log starts in the middle of a batch, and so does ours, being empty: begin with all of it."""
        start = self._log_start
        if self.log_end_offset != start:
            return
        first = RecordBatch.parse_header(data)
        if first.base_offset < start <= first.last_offset:
            self.truncate_fully_and_start_at(first.base_offset)  # the leader tells its log start with the batch

    def _expect_gaps(self, batches: Sequence[RecordBatch]) -> None:
        """Before the first gap is in the log, recovery must know to expect one: a small sync, once in a log's life."""
        end = self.log_end_offset
        for batch in batches:
            if batch.base_offset != end and not is_compacted(self._storage, self.directory):
                with self._shared.guarded():
                    mark_compacted(self._storage, self.directory)
                    self._storage.sync_directory(self.directory)
                return
            end = batch.next_offset

    @failpoint("log.append")
    def _append_run(self, run: Sequence[RecordBatch], parts: Sequence[Buffer]) -> None:
        """Write batches that go into one segment: epochs first, then the bytes, then memory."""
        size = sum(batch.size_bytes for batch in run)
        now_ms = self._clock.now_ms()
        self._shared.admit(size)
        epochs_before = self._epochs.cache
        try:
            if self._segments.roll_if_needed(size, run[-1].last_offset, now_ms):
                self._snapshots.take(self.log_end_offset, self._producers.capture())
                # Recovery cannot tell a torn segment with another behind it from damage: keep that time short.
                self._shared.on_flush_wanted()
            if run[-1].leader_epoch != self.latest_epoch or not self._epochs.is_saved:
                self._assign_epochs((batch.leader_epoch, batch.base_offset) for batch in run)
            self._segments.active.append(parts, [Extent.of(batch) for batch in run])
        except (OSError, CorruptLog) as error:
            self._epochs.take_back(epochs_before)
            raise self._shared.as_ours(error) from error
        self._note_appended(run, size, now_ms)

    def _note_appended(self, run: Sequence[RecordBatch], size: int, now_ms: int) -> None:
        self._is_settled = False
        active = self._segments.active
        if active.first_append_ms is None:
            active.first_append_ms = now_ms
        for batch in run:
            self._producers.update(batch, now_ms)
        self._sync_point.appended(size)
        self._shared.note_appended(size, self.unsynced_bytes)

    @failpoint("log.epoch")
    def _assign_epochs(self, starts: Iterable[tuple[LeaderEpoch | None, Offset]]) -> None:
        """New epochs are in their file before a batch of theirs is in the log. Copy, persist, publish."""
        self._is_settled = False
        self._epochs.assign((epoch, start) for epoch, start in starts if epoch is not None)

    def _forget_swap(self) -> None:
        """What is being made beside the loop speaks of a log that is not this any more."""
        self.cuts += 1
        self._swap.forget()

    def _forget_from(self, end: Offset) -> None:
        """The log was cut to ``end``: epochs and producers follow."""
        self._is_settled = False
        self._epochs.truncate_from_end(end)
        with self._shared.guarded(fatal=True):
            if self._snapshots.drop_above(end):
                self._segments.note_names_changed()
        if self._producers.holds_from(end):
            self._rebuild_producers(end)

    def _rebuild_producers(self, end: Offset) -> None:
        now_ms = self._clock.now_ms()
        start, entries = self._snapshots.newest(end) or (Offset(0), [])
        self._producers.restore(entries, now_ms)
        for segment in self._segments:
            if segment.next_offset > start:
                for _, batch in segment.scan(segment.position_of(max(start, segment.base_offset))):
                    self._producers.update(batch, now_ms)
