"""The threads behind the blocking SDK, which starts no others (decision 0013): a client's event loop, and for each
consumer with callbacks one in which those run."""

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
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


class Worker:
    """A daemon thread for the functions of a consumer's user, one after the other: they may call the blocking SDK, and
    take their time, for the loop goes on meanwhile. Started at the first call, ended by ``stop``."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopped = False
        self._turn: asyncio.Lock | None = None
        self._running: asyncio.Future[_Outcome] | None = None  # what the thread has; also when nobody waits any more

    def wrapped(self, function: Callable[P, Any]) -> Callable[P, Awaitable[Any]]:
        """The function, as one that the loop awaits. What it returns is awaited in the loop if it can be."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            answer = await self._call(functools.partial(function, *args, **kwargs))
            return await answer if inspect.isawaitable(answer) else answer

        return call

    async def _call(self, function: Callable[[], Any]) -> Any:
        """Call it there once what was called before is done. Cancelled, it is not waited for."""
        self._turn = self._turn or asyncio.Lock()
        async with self._turn:
            while self._running is not None:
                await asyncio.wait([self._running])
            running = self._running = asyncio.get_running_loop().create_future()
            try:
                context = contextvars.copy_context()
                self._put(lambda: self._work(lambda: context.run(function), running))
            except BaseException:
                self._running = None
                raise
            answer, error = await asyncio.shield(running)
        if error is not None:
            raise error
        return answer

    def _work(self, function: Callable[[], Any], running: "asyncio.Future[_Outcome]") -> None:
        outcome: _Outcome = None, None
        try:
            outcome = function(), None
        except Exception as error:
            outcome = None, error
        except BaseException as error:  # it would end the loop's thread
            outcome = None, RuntimeError(f"{type(error).__name__} in a thread of the SDK")
            outcome[1].__cause__ = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            running.get_loop().call_soon_threadsafe(self._done, running, outcome)

    def _done(self, running: "asyncio.Future[_Outcome]", outcome: "_Outcome") -> None:
        self._running = None
        running.set_result(outcome)

    def _put(self, work: Callable[[], None]) -> None:
        with self._starting:
            if self._stopped:
                raise OttlaError("the consumer is closed.", code="OTTLA-CLOSED")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ottla-callbacks", daemon=True)
                self._thread.start()
            self._calls.put(work)

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            work()

    def refuse_inside(self, what: str) -> None:
        """Raises OTTLA-IN-CALLBACK in the thread itself: what waits for the thread would never end."""
        if threading.current_thread() is self._thread:
            raise OttlaError(
                f"a callback of a consumer cannot {what}, which waits for the callback.",
                code="OTTLA-IN-CALLBACK",
                hint="Do it in the loop over the records, once the callback has returned.",
            )

    def stop(self) -> None:
        """End the thread, once the function that runs, if one does, has returned: that is not waited for.
        Idempotent."""
        with self._starting:
            thread = None if self._stopped else self._thread
            self._stopped = True
        if thread is not None:
            self._calls.put(None)
            if self._running is None:
                thread.join(STOP_TIMEOUT_S)


_Outcome = tuple[Any, Exception | None]


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
