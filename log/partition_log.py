"""A partition's log: segments, leader epochs and producers, appended to by a leader or a follower.

It knows nothing of replication: whoever reads passes the bound (the high watermark, or the log's end).

All methods but ``sync`` belong to the event loop's thread and wait for nothing but the page cache, with one
exception: truncating what had been synced waits for two small syncs, and a roll soon after for one, because a power
cut must not bring it back among what came later.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .checkpoint import bind_to_topic
from .clock import Clock
from .condemned import condemn, refuse_condemned
from .config import LogConfig
from .directory import DataDirectory
from .errors import StorageFailed, StorageFull
from .failpoints import failpoint
from .log_writer import AppendResult, LogWriter
from .model import Offset, TopicId, TopicPartition
from .recovery import OFFSET_MAX, recover
from .segment import Segment
from .storage import Storage
from .swap import finish_swaps, is_compacted


class PartitionLog(LogWriter):
    """A log as its node keeps it: opened, thinned out, made durable, closed."""

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

    @property
    def counts_once_durable(self) -> bool:
        """Whether what is appended may be acknowledged only below the recovery point: while the topic says so, and
        after that until the word given for it is durably taken back."""
        return self.config.flushes_before_ack or self._durability.promise.given

    @property
    def flush_is_settled(self) -> bool:
        """Whether the word in the directory is what the topic says."""
        return self._durability.promise.given == self.config.flushes_before_ack

    @property
    def survives_power_loss(self) -> bool:
        """Whether all that this log ever acknowledged is durable."""
        return self._durability.promise.given

    def condemn(self, reason: str) -> None:
        """Bytes of this log have rotted: it must not be opened again. Blocks; a full disk, or a log that is closed and
        set aside already, is nobody's failure."""
        if not self._durability.closed:
            with suppress(OSError):
                condemn(self._storage, self.directory, reason)

    @failpoint("log.delete_segments")
    def set_aside_first(self, count: int) -> list[Segment]:
        """Take the first ``count`` segments out of the log, which then starts above them; a new one is begun if that
        is all. Returns them; their files are to be removed. Raises StorageFull, StorageFailed."""
        with self._shared.guarded():
            if count == self.segment_count:
                self._segments.roll()
            self.advance_log_start(self.segments[count].base_offset)
            return self._segments.set_aside_first(count)

    @failpoint("log.prepare_swap")
    def prepare_swap(self, old: Sequence[Segment], new: Segment) -> bool:
        """``new``, synced, is to replace ``old``: from when the directory is synced on, a crash does it too. False
        where ``old`` is not in the log any more as it was; then nothing has changed."""
        return not self._durability.closed and self._swap.prepare(old, new)

    @failpoint("log.swap")
    def swap(self, old: Sequence[Segment], new: Segment) -> bool:
        """The directory is synced: replace ``old``, whose files are then to be removed. False where the log was
        truncated meanwhile; ``new`` is gone then."""
        return not self._durability.closed and self._swap.finish(old, new)

    def storage_failed(self, error: OSError) -> None:
        """Work beside the loop met this: a full disk will pass, anything else fails the data directory."""
        with suppress(StorageFull, StorageFailed), self._shared.guarded():
            raise error

    @failpoint("log.sync")
    def sync(self) -> Offset:
        """Make durable what was appended before this call; returns the new recovery point. Blocks: for executors,
        while the loop goes on. Raises StorageFailed, and the data directory is failed from then on.

        What the loop does meanwhile is safe: files are captured first, a file it closes has been dropped from the
        log, and after a truncation the old recovery point stands, because the same offsets may name newer bytes. A
        log that is closed, before or meanwhile, is left as it is: its directory may have been set aside already.
        """
        return self._durability.sync()

    def settle(self) -> None:
        """Before a clean stop, when nothing is appended any more: write and sync all that lets the log be opened
        without reading it. Blocks. Raises StorageFull or StorageFailed: then the stop is not a clean one.

        On a full disk, indexes or the snapshot may be missing: the next opening reads the records instead.
        """
        if self._is_settled:
            return
        self._durability.settle(self._producers)
        self._is_settled = True

    @failpoint("log.settle_flush")
    def settle_flush(self) -> None:
        """Give, or take back, the word that nothing is acknowledged before it is durable, as the topic says now.
        Not before all that had been acknowledged without a sync is durable. Blocks: for executors. Raises
        StorageFailed or StorageFull."""
        self._durability.settle_promise(self.config.flushes_before_ack)

    def close(self) -> None:
        """Write the indexes out and let go of the files. Nothing is synced: ``settle`` first for a clean stop."""
        # First: a sync that is under way fails from here on, and that is no failure of the disk.
        self._durability.closed = True
        for segment in self._segments:
            segment.try_to_seal()
            segment.close()


__all__ = ["AppendResult", "LogConfig", "PartitionLog"]
