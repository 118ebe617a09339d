"""A group's coordinator is killed -9 under load, on real processes, with figures.

    python -m tests.processes.group_failover [--kills 10] [--protocol classic]

The members, with a producer each at their side, must go on: records are handled, and commits acknowledged to every
member. What was committed before stays. Exits non-zero if a promise is broken.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from ottla.client.client import Client, connect
from ottla.client.coordinator import GroupCoordinator
from ottla.client.group_consumer import GroupConsumer

from .failover import make_topic, until_in_sync
from .harness import Cluster, NodeProcess
from .load import Load

GROUP, PARTITIONS = "billing", 12
SETTLE_S = 0.5


class Readers:
    """An async context: members of one group, each a task. ``acknowledged``: by partition, the last commit that some
    member was told is stored; ``handled``: the offsets that were."""

    def __init__(self, servers: list[str], topic: str, count: int, protocol: str) -> None:
        self._servers, self._topic, self._count, self._protocol = servers, topic, count, protocol
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.consumers: list[GroupConsumer[bytes, bytes]] = []
        self.handled: dict[int, set[int]] = defaultdict(set)
        self.counts = [0] * count
        self.client: Client = connect(servers)

    async def __aenter__(self) -> "Readers":
        await self.client.__aenter__()
        self._tasks = [asyncio.create_task(self._read(number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)
        await self.client.close()

    async def _read(self, number: int) -> None:
        async with (
            connect(self._servers) as client,
            client.consumer(self._topic, group=GROUP, protocol=self._protocol, commit_interval_s=0.1) as consumer,
        ):
            self.consumers.append(consumer)
            while not self._stopping:
                try:
                    record = await asyncio.wait_for(anext(consumer), 0.2)
                except TimeoutError:
                    continue
                self.handled[record.partition].add(record.offset)
                self.counts[number] += 1

    @property
    def acknowledged(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for consumer in self.consumers:
            for key, offset in consumer._commits.stored.items():
                found[key.partition] = max(offset, found.get(key.partition, 0))
        return found

    async def go_on(self, more: int = 20) -> None:
        """Until every member has handled so many more records, and was acknowledged two commits more."""
        handled, commits = list(self.counts), [consumer.metrics().commits for consumer in self.consumers]
        async with asyncio.timeout(60):
            while not (
                all(now >= before + more for now, before in zip(self.counts, handled, strict=True))
                and all(
                    consumer.metrics().commits >= before + 2
                    for consumer, before in zip(self.consumers, commits, strict=False)
                )
            ):
                await asyncio.sleep(0.005)

    async def until_drained(self) -> None:
        """Until the group has committed all there is."""
        async with asyncio.timeout(60):
            while (await self.client.admin.describe_group(GROUP)).lag:
                await asyncio.sleep(0.1)

    async def until_shared(self) -> None:
        async with asyncio.timeout(60):
            while (
                len(self.consumers) < self._count
                or sorted(len(each.assignment) for each in self.consumers) != [PARTITIONS // self._count] * self._count
            ):
                await asyncio.sleep(0.01)


async def coordinator_node(cluster: Cluster, client: Client) -> NodeProcess:
    broker = await GroupCoordinator(client.cluster, GROUP)._find()
    port = client.cluster.brokers[broker].port
    return next(node for node in cluster if node.port == port)


async def kill_coordinators(
    cluster: Cluster, kills: int, protocol: str = "consumer"
) -> tuple[list[float], Load, Readers]:
    """kill -9 the coordinator, again and again; seconds until all members went on. Raises AssertionError where a
    commit that was acknowledged is gone."""
    stalls: list[float] = []
    await make_topic(cluster.servers, "orders", PARTITIONS)
    async with Readers(cluster.servers, "orders", 4, protocol) as readers:
        async with Load(cluster.servers, "orders", producers=24, pause_s=0.05) as load:
            await load.until_acknowledged(200)
            await readers.until_shared()
            await readers.go_on()
            for _ in range(kills):
                stalls.append(await kill_one(cluster, readers))
        await readers.until_drained()
    return stalls, load, readers


async def kill_one(cluster: Cluster, readers: Readers) -> float:
    """Seconds until all members went on."""
    node = await coordinator_node(cluster, readers.client)
    before, killed_at = readers.acknowledged, time.monotonic()
    await node.kill()
    await readers.go_on()
    stall_s = time.monotonic() - killed_at
    await check_commits(readers, before)
    await asyncio.sleep(SETTLE_S)
    await node.start()
    await node.until_ready()
    for topic in ("orders", "__consumer_offsets"):
        await until_in_sync(cluster.servers, topic)
    return stall_s


async def check_commits(readers: Readers, before: dict[int, int]) -> None:
    async with connect(readers._servers) as client:
        described = await client.admin.describe_group(GROUP)
    committed = {found.partition: found.committed for found in described.partitions}
    for partition, offset in before.items():
        assert (committed.get(partition) or 0) >= offset, f"partition {partition}: {committed} after {before}"


async def check_handled(readers: Readers) -> int:
    """Every record that is stored was handled, and the group says so. How many."""
    async with connect(readers._servers) as client:
        described = await client.admin.describe_group(GROUP)
    total = 0
    for found in described.partitions:
        assert found.end is not None
        missing = set(range(found.end)) - readers.handled[found.partition]
        assert not missing, f"partition {found.partition}: {len(missing)} not handled, as {sorted(missing)[:5]}"
        assert found.committed == found.end, f"partition {found.partition}: {found}"
        total += found.end
    return total


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--protocol", choices=("consumer", "classic"), default="consumer")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-group-failover-"))
    try:
        async with Cluster(directory) as cluster:
            stalls, load, readers = await kill_coordinators(cluster, options.kills, options.protocol)
            total = await check_handled(readers)
            print(
                f"{options.kills} coordinators killed ({options.protocol}): {load.report.total} acknowledged, "
                f"{total} stored, all handled and committed; no acknowledged commit lost; all members handled and "
                f"committed again after: median {statistics.median(stalls):.2f} s, max {max(stalls):.2f} s"
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
