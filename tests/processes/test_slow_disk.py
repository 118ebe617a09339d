"""A disk whose every sync takes 2 s costs nobody an office or a place: first a follower's of the quorum, then the
leader's, on real nodes under produces and metadata commands."""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.client.client import Client, connect

from .failover import make_topic, resumed, until_in_sync
from .harness import Cluster, NodeProcess
from .load import Load, verify

pytestmark = pytest.mark.processes

SYNC_S = "2"
SLOW_SYNCS = 3
COMMAND = (sys.executable, str(Path(__file__).with_name("slow_node.py")), "start")


@contextlib.asynccontextmanager
async def slow(node: NodeProcess) -> AsyncIterator[None]:
    """Every sync of this node's files takes 2 s. Leaves once some have."""
    switch = node.directory.with_suffix(".slow")
    written = switch.with_name("switch-to-" + switch.name)
    written.write_text(SYNC_S)
    written.rename(switch)
    noted = switch.with_name(switch.name + "-syncs")
    before = noted.stat().st_size if noted.exists() else 0
    try:
        yield
        async with asyncio.timeout(60):
            while not noted.exists() or noted.stat().st_size < before + SLOW_SYNCS:
                await asyncio.sleep(0.05)
    finally:
        os.unlink(switch)


@contextlib.asynccontextmanager
async def metadata_commands(client: Client) -> AsyncIterator[None]:
    """One topic is made after the other."""

    async def make_topics() -> None:
        for number in itertools.count():
            await client.admin.create_topic(f"t{number}", partitions=1, replication=3)

    making = asyncio.create_task(make_topics())
    try:
        yield
    finally:
        assert not making.done(), making.exception()
        making.cancel()


async def standing(client: Client) -> tuple[int, list[tuple[int, int, bool]]]:
    """The quorum's term, and of each broker id, epoch and whether it is fenced."""
    described = await client.admin.describe_cluster()
    brokers = [(n.endpoint.broker_id, n.endpoint.broker_epoch, n.endpoint.fenced) for n in described.nodes]
    return described.quorum_term, sorted(brokers)


async def test_a_slow_sync_deposes_and_fences_nobody(tmp_path):
    cluster = Cluster(tmp_path, 3)
    for node in cluster:
        node.command = COMMAND
    async with cluster, connect(cluster.servers) as client:
        await make_topic(cluster.servers, "load")
        await until_in_sync(cluster.servers, "load")
        before = await standing(client)
        assert not any(fenced for _, _, fenced in before[1])
        leader = cluster.node((await client.admin.describe_cluster()).quorum_leader)
        follower = next(node for node in cluster if node is not leader)
        async with Load(cluster.servers, "load") as load, metadata_commands(client):
            await load.until_acknowledged(200)
            for node in (follower, leader):
                async with slow(node):
                    await resumed(load)
                    assert await standing(client) == before
                assert await standing(client) == before
                await resumed(load)
        assert await standing(client) == before
        await verify(cluster.servers, "load", load.report)
        assert not load.report.errors
        assert not [node.number for node in cluster if "FenceBroker" in node.log.replace("UnfenceBroker", "")]
