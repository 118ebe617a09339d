"""A data directory: the partition logs in it, its checkpoints, and the flushing in the background."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .chance import Chance
from .checkpoint import CLEAN_SHUTDOWN_FILE, read_clean_shutdown, read_partition_metadata, write_clean_shutdown
from .clock import Clock
from .directory import UNSYNCED_BYTES_MAX, DataDirectory
from .directory_checkpoints import DirectoryCheckpoints
from .errors import CorruptCheckpoint, CorruptLog, InconsistentTopicId, LogError, StorageFailed
from .failpoints import failpoint
from .flusher import Flusher
from .model import BrokerEpoch, Offset, TopicId, TopicPartition
from .partition_log import LogConfig, PartitionLog
from .producer_state import EXPIRATION_MS
from .run_blocking import RunBlocking
from .storage import Storage

RESERVE_BYTES = 128 << 20
"""Free space that appends leave alone: the quorum's journal, snapshots and checkpoints need it most when it is gone."""
NAME_BYTES_MAX = 255
STRAY_SUFFIX = "-stray"
QUARANTINE_SUFFIX = "-quarantined"
PARTITION_NAME = re.compile(r"(?P<topic>[a-zA-Z0-9._-]+)-(?P<partition>\d+)")


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
        self._shared = DataDirectory(storage, data_directory, clock, reserve_bytes, producer_expiration_ms)
        self._logs: dict[TopicPartition, PartitionLog] = {}
        self._checkpoints = DirectoryCheckpoints(storage, data_directory, self.logs)
        self._flusher = Flusher(
            self._shared, chance, self.logs, self._checkpoints.write_recovery_points, unsynced_bytes_max
        )
        self._shared.on_flush_wanted = self._flusher.wanted.set
        self._shared.before_recovery_point_falls = self._checkpoints.write_recovery_points
        self._closed_cleanly: set[TopicPartition] = set()
        self.power_was_lost = True  # since the last run, for all that is known; to be set before logs are opened
        self.quarantined: list[Quarantined] = []  # in this run

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
            if self._checkpoints.recovery_points.get(topic_partition):
                self._note_loss(Quarantined(topic_partition, topic_id, directory, f"{directory} is gone"))
            elif topic_partition not in self._checkpoints.unreported:
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
            recovery_point=self._checkpoints.recovery_point(topic_partition),
            clean=topic_partition in self._closed_cleanly,
            log_start_offset=self._checkpoints.log_starts.get(topic_partition, Offset(0)),
            first_dirty_offset=self._checkpoints.first_dirty.get(topic_partition, Offset(0)),
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
        self.quarantined.append(lost)
        self._closed_cleanly.discard(lost.topic_partition)
        self._checkpoints.note_loss(lost.topic_partition)

    def note_missing(self, topic_partition: TopicPartition, topic_id: TopicId, reason: str) -> None:
        """It should be somewhere and is nowhere: the empty log that is about to be made here takes its place."""
        self._note_loss(Quarantined(topic_partition, topic_id, self.path / str(topic_partition), reason))

    def damage_reported(self) -> None:
        """The quorum knows what was ``quarantined``: the logs that took their places may be believed. Blocks."""
        self._checkpoints.losses_reported()

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
        self._closed_cleanly.discard(topic_partition)
        self._checkpoints.forget(topic_partition)

    # Checkpoints

    def high_watermark(self, topic_partition: TopicPartition) -> Offset:
        """As last checkpointed; 0 if never."""
        return self._checkpoints.high_watermarks.get(topic_partition, Offset(0))

    @failpoint("log.checkpoint")
    def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, Offset]) -> None:
        """Note these and write all. For executors."""
        self._checkpoints.write_high_watermarks(high_watermarks)

    @failpoint("log.checkpoint_starts")
    def checkpoint_log_starts(self) -> None:
        """Write where logs start, and from where on compacted ones are dirty, if any has moved. For executors. On
        OSError the old files stand, and the next call tries again."""
        self._checkpoints.write_log_starts()

    def room_bytes(self) -> int:
        """What may be written before the reserve is touched."""
        return self._storage.free_bytes(self.path) - self._shared.reserve_bytes

    def free_bytes(self) -> int:
        """What the file system has left, the reserve included. Blocks. Raises OSError."""
        return self._storage.free_bytes(self.path)

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
        self._checkpoints.write_recovery_points()
        self.checkpoint_log_starts()
        self.close()
        write_clean_shutdown(self._storage, self.path, broker_epoch)

    def close(self) -> None:
        """Let go of all files; nothing is synced."""
        for log in self.logs():
            log.close()
        self._logs.clear()

    # Flushing

    async def run_flusher(self, run_in_executor: RunBlocking) -> None:
        """Sync what is unsynced, each second or once a log has 16 MiB, until cancelled. A failed sync marks the
        directory failed; it is not tried again, because the kernel has forgotten what it could not write."""
        await self._flusher.run(run_in_executor)

    async def flush(self, run_in_executor: RunBlocking) -> None:
        """Sync every log that has unsynced bytes, then checkpoint the recovery points."""
        await self._flusher.flush(run_in_executor)

    @property
    def has_room(self) -> bool:
        """Whether ``wait_for_room`` would return at once."""
        return self._flusher.has_room

    async def wait_for_room(self) -> None:
        """Return once the directory has less than its bound of unsynced bytes. Raises StorageFailed if it has
        failed: there will be no room."""
        await self._flusher.wait_for_room()

    def look_now(self) -> None:
        """Have the flusher look at once: somebody else's sync has failed."""
        self._flusher.wanted.set()
