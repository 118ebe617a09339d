"""A full disk: produces fail with a code, the node stays up and readable, and recovers when there is room again."""

import asyncio
import subprocess

import aiohttp
import pytest

from ottla.client.client import connect
from ottla.client.connection import Connection
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import ProducePartition, ProduceRequest, ProduceResult
from ottla.log.chance import SystemChance
from ottla.log.records import BatchBuilder

from .harness import Cluster, NodeProcess

pytestmark = pytest.mark.processes

DISK = "48m"
VALUE = b"x" * 500_000


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that is soon full."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("reserve", [0, 8 << 20])
async def test_a_full_disk_refuses_and_recovers(small_disk, reserve):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(16 << 20))
    async with Cluster(small_disk, 1, "--set", f"disk.reserve.bytes={reserve}") as cluster:
        node = cluster.node(1)
        async with connect(cluster.servers) as client:
            await client.admin.create_topic("t", partitions=1, replication=1)
            (topic,) = await client.admin.list_topics()
            stored, refusal = await fill(node, topic.topic_id)
            assert refusal.error is ErrorCode.KAFKA_STORAGE_ERROR
            assert "free" in refusal.message
            assert node.running
            assert await read_all(client) == stored
            ballast.unlink()
            async with asyncio.timeout(60), client.producer() as producer:
                await producer.send("t", b"after")
            assert await read_all(client) == stored + 1
        await node.kill()
        await node.start()
        await node.until_ready()
        async with connect(cluster.servers) as client:
            assert await read_all(client) == stored + 1


async def fill(node: NodeProcess, topic_id: str) -> tuple[int, ProduceResult]:
    """Produce until refused; how much was acknowledged, and the refusal."""
    builder = BatchBuilder()
    builder.append(None, VALUE, timestamp_ms=1)
    batch = builder.build()
    request = ProduceRequest(-1, 5_000, (ProducePartition(topic_id, 0, len(batch)),))
    async with aiohttp.ClientSession() as session:
        connection = await Connection.open(session, "127.0.0.1", node.port, SystemChance())
        stored = 0
        while stored < 1_000:
            (result,) = (await connection.request(request, (batch,), timeout_s=20)).message.partitions
            if result.error is ErrorCode.NOT_LEADER_OR_FOLLOWER and not stored:
                await asyncio.sleep(0.01)  # a topic is made before its leader has opened its log
            elif result.error:
                await connection.close()
                return stored, result
            else:
                stored += 1
    raise AssertionError("the disk never filled")


async def read_all(client) -> int:
    async with client.consumer("t") as consumer:
        return len([record async for record in consumer.read_to_end()])
