"""Who waits for an entry to be applied here, and who wants to hear of any change."""

import asyncio
from collections.abc import Callable


class AppliedIndex:
    """How far this node has applied the quorum's log; on the event loop only."""

    def __init__(self) -> None:
        self.value = 0
        self._listeners: list[Callable[[], None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._stopped = False

    def add_listener(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` with each ``changed``. It must not raise."""
        self._listeners.append(callback)

    def changed(self, value: int) -> None:
        """Applied up to ``value`` now; or it is as it was, and something else listeners care for has changed."""
        self.value = value
        for index, waiter in self._waiting:
            if index <= value and not waiter.done():
                waiter.set_result(None)
        self._waiting = [(index, waiter) for index, waiter in self._waiting if not waiter.done()]
        for listener in self._listeners:
            listener()

    async def wait(self, index: int, timeout_s: float) -> None:
        """Return once ``index`` is applied. Raises TimeoutError, at once where nothing will be applied any more."""
        if self._stopped:
            raise TimeoutError("this node's metadata has stopped")
        if index <= self.value:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((index, waiter))
        async with asyncio.timeout(timeout_s):
            await waiter  # when cancelled, the next change forgets it

    def stop(self) -> None:
        """Nothing is applied from here on."""
        self._stopped = True
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(TimeoutError("this node's metadata has stopped"))
        self._waiting = []
