"""Faults on a schedule that one seed decides.

Each seed has a taste of its own: some kinds of fault often, some never (an even mix of all reaches less). Some faults
are scenes of several acts, for what protocols get wrong sits in their order. At most one host at a time loses what its
disk had not synced, and only while every partition has all its replicas: more than that nobody promised to survive.
"""

import asyncio
from collections.abc import Awaitable, Callable

from ottla.raft.image import Partition

from .network import Pair
from .world import SimulatedCluster, seeded

Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """``run`` until ``stop_at``; then the caller mends."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._chance = seeded(cluster.seed, "nemesis")
        self._faults: dict[str, Fault] = {
            "kill": self._kill,
            "kill_all": self._kill_all,
            "power": self._power,
            "pause": self._pause,
            "isolate": self._isolate,
            "isolate_leader": self._isolate_leader,
            "one_way": self._one_way,
            "cut_pair": self._cut_pair,
            "reset": self._reset,
            "slow": self._slow,
            "skew": self._skew,
            "restart": self._restart,
            "lagging_leader": self._lagging_leader,
            "kill_while_cut": self._kill_while_cut,
        }
        names = list(self._faults)
        self._weights = {name: self._chance.choice((0, 0, 1, 1, 3)) for name in names}
        if not any(self._weights.values()):
            self._weights["kill"] = 1
        self._pause_s = self._chance.choice((0.5, 2.0, 5.0))

    async def run(self, stop_at: float) -> None:
        """One fault after another, mostly mended before the next, sometimes not."""
        names, weights = list(self._weights), list(self._weights.values())
        while self._cluster.loop.now < stop_at:
            await asyncio.sleep(self._chance.expovariate(1 / self._pause_s))
            (name,) = self._chance.choices(names, weights)
            await self._faults[name]()
            if self._chance.random() < 0.7:
                await self._mend()

    async def _mend(self) -> None:
        self._cluster.heal()
        for host in self._cluster.hosts:
            self._cluster.resume(host)
        for host in self._some_order():
            if self._cluster.members[host].process is None:
                self._cluster.start(host)
                await self._wait(0, 1)

    # --- faults ------------------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        self._cluster.kill(self._any())
        await self._wait(0, 6)

    async def _kill_all(self) -> None:
        for host in self._some_order():
            self._cluster.kill(host)
            await self._wait(0, 0.05)
        await self._wait(0, 2)

    async def _power(self) -> None:
        if not self._cluster.in_sync():
            return await self._kill()
        host = self._any()
        self._cluster.power_loss(host)
        await self._wait(0, 5)
        if self._cluster.members[host].process is None:
            self._cluster.start(host)

    async def _pause(self) -> None:
        host = self._any()
        self._cluster.pause(host)
        await self._wait(0.2, 9)
        self._cluster.resume(host)

    async def _isolate(self) -> None:
        self._cluster.isolate(self._any(), clients_too=self._chance.random() < 0.3)
        await self._wait(0.5, 8)

    async def _isolate_leader(self) -> None:
        """Whoever leads the quorum."""
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None and member.node.parts.quorum.is_leader:
                self._cluster.isolate(member.host)
                break
        await self._wait(0.5, 8)

    async def _one_way(self) -> None:
        first, second = self._two()
        self._cluster.partition({(first, second)})
        await self._wait(0.5, 8)

    async def _cut_pair(self) -> None:
        """Two do not see each other, the third sees both."""
        self._cluster.partition(_both(*self._two()))
        await self._wait(0.5, 8)

    async def _reset(self) -> None:
        self._cluster.reset(*self._two())
        await self._wait(0, 0.5)

    async def _slow(self) -> None:
        first, second = self._two()
        self._cluster.loop.network.slow[first, second] = self._chance.choice((0.05, 0.5, 2.0))
        self._cluster.faults += 1
        await self._wait(0.5, 8)

    async def _skew(self) -> None:
        self._cluster.skew(self._any(), self._chance.uniform(-600, 600))

    async def _restart(self) -> None:
        host = self._any()
        member = self._cluster.members[host]
        if member.ready and member.process is not None and not self._cluster.loop.is_stopped(member.process):
            self._cluster.faults += 1
            stopping = asyncio.ensure_future(self._cluster.stop(host))
            await asyncio.wait([stopping], timeout=20)
            if member.process is None:
                self._cluster.start(host)

    # --- scenes ------------------------------------------------------------------------------------------------------

    async def _lagging_leader(self) -> None:
        """A partition's leader loses a follower's fetches first and the quorum next, then comes back."""
        partition = self._some_partition()
        if partition is None or partition.leader is None:
            return await self._isolate()
        leader = f"b{partition.leader}"
        followers = [host for host in self._cluster.hosts if host != leader]
        self._chance.shuffle(followers)
        self._cluster.partition({(followers[0], leader)})
        await self._wait(0.1, 7)
        self._cluster.isolate(leader)
        await self._wait(0.1, 7)
        if self._chance.random() < 0.5:
            self._cluster.kill(followers[0])
            await self._wait(0, 1)
        self._cluster.heal()

    async def _kill_while_cut(self) -> None:
        """A follower is cut off until it leaves the ISR; the leader dies as it returns."""
        partition = self._some_partition()
        if partition is None or partition.leader is None:
            return await self._kill()
        leader = f"b{partition.leader}"
        (follower, *_) = [host for host in self._some_order() if host != leader]
        self._cluster.partition(_both(follower, leader))
        await self._wait(0.1, 7)
        self._cluster.heal()
        await self._wait(0, 1)
        self._cluster.kill(leader)
        await self._wait(0, 4)

    # --- choices -----------------------------------------------------------------------------------------------------

    def _some_partition(self) -> Partition | None:
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None:
                topics = list(member.node.parts.manager.image.topics.values())
                if topics:
                    return self._chance.choice(self._chance.choice(topics).partitions)
        return None

    def _any(self) -> str:
        return self._chance.choice(self._cluster.hosts)

    def _two(self) -> tuple[str, str]:
        first, second = self._chance.sample(self._cluster.hosts, 2)
        return first, second

    def _some_order(self) -> list[str]:
        return self._chance.sample(self._cluster.hosts, len(self._cluster.hosts))

    async def _wait(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(least_s, most_s))


def _both(first: str, second: str) -> set[Pair]:
    return {(first, second), (second, first)}
