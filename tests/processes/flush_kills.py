"""All nodes killed at once, again and again, on topics of each flush policy, with figures.

    python -m tests.processes.flush_kills [--kills 20]

Every policy has a topic of its own, with small segments, and all are loaded at once. Each round kills -9 all three
nodes at a random moment and starts them again; in the end everything acknowledged is read back. A killed process keeps
its page cache, so nothing may be lost whatever the policy. Exits non-zero if a promise is broken.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ottla.client.client import connect

from .failover import resumed, until_in_sync
from .harness import Cluster
from .load import Load, LoadReport, verify

POLICIES: Mapping[str, Mapping[str, object]] = {
    "os": {},
    "ack": {"flush": "ack"},
    "messages": {"flush.messages": 10},
    "ms": {"flush.ms": 50},
}
SEGMENT_BYTES = 64 << 10
PRODUCERS = 3
PARTITIONS = 3
LOADED_S = (0.2, 1.5)
"""From when all goes on to the next kill."""


async def kill_all(cluster: Cluster, kills: int, chance: random.Random) -> tuple[dict[str, LoadReport], list[float]]:
    """What each policy's load saw, and the seconds from each start until writes went on everywhere."""
    async with connect(cluster.servers) as client:
        for name, config in POLICIES.items():
            config = {**config, "segment.bytes": SEGMENT_BYTES}
            await client.admin.create_topic(name, partitions=PARTITIONS, replication=3, config=config)
    loads = {name: Load(cluster.servers, name, producers=PRODUCERS, pause_s=0.005) for name in POLICIES}
    back: list[float] = []
    for load in loads.values():
        await load.__aenter__()
    try:
        await _all_resumed(loads)
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(*LOADED_S))
            await asyncio.gather(*(node.kill() for node in cluster))
            started_at = time.monotonic()
            await cluster.start()
            await _all_resumed(loads)
            back.append(time.monotonic() - started_at)
    finally:
        for load in loads.values():
            await load.__aexit__()
    for name in POLICIES:
        await until_in_sync(cluster.servers, name)
    return {name: load.report for name, load in loads.items()}, back


async def _all_resumed(loads: Mapping[str, Load]) -> None:
    await asyncio.gather(*(resumed(load) for load in loads.values()))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-flush-kills-"))
    try:
        async with Cluster(directory) as cluster:
            reports, back = await kill_all(cluster, options.kills, random.Random(options.seed))
            print(
                f"{options.kills} times all three killed; writes to all went on after "
                f"{statistics.median(back):.2f} s (median), {max(back):.2f} s at most"
            )
            for name, report in reports.items():
                stored = await verify(cluster.servers, name, report)
                print(f"  {name:9}{report.total} acknowledged, {stored} stored, each once and in order")
                if report.errors:
                    print(f"           {len(report.errors)} errors to the client: {report.errors[:2]}")
            print(f"{cluster_quarantined(directory)} logs quarantined")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def cluster_quarantined(directory: Path) -> int:
    """How many logs of all nodes were found damaged: none, for no disk was."""
    return sum(1 for _ in directory.glob("n*/logs/*-quarantined*"))


if __name__ == "__main__":
    asyncio.run(main())
