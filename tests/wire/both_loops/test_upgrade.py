"""The handshake, and both ends against aiohttp's: the bytes are anybody's WebSocket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ottla.log.chance import SystemChance
from ottla.wire.frames import CloseCode
from ottla.wire.stream import Stream, StreamEnded
from ottla.wire.upgrade import UpgradeRefused, accept_stream, open_stream

SIZES = (0, 1, 125, 126, 65_535, 65_536, 300_000, 3_000_000)
MAX = 8 << 20
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


async def echo(request: web.Request) -> web.StreamResponse:
    """Ours."""
    response, stream = await accept_stream(request, message_bytes_max=MAX)
    over = asyncio.Event()
    stream.deliver(stream.send, over.set)
    await over.wait()
    await stream.close()
    return response


async def aiohttps_echo(request: web.Request) -> web.StreamResponse:
    ws = web.WebSocketResponse(compress=False, max_msg_size=MAX)
    await ws.prepare(request)
    async for message in ws:
        await ws.send_bytes(message.data)
    return ws


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[aiohttp.ClientSession, TestServer]]:
    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session, asyncio.timeout(30):
        yield session, server


def dial(session: aiohttp.ClientSession, server: TestServer, **options: float) -> Awaitable[Stream]:
    return open_stream(session, str(server.make_url("/")), SystemChance(), message_bytes_max=MAX, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("handler", [echo, aiohttps_echo])
async def test_our_client_speaks_with_both_servers(handler: Handler) -> None:
    async with serving(handler) as (session, server):
        stream = await dial(session, server)
        for size in SIZES:
            await stream.send_bytes(b"x" * size)
            assert await stream.receive_bytes() == b"x" * size
        await stream.close()
        assert stream.close_code == CloseCode.OK


async def test_aiohttps_client_speaks_with_our_server() -> None:
    async with serving(echo) as (session, server):
        async with session.ws_connect(server.make_url("/"), max_msg_size=0) as ws:
            for size in SIZES:
                await ws.send_bytes(b"x" * size)
                assert (await ws.receive()).data == b"x" * size
            await ws.ping(b"there?")
            await ws.send_bytes(b"after")
            assert (await ws.receive()).data == b"after"
        assert ws.close_code == CloseCode.OK


async def test_many_messages_in_flight_both_ways_keep_their_order() -> None:
    async with serving(echo) as (session, server):
        stream = await dial(session, server)
        messages = [bytes([number % 251]) * (number * 37 % 5000) for number in range(2000)]

        async def send() -> None:
            for message in messages:
                await stream.send_bytes(message)

        sending = asyncio.create_task(send())
        assert [await stream.receive_bytes() for _ in messages] == messages
        await sending
        await stream.close()


async def test_what_comes_with_the_handshake_in_one_write_is_not_lost() -> None:
    async with serving(echo) as (_, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
        early = bytes([0x82, 0x83, 0, 0, 0, 0]) + b"abc"
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + early)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"\x82\x03abc"
        writer.close()


async def test_a_handler_that_pauses_at_each_message_gets_all_of_them() -> None:
    sizes = [number * 37 % 60_000 for number in range(400)]
    got: list[int] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        response, stream = await accept_stream(request, message_bytes_max=MAX)
        over = asyncio.Event()

        def take(message: bytes | bytearray) -> None:
            got.append(len(message))
            stream.pause()
            asyncio.get_running_loop().call_soon(stream.resume)
            if len(got) == len(sizes):
                stream.send(b"all")

        stream.deliver(take, over.set)
        await over.wait()
        await stream.close()
        return response

    async with serving(slow) as (session, server):
        stream = await dial(session, server)
        for size in sizes:
            await stream.send_bytes(b"x" * size)
        assert await stream.receive_bytes() == b"all"
        assert got == sizes
        await stream.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "not base64 at all, but long enough"},
    ],
)
async def test_what_is_no_handshake_is_refused(changed: dict[str, str]) -> None:
    async with (
        serving(echo) as (session, server),
        session.get(server.make_url("/"), headers={**HANDSHAKE, **changed}) as response,
    ):
        assert response.status == 400


async def test_a_server_that_does_not_upgrade_is_told_apart() -> None:
    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=503, text="later")

    async with serving(busy) as (session, server):
        with pytest.raises(UpgradeRefused) as refused:
            await dial(session, server)
        assert refused.value.status == 503


async def test_a_server_that_proves_another_key_is_not_believed() -> None:
    async def liar(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            status=101, headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "x"}
        )
        await response.prepare(request)
        return response

    async with serving(liar) as (session, server):
        with pytest.raises(UpgradeRefused, match="key"):
            await dial(session, server)


async def test_both_sides_learn_of_a_reset_and_aiohttp_forgets_the_connection() -> None:
    streams: list[Stream] = []
    over = asyncio.Event()

    async def keep(request: web.Request) -> web.StreamResponse:
        response, stream = await accept_stream(request, message_bytes_max=MAX)
        streams.append(stream)
        stream.deliver(lambda _: None, over.set)
        await over.wait()
        return response

    async with serving(keep) as (session, server):
        stream = await dial(session, server)
        assert len(server.runner.server.connections) == 1
        streams[0].abort()
        with pytest.raises(StreamEnded):
            await stream.receive_bytes()
        await over.wait()
        while server.runner.server.connections:
            await asyncio.sleep(0.001)
        assert not session.connector._acquired  # type: ignore[union-attr]


async def test_a_peer_that_reads_nothing_holds_up_who_drains_and_no_more() -> None:
    enough = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        response, stream = await accept_stream(request, message_bytes_max=MAX)
        stream.pause()
        await enough.wait()
        await stream.close()
        return response

    async with serving(never) as (session, server):
        stream = await dial(session, server)
        transport = stream._transport.get_extra_info("socket")
        transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        for _ in range(200):
            stream.send(b"x" * 100_000)
            if not stream.writable:
                break
        assert not stream.writable
        draining = asyncio.create_task(stream.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        stream.abort()
        with pytest.raises(StreamEnded):
            await draining
        enough.set()
