"""All directories of a node's logs: each partition lives in one of them, and one that fails leaves the rest serving
(KIP-112).

A new partition goes where the fewest are. Before the node has registered, a partition that none of its directories
holds is not simply new: if a directory could not be opened it may be there, and if one was lost or replaced it may have
been there.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .chance import Chance
from .clock import Clock
from .config import LogConfig
from .directory_identity import Owner, claim, read_known, write_known
from .errors import LogError, StorageFailed
from .manager import RESERVE_BYTES, LogManager, Quarantined
from .model import BrokerEpoch, Offset, TopicId, TopicPartition
from .partition_log import PartitionLog
from .producer_state import EXPIRATION_MS
from .run_blocking import RunBlocking
from .storage import Storage


class LogDirectories:
    """The same as a LogManager, over several. ``broken``: why a directory could not be opened, by its path; ``lost``:
    what is known to have been there and is not any more."""

    def __init__(
        self,
        managers: Sequence[LogManager],
        broken: Mapping[Path, str],
        lost: Sequence[str],
        remember: Callable[[], None],
    ) -> None:
        """``remember``: write down which directories there are; not before the quorum knows what is lost."""
        assert managers
        self._remember = remember
        self.managers = list(managers)
        self.broken = dict(broken)
        self.lost = list(lost)
        self.on_failed: Callable[[LogManager], None] = _nothing
        self._registered = False  # from then on what is nowhere is new
        self._lock = threading.Lock()  # logs are opened in several executors
        self._homes: dict[TopicPartition, LogManager] = {}
        for manager in reversed(self.managers):
            self._homes.update(dict.fromkeys(manager.on_disk(), manager))

    @classmethod
    def open(
        cls,
        storage: Storage,
        data: Path,
        paths: Sequence[Path],
        owner: Owner,
        clock: Clock,
        chance: Chance,
        reserve_bytes: int = RESERVE_BYTES,
        producer_expiration_ms: int = EXPIRATION_MS,
    ) -> "LogDirectories":
        """Open each, making it if need be. Blocks. Raises ForeignDirectory, CorruptCheckpoint, and StorageFailed where
        none can be opened."""
        known, present = read_known(storage, data), dict[str, str]()
        managers: list[LogManager] = []
        broken: dict[Path, str] = {}
        for path in paths:
            try:
                manager = LogManager(
                    storage, path, clock, chance, reserve_bytes, producer_expiration_ms=producer_expiration_ms
                )
                directory_id = claim(storage, path, owner, clock.now_ms())
            except OSError as error:
                broken[path] = error.strerror or str(error)
                continue
            present[directory_id] = str(path)
            managers.append(manager)
        if not managers:
            raise StorageFailed("; ".join(f"{path}: {problem}" for path, problem in broken.items()))
        unopened = {str(path) for path in broken}
        lost = [path for directory_id, path in known.items() if directory_id not in present and path not in unopened]
        kept = {directory_id: path for directory_id, path in known.items() if path in unopened}

        def remember() -> None:
            if known != kept | present:
                write_known(storage, data, kept | present)

        return cls(managers, broken, lost, remember)

    @property
    def healthy(self) -> list[LogManager]:
        """Those that take appends."""
        return [manager for manager in self.managers if manager.failed is None]

    @property
    def failed(self) -> LogError | None:
        """Why none takes appends any more; None while one does."""
        return None if self.healthy else self.managers[0].failed

    @property
    def failed_count(self) -> int:
        """Of those that were named."""
        return len(self.broken) + len(self.managers) - len(self.healthy)

    @property
    def unsynced_bytes(self) -> int:
        """Appended and not yet known to be durable."""
        return sum(manager.unsynced_bytes for manager in self.managers)

    @property
    def quarantined(self) -> list[Quarantined]:
        """Logs set aside as damaged, or missed, in this run."""
        return [lost for manager in self.managers for lost in manager.quarantined]

    def set_power_was_lost(self, lost: bool) -> None:
        """Before logs are opened: whether what the last run had not synced may be gone."""
        for manager in self.managers:
            manager.power_was_lost = lost

    # Logs

    def logs(self) -> list[PartitionLog]:
        """All open logs that can be written."""
        return [log for manager in self.healthy for log in manager.logs()]

    def get(self, topic_partition: TopicPartition) -> PartitionLog | None:
        """The log if it is open."""
        home = self._homes.get(topic_partition)
        return None if home is None else home.get(topic_partition)

    def get_or_create(
        self,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig = LogConfig(),  # noqa: B008 - frozen
    ) -> PartitionLog:
        """As LogManager's. StorageFailed, too, where it may be in a directory that could not be opened."""
        with self._lock:
            home = self._homes.get(topic_partition)
            if home is None:
                home = self._homes[topic_partition] = self._place(topic_partition, topic_id)
        if home.failed is not None:
            raise StorageFailed(f"{home.path}: {home.failed}")
        return home.get_or_create(topic_partition, topic_id, config)

    def _place(self, topic_partition: TopicPartition, topic_id: TopicId) -> LogManager:
        if not self._registered and self.broken:
            where = ", ".join(f"{path} ({problem})" for path, problem in self.broken.items())
            raise StorageFailed(f"{topic_partition} may be in {where}; restart the node once the disk is well")
        if not self.healthy:
            raise StorageFailed("no directory of logs takes appends; restart the node once a disk is well")
        held = list(self._homes.values())
        home = min(self.healthy, key=held.count)
        if not self._registered and self.lost:
            home.note_missing(topic_partition, topic_id, f"{', '.join(self.lost)} is gone, and it may have been there")
        return home

    def high_watermark(self, topic_partition: TopicPartition) -> Offset:
        """As last checkpointed; 0 if never."""
        home = self._homes.get(topic_partition)
        return Offset(0) if home is None else home.high_watermark(topic_partition)

    def set_aside_strays(self, current: Mapping[TopicPartition, TopicId]) -> list[Path]:
        """As LogManager's, in every directory; a partition that two of them hold is a stray in the later one."""
        aside: list[Path] = []
        for manager in self.healthy:
            here = {name: topic_id for name, topic_id in current.items() if self._homes.get(name) is manager}
            aside += manager.set_aside_strays(here)
        return aside

    def remove(self, topic_partition: TopicPartition) -> Path | None:
        """As LogManager's."""
        home = self._homes.pop(topic_partition, None)
        return None if home is None else home.remove(topic_partition)

    # Checkpoints, and the end

    def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, Offset]) -> None:
        """Note these and write all. For executors."""
        for manager in self.healthy:
            manager.checkpoint_high_watermarks(
                {name: mark for name, mark in high_watermarks.items() if self._homes.get(name) is manager}
            )

    def checkpoint_log_starts(self) -> None:
        """As LogManager's, in every directory. For executors."""
        self._each(LogManager.checkpoint_log_starts)

    def damage_reported(self) -> None:
        """The quorum knows what is lost: from now on what is nowhere is new. Blocks."""
        self._registered = True
        self._each(LogManager.damage_reported)
        self._remember()

    def read_clean_shutdown(self) -> BrokerEpoch | None:
        """The broker epoch of the run that stopped cleanly in all directories, or None."""
        epochs = {manager.read_clean_shutdown() for manager in self.managers}
        return epochs.pop() if len(epochs) == 1 and not self.broken and not self.lost else None

    def write_clean_shutdown(self, broker_epoch: BrokerEpoch) -> None:
        """As LogManager's, in every directory that has not failed. Raises StorageFailed where one fails now."""
        for manager in self.healthy:
            manager.write_clean_shutdown(broker_epoch)

    def close(self) -> None:
        """Let go of all files."""
        for manager in self.managers:
            manager.close()

    def room_bytes(self) -> int:
        """What may be written anywhere before a reserve is touched."""
        return min((manager.room_bytes() for manager in self.healthy), default=0)

    def _each(self, work: Callable[[LogManager], None]) -> None:
        for manager in self.healthy:
            work(manager)

    # Flushing

    async def run_flusher(self, run_in_executor: RunBlocking) -> None:
        """As LogManager's, each directory by itself, until cancelled or none is left; ``on_failed`` is told of each
        that fails while others go on."""
        tasks = {asyncio.ensure_future(manager.run_flusher(run_in_executor)): manager for manager in self.managers}
        waiting: set[asyncio.Future[None]] = set(tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                    if waiting:
                        self.on_failed(tasks[task])  # type: ignore[index]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def has_room(self) -> bool:
        """Whether ``wait_for_room`` would return at once."""
        managers = self.managers
        return managers[0].has_room if len(managers) == 1 else all(manager.has_room for manager in managers)

    async def wait_for_room(self) -> None:
        """Return once every directory that works has less than its bound of unsynced bytes. Raises StorageFailed if
        none works."""
        for manager in self.healthy or self.managers[:1]:
            try:
                await manager.wait_for_room()
            except StorageFailed:
                if not self.healthy:
                    raise

    def look_now(self) -> None:
        """Have the flushers look at once: somebody else's sync has failed."""
        for manager in self.managers:
            manager.look_now()


Logs = LogManager | LogDirectories


def _nothing(manager: LogManager) -> None:
    """Nobody wants to know."""


def parse_paths(text: str) -> tuple[Path, ...]:
    """``log.dirs``: directories with commas between, each once."""
    names: Iterable[str] = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(Path(name) for name in names if name))
