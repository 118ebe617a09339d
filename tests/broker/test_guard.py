"""The front gate: silence and crowds."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from ottla.broker.http import guard as guard_module
from ottla.broker.http.guard import Guard, note_speech


class Gate:
    """A server behind the guard."""

    def __init__(self, *, connections_max: int = 2, handshake_s: float = 60) -> None:
        self.guard: Guard | None = None
        self.app = web.Application(middlewares=[note_speech(lambda: self.guard)])
        self.app.router.add_get("/{tail:.*}", self.hello)
        self.limits = {"connections_max": connections_max, "handshake_s": handshake_s}
        self.writers: list[asyncio.StreamWriter] = []

    async def hello(self, request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def __aenter__(self) -> "Gate":
        self.runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        self.guard = Guard(self.runner.server, **self.limits)
        self.listener = await asyncio.get_running_loop().create_server(self.guard, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self.writers:
            writer.close()
        self.listener.close()
        await self.runner.cleanup()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def get(self, path: str = "/") -> tuple[asyncio.StreamReader, bytes]:
        reader, writer = await self.connect()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return reader, await reader.readline()


async def ends(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 10)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: h\r\n"])
async def test_a_connection_that_never_finishes_a_request_is_closed(said):
    async with Gate(handshake_s=0.02) as gate:
        reader, writer = await gate.connect()
        writer.write(said)
        await ends(reader)


async def test_one_that_spoke_is_not(monkeypatch):
    async with Gate(handshake_s=60) as gate:
        _reader, line = await gate.get()
        assert b"200" in line
        assert gate.guard._silent == {}


async def test_one_too_many_is_told_so_and_the_nodes_own_streams_still_come_in():
    async with Gate(connections_max=2) as gate:
        for _ in range(2):
            assert b"200" in (await gate.get())[1]
        reader, line = await gate.get()
        assert b"503" in line
        assert b"OTTLA-TOO-MANY-CONNECTIONS" in await asyncio.wait_for(reader.read(), 10)
        assert b"200" in (await gate.get("/internal/raft"))[1]


async def test_beyond_the_reserve_nobody_comes_in(monkeypatch):
    monkeypatch.setattr(guard_module, "RESERVED_FOR_NODES", 0)
    async with Gate(connections_max=1) as gate:
        assert b"200" in (await gate.get("/internal/raft"))[1]
        reader, line = await gate.get("/internal/raft")
        assert b"503" in line
        await ends(reader)
        assert len(gate.runner.server.connections) == 1


async def test_a_place_is_free_again_once_a_connection_ends():
    async with Gate(connections_max=1) as gate:
        await gate.get()
        gate.writers[0].close()
        await gate.writers[0].wait_closed()
        while gate.runner.server.connections:
            await asyncio.sleep(0)
        assert b"200" in (await gate.get())[1]
