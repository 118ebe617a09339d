"""What a node does to its logs by itself: old segments go, compacted logs are cleaned.

Each change to a log is one short step on the event loop. What reads or writes much runs in an executor in pieces, and
rests as long as it has worked: cleaning takes half a core at the most, whatever there is to clean.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ottla.log.chance import Chance
from ottla.log.cleaner import Rewriting, Source, note_dirty
from ottla.log.cleaning_plan import CleaningPlan, groups_by_size, plan_cleaning
from ottla.log.clock import Clock
from ottla.log.compaction import CleaningStats, CompactionRules
from ottla.log.directories import Logs
from ottla.log.errors import CorruptBatch, LogError
from ottla.log.key_map import KeyMap
from ottla.log.model import Offset, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.retention import expired_count
from ottla.log.run_blocking import RunBlocking
from ottla.log.segment import Segment
from ottla.log.storage import Storage

log = structlog.get_logger(__name__)

SEGMENTS_AT_ONCE = 64
"""No more are taken out of a log in one step."""
_END = object()


@dataclass(frozen=True, slots=True)
class HousekeepingSettings:
    """How often is looked, and what cleaning may take. ``dedupe_buffer_bytes``: of memory, for the keys of one pass."""

    retention_check_s: float = 300.0
    cleaner_backoff_s: float = 15.0
    dedupe_buffer_bytes: int = 128 << 20


@dataclass(slots=True)
class Tally:
    """What was done since the start."""

    deleted_segments: int = 0
    deleted_bytes: int = 0
    cleanings: int = 0
    cleaned: CleaningStats = field(default_factory=CleaningStats)


class Housekeeper:
    """Of all logs of a node. ``high_watermark`` is None for a log that is not, or not any more, a replica's."""

    def __init__(
        self,
        *,
        logs: Logs,
        storage: Storage,
        clock: Clock,
        chance: Chance,
        high_watermark: Callable[[PartitionLog], Offset | None],
        run_blocking: RunBlocking,
        settings: HousekeepingSettings,
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``beside``: other work of the kind, which ``run`` does too."""
        self.tally = Tally()
        self._logs = logs
        self._storage = storage
        self._clock = clock
        self._chance = chance
        self._high_watermark = high_watermark
        self._run_blocking = run_blocking
        self._settings = settings
        self._beside = beside
        self._cleaning: PartitionLog | None = None
        self._uncleanable: dict[TopicPartition, str] = {}  # until the next start: its records are damaged
        self._garbage: deque[tuple[float, Path]] = deque()  # files, and when each is to be removed

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """For `/metrics`."""
        tally = self.tally
        yield "ottla_log_deleted_segments", "Segments that retention removed", tally.deleted_segments
        yield "ottla_log_deleted_bytes", "Bytes of segments that retention removed", tally.deleted_bytes
        yield "ottla_log_cleanings", "Cleanings of compacted logs", tally.cleanings
        yield "ottla_log_cleaner_read_bytes", "Bytes that cleanings have read", tally.cleaned.read_bytes
        yield "ottla_log_cleaner_written_bytes", "Bytes that cleanings have kept", tally.cleaned.written_bytes
        yield "ottla_log_uncleanable", "Compacted logs that cannot be cleaned", len(self._uncleanable)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._retain_forever())
            tasks.create_task(self._clean_forever())
            if self._beside is not None:
                tasks.create_task(_awaited(self._beside()))

    async def _retain_forever(self) -> None:
        pause_s = self._settings.retention_check_s
        while True:
            # Not to the second, so that the nodes of one machine do not all look in the same moment.
            await asyncio.sleep(pause_s * 0.9)
            await asyncio.sleep(pause_s * 0.2 * self._chance.random())
            await self.retain()

    async def _clean_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.cleaner_backoff_s)
            await self.clean()

    # --- retention ---------------------------------------------------------------------------------------------------

    async def retain(self) -> None:
        """Take what is too old or too much out of every log."""
        for partition_log in self._logs.logs():
            while partition_log is not self._cleaning and self._retain_some(partition_log):  # noqa: ASYNC110
                await asyncio.sleep(0)  # others have a turn between the steps
        await self.checkpoint()

    def _retain_some(self, partition_log: PartitionLog) -> bool:
        """One step; whether another may follow."""
        high_watermark = self._high_watermark(partition_log)
        if high_watermark is None or not _may_expire(partition_log):
            return False
        try:
            count = expired_count(
                partition_log.facts(),
                partition_log.config,
                now_ms=self._clock.now_ms(),
                log_start_offset=partition_log.log_start_offset,
                high_watermark=high_watermark,
            )
            gone = partition_log.set_aside_first(min(count, SEGMENTS_AT_ONCE)) if count else []
        except LogError as error:
            log.warning("retention.failed", partition=str(partition_log.topic_partition), problem=str(error))
            return False
        if gone:
            self._note_gone(partition_log, gone)
        return count > SEGMENTS_AT_ONCE

    def _note_gone(self, partition_log: PartitionLog, gone: Sequence[Segment]) -> None:
        self.tally.deleted_segments += len(gone)
        self.tally.deleted_bytes += sum(segment.size_bytes for segment in gone)
        self._throw_away(partition_log, gone)
        log.info(
            "log.segments_deleted",
            partition=str(partition_log.topic_partition),
            segments=len(gone),
            log_start_offset=partition_log.log_start_offset,
        )

    async def checkpoint(self) -> None:
        """Write log starts down, if any has moved. A full disk is no failure: an old start costs nothing but that
        old records are seen again after a crash."""
        try:
            await self._run_blocking(self._logs.checkpoint_log_starts)
        except OSError as error:
            log.warning("checkpoint.failed", problem=str(error))

    # --- files out of use --------------------------------------------------------------------------------------------

    def _throw_away(self, partition_log: PartitionLog, segments: Sequence[Segment]) -> None:
        due_s = self._clock.monotonic() + partition_log.config.file_delete_delay_ms / 1000
        for segment in segments:
            self._garbage.extend((due_s, path) for path in segment.paths)

    async def empty_garbage(self) -> None:
        """Remove the files whose time has come."""
        now_s = self._clock.monotonic()
        due = [path for due_s, path in self._garbage if due_s <= now_s]
        self._garbage = deque(entry for entry in self._garbage if entry[0] > now_s)
        for path in due:
            try:
                await self._run_blocking(lambda path=path: self._storage.remove(path))  # type: ignore[misc]
            except OSError as error:  # the next start removes it
                log.warning("file.not_removed", path=str(path), problem=str(error))

    # --- compaction --------------------------------------------------------------------------------------------------

    async def clean(self) -> None:
        """Clean every log that is due, the dirtiest first, until none is."""
        await self.empty_garbage()
        tried: set[TopicPartition] = set()
        while (found := self._dirtiest(tried)) is not None:
            partition_log, plan = found
            self._cleaning = partition_log
            try:
                if not await self._try_to_clean(partition_log, plan):
                    tried.add(partition_log.topic_partition)
            finally:
                self._cleaning = None
            await self.checkpoint()

    def _dirtiest(self, tried: set[TopicPartition]) -> tuple[PartitionLog, CleaningPlan] | None:
        due: list[tuple[PartitionLog, CleaningPlan]] = []
        for partition_log in self._logs.logs():
            name = partition_log.topic_partition
            if partition_log.config.compacts and name not in tried and name not in self._uncleanable:
                plan = self._plan(partition_log)
                if plan is not None and plan.is_due:
                    due.append((partition_log, plan))
        return max(due, key=lambda found: found[1].dirty_ratio, default=None)

    def _plan(self, partition_log: PartitionLog) -> CleaningPlan | None:
        high_watermark = self._high_watermark(partition_log)
        if high_watermark is None or self._logs.failed is not None:
            return None
        return plan_cleaning(
            partition_log.facts(),
            partition_log.config,
            first_dirty=partition_log.first_dirty_offset,
            # Nor what a power cut may take: the newest record of a key must not go after it has replaced an older one.
            high_watermark=min(high_watermark, partition_log.recovery_point),
            now_ms=self._clock.now_ms(),
        )

    async def _try_to_clean(self, partition_log: PartitionLog, plan: CleaningPlan) -> bool:
        """Whether the log is cleaner now."""
        name = partition_log.topic_partition
        try:
            return await self._clean(partition_log, plan)
        except CorruptBatch as error:
            self._uncleanable[name] = str(error)
            log.error("log.uncleanable", partition=str(name), problem=str(error))
        except LogError as error:
            log.warning("cleaning.failed", partition=str(name), problem=str(error))
        except OSError as error:
            if self._high_watermark(partition_log) is not None and not isinstance(error, FileNotFoundError):
                log.warning("cleaning.failed", partition=str(name), problem=str(error))
                partition_log.storage_failed(error)
        return False

    async def _clean(self, partition_log: PartitionLog, plan: CleaningPlan) -> bool:
        cuts, last_batches = partition_log.cuts, partition_log.last_batches()
        segments = partition_log.segments[: plan.cleanable]
        keys = KeyMap(self._settings.dedupe_buffer_bytes, plan.first_dirty)
        dirty = [Source.of(segment) for segment in segments[plan.cleanable - plan.dirty :]]
        await self._in_pieces(note_dirty(self._storage, dirty, keys))
        rules = CompactionRules(
            keys, self._clock.now_ms(), partition_log.config.delete_retention_ms, last_batches=last_batches
        )
        reached = [segment for segment in segments if segment.base_offset < keys.end]
        stats = CleaningStats()
        sizes = groups_by_size(partition_log.facts()[: len(reached)], partition_log.config.segment_bytes)
        for size in sizes:
            group, reached = reached[:size], reached[size:]
            if not await self._replace(partition_log, group, rules, stats):
                return False
        if partition_log.cuts != cuts:
            return False
        partition_log.first_dirty_offset = max(partition_log.first_dirty_offset, keys.end)
        self._note_cleaned(partition_log, stats)
        return True

    async def _replace(
        self, partition_log: PartitionLog, group: Sequence[Segment], rules: CompactionRules, stats: CleaningStats
    ) -> bool:
        """Clean neighbours into one. False where the log has changed meanwhile, or there is no room."""
        needed = sum(segment.size_bytes for segment in group)
        if await self._run_blocking(self._logs.room_bytes) < needed:
            log.warning("cleaning.no_room", partition=str(partition_log.topic_partition), needed_bytes=needed)
            return False
        interval = partition_log.config.index_interval_bytes
        rewriting = Rewriting(self._storage, [Source.of(s) for s in group], rules, interval, stats)
        await self._in_pieces(rewriting.run())
        new = rewriting.segment
        if new is None:
            return True
        if self._high_watermark(partition_log) is None or not partition_log.prepare_swap(group, new):
            new.close()
            await self._run_blocking(new.delete)
            return False
        await self._run_blocking(lambda: self._storage.sync_directory(partition_log.directory))
        if self._high_watermark(partition_log) is None or not partition_log.swap(group, new):
            return False
        self._throw_away(partition_log, group)
        return True

    def _note_cleaned(self, partition_log: PartitionLog, stats: CleaningStats) -> None:
        total = self.tally.cleaned
        self.tally.cleanings += 1
        total.read_bytes += stats.read_bytes
        total.written_bytes += stats.written_bytes
        total.read_records += stats.read_records
        total.kept_records += stats.kept_records
        log.info(
            "log.cleaned",
            partition=str(partition_log.topic_partition),
            first_dirty_offset=partition_log.first_dirty_offset,
            read_bytes=stats.read_bytes,
            kept_bytes=stats.written_bytes,
            read_records=stats.read_records,
            kept_records=stats.kept_records,
        )

    async def _in_pieces(self, work: Iterator[None]) -> None:
        while True:
            began_s = self._clock.monotonic()
            if await self._run_blocking(lambda: next(work, _END)) is _END:
                return
            await asyncio.sleep(self._clock.monotonic() - began_s)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _may_expire(partition_log: PartitionLog) -> bool:
    """Whether it is worth a look at every segment."""
    config, first = partition_log.config, partition_log.segments[0]
    limited = config.deletes and not (config.retention_ms is None and config.retention_bytes is None)
    return limited or first.next_offset <= partition_log.log_start_offset


__all__ = ["Housekeeper", "HousekeepingSettings", "Tally"]
