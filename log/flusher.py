"""The flushing of a data directory in the background, and the bound on what it has not synced yet."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from .chance import Chance
from .directory import DataDirectory
from .errors import StorageFailed
from .partition_log import PartitionLog
from .run_blocking import RunBlocking

FLUSH_SECONDS = 1.0


class Flusher:
    """``wanted`` makes it look at once; ``flushed`` tells that it has."""

    def __init__(
        self,
        shared: DataDirectory,
        chance: Chance,
        logs: Callable[[], Iterable[PartitionLog]],
        checkpoint: Callable[[], None],
        unsynced_bytes_max: int,
    ) -> None:
        """``checkpoint``: writes the recovery points, in an executor. Raises OSError."""
        self._shared = shared
        self._chance = chance
        self._logs = logs
        self._checkpoint = checkpoint
        self._unsynced_bytes_max = unsynced_bytes_max
        self.wanted = asyncio.Event()
        self._flushed = asyncio.Event()

    async def run(self, run_in_executor: RunBlocking) -> None:
        """See ``LogManager.run_flusher``."""
        while self._shared.failed is None:
            # Not to the second, so that the nodes of one machine do not all sync in the same moment.
            pause = FLUSH_SECONDS * (0.9 + 0.2 * self._chance.random())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.wanted.wait()
            self.wanted.clear()
            await self.flush(run_in_executor)

    async def flush(self, run_in_executor: RunBlocking) -> None:
        """Sync every log that has unsynced bytes, then checkpoint the recovery points."""
        dirty = [log for log in self._logs() if log.unsynced_bytes]
        with suppress(StorageFailed):  # it is in ``failed``
            for log in dirty:
                await run_in_executor(log.sync)
            if dirty:
                await run_in_executor(self._try_to_checkpoint)
        self._shared.unsynced_bytes = sum(log.unsynced_bytes for log in self._logs())
        self._flushed.set()

    @property
    def has_room(self) -> bool:
        """Whether ``wait_for_room`` would return at once."""
        return self._shared.unsynced_bytes < self._unsynced_bytes_max and self._shared.failed is None

    async def wait_for_room(self) -> None:
        """See ``LogManager.wait_for_room``."""
        while not self.has_room and self._shared.failed is None:
            self.wanted.set()
            self._flushed.clear()
            await self._flushed.wait()
        if self._shared.failed is not None:
            raise StorageFailed(f"{self._shared.path}: {self._shared.failed}")

    def _try_to_checkpoint(self) -> None:
        """An old recovery point costs time at the next start, no records: a full disk here is no failure."""
        with suppress(OSError):
            self._checkpoint()
