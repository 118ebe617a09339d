"""The front gate of the HTTP port: how many connections there may be, and how long one may say nothing."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain\r\n\r\n"
    b"OTTLA-TOO-MANY-CONNECTIONS: this node serves connections.max connections already. Try another node.\r\n"
)


class Guard:
    """A protocol factory around aiohttp's.

    A connection that has not sent one whole request head in ``handshake_s`` seconds is closed, so that idle sockets
    cannot fill the table; one above ``connections_max`` is told so and closed.
    """

    def __init__(self, server: web.Server, *, connections_max: int, handshake_s: float) -> None:
        self._server = server
        self._connections_max = connections_max
        self._handshake_s = handshake_s
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.BaseProtocol:
        protocol = self._server()
        loop = asyncio.get_running_loop()
        if len(self._server.connections) >= self._connections_max:
            loop.call_soon(_turn_away, protocol)
            return protocol
        self._silent[protocol] = loop.call_later(self._handshake_s, self._expire, protocol)
        return protocol

    def _expire(self, protocol: asyncio.BaseProtocol) -> None:
        self._silent.pop(protocol, None)
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            transport.abort()

    def spoke(self, request: web.Request) -> None:
        """A whole request head arrived on this connection: aiohttp's own time-outs watch it from here."""
        timer = self._silent.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()


def _turn_away(protocol: asyncio.BaseProtocol) -> None:
    transport = getattr(protocol, "transport", None)
    if transport is not None:
        transport.write(_FULL)
        transport.close()


def note_speech(guard: Callable[[], Guard | None]) -> Middleware:
    """The middleware that tells the guard who spoke."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        current = guard()
        if current is not None:
            current.spoke(request)
        return await handler(request)

    return middleware
