"""Group commit: one sync of the write-ahead log at a time, off the event loop; whatever was written meanwhile shares
the next one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from .wal import WriteAheadLog

RunBlocking: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking function away from the loop, one at a time. A simulator may run it in place."""


class GroupCommit:
    """Syncs ``wal`` whenever something was written, then calls ``synced``. Run ``run`` as a task."""

    def __init__(self, wal: WriteAheadLog, run_blocking: RunBlocking, synced: Callable[[], None]) -> None:
        self._wal = wal
        self._run_blocking = run_blocking
        self._synced = synced
        self._work = asyncio.Event()
        wal.on_write = self._work.set

    async def run(self) -> None:
        """Until cancelled. Raises OSError at the first failed sync: it is never tried again, for the kernel may have
        dropped the pages and would call the next one a success."""
        while True:
            if self._wal.position == self._wal.synced_position:
                self._work.clear()
                await self._work.wait()
            position = self._wal.position
            await self._run_blocking(self._wal.sync_file)
            self._wal.mark_synced(position)
            self._synced()
