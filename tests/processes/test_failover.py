"""Real processes: nothing acknowledged is lost, doubled or out of order, whoever is killed or restarted."""

import asyncio
import signal

import pytest

from .failover import kill_all, kill_in_turn, make_topic, resumed, roll, until_in_sync
from .harness import Cluster
from .load import Load, verify

pytestmark = pytest.mark.processes


@pytest.fixture
async def cluster(tmp_path):
    async with Cluster(tmp_path) as cluster:
        yield cluster


async def test_kill_nine_of_each_node_in_turn(cluster):
    report, _ = await kill_in_turn(cluster, "kills", 3)
    await verify(cluster.servers, "kills", report)
    assert not report.errors


async def test_a_rolling_restart_shows_no_client_error(cluster):
    report = await roll(cluster, "rolls", 1)
    await verify(cluster.servers, "rolls", report)
    assert not report.errors


async def test_kill_nine_of_all_nodes_at_once(cluster):
    report, _ = await kill_all(cluster, "all")
    await verify(cluster.servers, "all", report)
    assert not report.errors


async def test_a_hung_node_is_fenced_and_comes_back_without_a_restart(cluster):
    await make_topic(cluster.servers, "hang")
    async with Load(cluster.servers, "hang") as load:
        await load.until_acknowledged(200)
        cluster.node(1).signal(signal.SIGSTOP)
        await resumed(load)
        cluster.node(1).signal(signal.SIGCONT)
        await until_in_sync(cluster.servers, "hang")
        await resumed(load)
    await verify(cluster.servers, "hang", load.report)
    assert not load.report.errors


async def test_a_minority_is_not_enough(cluster):
    """With two of three nodes gone nothing is acknowledged; with them back everything goes on."""
    await make_topic(cluster.servers, "minority")
    async with Load(cluster.servers, "minority") as load:
        await load.until_acknowledged(200)
        await asyncio.gather(cluster.node(2).kill(), cluster.node(3).kill())
        await cluster.node(2).start()
        await cluster.node(2).until_ready()
        await resumed(load)
        await cluster.node(3).start()
        await cluster.node(3).until_ready()
        await until_in_sync(cluster.servers, "minority")
    await verify(cluster.servers, "minority", load.report)
    assert not load.report.errors
