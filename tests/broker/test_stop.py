"""A node that stops owes its clients of the SDK an answer to all that they asked, and a farewell."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ottla.broker.config import load_settings
from ottla.broker.http.app import HttpDoor
from ottla.broker.node import Node
from ottla.client.connection import Connection, ConnectionLost
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    CreateTopicRequest,
    DescribeNodeRequest,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    TopicChanged,
)
from ottla.log.chance import SystemChance
from ottla.log.model import TopicId

LONG_MS = 300_000
HANGS_S = 30.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(load_settings({"data": str(tmp_path), "http": "127.0.0.1:0", "kafka": "off"}), version="test")
    await node.start()
    yield node
    if node.state != "stopped":
        await node.stop(drain=False)


def fetch(topic_id: TopicId, wait_ms: int) -> FetchRequest:
    return FetchRequest(wait_ms, 1, 1 << 20, (FetchPartition(topic_id, 0, 0),))


async def errors_of(connection: Connection, request: FetchRequest) -> list[ErrorCode]:
    response = (await connection.request(request, timeout_s=HANGS_S)).message
    assert isinstance(response, FetchResponse)
    return [result.error for result in response.partitions]


async def test_who_waits_for_news_is_answered_and_told_farewell(node: Node, polled: asyncio.Event) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(HANGS_S):
        connection = await Connection.open(session, "127.0.0.1", node.port, SystemChance())
        made = (await connection.request(CreateTopicRequest("t", 1, 1, {}), timeout_s=HANGS_S)).message
        assert isinstance(made, TopicChanged)
        while await errors_of(connection, fetch(made.topic_id, 0)) != [ErrorCode.NONE]:
            await asyncio.sleep(0.01)  # until it is led
        polled.clear()
        waiting = await connection.send(fetch(made.topic_id, LONG_MS))
        await polled.wait()
        assert node._http is not None
        node._http.finish()
        response = (await waiting).message
        assert isinstance(response, FetchResponse)
        assert [result.error for result in response.partitions] == [ErrorCode.NONE]
        asked = await connection.send(DescribeNodeRequest())
        await node.stop()
        with pytest.raises(ConnectionLost, match="closed"):
            await asked  # it was not begun any more


async def test_a_stop_begins_with_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = asyncio.Event()
    monkeypatch.setattr(HttpDoor, "finish", lambda door: finished.set())
    await node.stop()
    assert finished.is_set()
