"""What all kinds of fault use: whom to aim at, what may be lost, how to cut, wait, start and mend.

Aims are taken when an act begins: one host, the controller, a partition's leader, a minority, all. At most one host at
a time loses what its disk had not synced, and the next only once everything is whole: more nobody promised to survive
with the page cache's flush policy.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from random import Random

from ..arena import Arena, Pair

WHOLE_LOOKS_MAX = 30


class Nemesis:
    """Strikes the hosts of an arena; a kind of fault is a function of it.

    ``chance``: of the present act. ``targets``: whom that struck. ``cuts``: it cut something. ``wounded``: the host
    whose disk has lost something and may not have it back yet. ``drained``: some node may be.
    """

    def __init__(self, arena: Arena, failpoints: Collection[str], *, durable: bool = False) -> None:
        """``durable``: what the workload was acknowledged is on the platters, so that any power may go at any time."""
        self.arena = arena
        self.failpoints = sorted(failpoints)
        self.durable = durable
        self.chance = Random(0)
        self.targets: tuple[str, ...] = ()
        self.cuts = False
        self.wounded: str | None = None
        self.drained = False

    def begin(self, chance: Random) -> None:
        """The next act."""
        self.chance, self.targets, self.cuts = chance, (), False

    async def mend(self) -> None:
        """Undo every fault: heal, let stopped processes go on, start what is down."""
        await self.arena.heal()
        for host in self.arena.hosts:
            await self.arena.resume(host)
        for host in self.some_order():
            if not self.arena.is_up(host):
                await self.arena.start(host)
                await self.wait(0, 1)
        if self.drained:
            self.drained = not await self.arena.undrain()

    # --- aims --------------------------------------------------------------------------------------------------------

    async def anybody(self) -> str:
        """One of all, or the controller, or a leader."""
        dice = self.chance.random()
        if dice < 0.25:
            leader = await self.arena.quorum_leader()
            if leader is not None:
                return leader
        elif dice < 0.5:
            place = await self.arena.some_place(self.chance)
            if place is not None and place.leader is not None:
                return place.leader
        return self.chance.choice(self.arena.hosts)

    def two(self) -> tuple[str, str]:
        """Different ones."""
        first, second = self.chance.sample(self.arena.hosts, 2)
        return first, second

    def some_order(self) -> list[str]:
        """All hosts."""
        return self.chance.sample(self.arena.hosts, len(self.arena.hosts))

    def aim(self, host: str) -> str:
        """The host itself, which is a target from now on."""
        if host not in self.targets:
            self.targets = (*self.targets, host)
        return host

    # --- what strikes and what undoes --------------------------------------------------------------------------------

    async def cut(self, pairs: set[Pair]) -> None:
        """Until the next healing, or the end of the act."""
        self.targets = tuple(sorted({*self.targets, *(host for pair in pairs for host in pair)}))
        self.cuts = True
        await self.arena.cut(pairs)

    async def isolate(self, host: str) -> None:
        """Cut it off from all other nodes, though not from clients."""
        await self.cut(between([host], [other for other in self.arena.hosts if other != host]))

    async def start(self, host: str) -> None:
        """If it is down."""
        if not self.arena.is_up(host):
            await self.arena.start(host)

    async def wait(self, least_s: float, most_s: float) -> None:
        """Some time between the two."""
        await asyncio.sleep(self.chance.uniform(least_s, most_s))

    async def end(self, host: str) -> bool:
        """By its power or by a kill."""
        if self.chance.random() < 0.5:
            return await self.lose_power(host)
        return await self.arena.kill(host)

    # --- what may be lost --------------------------------------------------------------------------------------------

    async def lose_power(self, host: str) -> bool:
        """Kill only, where another host's wound is still open."""
        if self.durable:
            return await self.arena.lose_power(host)
        if not await self.arena.survives_power(host):
            return await self.arena.kill(host)
        if await self.another_is_wounded(host):
            return await self.arena.kill(host)
        self.wounded = host
        return await self.arena.lose_power(host)

    async def another_is_wounded(self, host: str) -> bool:
        """Whether another host may not have all back yet."""
        if self.wounded is not None and await self.arena.is_whole():
            self.wounded = None
        return self.wounded not in (None, host)

    async def wound(self, host: str) -> bool:
        """Whether this host may lose what it has: everything is whole, if need be after some mending."""
        await self.mend()
        for _ in range(WHOLE_LOOKS_MAX):
            if await self.arena.is_whole():
                self.wounded = host
                return True
            await asyncio.sleep(0.5)
        return False


Kind = Callable[[Nemesis], Awaitable[bool]]
"""A kind of fault: whether it changed anything."""


def both(first: str, second: str) -> set[Pair]:
    """Both ways between two hosts."""
    return {(first, second), (second, first)}


def between(some: Collection[str], others: Collection[str]) -> set[Pair]:
    """Both ways between each of some hosts and each of others."""
    return {pair for a in some for b in others for pair in both(a, b)}
