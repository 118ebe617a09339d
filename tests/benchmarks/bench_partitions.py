"""What a thousand partitions cost a node that nobody uses: memory, processor, and the time of a start.

    python -m tests.benchmarks.bench_partitions [--partitions 1000] [--seconds 20]

One node leads them all; each holds a few records, so that each has its files. A second figure is after kill -9.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

from ottla.client.client import connect
from tests.processes.harness import Cluster, NodeProcess

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SETTLE_S = 5.0


def cpu_s(pid: int) -> float:
    """Processor time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    """What of a process is in memory."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def descriptors(pid: int) -> int:
    """Open files and sockets."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def fill(servers: list[str], partitions: int) -> None:
    """A topic with a record in each partition."""
    async with connect(servers) as client:
        await client.admin.create_topic("many", partitions=partitions, replication=1)
        async with client.producer() as producer:
            await asyncio.gather(
                *(producer.send("many", b"x" * 100, partition=partition) for partition in range(partitions))
            )


async def idle(node: NodeProcess, seconds: float, title: str) -> None:
    await asyncio.sleep(SETTLE_S)
    before, began = cpu_s(node.pid), time.perf_counter()
    await asyncio.sleep(seconds)
    share = (cpu_s(node.pid) - before) / (time.perf_counter() - began)
    memory, files = rss_mb(node.pid), descriptors(node.pid)
    print(f"{title:<28}{share:7.2%} of a core   must 3 %     {memory:6.0f} MB RSS   must 300   {files} descriptors")


async def started(node: NodeProcess) -> float:
    began = time.perf_counter()
    await node.start()
    await node.until_ready()
    return time.perf_counter() - began


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-partitions-"))
    try:
        async with Cluster(directory, 1) as cluster:
            (node,) = cluster.nodes
            await fill(cluster.servers, options.partitions)
            await idle(node, options.seconds, "idle, just made")
            await node.stop()
            print(f"{'start after a clean stop':<28}{await started(node):6.2f} s   must 3")
            await idle(node, options.seconds, "idle, started again")
            await node.kill()
            print(f"{'start after kill -9':<28}{await started(node):6.2f} s")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
