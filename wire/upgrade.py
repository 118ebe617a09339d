"""From an HTTP request to a Stream, on both sides (RFC 6455, section 4), with aiohttp's HTTP on both."""

import base64
import binascii
import hashlib
from typing import Any

import aiohttp
from aiohttp import hdrs, web

from ottla.log.chance import Chance

from .stream import Stream

VERSION = "13"
KEY_BYTES = 16
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class UpgradeRefused(ConnectionError):
    """The server answered with something else than a stream; ``status`` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Early:
    """Takes what aiohttp had read beyond the handshake."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost, which the Stream knows."""


def _proof_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def _key_of(request: web.Request) -> str:
    """The client's key. Raises HTTPBadRequest for what is no WebSocket handshake."""
    headers = request.headers
    if headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket":
        raise web.HTTPBadRequest(text="no WebSocket upgrade: the request has no 'Upgrade: websocket'\n")
    if "upgrade" not in headers.get(hdrs.CONNECTION, "").lower():
        raise web.HTTPBadRequest(text="no WebSocket upgrade: the request has no 'Connection: Upgrade'\n")
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION) != VERSION:
        raise web.HTTPBadRequest(text=f"the WebSocket version is not {VERSION}\n")
    key = headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
    try:
        if len(base64.b64decode(key, validate=True)) == KEY_BYTES:
            return key
    except (binascii.Error, ValueError):
        pass
    raise web.HTTPBadRequest(text=f"Sec-WebSocket-Key must be {KEY_BYTES} bytes in base64\n")


async def accept_stream(
    request: web.Request, *, message_bytes_max: int, ping_interval_s: float | None = None
) -> tuple[web.StreamResponse, Stream]:
    """The stream, and the response that the aiohttp handler must return once it is over. Raises HTTPBadRequest, and
    ConnectionError where the client has left."""
    response = web.StreamResponse(
        status=101,
        headers={
            hdrs.UPGRADE: "websocket",
            hdrs.CONNECTION: "Upgrade",
            hdrs.SEC_WEBSOCKET_ACCEPT: _proof_of(_key_of(request)),
        },
    )
    response.force_close()
    await response.prepare(request)
    transport, http = request.transport, request.protocol
    if transport is None:
        raise ConnectionResetError("the client left during the handshake")
    stream = Stream(transport, http, message_bytes_max=message_bytes_max, ping_interval_s=ping_interval_s)
    _take_over(transport, http, stream)
    return response, stream


async def open_stream(
    session: aiohttp.ClientSession,
    url: str,
    chance: Chance,
    *,
    message_bytes_max: int,
    ping_interval_s: float | None = None,
    pong_wait_s: float | None = None,
) -> Stream:
    """Dial. Raises UpgradeRefused, or what aiohttp raises where nobody answers."""
    key = base64.b64encode(chance.token_bytes(KEY_BYTES)).decode()
    headers = {
        hdrs.UPGRADE: "websocket",
        hdrs.CONNECTION: "Upgrade",
        hdrs.SEC_WEBSOCKET_VERSION: VERSION,
        hdrs.SEC_WEBSOCKET_KEY: key,
    }
    response = await session.get(url, headers=headers, allow_redirects=False, read_until_eof=False)
    try:
        _check(response, key)
        connection = response.connection
        if connection is None or connection.transport is None or connection.protocol is None:
            raise ConnectionResetError("the server left during the handshake")
        stream = Stream(
            connection.transport,
            connection.protocol,
            message_bytes_max=message_bytes_max,
            mask=chance,
            ping_interval_s=ping_interval_s,
            pong_wait_s=pong_wait_s,
            on_lost=response.close,
        )
    except BaseException:
        response.close()
        raise
    _take_over(connection.transport, connection.protocol, stream)
    return stream


def _check(response: aiohttp.ClientResponse, key: str) -> None:
    if response.status != 101:
        raise UpgradeRefused(response.status, f"it answers HTTP {response.status}")
    if response.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        raise UpgradeRefused(response.status, "it upgrades to something else than a WebSocket")
    if response.headers.get(hdrs.SEC_WEBSOCKET_ACCEPT) != _proof_of(key):
        raise UpgradeRefused(response.status, "it proves another WebSocket key than this one")


def _take_over(transport: Any, http: Any, stream: Stream) -> None:
    # set_parser hands over what was read already; aiohttp's two sides take one argument and two.
    early = _Early()
    if isinstance(http, web.RequestHandler):
        http.set_parser(early)  # type: ignore[arg-type]
    else:
        http.set_parser(early, None)
    transport.set_protocol(stream)
    if early.data:
        stream.feed(early.data)
