"""Errors for people: one shape, one code, nothing of our insides."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ottla.broker.http.problem import problems
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import ConfigError, OttlaError, RecordTooLarge, TopicExists, TopicNotFound


async def answer_to(error: Exception) -> tuple[int, dict, str]:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise error

    app = web.Application(middlewares=[problems], client_max_size=10)
    app.router.add_get("/x", handler)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/x")
        return response.status, await response.json(content_type=None), response.content_type


@pytest.mark.parametrize(
    ("error", "status", "code", "retriable"),
    [
        (TopicNotFound("no"), 404, "OTTLA-UNKNOWN-TOPIC-OR-PARTITION", False),
        (TopicExists("is"), 409, "OTTLA-TOPIC-ALREADY-EXISTS", False),
        (RecordTooLarge(2, 1), 413, "OTTLA-MESSAGE-TOO-LARGE", False),
        (ConfigError("bad"), 400, ConfigError.code, False),
        (OttlaError("later", code="OTTLA-NOT-ENOUGH-REPLICAS", retriable=True), 503, "OTTLA-NOT-ENOUGH-REPLICAS", True),
        (web.HTTPServiceUnavailable(), 503, "OTTLA-NOT-READY", False),
        (web.HTTPBadRequest(text="what"), 400, "OTTLA-INVALID-REQUEST", False),
    ],
)
async def test_each_error_has_its_status_and_code(error, status, code, retriable):
    got, document, content_type = await answer_to(error)
    assert (got, document["status"], document["code"]) == (status, status, code)
    assert content_type == "application/problem+json"
    assert document["retriable"] is retriable


async def test_a_bug_of_ours_gives_nothing_away():
    status, document, _ = await answer_to(RuntimeError("secret path /data/x"))
    assert (status, document["code"]) == (500, ErrorCode.UNKNOWN_SERVER_ERROR.stable_code)
    assert "secret" not in str(document)


async def test_an_answer_that_has_begun_is_broken_off_not_followed_by_another():
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise RuntimeError("late")

    app = web.Application(middlewares=[problems])
    app.router.add_get("/x", handler)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        everything = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert b"half" in everything
    assert everything.count(b"HTTP/1.1") == 1


async def nothing(request: web.Request) -> web.Response:
    return web.Response()


async def test_paths_and_methods_that_are_not_there():
    app = web.Application(middlewares=[problems])
    app.router.add_get("/x", nothing)
    async with TestClient(TestServer(app)) as client:
        for method, path, status, code in (
            ("GET", "/y", 404, "OTTLA-NO-SUCH-PATH"),
            ("POST", "/x", 405, "OTTLA-METHOD-NOT-ALLOWED"),
        ):
            response = await client.request(method, path)
            assert (response.status, (await response.json(content_type=None))["code"]) == (status, code)


async def test_a_websocket_that_was_not_asked_for():
    async def stream(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        return ws

    app = web.Application(middlewares=[problems])
    app.router.add_get("/s", stream)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/s")
        document = await response.json(content_type=None)
        assert (response.status, document["code"]) == (400, "OTTLA-INVALID-REQUEST")
        assert document["detail"] == "/s is a WebSocket of the SDK, and this request does not ask for one"
