"""Faults for a quorum, on a schedule that one seed decides: some kinds often, some never.

Power may go everywhere at once, for the log is synced before anything is promised. A kind of fault counts as
exercised only when it changed something: a cut that stopped a message, a slow disk that held up a sync.
"""

import asyncio
from collections.abc import Awaitable, Callable

from .faults import Faults, both
from .world import QuorumWorld

Fault = Callable[[], Awaitable[None]]
WAL_HEADROOM_BYTES = 400


class Nemesis(Faults):
    """``run`` until ``stop_at``; then the caller mends."""

    def __init__(self, world: QuorumWorld) -> None:
        super().__init__(world)
        self._faults: dict[str, Fault] = {
            "kill": self._kill,
            "kill_all": self._kill_all,
            "power": self._power,
            "power_all": self._power_all,
            "cut_in_write": self._cut_in_write,
            "pause": self._pause,
            "isolate": self._isolate,
            "isolate_leader": self._isolate_leader,
            "one_way": self._one_way,
            "ring": self._ring,
            "halves": self._halves,
            "delay": self._delay,
            "loss": self._loss,
            "reset": self._reset,
            "strand": self._strand,
            "duplicate": self._duplicate,
            "echo": self._echo,
            "clock": self._clock,
            "slow_disk": self._slow_disk,
            "slow_then_end": self._slow_then_end,
            "full_disk": self._full_disk,
            "failing_disk": self._failing_disk,
            "stop": self._stop,
            "raising": self._raising,
            "away": self._away,
            "swap": self._swap,
            "comeback": self._comeback,
            "storm": self._storm,
        }
        names = list(self._faults)
        self._weights = {name: self._chance.choice((0, 0, 1, 1, 3)) for name in names}
        if self._chance.random() < 0.5:
            few = self._chance.sample(names, 4)
            self._weights = {name: int(name in few) for name in names}
        if len(world.hosts) > 3:  # where one vote too many is not a majority anyway
            self._weights["echo"] += 2
            self._weights["comeback"] += 4
        self._pause_s = self._chance.choice((0.5, 1.0, 3.0))

    async def run(self, stop_at: float) -> None:
        """One fault after another, mostly mended before the next, sometimes not."""
        names, weights = list(self._weights), list(self._weights.values())
        while self._world.loop.now < stop_at:
            await asyncio.sleep(min(self._chance.expovariate(1 / self._pause_s), 5))
            (name,) = self._chance.choices(names, weights)
            self._world.loop.trace.note("*", "fault", name)
            await self._faults[name]()
            if self._chance.random() < 0.75:
                await self.mend()
        self._tell()

    async def mend(self) -> None:
        self._tell()
        self._world.heal()
        for host in self._some_order():
            self._world.resume(host)
            if self._world.voters[host].process is None:
                self._world.start(host)
                await self._wait(0, 0.5)

    # --- ends --------------------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        self._world.kill(self._some())
        await self._wait(0, 3)

    async def _kill_all(self) -> None:
        for host in self._some_order():
            self._world.kill(host)
            await self._wait(0, 0.02)
        self._world.effects["kill of all"] += 1
        await self._wait(0, 1)
        await self.mend()

    async def _power(self) -> None:
        self._world.power_loss(self._some())
        await self._wait(0, 3)

    async def _power_all(self) -> None:
        for host in self._some_order():
            self._world.power_loss(host)
        self._world.effects["power loss of all"] += 1
        await self._wait(0, 1)
        await self.mend()

    async def _cut_in_write(self) -> None:
        """The power goes, or the process dies, after one of the next changes of a disk, whatever was to follow it."""
        voter = self._world.voters[self._some()]
        voter.dies_in_write = self._chance.random() < 0.5
        voter.storage.cut_power_at(self._chance.randrange(1, 40))
        await self._wait(0.5, 3)

    async def _stop(self) -> None:
        await self._world.stop(self._some())
        await self._wait(0, 1)

    def _finish(self, host: str) -> None:
        (self._world.power_loss if self._chance.random() < 0.6 else self._world.kill)(host)

    # --- hangs and clocks --------------------------------------------------------------------------------------------

    async def _pause(self) -> None:
        host = self._some()
        self._world.pause(host)
        await self._wait(0.2, 4)
        self._world.resume(host)

    async def _clock(self) -> None:
        """Wall clocks anywhere, a monotonic one that is fast or slow, or leaps ahead as a machine that was moved."""
        voter = self._running()
        if voter is None:
            return
        voter.clock.skew_s = self._chance.uniform(-600, 600)
        self._world.effects["clock skew"] += 1
        leap = self._chance.random() < 0.4
        voter.clock.disturb(self._chance.uniform(0.7, 1.4), self._chance.uniform(0.2, 5) if leap else 0.0)
        self._world.effects["clock jump"] += leap
        await self._wait(0.5, 4)

    async def _echo(self) -> None:
        self._world.echoing.update(self._chance.sample(self._world.hosts, self._chance.randrange(1, 4)))
        if self._chance.random() < 0.6:  # and answers to candidates are among them, some before all disks are done
            if self._chance.random() < 0.5:
                for host in self._world.hosts:
                    self._slow(host, 0.3)
            self._finish(self._leader())
        await self._wait(0.5, 5)

    async def _raising(self) -> None:
        self._world.raising = True
        await self._wait(1, 4)

    # --- disks -------------------------------------------------------------------------------------------------------

    def _slow(self, host: str, seconds: float) -> None:
        self._watch("slow disk", lambda: self._world.loop.slowed[host])
        self._world.loop.slow_disks[host] = seconds

    async def _slow_disk(self) -> None:
        for host in self._chance.sample(self._world.hosts, self._chance.choice((1, 1, 2))):
            self._slow(host, self._chance.choice((0.1, 0.5, 2.0, 4.0)))
        await self._wait(0.5, 5)

    async def _slow_then_end(self) -> None:
        """More hangs on what is not synced, and fewer have it; then it ends."""
        host = self._leader() if self._chance.random() < 0.7 else self._some()
        self._slow(host, self._chance.choice((0.5, 2.0)))
        if self._chance.random() < 0.5:
            other = self._chance.choice([one for one in self._world.hosts if one != host])
            self._world.cut(both(host, other))
        await self._wait(0.1, 2)
        self._finish(host)
        await self._wait(0, 0.2)
        await self.mend()

    async def _full_disk(self) -> None:
        voter = self._running()
        if voter is None:
            return
        full_on = [f"log full on a {role}" for role in ("leader", "follower")]
        self._watch("full disk", lambda: sum(self._world.ledger.counts[name] for name in full_on))
        voter.storage.capacity = voter.storage.used_bytes() + self._chance.randrange(WAL_HEADROOM_BYTES)
        await self._wait(0.5, 3)

    async def _failing_disk(self) -> None:
        voter = self._running()
        if voter is not None:
            voter.disk_may_fail = True
            voter.storage.fail("sync", nth=self._chance.randrange(1, 6))
        await self._wait(0.2, 3)

    # --- scenes ------------------------------------------------------------------------------------------------------

    async def _away(self) -> None:
        """One is away until its leader's log no longer has what it needs; the leader often dies as it returns."""
        host = self._some()
        if self._chance.random() < 0.5:
            self._finish(host)
        else:
            self._cut("isolation", self._around(host))
        await self._wait(4, 9)
        await self.mend()
        await self._wait(0, 0.6)
        if self._chance.random() < 0.6:
            self._finish(self._leader() if self._chance.random() < 0.5 else host)
            await self._wait(0, 1)

    async def _comeback(self) -> None:
        """A leader loses its majority, keeps a follower that acknowledges, is deposed, and leads again at once without
        that one: what it hears late of its first time must not count in its second."""
        leader = self._leader()
        others = [host for host in self._some_order() if host != leader]
        near, far = others[: len(others) // 2 - 1], others[len(others) // 2 - 1 :]
        self._world.echoing.add(leader)
        self._world.echo_chance = 0.5
        self._cut("majority and minority", {p for a in far for b in (leader, *near) for p in both(a, b)})
        await self._until(lambda: any(voter.host in far for voter in self._world.leaders()), 4)
        self._tell()
        self._world.loop.network.heal()
        await self._wait(0, 0.2)
        for voter in self._world.leaders():
            if voter.host in far:
                self._world.pause(voter.host)
                far.remove(voter.host)
        self._world.cut({pair for host in near for pair in self._around(host)})
        self._slow(far[-1], 2.0)
        for voter in self._world.voters.values():
            voter.clock.disturb(1.5 if voter.host == leader else 0.5)
        await self._wait(1.5, 4)

    async def _swap(self) -> None:
        """One majority decides, another goes on; what they have in common lost its power between."""
        common = self._leader() if self._chance.random() < 0.6 else self._some()
        others = [host for host in self._some_order() if host != common]
        first, second = others[: len(others) // 2], others[len(others) // 2 :]
        if self._chance.random() < 0.5:
            self._slow(common, self._chance.choice((0.5, 2.0)))
        self._cut("majority and minority", {p for a in second for b in (common, *first) for p in both(a, b)})
        await self._wait(0.1, 3)
        self._world.power_loss(common)
        for host in first:
            self._world.kill(host)
        self._tell()
        self._world.loop.network.heal()
        if self._world.voters[common].process is None:
            self._world.start(common)
        await self._wait(0.5, 3)
