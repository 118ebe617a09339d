"""A node of the cluster for tests (testing.py), with an event loop and a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from .errors import OttlaError
from .severable import SeverableLoop
from .version import VERSION

if TYPE_CHECKING:
    from ottla.broker.config import Settings
    from ottla.broker.node import Node

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


class NodeThread:
    """One node, its loop and its thread; the latter two are new at every start."""

    def __init__(self, number: int, settings: "Settings", nodes_own: set[int]) -> None:
        self.number = number
        self._nodes_own = nodes_own
        self.address = settings.http
        self.kafka_address = settings.kafka
        self.port = settings.http_address[1]
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._loop: SeverableLoop | None = None
        self._ready: Future[None] = Future()
        self._end: asyncio.Event | None = None
        self._going = threading.Event()
        self._going.set()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self) -> None:
        self._ready = Future()
        self._end = asyncio.Event()
        self._loop = SeverableLoop(self._nodes_own)
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name=f"ottla-n{self.number}", daemon=True)
        self._thread.start()

    def until_ready(self) -> None:
        try:
            self._ready.result(START_TIMEOUT_S)
        except TimeoutError:
            message = f"node {self.number} is not ready after {START_TIMEOUT_S:g} s."
            hint = "Is a majority of the nodes running, and may they speak to each other?"
            raise OttlaError(message, code="OTTLA-NOT-READY", retriable=True, hint=hint) from None

    def _run(self, loop: SeverableLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._live())
        except BaseException as error:  # before there was a node: whoever waits for it must hear
            if not self._ready.done():
                self._ready.set_exception(error)
            raise
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _live(self) -> None:
        from ottla.broker.node import Node

        hush_logs()
        assert self._end is not None
        node = Node(self._settings, version=VERSION)
        starting = asyncio.create_task(node.start())
        ending = asyncio.create_task(self._end.wait())
        failed: asyncio.Future[Any] = node.failed
        try:
            await _first_of(starting, ending, failed)
            if starting.done():
                await starting
                self._ready.set_result(None)
                await _first_of(ending, failed)
            elif node.failed.done():
                raise node.failed.result()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            await self._drop(node, starting, ending)

    async def _drop(self, node: "Node", *tasks: "asyncio.Task[Any]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await node.stop(drain=False)
        if node.failed.done():
            node.failed.exception()

    def in_loop(self, work: Callable[[SeverableLoop], object]) -> None:
        """Do ``work`` in the node's loop, and wait; nothing where it does not run. A paused node is told later."""
        loop = self._loop
        if loop is None or not self.is_running:
            return
        done: Future[None] = Future()

        def call() -> None:
            try:
                work(loop)
            finally:
                done.set_result(None)

        with contextlib.suppress(RuntimeError):  # it ended just now
            loop.call_soon_threadsafe(call)
            if self._going.is_set():
                done.result(STOP_TIMEOUT_S)

    def pause(self) -> None:
        if not self._going.is_set():
            return
        standing: Future[None] = Future()
        loop = self._loop
        if loop is None or not self.is_running:
            return
        self._going.clear()

        def stand_still() -> None:
            standing.set_result(None)
            self._going.wait()

        loop.call_soon_threadsafe(stand_still)
        standing.result(STOP_TIMEOUT_S)

    def resume(self) -> None:
        self._going.set()

    def ask_to_end(self) -> Callable[[], None]:
        """Begin to stop it; the call that is returned waits for the end."""
        thread, loop, end = self._thread, self._loop, self._end
        if thread is None or loop is None or end is None:
            return lambda: None
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(end.set)
        self.resume()
        return lambda: thread.join(STOP_TIMEOUT_S)


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def hush_logs() -> None:
    """Nodes log through the standard library's logging, where tests look for it, unless somebody has decided."""
    import structlog

    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
