"""What a data directory's checkpoints say of its logs, those that are not opened yet included."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from .checkpoint import CLEANED_FILE, HIGH_WATERMARK_FILE, LOG_START_FILE, RECOVERY_POINT_FILE, OffsetCheckpoint
from .model import Offset, TopicPartition
from .partition_log import PartitionLog
from .storage import Storage

Offsets = dict[TopicPartition, Offset]


class DirectoryCheckpoints:
    """``write_*`` are for executors. On OSError the old files stand, and the next call tries again."""

    def __init__(self, storage: Storage, path: Path, logs: Callable[[], Iterable[PartitionLog]]) -> None:
        """Reads them all. Raises CorruptCheckpoint."""
        self._logs = logs
        self._high_watermark_file = OffsetCheckpoint(storage, path / HIGH_WATERMARK_FILE)
        self._recovery_point_file = OffsetCheckpoint(storage, path / RECOVERY_POINT_FILE)
        self._log_start_file = OffsetCheckpoint(storage, path / LOG_START_FILE)
        self._cleaned_file = OffsetCheckpoint(storage, path / CLEANED_FILE)
        self.log_starts = self._log_start_file.read()
        self.first_dirty = self._cleaned_file.read()
        self.high_watermarks = self._high_watermark_file.read()
        self.recovery_points = self._recovery_point_file.read()
        self.unreported: Offsets = {}  # of logs that are lost: what these had been durable up to

    def recovery_point(self, topic_partition: TopicPartition) -> Offset:
        """Of the log as it is: 0 where it was begun anew in the place of one that is lost."""
        begun_anew = topic_partition in self.unreported
        return Offset(0) if begun_anew else self.recovery_points.get(topic_partition, Offset(0))

    def note_loss(self, topic_partition: TopicPartition) -> None:
        """An empty log is to take the place of one that is lost. A recovery point stays in the checkpoint until that
        has been reported: else a node that dies before would come back as a replica that has everything."""
        self.unreported[topic_partition] = self.recovery_points.get(topic_partition) or Offset(1)
        self._forget_high_watermark(topic_partition)
        self.write_recovery_points()

    def losses_reported(self) -> None:
        """The logs that took the places of lost ones may be believed."""
        if self.unreported:
            self.unreported.clear()
            self.write_recovery_points()

    def forget(self, topic_partition: TopicPartition) -> None:
        """A later log of this name starts anew: what was said of the one before must not be taken for it."""
        self.unreported.pop(topic_partition, None)
        if self.recovery_points.pop(topic_partition, None) is not None:
            self.write_recovery_points()
        self._forget_high_watermark(topic_partition)
        if self.log_starts.pop(topic_partition, None) is not None:
            self._log_start_file.write(lambda: dict(self.log_starts))
        if self.first_dirty.pop(topic_partition, None) is not None:
            self._cleaned_file.write(lambda: dict(self.first_dirty))

    def write_high_watermarks(self, high_watermarks: Mapping[TopicPartition, Offset]) -> None:
        """Note these and write all."""
        self.high_watermarks.update(high_watermarks)
        self._high_watermark_file.write(lambda: dict(self.high_watermarks))

    def write_recovery_points(self) -> None:
        """As the logs have them now."""
        self._recovery_point_file.write(self._capture_recovery_points)

    def write_log_starts(self) -> None:
        """Where logs start, and from where on compacted ones are dirty, if any has moved."""
        self._write_moved(self._log_start_file, self.log_starts, lambda log: log.log_start_offset)
        self._write_moved(self._cleaned_file, self.first_dirty, _first_dirty)

    def _capture_recovery_points(self) -> Offsets:
        for log in self._logs():
            self.recovery_points[log.topic_partition] = log.recovery_point
        return {**self.recovery_points, **self.unreported}

    def _write_moved(self, file: OffsetCheckpoint, known: Offsets, offset_of: Callable[[PartitionLog], Offset]) -> None:
        def capture() -> Offsets:
            now = known | {log.topic_partition: offset_of(log) for log in self._logs()}
            return {name: offset for name, offset in now.items() if offset}

        now = capture()
        if now != known:
            file.write(capture)
            known.update(now)
            for name in known.keys() - now.keys():
                known.pop(name, None)

    def _forget_high_watermark(self, topic_partition: TopicPartition) -> None:
        if self.high_watermarks.pop(topic_partition, None) is not None:
            self._high_watermark_file.write(lambda: dict(self.high_watermarks))


def _first_dirty(log: PartitionLog) -> Offset:
    return log.first_dirty_offset if log.config.compacts else Offset(0)
