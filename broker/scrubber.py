"""Looks for bytes that have rotted in the logs of this broker: in all of them now and then, and at once where somebody
who was answered from one of them says that it was damaged.

A replica whose copy is bad is given up (``fail``), and its log does not open again: another replica leads, and this one
is fetched anew. Nothing is mended in place, for nobody could tell what else the disk has lost.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

import structlog

from ottla.log.chance import Chance
from ottla.log.cleaner import Source
from ottla.log.clock import Clock
from ottla.log.errors import CorruptBatch, CorruptLog, LogError
from ottla.log.model import Offset, TopicPartition
from ottla.log.run_blocking import RunBlocking
from ottla.log.scrub import check_read, scrub
from ottla.log.segment import Segment
from ottla.log.storage import Storage

from .replica import Replica

log = structlog.get_logger(__name__)

SUSPECT_BYTES = 1 << 20
"""So much is read again where somebody met damage, or one larger batch."""
SUSPECT_PAUSE_S = 5.0
"""A partition that was found good on suspicion is not looked at again so soon: whoever suspects may be wrong."""
SUSPECTS_MAX = 1000
_END = object()


class Scrubber:
    """``replicas``: those of this broker, now. ``interval_s``: between two passes over everything."""

    def __init__(
        self,
        *,
        replicas: Callable[[], Iterable[Replica]],
        fail: Callable[[Replica, LogError], None],
        storage: Storage,
        clock: Clock,
        chance: Chance,
        run_blocking: RunBlocking,
        interval_s: float,
    ) -> None:
        self.scrubbed_bytes = 0
        self.suspicions = 0
        self.found = 0
        self._replicas = replicas
        self._fail = fail
        self._storage = storage
        self._clock = clock
        self._chance = chance
        self._run_blocking = run_blocking
        self._interval_s = interval_s
        self._suspects: dict[Replica, Offset] = {}
        self._cleared: dict[TopicPartition, float] = {}  # when a suspicion proved wrong
        self._suspected = asyncio.Event()

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """For `/metrics`."""
        yield "ottla_log_scrubbed_bytes", "Bytes of logs that were read again to find damage", self.scrubbed_bytes
        yield "ottla_log_suspicions", "Times that somebody met damage in what this broker sent", self.suspicions
        yield "ottla_log_damaged", "Replicas given up because bytes of their logs had rotted", self.found

    def suspect(self, replica: Replica, offset: Offset) -> None:
        """Somebody found damaged what was read at ``offset``: look soon."""
        cleared_s = self._cleared.get(replica.name)
        if cleared_s is not None and self._clock.monotonic() - cleared_s < SUSPECT_PAUSE_S:
            return
        if replica not in self._suspects and len(self._suspects) < SUSPECTS_MAX:
            self.suspicions += 1
            self._suspects[replica] = offset
            self._suspected.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_at_suspects())
            tasks.create_task(self._scrub_forever())

    async def _look_at_suspects(self) -> None:
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            while self._suspects:
                replica = next(iter(self._suspects))
                await self.look(replica, self._suspects[replica])
                self._suspects.pop(replica, None)

    async def _scrub_forever(self) -> None:
        while True:
            # Not to the second, so that the nodes of one cluster do not all read in the same moment.
            await asyncio.sleep(self._interval_s * (0.9 + 0.2 * self._chance.random()))
            await self.scrub()

    async def look(self, replica: Replica, offset: Offset) -> None:
        """Check what a reader at ``offset`` is given."""
        partition_log = replica.log
        cuts, epochs = partition_log.cuts, partition_log.epochs
        try:
            # Where it starts: a reader below it, or above the end, is told so and was given nothing.
            wanted = max(offset, partition_log.log_start_offset)
            data = b""
            if wanted < partition_log.log_end_offset:
                data = partition_log.read(wanted, SUSPECT_BYTES, partition_log.log_end_offset)
            await self._run_blocking(lambda: check_read(data, wanted, epochs))
        except (CorruptBatch, CorruptLog) as error:
            await self._give_up(replica, cuts, error)
        except OSError as error:
            self._disk_failed(replica, error)
        except LogError as error:  # it was truncated meanwhile
            log.debug("scrub.put_off", partition=str(replica.name), problem=str(error))
        else:
            log.info("log.suspicion_unfounded", partition=str(replica.name), offset=offset)
            self._cleared[replica.name] = self._clock.monotonic()

    async def scrub(self) -> None:
        """Read every log once."""
        for replica in list(self._replicas()):
            if replica in self._replicas():
                await self._scrub_one(replica)

    async def _scrub_one(self, replica: Replica) -> None:
        for segment in replica.log.segments:
            # Others go, or are replaced by a cleaned one of the same name, while this is read.
            if replica not in self._replicas():
                return
            if segment in replica.log.segments:
                await self._scrub_segment(replica, segment)

    async def _scrub_segment(self, replica: Replica, segment: Segment) -> None:
        partition_log = replica.log
        cuts, epochs, source = partition_log.cuts, partition_log.epochs, Source.of(segment)
        try:
            gaps = await self._run_blocking(lambda: partition_log.has_gaps)
            await self._in_pieces(scrub(self._storage, [source], epochs, gaps=gaps))
        except CorruptBatch as error:
            if segment in partition_log.segments:
                await self._give_up(replica, cuts, error)
        except OSError as error:
            self._disk_failed(replica, error)
        else:
            self.scrubbed_bytes += source.size_bytes

    async def _give_up(self, replica: Replica, cuts: int, error: LogError) -> None:
        if replica.log.cuts != cuts or replica not in self._replicas():
            return  # it was truncated, or went, while it was read
        self.found += 1
        log.error("log.damaged", partition=str(replica.name), problem=str(error))
        self._fail(replica, CorruptLog(f"{replica.log.directory}: {error}; restart the node to fetch it anew"))
        await self._run_blocking(lambda: replica.log.condemn(str(error)))

    def _disk_failed(self, replica: Replica, error: OSError) -> None:
        if replica in self._replicas():
            replica.log.storage_failed(error)

    async def _in_pieces(self, work: Iterator[None]) -> None:
        """Resting as long as it has worked."""
        while True:
            began_s = self._clock.monotonic()
            if await self._run_blocking(lambda: next(work, _END)) is _END:
                return
            await asyncio.sleep(self._clock.monotonic() - began_s)
