"""Nodes that die in the middle of the product's own steps."""

import asyncio

from .nemesis import Nemesis


async def failpoint(nemesis: Nemesis) -> bool:
    """A node dies in the middle of one of the product's own steps."""
    host = nemesis.aim(await nemesis.anybody())
    # Mostly a place that this run has come by; the others are waited for in vain, or are about to come for once.
    known = sorted(nemesis.arena.passed) if nemesis.chance.random() < 0.8 else []
    place = nemesis.chance.choice(known or nemesis.failpoints)
    power = nemesis.chance.random() < 0.3 and (nemesis.durable or nemesis.wounded in (None, host))
    if power and not nemesis.durable:
        nemesis.wounded = host
    within_s = nemesis.chance.uniform(1, 6)
    done = nemesis.arena.is_up(host) and await nemesis.arena.kill_at(host, place, power=power, within_s=within_s)
    await nemesis.wait(0, 2)
    await nemesis.start(host)
    return done


async def die_at(nemesis: Nemesis, place: str) -> bool:
    """Whoever is likely to come there, dies there: as it serves, starts, stops, or comes back to the others."""
    likely = [await nemesis.arena.quorum_leader(), await nemesis.anybody()]
    some = await nemesis.arena.some_place(nemesis.chance)
    likely.append(some.leader if some is not None else None)
    host = nemesis.aim(nemesis.chance.choice([name for name in likely if name is not None]))
    if place.startswith("log.quarantine") and not await nemesis.wound(host):
        return False
    waiting = asyncio.ensure_future(nemesis.arena.kill_at(host, place, power=False, within_s=8))
    await nemesis.wait(0, 1)
    await _bring_to(nemesis, place, host)
    done = await waiting
    await nemesis.arena.heal()
    await nemesis.wait(0, 1)
    await nemesis.start(host)
    return done


async def _bring_to(nemesis: Nemesis, place: str, host: str) -> None:
    dice = nemesis.chance.random()
    if place.startswith("log.quarantine"):
        await nemesis.arena.stop(host)
        await nemesis.arena.spoil(host, nemesis.chance, tear=True, tails=True, only_logs=True)
    elif dice < 0.25:
        await nemesis.arena.kill(host)
    elif dice < 0.5:
        await nemesis.arena.stop(host)
    elif dice < 0.75:
        await nemesis.isolate(host)
        await nemesis.wait(1, 5)  # long enough for another to lead meanwhile, or not
        await nemesis.arena.heal()
    else:  # another goes and comes back, which leaders have to deal with
        another = nemesis.chance.choice([other for other in nemesis.arena.hosts if other != host])
        await nemesis.arena.kill(nemesis.aim(another))
        await nemesis.wait(0.2, 0.5)
        await nemesis.start(another)
    await nemesis.start(host)
