"""What the doctor finds in what nodes tell."""

from typing import Any

import msgspec

from ottla.cli.doctor import ADVICE, ERROR, WARNING, Finding, examine
from ottla.cli.kafka_probe import probe_kafka
from ottla.client.admin import ClusterDescription, NodeDescription
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import BrokerEndpoint, DescribeNodeResponse, PartitionMetadata, TopicMetadata
from ottla.client.testing import LocalCluster, cluster

VOTERS = ((1, "a", 1), (2, "b", 1), (3, "c", 1))


def node(
    number: int, *, runs: bool = True, free: int = 1 << 40, voters: Any = VOTERS, **endpoint: Any
) -> NodeDescription:
    told = DescribeNodeResponse(number, "ready", "1", 1, 7, 1, 1, voters, 0, 0, 0, free, 1.0)  # type: ignore[arg-type]
    known = {"host": "abc"[number - 1], "port": 1, "kafka_port": 9092, "kafka_host": f"k{number}"} | endpoint
    return NodeDescription(BrokerEndpoint(number, **known), told if runs else None, None if runs else "gone")  # type: ignore[arg-type]


def three(*nodes: NodeDescription, leader: int | None = 1) -> ClusterDescription:
    others = {each.endpoint.broker_id: each for each in nodes}
    return ClusterDescription("id", 9, 1, leader, 7, tuple(others.get(n, node(n)) for n in (1, 2, 3)))  # type: ignore[arg-type]


def topic(
    *isrs: tuple[int, ...], replicas: tuple[int, ...] = (1, 2, 3), leader: int | None = 1, **configs: str
) -> TopicMetadata:
    partitions = tuple(
        PartitionMetadata(number, leader, 4, 5, replicas, isr)  # type: ignore[arg-type]
        for number, isr in enumerate(isrs)
    )
    named = {name.replace("_", "."): value for name, value in configs.items()}
    return TopicMetadata(ErrorCode.NONE, "t", "tid", partitions, named)  # type: ignore[arg-type]


def said(found: list[Finding], severity: str) -> str:
    return " ".join(finding.what for finding in found if finding.severity == severity)


def test_a_healthy_cluster_is_healthy() -> None:
    assert examine(three(), (topic((1, 2, 3)),), {1: None, 2: None, 3: None}) == []


def test_nodes_that_are_down_fenced_drained_or_full_are_named() -> None:
    found = examine(three(node(1, drained=True), node(2, runs=False), node(3, fenced=True, free=5 << 20)), (), {})
    assert "n2 at b:1 does not answer: gone" in said(found, ERROR)
    assert "n3 is fenced" in said(found, ERROR)
    assert "n3 has 5 MiB" in said(found, WARNING)
    assert "n1 is drained" in said(found, ADVICE)


def test_partitions_without_leader_and_short_of_replicas_are_told_apart() -> None:
    assert "t-0 have no leader" in said(examine(three(), (topic((), leader=None),), {}), ERROR)
    found = examine(three(), (topic((1,), (1, 2), (1, 2, 3)),), {})
    assert "t-0 have fewer in-sync replicas" in said(found, ERROR)
    assert "t-1 are under-replicated" in said(found, WARNING)
    assert not said(examine(three(), (topic((1,), min_insync_replicas="1"),), {}), ERROR)


def test_topics_that_one_lost_disk_would_lose_are_named() -> None:
    assert "t have one replica" in said(examine(three(), (topic((1,), replicas=(1,)),), {}), WARNING)
    assert "min.insync.replicas=1" in said(examine(three(), (topic((1, 2, 3), min_insync_replicas="1"),), {}), ADVICE)


def test_the_quorum_without_leader_and_of_even_size() -> None:
    assert "no leader" in said(examine(three(leader=None), (), {}), ERROR)
    four = (*VOTERS, (4, "d", 1))
    assert "4 voters" in said(examine(three(node(1, voters=four)), (), {}), ADVICE)


def test_nodes_that_send_kafka_clients_to_one_and_the_same_place_are_named() -> None:
    found = examine(three(node(1, kafka_host="::1"), node(3, kafka_host="::1")), (), {})
    assert "n1, n3 all send Kafka clients to [::1]:9092." in said(found, ERROR)
    apart = examine(three(node(1, kafka_host="k2", kafka_port=9093), node(3, kafka_port=None, kafka_host="k2")), (), {})
    assert "all send" not in said(apart, ERROR)
    same_host = three(node(1, host="a", kafka_host=""), node(2, host="a", kafka_host=""))
    assert "n1, n2 all send Kafka clients to a:9092." in said(examine(same_host, (), {}), ERROR)


def test_kafka_addresses_that_send_clients_astray() -> None:
    found = examine(three(node(2, kafka_host="127.0.0.1"), node(3, kafka_port=None)), (), {1: "nothing answers there"})
    assert "n3 have no Kafka port" in said(found, ERROR)
    assert "n2 sends Kafka clients to 127.0.0.1:9092" in said(found, ERROR)
    assert "n1 sends Kafka clients to k1:9092: nothing answers there." in said(found, ERROR)


async def test_a_kafka_port_is_tried_as_a_client_would() -> None:
    async with cluster(kafka=True) as running:
        endpoint, other = _endpoint(running.kafka_servers[0]), _endpoint(running.servers[0])
        assert "another cluster" in (await probe_kafka(endpoint, "nobody's") or "")
        assert "does not speak" in (await probe_kafka(other, "x") or "")
        assert await probe_kafka(endpoint, await _cluster_id(running)) is None
    assert "cannot be reached" in (await probe_kafka(endpoint, "x") or "")


def _endpoint(address: str) -> BrokerEndpoint:
    host, _, port = address.rpartition(":")
    return BrokerEndpoint(1, "h", 1, kafka_port=int(port), kafka_host=host)  # type: ignore[arg-type]


async def _cluster_id(running: LocalCluster) -> str:
    from ottla.client.client import connect

    async with connect(running.servers) as client:
        return (await client.admin.describe_cluster()).cluster_id


def test_findings_are_documents_too() -> None:
    [finding] = examine(three(leader=None), (), {})
    assert msgspec.json.decode(msgspec.json.encode(finding._asdict()))["severity"] == ERROR
