"""Runs a coroutine with a client of the cluster that ``--servers`` names."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ottla.client.client import Client

T = TypeVar("T")


def with_client(servers: str, work: "Callable[[Client], Awaitable[T]]") -> T:
    """Connect, do ``work``, and let go. Raises ConnectFailed where no node answers."""

    async def run() -> T:
        from ottla.client.client import connect

        async with connect(servers) as client:
            return await work(client)

    return run_async(run())


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
