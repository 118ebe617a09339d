"""What consuming costs in memory, and how soon a cluster for tests is there:
``python -m tests.benchmarks.bench_sdk_memory [records]``.

A process of its own reads all records (100 bytes each, a million by default) from one node: by ``async for``, in lists,
in a group, and by a reader that is slow, behind which everything piles up that is read ahead. What is shown is the most
that its resident memory grew over what it was before the first record.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ottla.client as ottla
from ottla.client.errors import BufferFull
from tests.processes.harness import Cluster

TOPIC = "t"
BOUND_MB = 32
"""docs/performance.md states it: twice ``prefetch_bytes``, however many records there are."""
SLOW_S = 0.02


async def fill(servers: str, count: int) -> None:
    async with ottla.connect(servers) as client:
        await client.admin.create_topic(TOPIC, partitions=6)
        async with client.producer() as producer:
            for _ in range(count):
                try:
                    producer.send_nowait(TOPIC, bytes(100))
                except BufferFull:
                    await producer.send(TOPIC, bytes(100))


def resident_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / 1e6


async def read(servers: str, how: str, count: int) -> None:
    async with ottla.connect(servers) as client:
        consumer = client.consumer(TOPIC, group="g") if how == "group" else client.consumer(TOPIC)
        before, most, left = resident_mb(), 0.0, count
        async with consumer:
            if how in ("async for", "group"):
                async for _ in consumer:
                    left -= 1
                    if left % 10_000 == 0:
                        most = max(most, resident_mb())
                    if not left:
                        break
            else:
                async for batch in consumer.batches():
                    left -= len(batch)
                    most = max(most, resident_mb())
                    if how == "slow lists":
                        await asyncio.sleep(SLOW_S)
                    if left <= 0:
                        break
        print(
            f"{how:12}{count:10,} records: +{most - before:5.1f} MB over {before:.1f} MB (bound: {BOUND_MB} MB)",
            flush=True,
        )


def show_ready() -> None:
    """The first cluster of a process, imports included, and later ones."""
    started = time.perf_counter()
    from ottla.client.testing import cluster

    for what in ("first", "second", "third"):
        with cluster():
            print(f"in-process cluster ready, {what}: {time.perf_counter() - started:.2f} s", flush=True)
        started = time.perf_counter()


async def main(count: int) -> None:
    me = (sys.executable, "-m", "tests.benchmarks.bench_sdk_memory")
    subprocess.run([*me, "ready"], check=True)
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(Path(directory), 1) as nodes:
            servers = ",".join(nodes.servers)
            await fill(servers, count)
            for how in ("async for", "lists", "group", "slow lists"):
                records = count // 10 if how == "slow lists" else count
                process = await asyncio.create_subprocess_exec(*me, "read", servers, how, str(records))
                await process.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ready"]:
            show_ready()
        case ["read", servers, how, records]:
            asyncio.run(read(servers, how, int(records)))
        case arguments:
            asyncio.run(main(int(arguments[0]) if arguments else 1_000_000))
