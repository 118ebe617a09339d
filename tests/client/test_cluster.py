"""Metadata never looks back; admin requests are done once; dead nodes are passed by."""

import asyncio
from typing import Any

import pytest

import ottla.client
import ottla.client.cluster as cluster_module
from ottla.cli.sdk import advise
from ottla.client.client import connect
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import ConfigError, ConnectFailed, RequestFailed, TopicExists, TopicNotFound
from ottla.client.protocol import MetadataRequest
from ottla.client.servers import Address, parse_servers
from tests.client.fake_broker import FakeCluster


async def test_metadata_never_looks_back() -> None:
    """One node hangs behind: what was seen once is asked for, and an older answer is never believed."""
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        cluster.nodes[1].stale = cluster.nodes[1].view(MetadataRequest(("t",)))
        await client.admin.create_topic("u")
        assert client.cluster.metadata_index == cluster.index
        cluster.move("t", 0, 2)
        for _ in range(5):
            await client.cluster.refresh(("t", "u"))
            topic = client.cluster.known_topic("u")
            assert topic is not None
            assert topic.error is ErrorCode.NONE
        asked = cluster.metadata_indexes_asked
        assert asked == sorted(asked)
        assert asked[-1] > 0
        topic = await client.cluster.topic("t")
        assert topic.topic_id is not None
        assert client.cluster.leader(topic.topic_id, 0) == (2, 1)


async def test_an_older_leader_never_replaces_a_newer_one() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        topic = await client.cluster.topic("t")
        assert topic.topic_id is not None
        assert client.cluster.hint(topic.topic_id, 0, 2, 5)  # type: ignore[arg-type]
        assert not client.cluster.hint(topic.topic_id, 0, 1, 4)  # type: ignore[arg-type]
        assert not client.cluster.hint(topic.topic_id, 0, 99, 6)  # type: ignore[arg-type]
        await client.cluster.refresh()
        assert client.cluster.leader(topic.topic_id, 0) == (2, 5)


async def test_refreshes_at_the_same_time_are_one() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        await client.cluster.topic("t")
        before = len(cluster.requests)
        await asyncio.gather(*(client.cluster.refresh() for _ in range(20)))
        assert len(cluster.requests) == before + 1


@pytest.mark.parametrize("name", ["t" * 1025, "\ud800"], ids=["long", "half a character"])
async def test_what_no_node_would_take_for_a_topic_is_refused_at_once(name: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client, client.producer() as producer:
        works = [client.consumer(name).start, client.consumer(name, group="g").start, lambda: producer.send(name, b"")]
        works += [lambda: client.admin.create_topic(name), lambda: client.admin.describe_topic(name)]
        for work in works:
            with pytest.raises(RequestFailed) as refused:
                await asyncio.wait_for(work(), 8)
            assert refused.value.error is ErrorCode.INVALID_TOPIC_EXCEPTION


async def test_dead_nodes_are_passed_by() -> None:
    async with FakeCluster(3) as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        for number in (1, 2):
            await cluster.nodes[number].stop()
            await asyncio.wait_for(client.cluster.refresh(("t",)), 5)


async def test_a_node_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lost its power: its stream is open still, and nobody says that it is gone."""
    monkeypatch.setattr(cluster_module, "ASK_TIMEOUT_S", 0.05)
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        await client.admin.create_topic("before")
        for silent in cluster.nodes.values():
            silent.frozen = True
            async with asyncio.timeout(10):  # a request has 30 s
                await client.admin.list_topics()
            silent.frozen = False


async def test_topics_are_made_described_and_deleted() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        made = await client.admin.create_topic("t", partitions=2, config={"retention.ms": 5, "x": True})
        assert (made.name, len(made.partitions), made.configs) == ("t", 2, {"retention.ms": "5", "x": "true"})
        with pytest.raises(TopicExists):
            await client.admin.create_topic("t")
        async with client.producer() as producer:
            await producer.send("t", b"v", partition=1)
        described = await client.admin.describe_topic("t")
        ends = [(partition.start_offset, partition.end_offset, partition.problem) for partition in described.partitions]
        assert ends == [(0, 0, None), (0, 1, None)]
        nodes = (await client.admin.describe_cluster()).nodes
        assert [node.details is not None and node.details.node_id for node in nodes] == [1, 2]
        await client.admin.delete_topic("t")
        assert await client.admin.list_topics() == ()
        for attempt in (client.admin.delete_topic("t"), client.admin.describe_topic("t")):
            with pytest.raises(TopicNotFound):
                await attempt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1, b:2", [("a", 1), ("b", 2)]),
        ("a", [("a", 7080)]),
        ("[::1]:9", [("::1", 9)]),
        ("[::1]", [("::1", 7080)]),
        ("::1", [("::1", 7080)]),
    ],
)
def test_servers(text: str, expected: list[tuple[str, int]]) -> None:
    assert list(parse_servers(text)) == [Address(*pair) for pair in expected]


WRONG_SERVERS: list[Any] = [
    "",
    "a:b",
    "a:0",
    "a:70000",
    ":1",
    ",",
    "a/b:1",
    "me@a:1",
    "a b:1",
    5,
    None,
    b"a:1",
    [5],
    [],
]


@pytest.mark.parametrize("text", WRONG_SERVERS)
def test_servers_that_are_none(text: Any) -> None:
    with pytest.raises(ConfigError):
        ottla.client.connect(text)


@pytest.mark.parametrize("url", ["http://127.0.0.1:7480", "https://127.0.0.1:7480/v1"])
def test_an_address_of_the_web_is_told_what_is_wrong_with_it(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ottla.client.connect(url)
    assert str(raised.value).endswith(f"Leave {url.partition(':')[0]}:// out: 127.0.0.1:7480")


def test_who_does_not_reach_the_cluster_gets_advice_for_where_they_are() -> None:
    error = ConnectFailed([("127.0.0.1:1", "connection refused")])
    assert "HOST:PORT" in error.hint
    assert "--" not in error.hint
    assert "--servers HOST:PORT" in (advise(error, "127.0.0.1:1") or "")


def test_every_public_name_is_there() -> None:
    for name in ottla.client.__all__:
        assert getattr(ottla.client, name) is not None
    with pytest.raises(AttributeError):
        ottla.client.nothing  # noqa: B018
