"""Runs a coroutine with a client of the cluster that ``--servers`` names."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.client.errors import ConnectFailed, OttlaError, RecordTooLarge, TopicNotFound

if TYPE_CHECKING:
    from ottla.client.client import Client

T = TypeVar("T")

NO_TOPIC = re.compile(r"there is no topic ([a-zA-Z0-9._-]*[a-zA-Z0-9_-])")


def with_client(servers: str, work: "Callable[[Client], Awaitable[T]]", *, is_removal: bool = False) -> T:
    """Connect, do ``work``, and let go. Raises ConnectFailed where no node answers. What an error advises is said in
    the words of the command line. ``is_removal``: nobody makes a topic to remove it."""

    async def run() -> T:
        from ottla.client.client import connect

        async with connect(servers) as client:
            return await work(client)

    try:
        return run_async(run())
    except OttlaError as error:
        error.hint = advise(error, servers, is_removal) or error.hint
        raise


def advise(error: OttlaError, servers: str, is_removal: bool = False) -> str | None:
    """What to type next; None where the SDK's own hint is as good."""
    if isinstance(error, ConnectFailed) and any("not ready" in problem for _, problem in error.attempts):
        return f"It runs, but is not ready yet: its log says what it waits for. Try: ottla health --servers {servers}"
    if isinstance(error, ConnectFailed):
        return "Is the cluster running? Name a node with --servers HOST:PORT."
    if isinstance(error, RecordTooLarge):
        return "Send less, or make a topic with -c max.message.bytes=N."
    if isinstance(error, TopicNotFound) and (missing := NO_TOPIC.search(str(error.args[0]))):
        if is_removal:
            return "What there is: ottla topic ls"
        return f"Make it: ottla topic create {missing[1]}, or list what there is: ottla topic ls"
    return None


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
