"""What a group coordinator's decisions cost, without disk and network: one process, one core.

python -m tests.benchmarks.bench_groups
python -m tests.benchmarks.bench_groups --wire          what heartbeats cost a real node, streams and all
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from ottla.broker.group.hosted import decode_batches, make_batch
from ottla.broker.group.records import CommittedOffset, GroupRecord, OffsetCommitKey
from ottla.broker.group.shard import Shard
from ottla.client.client import connect
from ottla.client.group_protocol import CommitPartition, OffsetCommitRequest
from ottla.log.model import Offset
from tests.broker.group.worlds import Reader, World, topic_id
from tests.processes.harness import Cluster, NodeProcess
from tests.simulation.group_client import GroupClient, Member

MEMBERS = 200
PARTITIONS = 1_000
RECORDS = 200_000
WIRE_MEMBERS, WIRE_GROUP, WIRE_S, WIRE_BEATS = 200, 20, 10.0, 10


def rate(what: str, count: int, work: Callable[[], object]) -> None:
    started_s = time.perf_counter()
    work()
    seconds = time.perf_counter() - started_s
    print(f"{what:58} {count / seconds:12,.0f}/s  {seconds / count * 1e6:10.1f} us each")


def a_world() -> World:
    return World(topics={"t": (topic_id("t"), PARTITIONS)})


def steady_heartbeats() -> None:
    world = a_world()
    readers = [Reader(world, f"m{n}") for n in range(MEMBERS)]
    rate(f"joins, the target computed anew each time (to {MEMBERS} members)", MEMBERS, lambda: beat(readers))
    for _ in range(4):
        beat(readers)
    rate(f"heartbeats of a settled group of {MEMBERS}", MEMBERS * 20, lambda: [beat(readers) for _ in range(20)])


def beat(readers: list[Reader]) -> None:
    for reader in readers:
        reader.beat()


def commits() -> None:
    world = a_world()
    ten = tuple(CommitPartition("t", n, 1) for n in range(10))
    requests = [OffsetCommitRequest("g", None, "", ten) for _ in range(2_000)]
    rate("commits of 10 partitions", len(requests), lambda: [world.ask(request) for request in requests])


def load() -> None:
    records = [
        GroupRecord(
            OffsetCommitKey(f"group-{n % 1_000}", "orders", n % 50),
            CommittedOffset(Offset(n), None, "", n, topic_id("t")),
        )
        for n in range(RECORDS)
    ]
    data = b"".join(make_batch(records[at : at + 1_000], 1) for at in range(0, RECORDS, 1_000))
    shard = Shard(a_world().limits, lambda name: None)

    def replay() -> None:
        for record, written_ms in decode_batches(data)[0]:
            shard.replay(record, written_ms)

    rate(f"records read by a new coordinator ({len(data) / RECORDS:.0f} bytes each)", RECORDS, replay)


async def over_the_wire() -> None:
    """Members that are settled, each with a stream of its own, and nothing else to do."""
    with tempfile.TemporaryDirectory(prefix="ottla-groups-") as directory:
        async with (
            Cluster(Path(directory), 1) as cluster,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            async with connect(cluster.servers) as client:
                await client.admin.create_topic("t", partitions=WIRE_GROUP)
            clients = [GroupClient(session, cluster.servers, f"g{n // WIRE_GROUP}") for n in range(WIRE_MEMBERS)]
            members = [Member(client, ("t",), f"m{n}") for n, client in enumerate(clients)]
            for _ in range(4):
                for member in members:
                    await member.beat()
            node = cluster.node(1)
            idle_s = await _cpu_of(node, asyncio.sleep(WIRE_S))
            spent_s = await _cpu_of(node, asyncio.gather(*(_beat_on(member) for member in members)))
            beats = WIRE_MEMBERS * WIRE_BEATS
            each_s = (spent_s - idle_s) / beats
            what = "heartbeats to a real node, its processor time"
            print(f"{what:58} {1 / each_s:12,.0f}/s  {each_s * 1e6:10.1f} us each")
            for client in clients:
                await client.close()


async def _beat_on(member: Member) -> None:
    for _ in range(WIRE_BEATS):
        await asyncio.gather(member.beat(), asyncio.sleep(WIRE_S / WIRE_BEATS))


async def _cpu_of(node: NodeProcess, work: Awaitable[object]) -> float:
    before_s = node.cpu_seconds()
    await work
    return node.cpu_seconds() - before_s


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wire", action="store_true")
    if parser.parse_args().wire:
        asyncio.run(over_the_wire())
    else:
        steady_heartbeats()
        commits()
        load()
