"""Time limits of many things that nearly always happen in time: one timer for all of them, looked at rarely."""

import asyncio
from collections.abc import Callable
from itertools import count


class Deadlines:
    """``add`` and ``discard`` note something in a dict; the loop's timers, which cost more, are set for the earliest
    limit only, and no less often than that passes."""

    def __init__(self) -> None:
        self._numbers = count()
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def add(self, wait_s: float, expired: Callable[[], None]) -> int:
        """Call ``expired``, which must not raise, in ``wait_s`` unless the number returned is discarded before."""
        due_s = asyncio.get_running_loop().time() + wait_s
        number = next(self._numbers)
        self._due[number] = (due_s, expired)
        if self._timer is None or due_s < self._timer_due_s:
            self._set_timer(due_s)
        return number

    def discard(self, number: int) -> None:
        """It happened, or nobody waits for it; of no effect where that is known."""
        self._due.pop(number, None)

    def _set_timer(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due_s, self._look)
        self._timer_due_s = due_s

    def _look(self) -> None:
        self._timer = None
        # The timer may be early by the clock's resolution; what it was set for is due all the same.
        now_s = max(asyncio.get_running_loop().time(), self._timer_due_s)
        for number, (due_s, expired) in list(self._due.items()):
            if due_s <= now_s and self._due.pop(number, None) is not None:
                expired()
        if self._due:
            next_s = min(due_s for due_s, _ in self._due.values())
            if self._timer is None or next_s < self._timer_due_s:  # one of those called may have added a later one
                self._set_timer(next_s)
