"""The front gate of the HTTP port: how many connections there may be, and how long one may say nothing."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .problem import problem

RESERVED_FOR_NODES = 64
"""Connections above ``connections.max`` that are accepted still, for what nodes say to each other: clients must not
keep the quorum's own streams out."""
INTERNAL_PREFIX = "/internal/"
TURNED_AWAY_S = 1.0
"""How long a connection that was turned away may take to read why."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain\r\n\r\n"
    b"OTTLA-TOO-MANY-CONNECTIONS: this node serves connections.max connections already. Try another node.\r\n"
)


class Guard:
    """A protocol factory around aiohttp's.

    A connection that has not sent one whole request head in ``handshake_s`` seconds is closed, so that idle sockets
    cannot fill the table; one above ``connections_max`` is told so and closed, unless it is another node's.
    """

    def __init__(self, server: web.Server, *, connections_max: int, handshake_s: float) -> None:
        self._server = server
        self._connections_max = connections_max
        self._handshake_s = handshake_s
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.BaseProtocol:
        if len(self._server.connections) >= self._connections_max + RESERVED_FOR_NODES:
            return _TurnedAway()
        protocol = self._server()
        loop = asyncio.get_running_loop()
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

    def is_full_for(self, request: web.Request) -> bool:
        """Whether this one came in above ``connections.max``, on a place that is kept for nodes."""
        return len(self._server.connections) > self._connections_max and not request.path.startswith(INTERNAL_PREFIX)


class _TurnedAway(asyncio.Protocol):
    """A connection that learns why it is not served. It never becomes one of the server's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_FULL)
        if transport.can_write_eof():
            transport.write_eof()  # closing at once would reset, and what we wrote could be lost with it
        asyncio.get_running_loop().call_later(TURNED_AWAY_S, transport.abort)


def _full() -> web.Response:
    detail = "this node serves connections.max connections already"
    response = problem(503, "OTTLA-TOO-MANY-CONNECTIONS", detail, hint="Try another node.", retriable=True)
    response.force_close()
    return response


def note_speech(guard: Callable[[], Guard | None]) -> Middleware:
    """The middleware that tells the guard who spoke."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        current = guard()
        if current is not None:
            current.spoke(request)
            if current.is_full_for(request):
                return _full()
        return await handler(request)

    return middleware
