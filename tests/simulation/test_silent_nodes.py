"""A host that loses its power resets nothing: whoever waits for an answer of it must find out by asking."""

import asyncio

import aiohttp
import pytest

from ottla.client.client import connect
from ottla.client.connection import Connection, ConnectionLost
from ottla.client.protocol import FetchPartition, FetchRequest
from ottla.log.chance import SystemChance

from .world import CLIENT, SimulatedCluster, simulate

LONG_POLL_MS = 120_000
NOTICED_S = 11.0


@pytest.mark.parametrize("back_at_once", [True, False])
def test_a_long_poll_at_a_host_without_power_ends(back_at_once: bool) -> None:
    async def story(cluster: SimulatedCluster) -> float:
        cluster.start_all()
        await cluster.until_ready(20)

        async def wait_at(host: str, partition: FetchPartition) -> float:
            address, _, port = cluster.members[host].address.partition(":")
            async with aiohttp.ClientSession() as session:
                connection = await Connection.open(session, address, int(port), SystemChance())
                request = FetchRequest(LONG_POLL_MS, 1, 1 << 20, (partition,))
                waiting = asyncio.create_task(connection.request(request, timeout_s=LONG_POLL_MS / 1000))
                await asyncio.sleep(2 * NOTICED_S)
                assert not waiting.done(), "pings are answered, and the poll goes on"
                cluster.power_loss(host)
                if back_at_once:
                    cluster.start(host)
                since_s = cluster.loop.now
                with pytest.raises(ConnectionLost):
                    await waiting
                return cluster.loop.now - since_s

        async def look() -> float:
            async with connect(cluster.servers) as client:
                await client.admin.create_topic("orders", partitions=1, replication=3)
                topic = await client.admin.describe_topic("orders")
            return await wait_at(f"b{topic.partitions[0].state.leader}", FetchPartition(topic.topic_id, 0, 0))

        return await cluster.loop.spawn(CLIENT, look())

    outcome = simulate(1, story)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
    assert outcome.result <= NOTICED_S
