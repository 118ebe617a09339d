"""A node that stops owes its clients of the SDK an answer to all that they asked, and a farewell."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ottla.broker.api.fetch import LongPolls
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

LONG_MS = 300_000
HANGS_S = 30.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(load_settings({"data": str(tmp_path), "http": "127.0.0.1:0", "kafka": "off"}), version="test")
    await node.start()
    yield node
    if node.state != "stopped":
        await node.stop(drain=False)


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Somebody waits for news."""
    event, add = asyncio.Event(), LongPolls.add

    def noted(self: LongPolls, poll: Any) -> None:
        add(self, poll)
        event.set()

    monkeypatch.setattr(LongPolls, "add", noted)
    return event


async def test_who_waits_for_news_is_answered_and_told_farewell(node: Node, polled: asyncio.Event) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(HANGS_S):
        connection = await Connection.open(session, "127.0.0.1", node.port, SystemChance())
        made = (await connection.request(CreateTopicRequest("t", 1, 1, {}), timeout_s=HANGS_S)).message
        assert isinstance(made, TopicChanged)
        request = FetchRequest(LONG_MS, 1, 1 << 20, (FetchPartition(made.topic_id, 0, 0),))
        waiting = await connection.send(request)
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
