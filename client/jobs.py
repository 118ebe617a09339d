"""Background work of a producer or consumer: at most one task of each name, none forgotten."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .backoff import LONGEST_S

Work = Coroutine[Any, Any, None]


class Jobs:
    """``wake`` is called whenever a task ends; after one that ended by a bug of ours only a second later, so that it
    never becomes a busy loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._named: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start_once(self, name: str, work: Callable[[], Work]) -> None:
        """Start ``work`` unless a task of this name runs."""
        if name not in self._named:
            self._named[name] = task = self.start(name, work())
            task.add_done_callback(lambda _: self._named.pop(name, None))

    def start(self, name: str, work: Work) -> "asyncio.Task[None]":
        """Start a task."""
        task = asyncio.create_task(work, name=f"ottla-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        loop = asyncio.get_running_loop()
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler({"message": "a background task failed", "exception": error, "task": task})
            loop.call_later(LONGEST_S, self._wake)
        else:
            loop.call_soon(self._wake)

    async def close(self) -> None:
        """Cancel everything and wait until it is over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
