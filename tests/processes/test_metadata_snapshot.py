"""A node that was away while the metadata log was compacted: brought up to date by snapshot, roles and all."""

import asyncio
import itertools

import pytest

from ottla.client.client import connect

from .harness import Cluster

pytestmark = pytest.mark.processes

OFTEN = ("--set", "raft.snapshot.entries=5", "--set", "raft.log.entries.kept=2")


async def test_a_node_that_missed_many_commands_serves_again(tmp_path):
    async with Cluster(tmp_path, 3, *OFTEN) as cluster:
        away = cluster.node(3)
        async with connect(cluster.servers[:2]) as client:
            await client.admin.create_topic("before", partitions=1, replication=3)
            await client.admin.create_topic("remade", partitions=1, replication=3)
            await away.kill()
            for number in range(8):
                await client.admin.create_topic(f"t{number}", partitions=1, replication=2)
            await client.admin.delete_topic("remade")
            await client.admin.create_topic("remade", partitions=2, replication=3)
            expected = sorted(topic.name for topic in await client.admin.list_topics())
        await away.start()
        await away.until_ready()
        assert "installed the snapshot of the leader" in away.log
        async with asyncio.timeout(60), connect([away.address]) as client:
            assert sorted(topic.name for topic in await client.admin.list_topics()) == expected
            async with client.producer() as producer:
                for topic in ("before", "remade", "t0"):
                    await producer.send(topic, b"after")
        for node in cluster:  # all at once, and from what each has on disk
            await node.kill()
        await cluster.start()
        async with asyncio.timeout(60), connect(cluster.servers) as client:
            assert sorted(topic.name for topic in await client.admin.list_topics()) == expected


async def test_a_damaged_snapshot_refuses_the_start_with_a_code(tmp_path):
    async with Cluster(tmp_path, 1, *OFTEN) as cluster:
        node = cluster.node(1)
        raft = node.directory / "raft"
        async with asyncio.timeout(60), connect(cluster.servers) as client:
            for number in itertools.count():  # until the log is gone that the snapshots stand for
                await client.admin.create_topic(f"t{number}", partitions=1, replication=1)
                if min(raft.glob("wal/*.wal")).stem.strip("0") != "1":
                    break
        await node.stop()
        for snapshot in raft.glob("snapshots/*.snapshot"):
            data = bytearray(snapshot.read_bytes())
            data[len(data) // 2] ^= 1
            snapshot.write_bytes(data)
        await node.start()
        async with asyncio.timeout(60):
            while node.running:
                await asyncio.sleep(0.02)
        assert await node.stop() == 1
        assert "OTTLA-SNAPSHOT-DAMAGED" in node.log
        assert max(raft.glob("snapshots/*.snapshot")).name in node.log
        assert "Traceback" not in node.log
