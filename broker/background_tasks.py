"""Tasks that nobody awaits: each ends by being done or cancelled.

One that fails has met a bug of ours, and whoever waits for what it was to do would wait for ever. The node is told,
and ends: another leads then, and a new start begins from what is on the disk.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

OnBug = Callable[[BaseException], None]


class BackgroundTasks:
    """Those of one owner. ``on_bug``: called with what a task failed with."""

    def __init__(self, on_bug: OnBug) -> None:
        self._on_bug = on_bug
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do ``work``, from the next turn of the loop on."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """As ``cancel``, and wait for it."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.critical("task.failed", task=task.get_name(), exc_info=error)
            self._on_bug(error)
