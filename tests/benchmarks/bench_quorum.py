"""The metadata quorum: commit latency and throughput, memory, restart, new leaders, idle CPU, and snapshots.

    python -m tests.benchmarks.bench_quorum [--commands 1000000] [--kills 30] [--idle 20]

Three real voters on loopback with fdatasync on the disk of the temporary directory; a bare fdatasync of the same disk
in the same run stands beside them. Commands are 100 bytes; the load is made in the leader's own process. The idle
CPU is of three full nodes.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tests.processes.harness import Cluster
from tests.processes.quorum_cluster import QuorumCluster
from tests.processes.quorum_kills import describe_gaps

SYNCS = 300
RECORD_BYTES = 137
"""What one command of 100 bytes takes in the log."""
LATENCIES = ((1, 1_000), (16, 10_000), (256, 40_000))
CHUNK = 100_000
TOPICS = 20_000
MB = 1 << 20


def bare_sync_us(directory: Path) -> float:
    """The median of write and fdatasync of one small record at the end of a file."""
    found = []
    descriptor = os.open(directory / "bare", os.O_RDWR | os.O_CREAT)
    try:
        for _ in range(SYNCS):
            began = time.perf_counter()
            os.write(descriptor, bytes(RECORD_BYTES))
            os.fdatasync(descriptor)
            found.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
    return statistics.median(found) * 1e6


async def commits(cluster: QuorumCluster) -> None:
    """Latency and throughput."""
    leader = await cluster.leader()
    await leader.ask("bench 256 5000")  # warm
    for in_flight, count in LATENCIES:
        report = await leader.ask(f"bench {in_flight} {count}")
        print(
            f"{in_flight:>4} in flight: {report['per_s']:8,.0f} commands/s, p50 {report['p50_ms']:.2f} ms, "
            f"p99 {report['p99_ms']:.2f} ms, worst {report['max_ms']:.0f} ms",
            flush=True,
        )


async def growth(cluster: QuorumCluster, commands: int) -> None:
    """Memory as the log grows and is compacted, and how long a restart takes then."""
    leader = await cluster.leader()
    for done in range(CHUNK, commands + 1, CHUNK):
        report = await leader.ask(f"bench 256 {CHUNK}", timeout_s=300)
        if done in (CHUNK, commands):
            print(f"after {done:>9,} more: {memory(cluster)}; {report['per_s']:,.0f}/s", flush=True)
    known = await cluster.settled()
    assert len({(state["count"], state["digest"]) for state in known}) == 1, known
    for voter in cluster:
        await voter.kill()
    seconds = [await voter.start() for voter in cluster]
    print(f"process start to taking part, after kill -9: {', '.join(f'{s:.2f}' for s in seconds)} s", flush=True)
    after = await cluster.settled()
    assert (after[0]["count"], after[0]["digest"]) == (known[0]["count"], known[0]["digest"]), (known, after)


def memory(cluster: QuorumCluster) -> str:
    """RSS of each voter."""
    sizes = ", ".join(f"{voter.rss_bytes() / MB:.0f}" for voter in cluster)
    return f"{sizes} MB"


async def new_leaders(cluster: QuorumCluster, kills: int) -> None:
    """How long nobody could decide after kill -9 of an idle leader."""
    gaps = []
    for _ in range(kills):
        leader, seconds = await cluster.kill_leader()
        gaps.append(seconds)
        await leader.start()
        await cluster.settled()
    print(f"a new leader, {kills} kills: {describe_gaps(gaps)}", flush=True)


async def large_snapshots(directory: Path) -> None:
    """What snapshots of a large image, one each 10,000 commands, do to commits."""
    directory.mkdir()
    async with QuorumCluster(directory, topics=TOPICS) as cluster:
        leader = await cluster.leader()
        report = await leader.ask("bench 16 45000")
        size = max(file.stat().st_size for file in leader.directory.glob("snapshots/*.snapshot"))
    print(
        f"with {TOPICS:,} topics, 4 snapshots of {size / MB:.0f} MB each: p50 {report['p50_ms']:.2f} ms, "
        f"p99 {report['p99_ms']:.2f} ms, worst {report['max_ms']:.0f} ms",
        flush=True,
    )


async def idle(directory: Path, seconds: float) -> None:
    """CPU of full nodes that have nothing to do."""
    async with Cluster(directory) as cluster:
        await asyncio.sleep(2)
        began, before = time.monotonic(), [node.cpu_seconds() for node in cluster]
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - began
        shares = [(node.cpu_seconds() - b) / elapsed for node, b in zip(cluster, before, strict=True)]
        leader = cluster.node(1).describe()["quorum_leader"]
    print(f"idle CPU: {', '.join(f'{share:.2%}' for share in shares)} (node {leader} leads)", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-quorum-"))
    try:
        print(f"a bare write and fdatasync of this disk: {bare_sync_us(directory):.0f} us", flush=True)
        async with QuorumCluster(directory) as cluster:
            await commits(cluster)
            if options.commands:
                await growth(cluster, options.commands)
            if options.kills:
                await new_leaders(cluster, options.kills)
        await large_snapshots(directory / "large")
        if options.idle:
            await idle(directory, options.idle)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
