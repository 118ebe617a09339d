"""The story of one seed: voters start, clients ask, faults come and go, and in the end there is peace."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from .clients import CLIENTS, Clients
from .nemesis import Nemesis
from .simulate import simulate
from .world import QuorumWorld

PEACE_S = 8.0
RESUMED_S_MAX = 5.0
ANSWERED_PER_S_MIN = 0.5


class InvalidRun(Exception):
    """Too little happened for the run to say anything."""


@dataclass(frozen=True)
class Verdict:
    """What came of one seed, small enough to send between processes. ``error`` is None where all held."""

    seed: int
    digest: str
    virtual_s: float
    cpu_s: float
    error: str | None
    invalid: bool
    acknowledged: int = 0
    resumed_s: float = 0.0  # from the last mending until every client had an answer
    faults: Counter[str] = field(default_factory=Counter)
    mechanisms: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    lines: str = ""  # the trace, where it was asked for or the run failed


def size_of(seed: int) -> int:
    """How many voters a seed has."""
    return 5 if seed % 10 == 4 else 3


def run_seed(seed: int, virtual_s: float = 60.0, *, trace: bool = False) -> Verdict:
    """One run. Never raises for what the run found."""
    clients: list[Clients] = []
    resumed: list[float] = []

    async def story(world: QuorumWorld) -> None:
        clients.append(Clients(world))
        try:
            resumed.append(await _story(world, clients[0], virtual_s))
        finally:
            clients[0].let_go()

    began = time.process_time()
    outcome, world = simulate(seed, story, size_of(seed))
    error = outcome.error
    text = None if error is None else f"{type(error).__name__}: {error}"
    return Verdict(
        seed=seed,
        digest=outcome.digest,
        virtual_s=outcome.virtual_s,
        cpu_s=time.process_time() - began,
        error=text,
        invalid=isinstance(error, InvalidRun),
        acknowledged=sum(clients[0].answered.values()),
        resumed_s=sum(resumed),
        faults=world.effects,
        mechanisms=world.ledger.counts,
        outcomes=clients[0].outcomes,
        lines=outcome.loop.trace.tail(20_000) if trace else outcome.loop.trace.tail(60) if text else "",
    )


async def _story(world: QuorumWorld, clients: Clients, virtual_s: float) -> float:
    nemesis = Nemesis(world)
    world.start_all()
    clients.start()
    await nemesis.run(virtual_s - PEACE_S)
    world.mend()
    mended_at, before = world.loop.now, clients.answered.copy()
    await world.until(
        lambda: all(clients.answered[n] > before[n] for n in range(CLIENTS)), "answering everybody again", RESUMED_S_MAX
    )
    resumed_s = world.loop.now - mended_at
    world.start_all()  # who met the last fault just as it was mended
    await asyncio.sleep(max(0.0, virtual_s - 1 - world.loop.now))
    await clients.finish()
    await world.until(world.converged, "converged", 5)
    _check_end(world, clients, virtual_s)
    return resumed_s


def _check_end(world: QuorumWorld, clients: Clients, virtual_s: float) -> None:
    for index in world.ledger.effects.values():  # what had an effect has it on every voter: their states are equal
        if world.ledger.committed_last < index:
            world.ledger.breaks(f"entry {index} had an effect and is not committed")
    if sum(clients.answered.values()) < ANSWERED_PER_S_MIN * virtual_s or not +world.effects:
        raise InvalidRun(f"{sum(clients.answered.values())} answers, faults {dict(world.effects)}")
