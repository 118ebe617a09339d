"""Produces and fetches that wait: for the high watermark, or for something to read. Pure; it calls nobody back.

Whoever changes a partition takes the released waiters out first, and wakes them once its own state is consistent.
"""

from collections import deque
from typing import Generic, TypeVar

from ottla.log.model import Offset

Waiter = TypeVar("Waiter")


class AckQueue(Generic[Waiter]):
    """Appends that wait for the high watermark, in offset order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Offset, Waiter]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, required: Offset, waiter: Waiter) -> None:
        """``waiter`` is done when the high watermark reaches ``required``."""
        if not self._waiting or required >= self._waiting[-1][0]:
            self._waiting.append((required, waiter))
            return
        # A retried batch waits for the offset of its first writing, which is behind the queue's end.
        at = next(i for i, (offset, _) in enumerate(self._waiting) if offset > required)
        self._waiting.insert(at, (required, waiter))

    def release(self, high_watermark: Offset) -> list[Waiter]:
        """Take out everyone who waited for this."""
        released: list[Waiter] = []
        while self._waiting and self._waiting[0][0] <= high_watermark:
            released.append(self._waiting.popleft()[1])
        return released

    def discard(self, waiter: Waiter) -> None:
        """Forget one that gave up."""
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not waiter)

    def drain(self) -> list[Waiter]:
        """Take out everyone: the partition has another leader."""
        released = [waiter for _, waiter in self._waiting]
        self._waiting.clear()
        return released
