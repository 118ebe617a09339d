"""Forming on real processes: any start order makes one cluster, and who does not belong to it is told why."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ottla.client.client import connect

from .harness import Cluster, NodeProcess, free_ports

pytestmark = pytest.mark.processes

TIMEOUT_S = 30.0


@pytest.fixture
async def cluster(tmp_path):
    async with Cluster(tmp_path) as cluster:
        yield cluster


async def until(happened: Callable[[], bool], what: str, node: NodeProcess) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not happened():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {TIMEOUT_S:g} s: {what}\n{node.log[-4000:]}") from None


async def ending(node: NodeProcess) -> str:
    """Start it; what it says as it ends by itself, with exit code 1."""
    said_before = len(node.log)
    await node.start()
    try:
        await until(lambda: not node.running, "the node ends", node)
    finally:
        if node.running:
            await node.kill()
    assert await node.stop() == 1
    return node.log[said_before:]


async def refusal(node: NodeProcess) -> str:
    """The one line with a code that it ends with, for whoever started it."""
    said = await ending(node)
    assert "Traceback" not in said, said
    line = said.splitlines()[-1]
    assert line.startswith("OTTLA-"), said
    return line


@asynccontextmanager
async def started(node: NodeProcess) -> AsyncIterator[NodeProcess]:
    await node.start()
    try:
        yield node
    finally:
        if node.running:
            await node.kill()


def node_with(cluster: Cluster, number: int, *arguments: str) -> NodeProcess:
    """A node on the directory and port of one of the cluster's, started with other arguments."""
    former = cluster.node(number)
    return NodeProcess(number, former.port, former.directory, list(arguments))


async def writes_and_reads(servers: list[str], topic: str) -> None:
    """A record that every in-sync replica took can be read back."""
    async with asyncio.timeout(TIMEOUT_S), connect(servers) as client:
        await client.admin.create_topic(topic, partitions=1, replication=3)
        async with client.producer() as producer:
            await producer.send(topic, b"value")
        async with client.consumer(topic) as consumer:
            assert [record.value async for record in consumer.read_to_end()] == [b"value"]


async def identity(node: NodeProcess) -> tuple[str, int]:
    """The cluster that it says it is part of, and as whom."""
    async with asyncio.timeout(TIMEOUT_S), connect([node.address]) as client:
        described = await client.admin.describe_cluster()
    return described.cluster_id, described.answered_by


async def assert_one_cluster(cluster: Cluster) -> None:
    identities = [await identity(node) for node in cluster]
    assert len({cluster_id for cluster_id, _ in identities}) == 1
    assert [number for _, number in identities] == [node.number for node in cluster]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)], ids=str)
async def test_three_nodes_form_in_any_order(tmp_path, order):
    """Each starts once the one before says for whom it waits; none is ready before the last has come."""
    cluster = Cluster(tmp_path)
    try:
        for number in order[:-1]:
            node = cluster.node(number)
            await node.start()
            await until(lambda node=node: "OTTLA-FORMING: waiting for" in node.log, "it says that it waits", node)
            assert cluster.node(order[-1]).address in node.log
        assert not any((tmp_path / f"n{number}" / "wal").exists() for number in order)
        await cluster.node(order[-1]).start()
        for node in cluster:
            await node.until_ready()
        await assert_one_cluster(cluster)
        await writes_and_reads(cluster.servers, "formed")
    finally:
        await cluster.__aexit__()


async def test_nodes_that_are_killed_while_they_form_still_form(tmp_path):
    cluster = Cluster(tmp_path)
    try:
        for number in (1, 2):
            node = cluster.node(number)
            await node.start()
            await until(lambda node=node: "OTTLA-FORMING" in node.log, "it says that it waits", node)
            await node.kill()
        await cluster.start()
        await assert_one_cluster(cluster)
    finally:
        await cluster.__aexit__()


async def test_a_forming_node_with_another_list_is_waited_for_by_name(tmp_path):
    """Until somebody has formed a list can still be corrected, so this is said and not refused."""
    cluster = Cluster(tmp_path)
    others = ",".join(cluster.servers[:2])
    try:
        await cluster.node(1).start()
        await cluster.node(3).start()
        async with started(node_with(cluster, 2, "--join", others)):
            said = f"{cluster.node(2).address} (it was started with another list: {others})"
            await until(lambda: said in cluster.node(1).log, "node 1 names the other list", cluster.node(1))
            assert cluster.node(1).running
        await cluster.node(2).start()
        for node in cluster:
            await node.until_ready()
        await assert_one_cluster(cluster)
    finally:
        await cluster.__aexit__()


async def test_a_voter_with_another_list_is_refused(cluster):
    await cluster.node(3).stop()
    said = await refusal(node_with(cluster, 3, "--join", ",".join(cluster.servers[1:])))
    assert said.startswith("OTTLA-JOIN-MISMATCH")
    await cluster.node(3).start()
    await cluster.node(3).until_ready()
    await writes_and_reads(cluster.servers, "after")


async def test_nodes_that_do_not_belong_are_refused_and_harm_nobody(cluster, tmp_path):
    ports = free_ports(2)
    listed = ",".join(cluster.servers)

    added_itself = NodeProcess(4, ports[0], tmp_path / "newcomer", ["--join", f"{listed},127.0.0.1:{ports[0]}"])
    said = await refusal(added_itself)
    assert said.startswith("OTTLA-JOIN-MISMATCH")
    assert all(server in said for server in cluster.servers)

    taken = cluster.node(1).directory
    second = NodeProcess(1, ports[1], taken, ["--join", listed])
    said = await refusal(second)
    assert said.startswith("OTTLA-DIRECTORY-LOCKED")
    assert str(taken) in said

    assert all(node.running for node in cluster)
    await assert_one_cluster(cluster)
    await writes_and_reads(cluster.servers, "unharmed")


async def test_a_voter_that_lost_part_of_its_directory_is_refused_and_the_rest_serves_on(cluster):
    """Without its log it would vote again in terms it has voted in; without its identity it is anybody."""
    damaged = cluster.node(1)
    await damaged.kill()
    shutil.rmtree(damaged.directory / "raft" / "wal")
    assert (await refusal(damaged)).startswith("OTTLA-WAL-DAMAGED")
    (damaged.directory / "identity.json").unlink()
    assert (await refusal(damaged)).startswith("OTTLA-IDENTITY-LOST")
    await writes_and_reads(cluster.servers, "without-it")


async def test_a_voter_needs_no_join_to_come_back(cluster):
    await writes_and_reads(cluster.servers, "before")
    before = await identity(cluster.node(2))
    assert await cluster.node(2).stop() == 0
    async with started(node_with(cluster, 2)) as again:
        await again.until_ready()
        assert await identity(again) == before
        await writes_and_reads([again.address], "after")
