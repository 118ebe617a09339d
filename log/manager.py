"""A data directory: the partition logs in it, its checkpoints, and the flushing in the background."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from .chance import Chance
from .checkpoint import (
    CLEAN_SHUTDOWN_FILE,
    CLEANED_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_FILE,
    RECOVERY_POINT_FILE,
    OffsetCheckpoint,
    read_clean_shutdown,
    read_partition_metadata,
    write_clean_shutdown,
)
from .clock import Clock
from .directory import UNSYNCED_BYTES_MAX, DataDirectory
from .errors import CorruptCheckpoint, CorruptLog, InconsistentTopicId, LogError, StorageFailed
from .failpoints import failpoint
from .model import BrokerEpoch, Offset, TopicId, TopicPartition
from .partition_log import LogConfig, PartitionLog
from .producer_state import EXPIRATION_MS
from .storage import Storage

RESERVE_BYTES = 128 << 20
"""Free space that appends leave alone: the quorum's journal, snapshots and checkpoints need it most when it is gone."""
FLUSH_SECONDS = 1.0
NAME_BYTES_MAX = 255
STRAY_SUFFIX = "-stray"
QUARANTINE_SUFFIX = "-quarantined"
PARTITION_NAME = re.compile(r"(?P<topic>[a-zA-Z0-9._-]+)-(?P<partition>\d+)")

T = TypeVar("T")


class RunInExecutor(Protocol):
    """Runs a blocking call beside the event loop."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class Quarantined(NamedTuple):
    """A log that was damaged where it had been good: where its files are now, and what was found."""

    topic_partition: TopicPartition
    topic_id: TopicId
    path: Path
    reason: str


class LogManager:
    """The logs of one data directory. Its methods block for the disk unless they are coroutines; opening a log
    (``get_or_create``) may be called from executors."""

    def __init__(
        self,
        storage: Storage,
        data_directory: Path,
        clock: Clock,
        chance: Chance,
        reserve_bytes: int = RESERVE_BYTES,
        unsynced_bytes_max: int = UNSYNCED_BYTES_MAX,
        producer_expiration_ms: int = EXPIRATION_MS,
    ) -> None:
        """Makes the directory if need be and reads its checkpoints. Raises CorruptCheckpoint."""
        if not storage.exists(data_directory):
            storage.mkdir(data_directory)
            storage.sync_directory(data_directory.parent)
        self.path = data_directory
        self._storage = storage
        self._clock = clock
        self._chance = chance
        self._unsynced_bytes_max = unsynced_bytes_max
        self._shared = DataDirectory(storage, data_directory, clock, reserve_bytes, producer_expiration_ms)
        self._shared.on_flush_wanted = self._want_flush
        self._shared.before_recovery_point_falls = self._checkpoint_recovery_points
        self._logs: dict[TopicPartition, PartitionLog] = {}
        self._high_watermark_file = OffsetCheckpoint(storage, data_directory / HIGH_WATERMARK_FILE)
        self._recovery_point_file = OffsetCheckpoint(storage, data_directory / RECOVERY_POINT_FILE)
        self._log_start_file = OffsetCheckpoint(storage, data_directory / LOG_START_FILE)
        self._cleaned_file = OffsetCheckpoint(storage, data_directory / CLEANED_FILE)
        self._log_starts = self._log_start_file.read()  # of logs not opened yet too, as the others
        self._first_dirty = self._cleaned_file.read()
        self._high_watermarks = self._high_watermark_file.read()
        self._recovery_points = self._recovery_point_file.read()  # of logs not opened yet too
        self._closed_cleanly: set[TopicPartition] = set()
        self.power_was_lost = True  # since the last run, for all that is known; to be set before logs are opened
        self.quarantined: list[Quarantined] = []  # in this run
        self._unreported: dict[TopicPartition, Offset] = {}  # what these had been durable up to
        self._flush_wanted = asyncio.Event()
        self._flushed = asyncio.Event()

    @property
    def failed(self) -> LogError | None:
        """Why this directory takes no more appends; None while it is well."""
        return self._shared.failed

    @property
    def unsynced_bytes(self) -> int:
        """Appended and not yet known to be durable, all logs together."""
        return self._shared.unsynced_bytes

    # Logs

    def get(self, topic_partition: TopicPartition) -> PartitionLog | None:
        """The log if it is open."""
        return self._logs.get(topic_partition)

    def logs(self) -> list[PartitionLog]:
        """All open logs."""
        return list(self._logs.values())

    def get_or_create(
        self,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig = LogConfig(),  # noqa: B008 - frozen
    ) -> PartitionLog:
        """The log, opened or made if need be. Raises InconsistentTopicId where there is one of another topic of
        this name. One that is damaged is set aside (``quarantined``), and an empty one takes its place."""
        log = self._logs.get(topic_partition)
        if log is None:
            log = self._open(topic_partition, topic_id, config)
        if log.topic_id != topic_id:
            raise InconsistentTopicId(f"{log.directory} belongs to topic id {log.topic_id}, not {topic_id}")
        return log

    @failpoint("log.open")
    def _open(self, topic_partition: TopicPartition, topic_id: TopicId, config: LogConfig) -> PartitionLog:
        directory = self.path / str(topic_partition)
        if not self._storage.exists(directory):
            if self._recovery_points.get(topic_partition):
                self._note_loss(Quarantined(topic_partition, topic_id, directory, f"{directory} is gone"))
            elif topic_partition not in self._unreported:
                self._forget(topic_partition)
        try:
            log = self._open_as_it_is(directory, topic_partition, topic_id, config)
        except CorruptLog as error:
            self._quarantine(topic_partition, topic_id, error)
            log = self._open_as_it_is(directory, topic_partition, topic_id, config)
        self._closed_cleanly.discard(topic_partition)
        return self._logs.setdefault(topic_partition, log)

    def _open_as_it_is(
        self, directory: Path, topic_partition: TopicPartition, topic_id: TopicId, config: LogConfig
    ) -> PartitionLog:
        return PartitionLog.open(
            self._storage,
            directory,
            topic_partition=topic_partition,
            topic_id=topic_id,
            config=config,
            clock=self._clock,
            recovery_point=self._recovery_point(topic_partition),
            clean=topic_partition in self._closed_cleanly,
            log_start_offset=self._log_starts.get(topic_partition, Offset(0)),
            first_dirty_offset=self._first_dirty.get(topic_partition, Offset(0)),
            data_directory=self._shared,
            power_was_lost=self.power_was_lost,
        )

    def on_disk(self) -> dict[TopicPartition, TopicId | None]:
        """The partitions that have a directory, with the topic id in it; None if that cannot be read."""
        found: dict[TopicPartition, TopicId | None] = {}
        for name in self._storage.listdir(self.path):
            match = PARTITION_NAME.fullmatch(name)
            if match is None:
                continue
            topic_id = None
            with suppress(CorruptCheckpoint, NotADirectoryError):
                topic_id = read_partition_metadata(self._storage, self.path / name)
            found[TopicPartition(match["topic"], int(match["partition"]))] = topic_id
        return found

    def set_aside_strays(self, current: Mapping[TopicPartition, TopicId]) -> list[Path]:
        """Rename each partition's directory whose topic id is not its ``current`` one; returns the new names.

        Nothing is deleted: metadata that is missing or late must not cost records (KAFKA-15391).
        """
        return [
            self._set_aside(topic_partition, topic_id)
            for topic_partition, topic_id in self.on_disk().items()
            if topic_id is None or current.get(topic_partition) != topic_id
        ]

    def remove(self, topic_partition: TopicPartition) -> Path | None:
        """The topic was deleted, or the replica moved away: close the log and set its directory aside. Returns the
        new name; None if there was no directory."""
        found = self.on_disk()
        return self._set_aside(topic_partition, found[topic_partition]) if topic_partition in found else None

    @failpoint("log.set_aside")
    def _set_aside(self, topic_partition: TopicPartition, topic_id: TopicId | None) -> Path:
        log = self._logs.pop(topic_partition, None)
        if log is not None:
            log.close()
        target = self._free_path(topic_partition, str(topic_id or "unknown"), STRAY_SUFFIX)
        self._storage.replace(self.path / str(topic_partition), target)
        self._storage.sync_directory(self.path)
        self._forget(topic_partition)
        return target

    @failpoint("log.quarantine")
    def _quarantine(self, topic_partition: TopicPartition, topic_id: TopicId, error: CorruptLog) -> None:
        """Every byte is kept, under another name, for whoever wants to look; the replica is fetched anew."""
        target = self._free_path(topic_partition, self._chance.token_bytes(16).hex(), QUARANTINE_SUFFIX)
        self._note_loss(Quarantined(topic_partition, topic_id, target, str(error)))
        self._storage.replace(self.path / str(topic_partition), target)
        self._storage.sync_directory(self.path)

    def _note_loss(self, lost: Quarantined) -> None:
        """An empty log is to take the place of one that is lost. A recovery point stays in the checkpoint until that
        has been reported: else a node that dies before would come back as a replica that has everything."""
        name = lost.topic_partition
        self.quarantined.append(lost)
        self._unreported[name] = self._recovery_points.get(name) or Offset(1)
        self._closed_cleanly.discard(name)
        if self._high_watermarks.pop(name, None) is not None:
            self.checkpoint_high_watermarks({})
        self._checkpoint_recovery_points()

    def note_missing(self, topic_partition: TopicPartition, topic_id: TopicId, reason: str) -> None:
        """It should be somewhere and is nowhere: the empty log that is about to be made here takes its place."""
        self._note_loss(Quarantined(topic_partition, topic_id, self.path / str(topic_partition), reason))

    def damage_reported(self) -> None:
        """The quorum knows what was ``quarantined``: the logs that took their places may be believed. Blocks."""
        if self._unreported:
            self._unreported.clear()
            self._checkpoint_recovery_points()

    def _recovery_point(self, topic_partition: TopicPartition) -> Offset:
        begun_anew = topic_partition in self._unreported
        return Offset(0) if begun_anew else self._recovery_points.get(topic_partition, Offset(0))

    def _free_path(self, topic_partition: TopicPartition, mark: str, kind: str) -> Path:
        number = 1
        while True:
            again = "" if number == 1 else f".{number}"
            suffix = f".{mark}{again}{kind}"
            path = self.path / (str(topic_partition)[: NAME_BYTES_MAX - len(suffix)] + suffix)
            if not self._storage.exists(path):
                return path
            number += 1

    def _forget(self, topic_partition: TopicPartition) -> None:
        """A later log of this name starts anew: the checkpoints of the one before must not speak of it."""
        self._closed_cleanly.discard(topic_partition)
        self._unreported.pop(topic_partition, None)
        if self._recovery_points.pop(topic_partition, None) is not None:
            self._checkpoint_recovery_points()
        if self._high_watermarks.pop(topic_partition, None) is not None:
            self.checkpoint_high_watermarks({})
        if self._log_starts.pop(topic_partition, None) is not None:
            self._log_start_file.write(lambda: dict(self._log_starts))
        if self._first_dirty.pop(topic_partition, None) is not None:
            self._cleaned_file.write(lambda: dict(self._first_dirty))

    # Checkpoints

    def high_watermark(self, topic_partition: TopicPartition) -> Offset:
        """As last checkpointed; 0 if never."""
        return self._high_watermarks.get(topic_partition, Offset(0))

    @failpoint("log.checkpoint")
    def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, Offset]) -> None:
        """Note these and write all. For executors."""
        self._high_watermarks.update(high_watermarks)
        self._high_watermark_file.write(lambda: dict(self._high_watermarks))

    @failpoint("log.checkpoint_starts")
    def checkpoint_log_starts(self) -> None:
        """Write where logs start, and from where on compacted ones are dirty, if any has moved. For executors. On
        OSError the old files stand, and the next call tries again."""
        self._write_moved(self._log_start_file, self._log_starts, lambda log: log.log_start_offset)
        self._write_moved(self._cleaned_file, self._first_dirty, _first_dirty)

    def _write_moved(
        self,
        file: OffsetCheckpoint,
        known: dict[TopicPartition, Offset],
        offset_of: Callable[[PartitionLog], Offset],
    ) -> None:
        def capture() -> dict[TopicPartition, Offset]:
            now = known | {log.topic_partition: offset_of(log) for log in self.logs()}
            return {name: offset for name, offset in now.items() if offset}

        now = capture()
        if now != known:
            file.write(capture)
            known.update(now)
            for name in known.keys() - now.keys():
                known.pop(name, None)

    def room_bytes(self) -> int:
        """What may be written before the reserve is touched."""
        return self._storage.free_bytes(self.path) - self._shared.reserve_bytes

    def free_bytes(self) -> int:
        """What the file system has left, the reserve included. Blocks. Raises OSError."""
        return self._storage.free_bytes(self.path)

    def _checkpoint_recovery_points(self) -> None:
        self._recovery_point_file.write(self._capture_recovery_points)

    def _capture_recovery_points(self) -> dict[TopicPartition, Offset]:
        for log in self.logs():
            self._recovery_points[log.topic_partition] = log.recovery_point
        return {**self._recovery_points, **self._unreported}

    def read_clean_shutdown(self) -> BrokerEpoch | None:
        """At start, before any log is opened: the broker epoch of the run that stopped cleanly, or None. The marker
        is gone when this returns: the next stop must say for itself whether it was clean."""
        broker_epoch = read_clean_shutdown(self._storage, self.path)
        self._storage.remove(self.path / CLEAN_SHUTDOWN_FILE)
        self._storage.sync_directory(self.path)
        if broker_epoch is not None:
            self._closed_cleanly = set(self.on_disk())
        return broker_epoch

    @failpoint("log.clean_shutdown")
    def write_clean_shutdown(self, broker_epoch: BrokerEpoch) -> None:
        """The last thing of a run: sync and close every log, then say so. Raises StorageFailed if the directory
        has failed, and then says nothing."""
        for log in self.logs():
            log.settle()
        if self.failed is not None:
            raise StorageFailed(f"{self.path}: not a clean stop: {self.failed}")
        self._checkpoint_recovery_points()
        self.checkpoint_log_starts()
        self.close()
        write_clean_shutdown(self._storage, self.path, broker_epoch)

    def close(self) -> None:
        """Let go of all files; nothing is synced."""
        for log in self.logs():
            log.close()
        self._logs.clear()

    # Flushing

    async def run_flusher(self, run_in_executor: RunInExecutor) -> None:
        """Sync what is unsynced, each second or once a log has 16 MiB, until cancelled. A failed sync marks the
        directory failed; it is not tried again, because the kernel has forgotten what it could not write."""
        while self.failed is None:
            # Not to the second, so that the nodes of one machine do not all sync in the same moment.
            pause = FLUSH_SECONDS * (0.9 + 0.2 * self._chance.random())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._flush_wanted.wait()
            self._flush_wanted.clear()
            await self.flush(run_in_executor)

    async def flush(self, run_in_executor: RunInExecutor) -> None:
        """Sync every log that has unsynced bytes, then checkpoint the recovery points."""
        dirty = [log for log in self.logs() if log.unsynced_bytes]
        with suppress(StorageFailed):  # it is in ``failed``
            for log in dirty:
                await run_in_executor(log.sync)
            if dirty:
                await run_in_executor(self._try_to_checkpoint_recovery_points)
        self._shared.unsynced_bytes = sum(log.unsynced_bytes for log in self.logs())
        self._flushed.set()

    @property
    def has_room(self) -> bool:
        """Whether ``wait_for_room`` would return at once."""
        return self._shared.unsynced_bytes < self._unsynced_bytes_max and self.failed is None

    async def wait_for_room(self) -> None:
        """Return once the directory has less than its bound of unsynced bytes. Raises StorageFailed if it has
        failed: there will be no room."""
        while self._shared.unsynced_bytes >= self._unsynced_bytes_max and self.failed is None:
            self._want_flush()
            self._flushed.clear()
            await self._flushed.wait()
        if self.failed is not None:
            raise StorageFailed(f"{self.path}: {self.failed}")

    def look_now(self) -> None:
        """Have the flusher look at once: somebody else's sync has failed."""
        self._want_flush()

    def _want_flush(self) -> None:
        self._flush_wanted.set()

    def _try_to_checkpoint_recovery_points(self) -> None:
        """An old recovery point costs time at the next start, no records: a full disk here is no failure."""
        with suppress(OSError):
            self._checkpoint_recovery_points()


def _first_dirty(log: PartitionLog) -> Offset:
    return log.first_dirty_offset if log.config.compacts else Offset(0)
