"""The streams to all nodes: opened once, kept, and opened again when lost."""

import asyncio
from typing import Any, Literal

import aiohttp

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from .connection import Connection, ConnectionLost
from .servers import Address

FAILURE_REMEMBERED_S = 10.0
"""A node that failed is asked last for so long."""

Purpose = Literal["main", "fetch"]


class Streams:
    """At most one stream per address and purpose."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._connections: dict[tuple[Address, Purpose], Connection] = {}
        self._opening: dict[tuple[Address, Purpose], asyncio.Task[Connection]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._failed_s: dict[Address, float] = {}
        self._closed = False

    def is_open(self, address: Address) -> bool:
        """Whether there is a stream for requests to this node now."""
        connection = self._connections.get((address, "main"))
        return connection is not None and connection.usable

    def failed(self, address: Address) -> None:
        """Remember for a while that the node did not answer."""
        self._failed_s[address] = self._clock.monotonic()

    def failed_lately(self, address: Address) -> bool:
        failed_s = self._failed_s.get(address)
        return failed_s is not None and self._clock.monotonic() - failed_s < FAILURE_REMEMBERED_S

    async def connect(self, address: Address, purpose: Purpose) -> Connection:
        """The stream, opened if need be; those who ask at the same time share one attempt. Raises ConnectionLost."""
        key = (address, purpose)
        connection = self._connections.get(key)
        if connection is not None and connection.usable:
            return connection
        if self._closed:
            raise ConnectionLost("the client is closed.")
        task = self._opening.get(key)
        if task is None:
            task = asyncio.create_task(self._open(key), name=f"open-{address}")
            self._opening[key] = task
            task.add_done_callback(retrieve)
            task.add_done_callback(lambda _: self._opening.pop(key, None))
        return await asyncio.shield(task)

    async def _open(self, key: tuple[Address, Purpose]) -> Connection:
        address, _ = key
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        old = self._connections.pop(key, None)
        if old is not None:
            await old.close()
        try:
            connection = await Connection.open(self._session, address.host, address.port, self._chance)
        except ConnectionLost:
            self.failed(address)
            raise
        self._failed_s.pop(address, None)
        self._connections[key] = connection
        return connection

    def drop(self, connection: Connection) -> None:
        """Close a stream; whoever waits on it gets ConnectionLost."""
        for key, held in list(self._connections.items()):
            if held is connection:
                del self._connections[key]
                task = asyncio.create_task(connection.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all of them. Idempotent."""
        self._closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, *self._closing, return_exceptions=True)
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.close() for connection in connections), return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None


def retrieve(task: "asyncio.Task[Any]") -> None:
    """For a task that several wait for: each was told of its error, and if they were cancelled, nobody need be."""
    if not task.cancelled():
        task.exception()
