"""How long until it serves: `--help`, one node, `ottla dev -n 3`, and three nodes to the first acknowledged record.

    python -m tests.benchmarks.bench_start [--rounds 5]

Medians of whole processes; the budgets stand beside them. Modules are compiled once and kept, as an installation does,
whatever the environment says: a first, unmeasured round of each does that.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ottla.client.client import connect
from ottla.client.testing import cluster
from tests.processes.harness import Cluster, free_ports

OTTLA = (sys.executable, "-m", "ottla.cli.main")
FIRST_CLUSTER = """
import time
from ottla.client.testing import cluster
started = time.perf_counter()
with cluster():
    print(time.perf_counter() - started)
"""


async def run_command(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *OTTLA, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0, arguments


async def help_s(directory: Path) -> float:
    started = time.perf_counter()
    await run_command("--help")
    return time.perf_counter() - started


async def one_node_s(directory: Path) -> float:
    started = time.perf_counter()
    async with Cluster(directory, 1):
        return time.perf_counter() - started


async def dev_s(directory: Path) -> float:
    """Of `ottla dev -n 3 --detach`, which returns when all three are ready."""
    port = str(free_ports(1)[0])
    data = str(directory / "dev")
    started = time.perf_counter()
    await run_command("dev", "-n", "3", "--data", data, "--base-http", port, "--detach")
    seconds = time.perf_counter() - started
    await run_command("dev", "stop", "--data", data)
    return seconds


async def first_record_s(directory: Path) -> float:
    started = time.perf_counter()
    async with Cluster(directory) as cluster, connect(cluster.servers) as client, client.producer() as producer:
        await producer.send("first", b"record")
        return time.perf_counter() - started


async def first_test_cluster_s(directory: Path) -> float:
    """Of the first node in a test's own process, which loads the broker's modules, too."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FIRST_CLUSTER, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return float(said)


async def test_cluster_s(directory: Path) -> float:
    """Of a node in a test's own process, when its modules are loaded."""
    started = time.perf_counter()
    async with cluster():
        return time.perf_counter() - started


MEASURES = (
    ("ottla --help", help_s, "0.2 s"),
    ("one node ready", one_node_s, "1 s"),
    ("ottla dev -n 3 ready", dev_s, "3 s"),
    ("first node in a test's process ready", first_test_cluster_s, "0.5 s"),
    ("one more node in a test's process ready", test_cluster_s, "0.5 s"),
    ("three nodes to the first acknowledged record", first_record_s, "3 s"),
)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["PYTHONDONTWRITEBYTECODE"] = ""
    for title, measure, budget in MEASURES:
        found = []
        for _ in range(1 + options.rounds):
            directory = Path(tempfile.mkdtemp(prefix="ottla-start-"))
            try:
                found.append(await measure(directory))
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        del found[0]
        print(f"{title:<46}{statistics.median(found):6.2f} s (max {max(found):.2f})   must {budget}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
