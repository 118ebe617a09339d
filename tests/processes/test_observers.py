"""Nodes that are no voters, on real processes: a fourth one, later; and a voter that lost its disk."""

import json
import shutil

import pytest

from ottla.client.client import connect

from .harness import Cluster, NodeProcess, free_ports
from .test_forming import refusal, started, until, writes_and_reads

pytestmark = pytest.mark.processes


@pytest.fixture
async def cluster(tmp_path):
    async with Cluster(tmp_path) as cluster:
        yield cluster


def newcomer(tmp_path, join: str, name: str = "newcomer") -> NodeProcess:
    (port,) = free_ports(1)
    return NodeProcess(4, port, tmp_path / name, ["--join", join])


def identity(node: NodeProcess) -> dict:
    return json.loads((node.directory / "identity.json").read_text())


async def test_a_fourth_node_joins_by_any_address_and_is_a_full_broker(cluster, tmp_path):
    fourth = newcomer(tmp_path, cluster.servers[1])
    async with started(fourth):
        await fourth.until_ready()
        assert fourth.describe()["node_id"] == 4
        async with connect([fourth.address]) as client:
            await client.admin.create_topic("spread", partitions=8, replication=3)
            topic = await client.admin.describe_topic("spread")
        held = [partition.state for partition in topic.partitions if 4 in partition.state.replicas]
        assert held, "it gets its share of the replicas"
        await writes_and_reads([fourth.address], "first")

        # A fifth one joins through it, an observer itself; a kill and a restart change nobody's id.
        fifth = newcomer(tmp_path, fourth.address, "another")
        async with started(fifth):
            await fifth.until_ready()
            assert fifth.describe()["node_id"] == 5
            await fourth.kill()
            await writes_and_reads(cluster.servers, "without-it")
            await fourth.start()
            await fourth.until_ready()
            assert (fourth.describe()["node_id"], fifth.describe()["node_id"]) == (4, 5)


async def test_an_observer_goes_on_when_any_voter_is_killed(cluster, tmp_path):
    fourth = newcomer(tmp_path, ",".join(cluster.servers))
    async with started(fourth):
        await fourth.until_ready()
        for voter in cluster:
            await voter.kill()
            async with connect([fourth.address]) as client:
                await client.admin.create_topic(f"without-{voter.number}", partitions=1, replication=3)
            await voter.start()
            await voter.until_ready()


async def test_a_wiped_voter_has_no_vote_and_comes_back_as_an_observer(cluster):
    """It may have voted, and would not know: it must not vote again (defect D11)."""
    await writes_and_reads(cluster.servers, "before")
    wiped = cluster.node(2)
    await wiped.kill()
    shutil.rmtree(wiped.directory)
    await wiped.start()
    await wiped.until_ready()
    assert wiped.describe()["node_id"] == 4
    assert identity(wiped)["node_id"] == 4
    await writes_and_reads([wiped.address], "as-an-observer")

    # Two voters are left, and both are needed: with one of them the metadata cannot change.
    third = cluster.node(3)
    await third.kill()
    survivor = cluster.node(1)
    await until(lambda: survivor.describe()["quorum_leader"] is None, "nobody leads", survivor)
    assert survivor.running
    assert wiped.running
    await third.start()
    await third.until_ready()
    await writes_and_reads([wiped.address], "again")


async def test_who_cannot_prove_to_belong_is_given_nothing(tmp_path):
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.write_text("the secret of this cluster")
    other.write_text("the secret of another one")
    async with Cluster(tmp_path, 1, "--secret-file", str(secret)) as cluster:
        (port,) = free_ports(1)
        arguments = ["--join", cluster.servers[0], "--secret-file", str(other)]
        stranger = NodeProcess(4, port, tmp_path / "stranger", arguments)
        async with started(stranger):
            await until(lambda: "another cluster secret" in stranger.log, "it says why", stranger)
            assert identity(stranger)["state"] == "forming"


async def test_an_observer_of_one_cluster_is_not_taken_by_another(cluster, tmp_path):
    """Its directory holds that cluster's data."""
    fourth = newcomer(tmp_path, cluster.servers[0])
    async with started(fourth):
        await fourth.until_ready()
    await fourth.stop()
    (tmp_path / "other").mkdir()
    async with Cluster(tmp_path / "other", 1) as other:
        moved = NodeProcess(4, fourth.port, fourth.directory, ["--join", other.servers[0]])
        said = await refusal(moved)
        assert said.startswith("OTTLA-JOIN-MISMATCH")


async def test_what_is_current_is_asked_of_the_quorum_by_any_node(cluster, tmp_path):
    fourth = newcomer(tmp_path, cluster.servers[0])
    async with started(fourth):
        await fourth.until_ready()
        for number, server in enumerate([*cluster.servers, fourth.address]):
            async with connect([cluster.servers[number % 3]]) as writer, connect([server]) as reader:
                await writer.admin.create_topic(f"made-{number}", partitions=1, replication=1)
                names = {topic.name for topic in await reader.admin.list_topics(current=True)}
                assert f"made-{number}" in names
