"""The cluster for users' tests: its faults are what they say."""

import asyncio
import sys
import threading
from importlib.metadata import entry_points

import pytest

from ottla.client.client import connect
from ottla.client.errors import ConfigError, ConnectFailed
from ottla.client.testing import LocalCluster, cluster

SECONDS_MAX = 30
installed = pytest.mark.skipif(
    not entry_points(group="pytest11", name="ottla"), reason="installed before there was a plugin"
)


async def test_faults_of_three_nodes() -> None:
    async with (
        asyncio.timeout(90),
        cluster(nodes=3, broker_session_timeout_ms=1000, num_partitions=3) as servers,
        connect(servers) as client,
        client.producer() as producer,
    ):
        for partition in range(3):
            await producer.send("t", b"before", partition=partition)
        servers.kill(2)
        assert servers.running() == [1, 3]
        for partition in range(3):
            await producer.send("t", b"one is dead", partition=partition)
        servers.start(2)
        servers.pause(3)
        for partition in range(3):
            await producer.send("t", b"one hangs", partition=partition)
        servers.resume(3)
        await _until_unfenced(client, 3)
        servers.partition({2})
        for partition in range(3):
            await producer.send("t", b"one is cut off", partition=partition)
        await _until_unfenced(client, 2)  # the others have missed it
        servers.heal()
        await _until_unfenced(client, 3)
        async with client.consumer("t") as consumer:
            assert len([record async for record in consumer.read_to_end()]) == 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ottla-n")]


async def _until_unfenced(client: object, count: int) -> None:
    while True:
        await client.cluster.refresh()  # type: ignore[attr-defined]
        if sum(not broker.fenced for broker in client.cluster.brokers.values()) == count:  # type: ignore[attr-defined]
            return
        await asyncio.sleep(0.05)


def test_a_dead_node_answers_nobody_and_keeps_what_it_had() -> None:
    async def send() -> int | None:
        async with connect(servers) as client, client.producer() as producer:
            return (await producer.send("t", b"x", partition=0)).offset

    with cluster() as servers:
        assert asyncio.run(send()) == 0
        servers.kill(1)
        with pytest.raises(ConnectFailed):
            asyncio.run(send())
        servers.start(1)
        assert asyncio.run(send()) == 1


def test_wrong_sizes_settings_and_numbers() -> None:
    with pytest.raises(ConfigError):
        cluster(nodes=8)
    with pytest.raises(ConfigError), cluster(num_partition=3):
        pass
    with pytest.raises(ConfigError):
        LocalCluster().kill(2)


@installed
@pytest.mark.ottla_cluster(num_partitions=2)
async def test_the_fixture(ottla_cluster: LocalCluster) -> None:
    async with connect(ottla_cluster) as client:
        await client.admin.create_topic("t")
        assert len((await client.admin.describe_topic("t")).partitions) == 2


async def test_the_plugin_loads_nothing_before_it_is_asked() -> None:
    program = (
        "import sys, ottla.client.pytest_plugin\n"
        "print(sorted(m for m in sys.modules if m.startswith(('ottla', 'aiohttp', 'msgspec'))))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    assert eval(out) == ["ottla", "ottla.client", "ottla.client.pytest_plugin"]
