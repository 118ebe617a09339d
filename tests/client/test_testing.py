"""The cluster for users' tests: its faults are what they say."""

import asyncio
import gc
import sys
import threading
import weakref
from importlib.metadata import entry_points

import pytest

from ottla.client import node_thread, pytest_plugin
from ottla.client.client import connect
from ottla.client.errors import ConfigError, ConnectFailed, OttlaError
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
    for nodes in (8, 0, "3", 1.0, True, None, [1]):
        with pytest.raises(ConfigError, match="nodes is"):
            cluster(nodes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="kafka is"):
        cluster(kafka="127.0.0.1:9092")  # type: ignore[arg-type]
    with pytest.raises(ConfigError), cluster(num_partition=3):
        pass


def test_wrong_faults_are_refused_and_cut_nothing() -> None:
    with cluster(nodes=2) as servers:
        for call in (servers.kill, servers.start, servers.pause, servers.resume, servers.cut_clients):
            for number in (3, 0, "1", True, None, [1]):
                with pytest.raises(ConfigError, match="there is no node"):
                    call(number)  # type: ignore[arg-type]
        for sides, said in (
            ((), "nothing to cut"),
            ((set(),), "nothing to cut"),
            (({1, 2},), "nothing to cut"),
            (({1}, set()), "nothing to cut"),
            (({1}, {1, 2}), "node 1 is on two sides"),
            ((1,), "1 is no set of nodes"),
            (("12",), "'12' is no set of nodes"),
            (({1}, {3}), "there is no node 3"),
        ):
            with pytest.raises(ConfigError, match=said):
                servers.partition(*sides)  # type: ignore[arg-type]
        assert servers.running() == [1, 2]
        assert not [port for node in servers._nodes.values() for port in node._loop._severed]  # type: ignore[union-attr]
        with pytest.raises(OttlaError) as again, servers:
            pass
        assert again.value.code == "OTTLA-RUNNING"
        assert servers.running() == [1, 2]


@pytest.mark.parametrize("enter", [False, True])
def test_a_cluster_that_does_not_run_says_so(enter: bool) -> None:
    servers = cluster()
    if enter:
        with servers:
            pass
    for call in (servers.kill, servers.start, servers.pause, servers.resume, servers.cut_clients):
        with pytest.raises(OttlaError, match="does not run") as refused:
            call(1)
        assert refused.value.code == "OTTLA-CLOSED"


def test_a_node_that_cannot_get_ready_is_no_bare_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(nodes=2) as servers:
        servers.kill(1)
        servers.kill(2)
        monkeypatch.setattr(node_thread, "START_TIMEOUT_S", 0.1)
        with pytest.raises(OttlaError, match=r"node 1 is not ready after 0\.1 s") as refused:
            servers.start(1)
        assert (refused.value.code, refused.value.retriable) == ("OTTLA-NOT-READY", True)


@installed
@pytest.mark.ottla_cluster(num_partitions=2)
async def test_the_fixture(ottla_cluster: LocalCluster) -> None:
    async with connect(ottla_cluster) as client:
        await client.admin.create_topic("t")
        assert len((await client.admin.describe_topic("t")).partitions) == 2


@installed
@pytest.mark.ottla_cluster(2, num_partitions=1)
def test_the_fixture_takes_the_number_of_nodes_first(ottla_cluster: LocalCluster) -> None:
    assert ottla_cluster.running() == [1, 2]


@pytest.mark.parametrize(("arguments", "settings"), [((1, 2), {}), ((1,), {"nodes": 3})])
def test_what_the_marker_cannot_mean_is_refused(arguments: tuple[int, ...], settings: dict[str, int]) -> None:
    mark = pytest.mark.ottla_cluster(*arguments, **settings).mark
    with pytest.raises(pytest.UsageError, match="takes the number of nodes, once"):
        pytest_plugin.cluster_for(mark)


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
