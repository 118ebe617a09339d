"""Groups on whole clusters: coordinators die, are cut off and come back; what they acknowledged stands (G5)."""

import asyncio
from collections import Counter
from typing import Any

import aiohttp
import pytest

from ottla.broker.group.internal_topic import INTERNAL_TOPIC, partition_of
from ottla.client.client import connect
from ottla.client.connection import Connection, ConnectionLost
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import OffsetFetchRequest
from ottla.log.chance import SystemChance

from .group_client import ClassicMember, GroupClient, Member
from .world import CLIENT, SimulatedCluster, simulate

PARTITIONS = 6
EAGER: dict[str, Any] = {"protocol": "classic", "assignors": ("range",), "max_poll_interval_s": 60}
"""A member of these lets everything go before it joins again, which waits for its handler."""
SETTINGS = {"group_consumer_heartbeat_interval_ms": 300, "group_consumer_session_timeout_ms": 6_000}


def coordinator_seen_by(cluster: SimulatedCluster, group: str, host: str) -> str | None:
    """The host that leads the group's partition, as this node has it."""
    member = cluster.members[host]
    if not member.ready or member.node is None or member.node.parts is None:
        return None
    topic = member.node.parts.manager.image.topics.get(INTERNAL_TOPIC)
    leader = None if topic is None else topic.partitions[partition_of(group, len(topic.partitions))].leader
    return None if leader is None else f"b{leader}"


def coordinator_of(cluster: SimulatedCluster, group: str, without: str = "") -> str | None:
    """As the first node that can tell has it."""
    seen = (coordinator_seen_by(cluster, group, host) for host in cluster.hosts if host != without)
    return next((host for host in seen if host is not None), None)


async def begin(cluster: SimulatedCluster) -> None:
    cluster.start_all()
    await cluster.until_ready(20)

    async def make_topic() -> None:
        async with connect(cluster.servers) as client:
            await client.admin.create_topic("orders", partitions=PARTITIONS, replication=3)

    await cluster.loop.spawn(CLIENT, make_topic())


async def commit_surely(client: GroupClient, offset: int) -> None:
    while True:
        try:
            assert await client.commit("orders", 0, offset) is ErrorCode.NONE
            return
        except ConnectionLost:
            await asyncio.sleep(0.1)


async def commit_upwards(
    client: GroupClient, partition: int, stop: asyncio.Event, acknowledged: dict[int, int]
) -> None:
    """Ever higher offsets, without being in the group. What has no answer may be stored: it is committed again."""
    offset = 0
    while not stop.is_set():
        offset += 1
        try:
            error = await client.commit("orders", partition, offset)
        except ConnectionLost:
            continue
        assert error is ErrorCode.NONE, error
        acknowledged[partition] = offset
        before = dict(acknowledged)
        if offset % 5 == 0:
            seen = await client.committed("orders")
            assert seen.get(partition, 0) >= before[partition], f"{seen} after {before}"
        await asyncio.sleep(0.05)


def test_who_waits_to_be_let_in_does_not_wait_for_a_host_without_power() -> None:
    """The answer to a join may take as long as a handler does, and a host that went dark gives none."""
    busy, free, let_in = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(cluster: SimulatedCluster) -> None:
        async with connect(cluster.servers) as client:
            async with client.producer() as producer:
                for partition in range(PARTITIONS):
                    await producer.send("orders", b"one", partition=partition)
            async with client.consumer("orders", group="billing", **EAGER) as consumer:
                async for _ in consumer:
                    busy.set()
                    await free.wait()

    async def wait(cluster: SimulatedCluster) -> None:
        async def given(keys: object) -> None:
            let_in.set()

        async with (
            connect(cluster.servers) as client,
            client.consumer("orders", group="billing", on_assigned=given, **EAGER) as consumer,
        ):
            async for _ in consumer:
                pass

    async def story(cluster: SimulatedCluster) -> float:
        await begin(cluster)
        working = [cluster.loop.spawn(CLIENT, handle(cluster))]
        await busy.wait()
        working.append(cluster.loop.spawn(CLIENT, wait(cluster)))
        await asyncio.sleep(3)
        assert not let_in.is_set()
        host = coordinator_of(cluster, "billing")
        assert host is not None
        cluster.power_loss(host)
        since_s = cluster.loop.now
        free.set()
        await let_in.wait()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        return cluster.loop.now - since_s

    outcome = simulate(1, story, settings=SETTINGS)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
    assert outcome.result < 25.0, outcome.result


@pytest.mark.parametrize("seed", range(4))
def test_the_last_acknowledged_commit_is_what_a_later_fetch_returns(seed: int) -> None:
    async def story(cluster: SimulatedCluster) -> dict[int, int]:
        await begin(cluster)
        acknowledged: dict[int, int] = {}
        stop = asyncio.Event()

        async def load(partition: int) -> None:
            async with aiohttp.ClientSession() as session:
                client = GroupClient(session, cluster.servers, "billing")
                await commit_upwards(client, partition, stop, acknowledged)
                await client.close()

        loads = [cluster.loop.spawn(CLIENT, load(partition)) for partition in range(2)]
        for round_ in range(3):
            await asyncio.sleep(2.5)
            host = coordinator_of(cluster, "billing")
            if host is None:
                continue
            match (seed + round_) % 3:
                case 0:
                    cluster.kill(host)
                case 1:
                    cluster.isolate(host)  # clients still reach it: it must not tell what is old
                case 2:
                    cluster.power_loss(host)
            await asyncio.sleep(6)
            cluster.mend()
            await cluster.until_ready()
        stop.set()
        await asyncio.gather(*loads)

        async def look() -> dict[int, int]:
            async with aiohttp.ClientSession() as session:
                client = GroupClient(session, cluster.servers, "billing")
                found = await client.committed("orders")
                await client.close()
                return found

        found = await cluster.loop.spawn(CLIENT, look())
        for partition, offset in acknowledged.items():
            assert found[partition] >= offset, f"{found} after {acknowledged}"
        return acknowledged

    outcome = simulate(seed, story, settings=SETTINGS)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
    assert all(offset > 20 for offset in outcome.result.values()), outcome.result


def test_a_coordinator_that_does_not_know_it_was_deposed_tells_nothing_old() -> None:
    async def story(cluster: SimulatedCluster) -> object:
        await begin(cluster)

        async def ask() -> object:
            async with aiohttp.ClientSession() as session:
                client = GroupClient(session, cluster.servers, "billing")
                await commit_surely(client, 1)
                host = coordinator_of(cluster, "billing")
                assert host is not None
                address, _, port = cluster.members[host].address.partition(":")
                old = await Connection.open(session, address, int(port), SystemChance())
                cluster.isolate(host)
                others = [m.address for m in cluster.members.values() if m.host != host]
                while coordinator_of(cluster, "billing", without=host) in (None, host):
                    await asyncio.sleep(0.05)
                assert coordinator_seen_by(cluster, "billing", host) == host, "it has not heard of it"
                rest = GroupClient(session, others, "billing")
                await commit_surely(rest, 2)
                answer = (await old.request(OffsetFetchRequest("billing", None), timeout_s=20)).message
                for each in (old, client, rest):
                    await each.close()
                return answer

        return await cluster.loop.spawn(CLIENT, ask())

    outcome = simulate(11, story, settings=SETTINGS)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
    assert outcome.result.error in (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR), outcome.result


@pytest.mark.parametrize("seed", range(3))
def test_members_share_the_partitions_whatever_their_coordinator_does(seed: int) -> None:
    async def story(cluster: SimulatedCluster) -> int:
        await begin(cluster)
        members: list[Member] = []
        stop = asyncio.Event()
        clashes: list[str] = []

        async def live(name: str) -> None:
            async with aiohttp.ClientSession() as session:
                client = GroupClient(session, cluster.servers, "readers")
                member = Member(client, ("orders",), name)
                members.append(member)
                while not stop.is_set():
                    await member.beat()
                    owners = Counter(partition for each in members for partition in each.owned)
                    clashes.extend(f"{partition} has {n} owners" for partition, n in owners.items() if n > 1)
                    await asyncio.sleep(0.3)
                await client.close()

        tasks = [cluster.loop.spawn(CLIENT, live(f"m{n}")) for n in range(2)]
        await asyncio.sleep(3)
        host = coordinator_of(cluster, "readers")
        assert host is not None
        cluster.kill(host)
        tasks.append(cluster.loop.spawn(CLIENT, live("m2")))
        await asyncio.sleep(4)
        cluster.mend()
        await cluster.until_ready()
        await cluster.until(lambda: sorted(len(m.owned) for m in members) == [2, 2, 2], "shared", 20)
        stop.set()
        await asyncio.gather(*tasks)
        assert not clashes, clashes[:3]
        return len(members)

    outcome = simulate(seed, story, settings=SETTINGS)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"


@pytest.mark.parametrize("seed", range(4))
def test_a_group_changes_over_and_back_while_its_coordinators_die(seed: int) -> None:
    async def story(cluster: SimulatedCluster) -> str:
        await begin(cluster)
        living: dict[str, ClassicMember | Member] = {}
        clashes: list[str] = []
        leaving: set[str] = set()

        async def live(name: str, *, classic: bool) -> None:
            async with aiohttp.ClientSession() as session, connect(cluster.servers) as sdk:
                topic = await sdk.cluster.topic("orders")
                client = GroupClient(session, cluster.servers, "readers")
                topics = {"orders": (topic.topic_id, PARTITIONS)}
                member = living[name] = (
                    ClassicMember(client, topics, name) if classic else Member(client, ("orders",), name)
                )
                while name not in leaving:
                    await member.beat()
                    owners = Counter(partition for each in living.values() for partition in each.owned)
                    clashes.extend(f"{partition} has {n} owners" for partition, n in owners.items() if n > 1)
                    await asyncio.sleep(0.2)
                await member.leave()
                del living[name]
                await client.close()

        def shared() -> bool:
            owned = [partition for each in living.values() for partition in each.owned]
            return len(owned) == len(set(owned)) == PARTITIONS and all(each.owned for each in living.values())

        async def change(*, come: str, go: str, classic: bool, kill_after_s: float) -> None:
            """One process takes another's place, and the coordinator dies meanwhile."""
            tasks.append(cluster.loop.spawn(CLIENT, live(come, classic=classic)))
            leaving.add(go)
            await asyncio.sleep(kill_after_s)
            host = coordinator_of(cluster, "readers")
            if host is not None:
                cluster.kill(host)
            await asyncio.sleep(4)
            cluster.mend()
            await cluster.until_ready()
            await cluster.until(lambda: go not in living and come in living and shared(), f"{come} for {go}", 60)

        tasks = [cluster.loop.spawn(CLIENT, live(f"c{n}", classic=True)) for n in range(2)]
        await cluster.until(shared, "shared", 30)
        await change(come="m0", go="c0", classic=False, kill_after_s=0.1 + 0.15 * seed)
        await change(come="m1", go="c1", classic=False, kill_after_s=0.5 - 0.1 * seed)
        await change(come="c2", go="m0", classic=True, kill_after_s=0.2 + 0.2 * seed)
        await change(come="c3", go="m1", classic=True, kill_after_s=0.1 + 0.3 * seed)
        assert not clashes, clashes[:3]

        def kind() -> str:
            host = coordinator_of(cluster, "readers")
            node = None if host is None else cluster.members[host].node
            if node is None or node.parts is None:
                return ""
            found = [
                shard.state.listed("readers").group_type
                for shard in node.parts.groups.shards()
                if shard.loaded and "readers" in shard.state.groups
            ]
            return found[0] if found else ""

        await cluster.until(lambda: kind() == "classic", "classic again", 20)
        await cluster.until(shared, "shared", 20)
        leaving.update(living)
        await asyncio.gather(*tasks)
        return kind()

    outcome = simulate(seed, story, settings=SETTINGS)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
