"""The cluster for users' tests: its faults are what they say."""

import asyncio
import gc
import sys
import threading
import weakref
from importlib.metadata import entry_points

import pytest

from ottla.client.client import connect
from ottla.client.errors import ConfigError, ConnectFailed
from ottla.client.sync import connect as connect_blocking
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


async def test_clients_are_cut_off_while_nodes_are_not() -> None:
    async with (
        asyncio.timeout(90),
        cluster(nodes=3, broker_session_timeout_ms=1000, kafka=True) as servers,
        connect(servers) as client,
        client.producer() as producer,
    ):
        await client.admin.create_topic("t", partitions=3, replication=3)
        for partition in range(3):
            await producer.send("t", b"before", partition=partition)
        servers.cut_clients(2)
        sending = [asyncio.create_task(producer.send("t", b"meanwhile", partition=number)) for number in range(3)]
        waiting = set(sending)
        while len(waiting) > 1:  # what the others lead is acknowledged, by the node that is cut off too
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(TimeoutError):  # new connections are taken, and nothing comes of them
            await asyncio.wait_for(_greeted(servers.servers[1]), 0.5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_greeted(servers.kafka_servers[1], b"GET "), 0.5)
        async with connect(servers.servers[0]) as other:
            assert not [broker for broker in other.cluster.brokers.values() if broker.fenced]
            [topic] = await other.admin.list_topics(current=True)
            assert all(sorted(state.isr) == [1, 2, 3] for state in topic.partitions)
        assert not waiting.pop().done()
        gates = {gate.port: gate._frozen for gate in list(servers._nodes[2]._loop._accepted)}  # type: ignore[union-attr]
        assert {port in servers._nodes_own for port, frozen in gates.items() if frozen} == {False}
        assert any(port in servers._nodes_own for port, frozen in gates.items() if not frozen)
        servers.heal()
        await asyncio.gather(*sending)
        servers.cut_clients()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.send("t", b"never"), 0.5)
        servers.heal()
        async with client.consumer("t") as consumer:
            values = [record.value async for record in consumer.read_to_end()]
        assert (values.count(b"before"), values.count(b"meanwhile")) == (3, 3)


async def _greeted(address: str, request: bytes = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n") -> bytes:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await reader.read(10)
    finally:
        writer.close()


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


def test_an_ended_cluster_leaves_nothing_behind() -> None:
    """A suite may make hundreds of them."""
    from ottla.broker.node import Node

    def nodes() -> "weakref.WeakSet[Node]":
        gc.collect()
        return weakref.WeakSet(each for each in gc.get_objects() if isinstance(each, Node))

    before = nodes()
    with cluster() as servers, connect_blocking(servers) as client, client.producer() as producer:
        producer.send("t", b"x")
        assert len(nodes()) == len(before) + 1
    assert not nodes() - before
