"""A partition's log: segments, leader epochs and producers, appended to by a leader or a follower.

It knows nothing of replication: whoever reads passes the bound (the high watermark, or the log's end).

All methods but ``sync`` belong to the event loop's thread and wait for nothing but the page cache, with one
exception: truncating what had been synced waits for two small syncs, and a roll soon after for one, because a power
cut must not bring it back among what came later.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .checkpoint import bind_to_topic
from .clock import Clock
from .condemned import condemn, refuse_condemned
from .config import LogConfig
from .directory import NO_SPACE, DataDirectory
from .errors import OffsetOutOfRange, StorageFailed, StorageFull
from .failpoints import failpoint
from .flush_promise import FlushPromise
from .leader_epochs import LeaderEpochCache
from .model import LeaderEpoch, Offset, OffsetAndEpoch, ProducerId, TopicId, TopicPartition
from .producer_snapshot import SnapshotEntry
from .producer_state import ProducerStateManager
from .records import HEADER_SIZE, RecordBatch
from .recovery import OFFSET_MAX, Recovered, recover
from .retention import SegmentFacts
from .segment import Segment
from .segment_names import SWAP
from .segment_reader import Extent
from .segments import SegmentList
from .storage import Buffer, Storage
from .swap import finish_swaps, is_compacted, mark_compacted
from .sync_point import SyncPoint
from .validation import validated, validated_from_leader


class AppendResult(NamedTuple):
    """Where a leader stored a batch, or had stored it when it came first."""

    base_offset: Offset
    last_offset: Offset
    log_append_time_ms: int | None  # None: the producer's timestamps stand
    log_start_offset: Offset
    is_duplicate: bool


class PartitionLog:
    """Invariants: log_start_offset and recovery_point <= log_end_offset; each segment starts where the one before
    ends, the log starts in the first, and the last one is appended to."""

    @classmethod
    def open(
        cls,
        storage: Storage,
        directory: Path,
        *,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig = LogConfig(),  # noqa: B008 - frozen
        clock: Clock,
        recovery_point: Offset = Offset(0),  # noqa: B008
        clean: bool = False,
        log_start_offset: Offset = Offset(0),  # noqa: B008
        first_dirty_offset: Offset = Offset(0),  # noqa: B008
        data_directory: DataDirectory | None = None,
        power_was_lost: bool = False,
    ) -> "PartitionLog":
        """Open the log in ``directory``, or make it. Blocks for as long as recovery takes.

        ``recovery_point``: up to where a sync had made it durable. ``clean``: the last run closed it and synced all.
        ``log_start_offset``, ``first_dirty_offset``: as checkpointed. ``power_was_lost``: since it was written, for
        all that is known.
        Raises InconsistentTopicId if the directory is another topic's, CorruptLog if it is damaged beyond a torn
        tail; in both cases it has changed nothing.
        """
        bind_to_topic(storage, directory, topic_id)
        refuse_condemned(storage, directory)
        finish_swaps(storage, directory, index_interval_bytes=config.index_interval_bytes)
        recovered = recover(
            storage,
            directory,
            index_interval_bytes=config.index_interval_bytes,
            recovery_point=recovery_point,
            clean=clean,
            now_ms=clock.now_ms(),
            cleaned_to=OFFSET_MAX if is_compacted(storage, directory) else Offset(0),
            power_was_lost=power_was_lost,
        )
        end = recovered.segments[-1].next_offset
        shared = data_directory or DataDirectory(storage, directory, clock)
        durable = end if clean else recovery_point
        log = cls(storage, directory, topic_partition, topic_id, config, clock, shared, recovered, durable)
        if log_start_offset > end:
            # What was appended last went with a power cut; up to where the log starts it was deleted in any case, and
            # none of those offsets may be given away again.
            log.truncate_fully_and_start_at(log_start_offset)
        log.advance_log_start(log_start_offset)
        log.first_dirty_offset = min(max(first_dirty_offset, log.log_start_offset), log.log_end_offset)
        return log

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
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.directory = directory
        self.cut_bytes = recovered.cut_bytes  # of a torn tail, at this opening
        self._storage = storage
        self._clock = clock
        self._shared = data_directory
        self._segments = SegmentList(storage, directory, config, recovered.segments)
        self._log_start = self._segments.start_offset
        self.first_dirty_offset = self._log_start  # below it the last cleaning has left each key once
        self.cuts = 0  # truncations so far: who works beside the loop asks whether one came meanwhile
        self._swap: Segment | None = None  # about to replace others: named so on disk, not yet in the log
        self._epochs = recovered.epochs
        self._producers: ProducerStateManager = recovered.producers
        self._producers.expiration_ms = data_directory.producer_expiration_ms
        self._snapshots = recovered.snapshots
        self._is_settled = recovered.is_settled  # nothing has changed since it was stopped cleanly
        unsynced = sum(s.size_bytes for s in recovered.segments if s.next_offset > recovery_point)
        self._sync_point = SyncPoint(max(recovery_point, self.log_start_offset), unsynced)
        self._closed = False
        self._promise = FlushPromise(storage, directory)
        self._promise_from = self.log_end_offset  # what is below may have been acknowledged without a sync
        self._sync_lock = threading.Lock()  # of the background and of an acknowledgement, in two executors

    @property
    def config(self) -> LogConfig:
        """What was set; may be replaced at any time, and holds from the next append."""
        return self._segments.config

    @config.setter
    def config(self, config: LogConfig) -> None:
        if config.flushes_before_ack and not self.config.flushes_before_ack:
            self._promise_from = self.log_end_offset
        self._segments.config = config

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
    def latest_epoch(self) -> LeaderEpoch | None:
        """The highest leader epoch that has begun in this log, be it without records."""
        return self._epochs.cache.latest

    @property
    def last_offset_and_epoch(self) -> OffsetAndEpoch | None:
        """The last record's offset and leader epoch; None in an empty log."""
        last = Offset(self.log_end_offset - 1)
        epoch = self._epochs.cache.epoch_of(last)
        return None if last < self.log_start_offset or epoch is None else OffsetAndEpoch(last, epoch)

    @property
    def size_bytes(self) -> int:
        """Of all segments, indexes not counted."""
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def segment_count(self) -> int:
        """Files of records, at least one."""
        return len(self._segments)

    @property
    def counts_once_durable(self) -> bool:
        """Whether what is appended may be acknowledged only below the recovery point: while the topic says so, and
        after that until the word given for it is durably taken back."""
        return self.config.flushes_before_ack or self._promise.given

    @property
    def flush_is_settled(self) -> bool:
        """Whether the word in the directory is what the topic says."""
        return self._promise.given == self.config.flushes_before_ack

    @property
    def survives_power_loss(self) -> bool:
        """Whether all that this log ever acknowledged is durable."""
        return self._promise.given

    @property
    def unsynced_bytes(self) -> int:
        """Appended and not yet known to be durable."""
        return self._sync_point.unsynced_bytes

    def append_as_leader(
        self, data: Buffer, leader_epoch: LeaderEpoch, *, may_be_forgotten: bool = False
    ) -> AppendResult:
        """Append the one batch that ``data`` is at the log's end, under ``leader_epoch``. ``may_be_forgotten``: see
        ``ProducerStateManager.check``.

        Raises CorruptBatch, InvalidBatch, RecordTooLarge, OutOfOrderSequence, InvalidProducerEpoch,
        UnknownProducerId, StorageFull or StorageFailed; the log is then what it was.
        """
        assert self.latest_epoch is None or leader_epoch >= self.latest_epoch
        batch = self._validated(data)
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
        view = memoryview(data)
        position = 0
        for run in self._runs(batches):
            size = sum(batch.size_bytes for batch in run)
            self._append_run(run, (view[position : position + size],))
            position += size
        return self.log_end_offset

    def read(self, offset: Offset, max_bytes: int, upper_bound: Offset) -> bytes:
        """Whole batches as stored, from the one that contains ``offset``: at most ``max_bytes``, or one batch that
        is larger, and none that reaches ``upper_bound``. Empty where there is none. Raises OffsetOutOfRange."""
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, self.log_end_offset)
        if offset >= upper_bound:
            return b""
        return self._segments.containing(offset).read(offset, max_bytes, upper_bound)

    def end_offset_for_epoch(self, epoch: LeaderEpoch) -> OffsetAndEpoch | None:
        """The largest epoch here that is not above ``epoch``, and where it ends (KIP-101, KIP-279). None if
        ``epoch`` is above all epochs here; one below them all ended where they begin."""
        return self._epochs.cache.end_offset_for(epoch, self.log_end_offset)

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
            self._lower_recovery_point(offset)
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
            self._lower_recovery_point(Offset(0))
        with self._shared.guarded(fatal=True):
            self._segments.start_anew_at(offset)
            self._log_start = self.first_dirty_offset = offset
            self._sync_point.set(offset)
            self._snapshots.drop_all()
            self._forget_from(Offset(0))

    # What the log keeps

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them; the last one is appended to."""
        return tuple(self._segments)

    def epoch_of(self, offset: Offset) -> LeaderEpoch | None:
        """The leader epoch in which ``offset`` was, or will be, written."""
        return self._epochs.cache.epoch_of(offset)

    @property
    def epochs(self) -> LeaderEpochCache:
        """All of them, as they are now."""
        return LeaderEpochCache(self._epochs.entries)

    @property
    def has_gaps(self) -> bool:
        """Whether compaction may have left some between offsets. Looks into the directory."""
        return is_compacted(self._storage, self.directory)

    def condemn(self, reason: str) -> None:
        """Bytes of this log have rotted: it must not be opened again. Blocks; a full disk, or a log that is closed and
        set aside already, is nobody's failure."""
        if not self._closed:
            with suppress(OSError):
                condemn(self._storage, self.directory, reason)

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

    def facts(self) -> list[SegmentFacts]:
        """What retention and cleaning ask of each segment."""
        return [
            SegmentFacts(s.base_offset, s.next_offset, s.size_bytes, s.largest_timestamp_ms) for s in self._segments
        ]

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

    @failpoint("log.delete_segments")
    def set_aside_first(self, count: int) -> list[Segment]:
        """Take the first ``count`` segments out of the log, which then starts above them; a new one is begun if that
        is all. Returns them; their files are to be removed. Raises StorageFull, StorageFailed."""
        with self._shared.guarded():
            if count == self.segment_count:
                self._segments.roll()
            self.advance_log_start(self.segments[count].base_offset)
            return self._segments.set_aside_first(count)

    def producers(self) -> list[SnapshotEntry]:
        """The remembered batches of every idempotent producer, each producer's oldest first."""
        return self._producers.capture()

    def last_batches(self) -> dict[ProducerId, Offset]:
        """The last offset of each idempotent producer's last batch."""
        return self._producers.last_offsets()

    @failpoint("log.prepare_swap")
    def prepare_swap(self, old: Sequence[Segment], new: Segment) -> bool:
        """``new``, synced, is to replace ``old``: from when the directory is synced on, a crash does it too. False
        where ``old`` is not in the log any more as it was; then nothing has changed."""
        if not self._still_holds(old, new):
            return False
        with self._shared.guarded():
            if not is_compacted(self._storage, self.directory):
                mark_compacted(self._storage, self.directory)
            new.rename(SWAP)
        self._swap = new
        return True

    @failpoint("log.swap")
    def swap(self, old: Sequence[Segment], new: Segment) -> bool:
        """The directory is synced: replace ``old``, whose files are then to be removed. False where the log was
        truncated meanwhile; ``new`` is gone then."""
        if self._swap is not new or self._closed:
            return False
        self._swap = None
        with self._shared.guarded(fatal=True):
            self._segments.replace(old, new)
        return True

    def storage_failed(self, error: OSError) -> None:
        """Work beside the loop met this: a full disk will pass, anything else fails the data directory."""
        with suppress(StorageFull, StorageFailed), self._shared.guarded():
            raise error

    def _still_holds(self, old: Sequence[Segment], new: Segment) -> bool:
        segments = self.segments
        held = not self._closed and old[0] in segments and old[-1] in segments[:-1]
        return held and old[-1].next_offset == new.next_offset

    def _forget_swap(self) -> None:
        """What is cut off must not come back with a cleaned segment, neither now nor at the next start."""
        self.cuts += 1
        swap, self._swap = self._swap, None
        if swap is not None:
            swap.delete()
            self._storage.sync_directory(self.directory)

    @failpoint("log.sync")
    def sync(self) -> Offset:
        """Make durable what was appended before this call; returns the new recovery point. Blocks: for executors,
        while the loop goes on. Raises StorageFailed, and the data directory is failed from then on.

        What the loop does meanwhile is safe: files are captured first, a file it closes has been dropped from the
        log, and after a truncation the old recovery point stands, because the same offsets may name newer bytes. A
        log that is closed, before or meanwhile, is left as it is: its directory may have been set aside already.
        """
        if self._shared.failed is not None:
            raise StorageFailed(f"{self.directory}: {self._shared.failed}")
        with self._sync_lock:
            return self._sync()

    def _sync(self) -> Offset:
        if self._closed:
            return self.recovery_point
        began = self._sync_point.begin()
        end = self.log_end_offset
        if not self._epochs.is_saved:  # a full disk: recovery must not come to believe the file
            return self.recovery_point
        end = self._segments.durable_up_to(end)
        try:
            self._sync_beside()
            self._segments.sync_above(self.recovery_point)
        except OSError as error:
            if self._closed:
                return self.recovery_point
            failure = StorageFailed(f"{self.directory}: sync failed: {error}")
            self._shared.fail(failure)
            raise failure from error
        self._sync_point.reached(began, end)
        return self.recovery_point

    def settle(self) -> None:
        """Before a clean stop, when nothing is appended any more: write and sync all that lets the log be opened
        without reading it. Blocks. Raises StorageFull or StorageFailed: then the stop is not a clean one.

        On a full disk, indexes or the snapshot may be missing: the next opening reads the records instead.
        """
        if self._is_settled:
            return
        with self._shared.guarded():
            self._epochs.try_to_save()
            active = self._segments.active
            active.try_to_seal()
            if active.is_sealed:
                active.sync_indexes()
            self._snapshots.take(self.log_end_offset, self._producers.capture())
        if self.sync() != self.log_end_offset:
            raise StorageFull(f"{self.directory}: the disk is full: what is beside the log could not be written")
        self._is_settled = True

    @failpoint("log.settle_flush")
    def settle_flush(self) -> None:
        """Give, or take back, the word that nothing is acknowledged before it is durable, as the topic says now.
        Not before all that had been acknowledged without a sync is durable. Blocks: for executors. Raises
        StorageFailed or StorageFull."""
        if self._closed or self.flush_is_settled:
            return
        with self._shared.guarded():
            if self.config.flushes_before_ack:
                if self.recovery_point >= min(self._promise_from, self.log_end_offset):
                    self._promise.give()
            else:
                self._promise.take_back()

    def close(self) -> None:
        """Write the indexes out and let go of the files. Nothing is synced: ``settle`` first for a clean stop."""
        self._closed = True  # first: a sync that is under way fails from here on, and that is no failure of the disk
        for segment in self._segments:
            segment.try_to_seal()
            segment.close()

    # Appending

    def _validated(self, data: Buffer) -> RecordBatch:
        return validated(data, self.config, self._clock.now_ms())

    def _start_inside_first(self, data: Buffer) -> None:
        """The leader's log starts in the middle of a batch, and so does ours, being empty: begin with all of it."""
        first, start = RecordBatch.parse_header(data), self._log_start
        if self.log_end_offset == start and first.base_offset < start <= first.last_offset:
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

    def _runs(self, batches: Sequence[RecordBatch]) -> Iterator[list[RecordBatch]]:
        """``batches`` in runs that fit one segment each, as they will be rolled."""
        run: list[RecordBatch] = []
        run_bytes = 0
        for batch in batches:
            size = run_bytes + batch.size_bytes
            if run and not self._segments.active.has_room_for(size, batch.last_offset, self.config.segment_bytes):
                yield run  # its append rolls if need be: what is active afterwards decides over the rest
                run, size = [], batch.size_bytes
            run.append(batch)
            run_bytes = size
        if run:
            yield run

    @failpoint("log.append")
    def _append_run(self, run: Sequence[RecordBatch], parts: Sequence[Buffer]) -> None:
        """Write batches that go into one segment: epochs first, then the bytes, then memory."""
        size = sum(batch.size_bytes for batch in run)
        now_ms = self._clock.now_ms()
        self._shared.admit(size)
        epochs_before = self._epochs.cache
        try:
            with self._shared.guarded():
                if self._segments.roll_if_needed(size, run[-1].last_offset, now_ms):
                    self._snapshots.take(self.log_end_offset, self._producers.capture())
                    # Recovery cannot tell a torn segment with another behind it from damage: keep that time short.
                    self._shared.on_flush_wanted()
                if run[-1].leader_epoch != self.latest_epoch or not self._epochs.is_saved:
                    self._assign_epochs((batch.leader_epoch, batch.base_offset) for batch in run)
                self._segments.active.append(parts, [Extent.of(batch) for batch in run])
        except (StorageFull, StorageFailed):
            self._epochs.take_back(epochs_before)
            raise
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

    def _sync_beside(self) -> None:
        """What recovery takes from beside the segments, before the recovery point passes it."""
        if not self._epochs.is_synced:
            self._segments.note_names_changed()
            self._epochs.sync()
        try:
            written = self._snapshots.write()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return  # an older one takes its place: recovery reads more
        if written:
            self._segments.note_names_changed()

    # Truncating

    def _lower_recovery_point(self, offset: Offset) -> None:
        """Before synced bytes are cut, the checkpoint of the recovery point must know: a log that ends below its
        recovery point has lost what was durable, and does not open."""
        fell = offset < self.recovery_point
        self._sync_point.set(min(offset, self.recovery_point))
        if fell:
            self._shared.before_recovery_point_falls()

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


__all__ = ["AppendResult", "LogConfig", "PartitionLog"]
