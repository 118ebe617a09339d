"""Who goes on while a group of the consumer protocol (KIP-848) changes: a member joins, leaves, dies.

    python -m tests.benchmarks.bench_rebalance           simulated: virtual time, no processor is ever busy
    python -m tests.benchmarks.bench_rebalance --real    three real nodes, the members in this process

A record comes to each of 24 partitions every ``--every`` ms; handlers take no time. For each change: how long until the
group has settled; the longest time between two records of a member that keeps all it has, and gets nothing new; and of
a partition that stays where it is. Both are as long without any change: see the first line.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

from ottla.client.client import connect
from ottla.client.group_consumer import GroupConsumer
from tests.processes.harness import Cluster
from tests.simulation.world import CLIENT, SimulatedCluster, simulate

PARTITIONS, MEMBERS = 24, 6
WATCH_S = 3.0
SESSION_S = 6.0
SETTINGS = {"group_consumer_session_timeout_ms": int(SESSION_S * 1000)}

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Member:
    """Handles what comes, and remembers when. ``times``: by partition."""

    def __init__(self, servers: list[str], now_s: Callable[[], float]) -> None:
        self._servers, self._now_s = servers, now_s
        self.times: dict[int, list[float]] = {}
        self.consumer: GroupConsumer[bytes, bytes] | None = None
        self.stopping = asyncio.Event()
        self.dead = False

    @property
    def owned(self) -> frozenset[int]:
        return (
            frozenset(key.partition for key in self.consumer.assignment) if self.consumer is not None else frozenset()
        )

    async def live(self) -> None:
        async with connect(self._servers) as client:
            self.consumer = client.consumer("t", group="g", commit_interval_s=0.5)
            async with self.consumer:
                while not self.stopping.is_set():
                    with contextlib.suppress(TimeoutError):
                        record = await asyncio.wait_for(anext(self.consumer), 0.2)
                        self.times.setdefault(record.partition, []).append(self._now_s())

    async def die(self) -> None:
        """Be gone, without a word to the group."""
        assert self.consumer is not None
        membership = self.consumer._membership

        async def say_nothing() -> None:
            return None

        membership.leave = say_nothing  # type: ignore[method-assign]
        self.stopping.set()


class Stage:
    def __init__(self, servers: list[str], now_s: Callable[[], float], spawn: Spawn, every_s: float) -> None:
        self._servers, self._now_s, self._spawn, self._every_s = servers, now_s, spawn, every_s
        self.members: list[Member] = []
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._stopping = False
        self.lines: list[str] = []

    async def run(self) -> list[str]:
        await self._spawn(self._make_topic())
        producing = self._spawn(self._produce())
        for _ in range(MEMBERS):
            self._join()
        await self._until_shared(MEMBERS)
        await asyncio.sleep(WATCH_S)
        await self._measure("nothing happens", self._nothing, MEMBERS)
        await self._measure("a member joins", self._joins, MEMBERS + 1)
        await self._measure("a member leaves", self._leaves, MEMBERS)
        await self._measure("a member joins", self._joins, MEMBERS + 1)
        await self._measure("a member dies", self._dies, MEMBERS)
        self._stopping = True
        await producing
        for member in self.members:
            member.stopping.set()
        await asyncio.gather(*(self._tasks[member] for member in self.members))
        return self.lines

    def _join(self) -> None:
        member = Member(self._servers, self._now_s)
        self.members.append(member)
        self._tasks[member] = self._spawn(member.live())

    async def _nothing(self) -> None:
        return None

    async def _joins(self) -> None:
        self._join()

    async def _leaves(self) -> None:
        member = self.members.pop()
        member.stopping.set()
        await self._tasks[member]

    async def _dies(self) -> None:
        member = self.members.pop()
        await member.die()
        await self._tasks[member]

    async def _until_shared(self, count: int) -> None:
        async with asyncio.timeout(60):
            while True:
                owned = [member.owned for member in self.members]
                sizes = sorted(map(len, owned))
                whole = sum(sizes) == PARTITIONS == len(frozenset().union(*owned))
                if len(owned) == count and whole and sizes[-1] - sizes[0] <= 1:
                    return
                await asyncio.sleep(0.01)

    async def _measure(self, what: str, change: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
        await asyncio.sleep(WATCH_S)
        before = {member: member.owned for member in self.members}
        began_s = self._now_s()
        await change()
        await self._until_shared(count)
        settled_s = self._now_s() - began_s
        await asyncio.sleep(1.0)
        end_s = self._now_s()
        before = {member: owned for member, owned in before.items() if member in self.members}
        stays = [member for member, owned in before.items() if member.owned == owned]
        kept = [(member, p) for member, owned in before.items() for p in owned if p in member.owned]
        gaps = [_gap([t for times in m.times.values() for t in times], began_s, end_s) for m in stays]
        of_partitions = [_gap(member.times[p], began_s, end_s) for member, p in kept]
        self.lines.append(
            f"{what:18} settled after {settled_s:6.3f} s; {len(stays)} members not involved, longest gap "
            f"{max(gaps, default=0) * 1000:6.1f} ms; {len(kept):2} partitions stayed, longest gap "
            f"{max(of_partitions) * 1000:6.1f} ms"
        )

    async def _make_topic(self) -> None:
        async with connect(self._servers) as client:
            await client.admin.create_topic("t", partitions=PARTITIONS, replication=3)

    async def _produce(self) -> None:
        async with connect(self._servers) as client, client.producer(linger_ms=1) as producer:
            at_s = self._now_s()
            while not self._stopping:
                for partition in range(PARTITIONS):
                    producer.send_nowait("t", value=b"x", partition=partition)
                at_s += self._every_s
                await asyncio.sleep(max(0.0, at_s - self._now_s()))


def _gap(times: list[float], began_s: float, end_s: float) -> float:
    """The longest time between two records that overlaps the time of the change."""
    seen = sorted(times)
    moments = [began_s, *(t for t in seen if began_s <= t <= end_s), end_s]
    before = [t for t in seen if t < began_s]
    if before:
        moments[0] = before[-1]
    return max(later - earlier for earlier, later in pairwise(moments))


def simulated(every_s: float) -> list[str]:
    async def story(cluster: SimulatedCluster) -> list[str]:
        cluster.loop.network.loss = 0.0  # a lost segment comes 200 ms late, whatever the group does
        cluster.start_all()
        await cluster.until_ready()
        spawn: Spawn = lambda work: cluster.loop.spawn(CLIENT, work)  # noqa: E731
        return await Stage(cluster.servers, lambda: cluster.loop.now, spawn, every_s).run()

    outcome = simulate(1, story, settings=SETTINGS)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


async def real(every_s: float) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="ottla-rebalance-") as directory:
        arguments = ("--set", f"group.consumer.session.timeout.ms={int(SESSION_S * 1000)}")
        async with Cluster(Path(directory), 3, *arguments) as cluster:
            return await Stage(cluster.servers, time.monotonic, asyncio.create_task, every_s).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--every", type=float, default=20.0, help="ms between two records of a partition")
    options = parser.parse_args()
    lines = asyncio.run(real(options.every / 1000)) if options.real else simulated(options.every / 1000)
    print(f"{'real nodes' if options.real else 'simulated'}, a record to each partition every {options.every:g} ms")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
