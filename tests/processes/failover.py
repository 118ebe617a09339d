"""The failover bars on real processes, with figures.

    python -m tests.processes.failover [--kills 20] [--rolls 2]

Kills -9 each node in turn under an acks=all load and restarts it, rolls through all with SIGTERM, kills all three at
once; after each part everything acknowledged is read back. Exits non-zero if a promise is broken.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from ottla.client.client import connect

from .harness import Cluster
from .load import Load, LoadReport, verify

SETTLE_S = 0.5
IN_SYNC_TIMEOUT_S = 30.0


async def until_in_sync(servers: list[str], topic: str) -> None:
    """Until every partition has all its replicas in its ISR."""
    async with asyncio.timeout(IN_SYNC_TIMEOUT_S), connect(servers) as client:
        while True:
            described = next(t for t in await client.admin.list_topics() if t.name == topic)
            if all(set(p.isr) == set(p.replicas) and p.leader for p in described.partitions):
                return
            await asyncio.sleep(0.05)


async def make_topic(servers: list[str], topic: str, partitions: int = 6) -> None:
    async with connect(servers) as client:
        await client.admin.create_topic(topic, partitions=partitions, replication=3)


async def kill_in_turn(cluster: Cluster, topic: str, kills: int) -> tuple[LoadReport, list[float]]:
    """kill -9 one node after the other; seconds until writes to all partitions went on."""
    stalls: list[float] = []
    await make_topic(cluster.servers, topic)
    async with Load(cluster.servers, topic) as load:
        await load.until_acknowledged(200)
        for number in range(kills):
            node = cluster.node(number % len(cluster.nodes) + 1)
            killed_at = time.monotonic()
            await node.kill()
            await resumed(load)
            stalls.append(time.monotonic() - killed_at)
            await asyncio.sleep(SETTLE_S)
            await node.start()
            await node.until_ready()
            await until_in_sync(cluster.servers, topic)
    return load.report, stalls


async def resumed(load: Load) -> None:
    """Until every producer has had another record acknowledged."""
    before = {number: len(values) for number, values in load.report.acknowledged.items()}
    async with asyncio.timeout(60):
        # Twice the pipeline: more than what may have been acknowledged by the killed node already.
        while any(len(load.report.acknowledged[n]) < count + 64 for n, count in before.items()):
            await asyncio.sleep(0.005)


async def roll(cluster: Cluster, topic: str, rounds: int) -> LoadReport:
    """SIGTERM one node after the other under load."""
    await make_topic(cluster.servers, topic)
    async with Load(cluster.servers, topic) as load:
        await load.until_acknowledged(200)
        for _ in range(rounds):
            for node in cluster:
                assert await node.stop() == 0, node.log[-2000:]
                await asyncio.sleep(SETTLE_S)
                await node.start()
                await node.until_ready()
                await until_in_sync(cluster.servers, topic)
    return load.report


async def kill_all(cluster: Cluster, topic: str) -> tuple[LoadReport, float]:
    """kill -9 all three at once under load, start them again; seconds until writes went on after the start."""
    await make_topic(cluster.servers, topic)
    async with Load(cluster.servers, topic) as load:
        await load.until_acknowledged(500)
        await asyncio.gather(*(node.kill() for node in cluster))
        started_at = time.monotonic()
        await cluster.start()
        await resumed(load)
        seconds = time.monotonic() - started_at
        await until_in_sync(cluster.servers, topic)
    return load.report, seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rolls", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the nodes' directories")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-failover-"))
    try:
        async with Cluster(directory) as cluster:
            report, stalls = await kill_in_turn(cluster, "kills", options.kills)
            stored = await verify(cluster.servers, "kills", report)
            print(f"{options.kills} kills: {report.total} acknowledged, {stored} stored, each once and in order")
            print(
                f"  writes to all partitions resumed after: median {statistics.median(stalls):.2f} s, "
                f"max {max(stalls):.2f} s; errors to the client: {len(report.errors)} {report.errors[:2]}"
            )
            report = await roll(cluster, "rolls", options.rolls)
            stored = await verify(cluster.servers, "rolls", report)
            print(
                f"{options.rolls} rolling restarts: {report.total} acknowledged, {stored} stored; client errors: "
                f"{len(report.errors)} {report.errors[:2]}; longest stall {report.longest_stall_s():.2f} s"
            )
            report, seconds = await kill_all(cluster, "all")
            stored = await verify(cluster.servers, "all", report)
            print(
                f"all three killed: {report.total} acknowledged, {stored} stored; serving {seconds:.2f} s after start"
            )
    finally:
        if options.keep:
            print(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
