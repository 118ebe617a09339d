"""A time limit for something that happens often: a timer that is looked at rarely instead of set each time."""

import asyncio
from collections.abc import Callable


class Watchdog:
    """Calls ``expired`` once, when it has been on guard for ``limit_s`` without being fed.

    On guard between ``guard`` and ``rest``; both only note the time, so they cost next to nothing on a hot path.
    """

    def __init__(self, limit_s: float, expired: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def guard(self) -> None:
        """From now, ``rest`` or another ``guard`` must come within the limit."""
        self._since_s = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def rest(self) -> None:
        """What was waited for has happened."""
        self._since_s = None

    def stop(self) -> None:
        """Never call ``expired`` any more."""
        self._since_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._since_s is None:
            return  # the next guard sets the timer again
        left_s = self._since_s + self._limit_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self._since_s = None
        self._expired()
