"""Runs one node in this process until it is told to stop: what `ottla start` does."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import structlog

from ottla.client.errors import OttlaError

from .config import Settings
from .node import Node
from .startup import NodeStopped
from .structured_logs import configure_logs, set_log_level

log = structlog.get_logger(__name__)

EXIT_DONE, EXIT_FAILED = 0, 1


def run_node(settings: Settings, *, version: str, announce: Callable[[Node], None] | None = None) -> int:
    """Run until SIGTERM or SIGINT (drain and stop), a second one (stop at once), or a failure. Returns the exit code.

    Raises OttlaError where the node cannot come up.
    """
    configure_logs(settings.log_level)
    # What is loaded stays: a full collection that goes through it holds the event loop for 30 ms.
    gc.freeze()
    main = _run(settings, version, announce)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def _run(settings: Settings, version: str, announce: Callable[[Node], None] | None) -> int:
    node = Node(settings, version=version, report=_tell, set_log_level=set_log_level)
    asked = _SignalledStop()
    starting = asyncio.create_task(node.start())
    try:
        await _first_of(starting, asked.first, node.failed)
        if starting.done():
            await starting
            if announce is not None:
                announce(node)
            await _first_of(asked.first, node.failed)
    except Exception:
        await node.stop(drain=False)
        raise
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await node.stop()
    if node.failed.done():
        error = node.failed.result()
        raise error if isinstance(error, OttlaError) else NodeStopped(f"{type(error).__name__}: {error}")
    return EXIT_DONE


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _tell(line: str) -> None:
    """A line for whoever watches the start."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class _SignalledStop:
    """The first signal asks, the second ends the process there and then."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self.first.done():
            os._exit(EXIT_FAILED)
        self.first.set_result(None)
