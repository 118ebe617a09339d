"""`ottla start` with the doors of the fault injection: python -m tests.chaos.proc.node --data D --http H:P --join ...

The product's own command line and its own Node; only what a test must reach is put around it: orders on standard input
(doors.py), failpoints, outgoing connections from the address that the node listens on, so that a packet tells whose it
is, and, with OTTLA_BUG=NAME, a bug of tests.simulation.planted.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any
from unittest import mock

import aiohttp
import uvloop

from ottla.broker import run
from ottla.broker.node import Node
from ottla.cli.main import main
from tests.chaos.failpoints import armed
from tests.simulation.planted import PLANTED

from .doors import DooredStorage, Doors

BUG = "OTTLA_BUG"


def come_from(host: str) -> None:
    """Let this process's connections leave from ``host``: those of aiohttp, and those of the bare event loop."""
    connect = aiohttp.TCPConnector.__init__

    def sourced(connector: aiohttp.TCPConnector, **options: Any) -> None:
        connect(connector, **{"local_addr": (host, 0), **options})

    class SourcedLoop(uvloop.Loop):
        async def create_connection(self, factory: Any, target: Any = None, port: Any = None, **options: Any) -> Any:
            if target is not None:
                options.setdefault("local_addr", (host, 0))
            return await super().create_connection(factory, target, port, **options)

    def run_sourced(life: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=SourcedLoop) as runner:
            return runner.run(life)

    mock.patch.object(aiohttp.TCPConnector, "__init__", sourced).start()
    mock.patch.object(uvloop, "run", run_sourced).start()


def serve(arguments: list[str]) -> None:
    """Be a node until it ends."""
    bug = os.environ.pop(BUG, None)
    doors = Doors()
    come_from(arguments[arguments.index("--http") + 1].rpartition(":")[0])
    run.Node = partial(Node, storage=DooredStorage(doors))  # type: ignore[misc, assignment]
    doors.listen()
    with armed(doors.hit), PLANTED[bug]() if bug else contextlib.nullcontext():
        main(["start", *arguments])


if __name__ == "__main__":
    serve(sys.argv[1:])
