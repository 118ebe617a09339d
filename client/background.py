"""The event loop behind the blocking SDK, in a thread of its own, the one that the SDK starts (decision 0013)."""

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from .errors import OttlaError

P = ParamSpec("P")
T = TypeVar("T")

STOP_TIMEOUT_S = 10.0


class Background:
    """A loop in a daemon thread, started at the first call, ended by ``stop``."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.stopped = False
        self._starting = threading.Lock()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there and wait for it. Ctrl-C, as any exception here, cancels it. Raises what it raises, and
        OTTLA-BLOCKING-IN-LOOP where an event loop runs in this thread: it would stand still."""
        _refuse_in_loop()
        future = self.begin(make)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Start a coroutine there; coroutines start in the order of the calls."""
        loop = self._started()
        return asyncio.run_coroutine_threadsafe(make(), loop)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there and wait for it."""

        async def work() -> T:
            return function()

        return self.run(work)

    def tell(self, function: Callable[[], object]) -> None:
        """Call a function there, some time soon."""
        self._started().call_soon_threadsafe(function)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self.stopped:
                raise OttlaError("the client is closed.", code="OTTLA-CLOSED")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="ottla-client", daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def stop(self) -> None:
        """End the loop and its thread. Idempotent."""
        with self._starting:
            self.stopped = True
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(STOP_TIMEOUT_S)


def _refuse_in_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise OttlaError(
        "the blocking SDK was called from a coroutine, whose event loop it would stop.",
        code="OTTLA-BLOCKING-IN-LOOP",
        hint="Use ottla.client there, or a thread: await asyncio.to_thread(...).",
    )


def blocking(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """The method of the same name of a mirror (``_inner``: the original, ``_background``: its loop), which waits for
    what the original awaits."""
    name = method.__name__

    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        async def work() -> T:
            found: T = await getattr(self._inner, name)(*args, **kwargs)
            return found

        background: Background = self._background
        return background.run(work)

    return cast("Callable[Concatenate[Any, P], T]", functools.wraps(method)(call))


def forwarded(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The method of the same name of a mirror, called in the loop of the original."""
    name = method.__name__

    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        background: Background = self._background
        found: T = background.call(lambda: getattr(self._inner, name)(*args, **kwargs))
        return found

    return cast("Callable[Concatenate[Any, P], T]", functools.wraps(method)(call))
