"""What a nemesis of the quorum is made of: choices, watching for effects, and the faults of the network."""

import asyncio
import itertools
from collections.abc import Callable

from ..network import Pair
from .voter import Voter
from .world import QuorumWorld, chance_of


class Faults:
    """A kind of fault counts as exercised only when it changed something: ``_watch`` it, and ``_tell`` later."""

    def __init__(self, world: QuorumWorld) -> None:
        self._world = world
        self._chance = chance_of(world, "nemesis")
        self._watched: list[tuple[str, Callable[[], int], int]] = []

    def _watch(self, kind: str, count: Callable[[], int]) -> None:
        """It was a fault of this ``kind`` if ``count`` rises before the next mending."""
        self._watched.append((kind, count, count()))

    def _tell(self) -> None:
        for kind, count, before in self._watched:
            self._world.effects[kind] += count() > before
        self._watched = []

    def _watch_network(self, kind: str, effect: str) -> None:
        self._watch(kind, lambda: self._world.loop.network.effects[effect])

    # --- ways cut, slow and doubled -----------------------------------------------------------------------------------

    def _cut(self, kind: str, pairs: set[Pair]) -> None:
        self._watch_network(kind, "stopped")
        self._world.cut(pairs)

    def _around(self, host: str) -> set[Pair]:
        return {pair for other in self._world.hosts if other != host for pair in both(host, other)}

    async def _isolate(self) -> None:
        self._cut("isolation", self._around(self._some()))
        await self._wait(0.5, 4)

    async def _isolate_leader(self) -> None:
        self._cut("isolation of the leader", self._around(self._leader()))
        await self._wait(0.5, 5)

    async def _one_way(self) -> None:
        self._cut("one-way cut", {self._two() for _ in range(self._chance.randrange(1, 3))})
        await self._wait(0.5, 4)

    async def _ring(self) -> None:
        """Each sees only its neighbours, of three the outer two not each other."""
        ring = self._some_order()
        near = {pair for one, next_one in itertools.pairwise(ring) for pair in both(one, next_one)}
        if len(ring) > 3:
            near |= both(ring[0], ring[-1])
        self._cut("partial partition", {(a, b) for a in ring for b in ring if a != b and (a, b) not in near})
        await self._wait(0.5, 5)

    async def _halves(self) -> None:
        order = self._some_order()
        few, many = order[: len(order) // 2], order[len(order) // 2 :]
        self._cut("majority and minority", {pair for a in few for b in many for pair in both(a, b)})
        await self._wait(0.5, 5)

    async def _storm(self) -> None:
        """One-way cuts come and go everywhere."""
        for _ in range(self._chance.randrange(3, 7)):
            self._cut("storm of cuts", {self._two() for _ in range(self._chance.randrange(1, 4))})
            await self._wait(0.1, 1.5)
            self._tell()
            self._world.loop.network.heal()

    async def _delay(self) -> None:
        self._watch_network("delay", "slowed")
        for _ in range(self._chance.randrange(1, 4)):
            self._world.loop.network.slow[self._two()] = self._chance.choice((0.05, 0.3, 1.5))
        await self._wait(0.5, 4)

    async def _loss(self) -> None:
        self._watch_network("loss", "resent")
        self._world.loop.network.loss = self._chance.choice((0.05, 0.2, 0.5))
        await self._wait(0.5, 4)

    async def _reset(self) -> None:
        first, second = self._two()
        network = self._world.loop.network
        self._world.effects["reset"] += network.reset(first, second) + network.reset(second, first) > 0
        await self._wait(0, 0.5)

    async def _strand(self) -> None:
        """What was sent over a connection comes after what is sent over its successor."""
        network, (first, second) = self._world.loop.network, self._two()
        self._watch_network("reordering across reconnects", "reordered")
        network.slow[first, second] = self._chance.choice((0.5, 2.0))
        await self._wait(0.2, 2)
        network.slow.pop((first, second), None)
        network.strand(first, second)
        await self._wait(0.2, 2)

    async def _duplicate(self) -> None:
        self._watch_network("duplication", "duplicated")
        for _ in range(self._chance.randrange(1, 4)):
            self._world.loop.network.duplicated[self._two()] = self._chance.choice((0.02, 0.1, 0.5))
        await self._wait(0.5, 4)

    # --- choices -----------------------------------------------------------------------------------------------------

    def _leader(self) -> str:
        leaders = self._world.leaders()
        return leaders[-1].host if leaders else self._some()

    def _some(self) -> str:
        """The leader more often than its share."""
        leaders = self._world.leaders()
        if leaders and self._chance.random() < 0.3:
            return self._chance.choice(leaders).host
        return self._chance.choice(self._world.hosts)

    def _running(self) -> Voter | None:
        voters = [voter for voter in self._world.running() if voter.up]
        return self._chance.choice(voters) if voters else None

    def _two(self) -> Pair:
        first, second = self._chance.sample(self._world.hosts, 2)
        return first, second

    def _some_order(self) -> list[str]:
        return self._chance.sample(self._world.hosts, len(self._world.hosts))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = self._world.loop.now + seconds
        while not condition() and self._world.loop.now < deadline:
            await asyncio.sleep(0.01)

    async def _wait(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(least_s, most_s))


def both(first: str, second: str) -> set[Pair]:
    return {(first, second), (second, first)}
