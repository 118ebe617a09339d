"""Time limits of many things that nearly always happen in time: one timer for all of them, looked at rarely."""

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

SLACK = 64
"""So many entries more than twice those that are wanted may stay in the heap."""


class Deadlines:
    """``add`` and ``discard`` change a heap and a dict; the loop's timers, which cost more, are set for the earliest
    limit only, and looked at no more often than that passes."""

    def __init__(self) -> None:
        self._numbers = count()
        self._heap: list[tuple[float, int]] = []  # with some that were discarded
        self._wanted: dict[int, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, wait_s: float, expired: Callable[[], None]) -> int:
        """Call ``expired``, which must not raise, in ``wait_s`` unless the number returned is discarded before."""
        due_s = asyncio.get_running_loop().time() + wait_s
        number = next(self._numbers)
        self._wanted[number] = expired
        heappush(self._heap, (due_s, number))
        if self._timer is None or due_s < self._timer_due_s:
            self._set_timer(due_s)
        return number

    def discard(self, number: int) -> None:
        """It happened, or nobody waits for it; of no effect where that is known."""
        self._wanted.pop(number, None)
        if len(self._heap) > 2 * len(self._wanted) + SLACK:
            self._heap = [entry for entry in self._heap if entry[1] in self._wanted]
            heapify(self._heap)

    def _set_timer(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due_s, self._look)
        self._timer_due_s = due_s

    def _look(self) -> None:
        self._timer = None
        # The timer may be early by the clock's resolution; what it was set for is due all the same.
        now_s = max(asyncio.get_running_loop().time(), self._timer_due_s)
        passed = []
        while self._heap and self._heap[0][0] <= now_s:
            passed.append(heappop(self._heap)[1])
        for number in passed:
            if (expired := self._wanted.pop(number, None)) is not None:
                expired()
        # One of those called may have added a later one, and set the timer for that.
        if self._heap and (self._timer is None or self._heap[0][0] < self._timer_due_s):
            self._set_timer(self._heap[0][0])
