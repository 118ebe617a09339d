"""Whether a peer that says nothing is still there."""

import asyncio
from collections.abc import Callable


class Keepalive:
    """Has a peer pinged once it was silent for ``interval_s``, and given up where nothing comes for ``pong_wait_s``
    more, unless ``give_up`` says that it could not have been heard.

    ``heard_at_s`` is to be set, in the loop's time, whenever something comes: an assignment is all that costs.
    """

    def __init__(
        self, interval_s: float, pong_wait_s: float, ping: Callable[[], None], give_up: Callable[[], bool]
    ) -> None:
        self._interval_s = interval_s
        self._pong_wait_s = pong_wait_s
        self._ping = ping
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self.heard_at_s = self._loop.time()
        self._pinged_at_s: float | None = None
        self._timer = self._loop.call_later(interval_s, self._look)

    def stop(self) -> None:
        """Neither ping nor give up any more."""
        self._timer.cancel()

    def _look(self) -> None:
        now_s = self._loop.time()
        wait_s = self.heard_at_s + self._interval_s - now_s
        if wait_s <= 0:
            if self._pinged_at_s is not None and self._pinged_at_s > self.heard_at_s:
                if self._give_up():
                    return
                self.heard_at_s = now_s
            self._pinged_at_s = now_s
            self._ping()
            wait_s = self._pong_wait_s
        self._timer = self._loop.call_later(wait_s, self._look)
