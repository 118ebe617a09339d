"""Faults on a schedule that one seed decides.

Each seed has a taste of its own: some kinds of fault often, some never (an even mix of all reaches less). Some faults
are scenes of several acts, for what protocols get wrong sits in their order. At most one host at a time loses what its
disk had not synced, and the next only once every partition has all its replicas: more nobody promised to survive.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from ottla.raft.image import Partition

from .network import Pair
from .world import SimulatedCluster, seeded

Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """``run`` until ``stop_at``; then the caller mends."""

    def __init__(self, cluster: SimulatedCluster, only: Collection[str] = ()) -> None:
        """``only``: these kinds of fault, instead of what the seed likes."""
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
            "loss": self._loss,
            "strand": self._strand,
            "power_in_write": self._power_in_write,
            "slow_disk": self._slow_disk,
            "slow_then_end": self._slow_then_end,
            "skew": self._skew,
            "restart": self._restart,
            "lagging_leader": self._lagging_leader,
            "kill_while_cut": self._kill_while_cut,
            "last_one": self._last_one,
            "swap": self._swap,
            "storm": self._storm,
            "roll": self._roll,
        }
        names = list(self._faults)
        self._weights = {name: self._chance.choice((0, 0, 1, 1, 3)) for name in names}
        if self._chance.random() < 0.5:
            few = self._chance.sample(names, 3)
            self._weights = {name: int(name in few) for name in names}
        if only:
            self._weights = {name: int(name in only) for name in self._faults}
        if not any(self._weights.values()):
            self._weights["kill"] = 1
        self._wounded: str | None = None  # the host whose disk has lost something and may not have it back yet
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
        host = self._any()
        self._lose_power(host)
        await self._wait(0, 5)
        if self._cluster.members[host].process is None:
            self._cluster.start(host)

    def _lose_power(self, host: str) -> None:
        """Kill only, where another host's wound is still open."""
        if self._wounded is not None and self._cluster.in_sync():
            self._wounded = None
        if self._wounded in (None, host):
            self._wounded = host
            self._cluster.power_loss(host)
        else:
            self._cluster.kill(host)

    def _end(self, host: str) -> None:
        """One way or the other."""
        if self._chance.random() < 0.5:
            self._lose_power(host)
        else:
            self._cluster.kill(host)

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
        self._cluster.isolate(self._raft_leader())
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
        self._cluster.slow_link(first, second, self._chance.choice((0.05, 0.5, 2.0)))
        await self._wait(0.5, 8)

    async def _loss(self) -> None:
        self._cluster.lose(self._chance.choice((0.05, 0.2, 0.5)))
        await self._wait(0.5, 6)

    async def _strand(self) -> None:
        """What was sent over connections comes after what is sent over their successors."""
        first, second = self._two()
        self._cluster.slow_link(first, second, self._chance.choice((0.5, 2.0)))
        await self._wait(0.2, 2)
        self._cluster.strand(first, second)
        await self._wait(0.2, 2)

    async def _power_in_write(self) -> None:
        """The power goes after one of the next changes of a disk, whatever was to follow it."""
        host = self._any()
        if self._wounded is not None and self._cluster.in_sync():
            self._wounded = None
        if self._wounded in (None, host):
            self._wounded = host
            self._cluster.cut_power_at(host, self._chance.randrange(1, 60))
        await self._wait(0.5, 4)

    async def _slow_disk(self) -> None:
        self._cluster.slow_disk(self._any(), self._chance.choice((0.1, 0.5, 2.0)))
        await self._wait(0.5, 6)

    async def _slow_then_end(self) -> None:
        """A host's disk is slow, so that more hangs on what it has not synced; then it ends. Often the quorum's
        leader, and a follower is cut off from it before, so that what the leader has few others have."""
        host = self._raft_leader() if self._chance.random() < 0.7 else self._any()
        self._cluster.slow_disk(host, self._chance.choice((0.5, 2.0)))
        if self._chance.random() < 0.5:
            other = self._chance.choice([one for one in self._cluster.hosts if one != host])
            self._cluster.partition(_both(host, other))
        await self._wait(0.1, 4)
        self._end(host)
        await self._wait(0, 0.2)
        self._cluster.heal()
        if self._cluster.members[host].process is None:
            self._cluster.start(host)
        await self._wait(0, 3)

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
        self._end(leader)
        await self._wait(0, 4)

    async def _last_one(self) -> None:
        """Every follower is cut off from a partition's leader, mostly not from the quorum; then the leader dies."""
        partition = self._some_partition()
        if partition is None or partition.leader is None:
            return await self._isolate()
        leader = f"b{partition.leader}"
        for member in partition.replicas:
            if member != partition.leader:
                self._cluster.partition(_both(f"b{member}", leader))
                await self._wait(0, 1)
        await self._wait(3, 8)
        self._end(leader)
        await self._wait(0, 1)
        self._cluster.heal()
        await self._wait(0, 4)

    async def _swap(self) -> None:
        """One majority decides, another goes on, and what they have in common is one host that lost its power."""
        common = self._raft_leader() if self._chance.random() < 0.6 else self._any()
        others = [host for host in self._some_order() if host != common]
        first, second = others[: len(others) // 2], others[len(others) // 2 :]
        slow_s = self._chance.choice((0.0, 0.5, 2.0))
        if slow_s:
            self._cluster.slow_disk(common, slow_s)
        for outside in second:
            for inside in (common, *first):
                self._cluster.partition(_both(outside, inside))
        await self._wait(0.1, 4)
        self._lose_power(common)
        for host in first:
            self._cluster.kill(host)
        self._cluster.heal()
        if self._cluster.members[common].process is None:
            self._cluster.start(common)
        await self._wait(0.5, 5)

    async def _storm(self) -> None:
        """One-way cuts come and go everywhere."""
        for _ in range(self._chance.randrange(3, 8)):
            self._cluster.partition({self._two() for _ in range(self._chance.randrange(1, 4))})
            await self._wait(0.1, 3)
            self._cluster.heal()
            await self._wait(0, 0.3)

    async def _roll(self) -> None:
        """Each in turn dies and comes back, before or after the one before is whole again."""
        for host in self._some_order():
            self._end(host)
            await self._wait(0, 2)
            if self._cluster.members[host].process is None:
                self._cluster.start(host)
            await self._wait(0, 2)

    # --- choices -----------------------------------------------------------------------------------------------------

    def _some_partition(self) -> Partition | None:
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None:
                topics = list(member.node.parts.manager.image.topics.values())
                if topics:
                    return self._chance.choice(self._chance.choice(topics).partitions)
        return None

    def _raft_leader(self) -> str:
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None and member.node.parts.quorum.is_leader:
                return member.host
        return self._any()

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
