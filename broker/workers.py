"""A node's threads: what blocks for a disk is done there, while the event loop goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

LOG_WORKERS = 2


class Workers:
    """One for the quorum's journal, which takes one call at a time, and a few for the logs."""

    def __init__(self) -> None:
        self._raft = ThreadPoolExecutor(1, "raft-wal")
        self._logs = ThreadPoolExecutor(LOG_WORKERS, "log")

    def run_for_raft(self, call: Callable[[], T]) -> Awaitable[T]:
        """In the journal's thread."""
        return asyncio.get_running_loop().run_in_executor(self._raft, call)

    def run_for_logs(self, call: Callable[[], T]) -> Awaitable[T]:
        """In one of the logs' threads."""
        return asyncio.get_running_loop().run_in_executor(self._logs, call)

    def stop(self) -> None:
        """Once what they do is done. Blocks."""
        self._logs.shutdown(wait=True)
        self._raft.shutdown(wait=True)
