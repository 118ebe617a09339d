"""Deadlines by key: what a pure state machine wants to be woken for. Pure; times are arguments."""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """One deadline for each key. A deadline that only moves later, as a session's does with every heartbeat, costs a
    dictionary entry: the heap is put right when the earlier time comes."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._queued: dict[K, float] = {}  # the earliest entry of each key in the heap
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def set(self, key: K, due_s: float) -> None:
        """Wake for ``key`` at ``due_s`` and not at the time set before."""
        self._due[key] = due_s
        if key not in self._queued or due_s < self._queued[key]:
            self._push(key, due_s)

    def cancel(self, key: K) -> None:
        """No deadline for ``key``."""
        self._due.pop(key, None)

    @property
    def next_s(self) -> float | None:
        """When to look again: not later than the first deadline."""
        return self._heap[0][0] if self._heap else None

    def expired(self, now_s: float) -> list[K]:
        """Take out the keys whose deadline has come, the earliest first."""
        keys: list[K] = []
        while self._heap and self._heap[0][0] <= now_s:
            queued_s, _, key = heapq.heappop(self._heap)
            if self._queued.get(key) != queued_s:
                continue  # an earlier entry stood for it
            del self._queued[key]
            due_s = self._due.get(key)
            if due_s is None:
                continue
            if due_s > now_s:
                self._push(key, due_s)
                continue
            del self._due[key]
            keys.append(key)
        return keys

    def _push(self, key: K, due_s: float) -> None:
        self._count += 1
        self._queued[key] = due_s
        heapq.heappush(self._heap, (due_s, self._count, key))
