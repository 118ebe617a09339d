"""Syncs logs whose topic wants more than the background does: before an append counts (``flush=ack``), after so many
records, or so long after one.

Group commit: a log has one sync at a time, and what is appended meanwhile waits for the next one.
"""

import asyncio
from collections.abc import Callable

import structlog

from ottla.log.errors import LogError
from ottla.log.run_blocking import RunBlocking

from .background_tasks import BackgroundTasks, OnBug
from .replica import Replica

log = structlog.get_logger(__name__)


class GroupSync:
    """One for all replicas of a node."""

    def __init__(self, run_blocking: RunBlocking, on_failure: Callable[[], None], on_bug: OnBug) -> None:
        """``on_failure``: a sync failed; the data directory knows, and whoever watches it should look at once."""
        self._run_blocking = run_blocking
        self._on_failure = on_failure
        self._wanted: dict[Replica, bool] = {}  # being synced; whether once more
        self._timers: dict[Replica, asyncio.TimerHandle] = {}
        self._tasks = BackgroundTasks(on_bug)

    def appended(self, replica: Replica) -> None:
        """The replica's log has grown: sync it as its topic says."""
        config = replica.log.config
        limit = config.flush_messages
        if replica.log.counts_once_durable or (limit is not None and _unsynced_records(replica) >= limit):
            self.want(replica)
        elif config.flush_ms is not None and replica not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[replica] = loop.call_later(config.flush_ms / 1000, self._due, replica)

    def want(self, replica: Replica) -> None:
        """Sync its log as soon as may be, and see to its word about it (``PartitionLog.settle_flush``)."""
        if replica in self._wanted:
            self._wanted[replica] = True
            return
        self._wanted[replica] = False
        self._tasks.begin(self._drive(replica), f"sync-{replica.name}")

    async def stop(self) -> None:
        """Sync nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        await self._tasks.stop()

    def _due(self, replica: Replica) -> None:
        del self._timers[replica]
        self.want(replica)

    async def _drive(self, replica: Replica) -> None:
        try:
            again = True
            while again:
                self._wanted[replica] = False
                await self._run_blocking(replica.log.sync)
                if not replica.log.flush_is_settled:
                    await self._run_blocking(replica.log.settle_flush)
                replica.synced()
                again = self._wanted[replica]
        except LogError as error:  # the directory has failed, and says so to everybody
            log.error("log.sync.failed", partition=str(replica.name), problem=str(error))
            self._on_failure()
        finally:
            del self._wanted[replica]


def _unsynced_records(replica: Replica) -> int:
    return replica.log.log_end_offset - replica.log.recovery_point
