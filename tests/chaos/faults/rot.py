"""Disks that forget, or say something else than what was written."""

from .nemesis import Nemesis, both


async def corrupt(nemesis: Nemesis) -> bool:
    """Bits of a stopped host's files turn over."""
    return await _spoil(nemesis, tear=False)


async def torn(nemesis: Nemesis) -> bool:
    """The ends of a stopped host's files are gone."""
    return await _spoil(nemesis, tear=True)


async def _spoil(nemesis: Nemesis, *, tear: bool) -> bool:
    host = nemesis.aim(await nemesis.anybody())
    if not await nemesis.wound(host):
        return False
    dice = nemesis.chance.random()
    if dice < 0.4:
        await nemesis.arena.stop(host)
    elif dice < 0.7 and not nemesis.durable:
        await nemesis.arena.lose_power(host)
    killed = nemesis.arena.is_up(host) and await nemesis.arena.kill(host)
    await nemesis.wait(0, 1)
    done = await nemesis.arena.spoil(host, nemesis.chance, tear=tear, tails=not killed)
    await nemesis.start(host)
    await nemesis.arena.nurse(host)
    return done


async def rot(nemesis: Nemesis) -> bool:
    """Bits of what a node serves turn over: often of what a follower has not read yet."""
    place = await nemesis.arena.some_place(nemesis.chance)
    host = nemesis.aim(place.leader if place is not None and place.leader is not None else await nemesis.anybody())
    if not await nemesis.wound(host):
        return False
    if nemesis.chance.random() < 0.7:
        await nemesis.cut({pair for other in nemesis.two() if other != host for pair in both(host, other)})
        await nemesis.wait(0.2, 2)
    done = await nemesis.arena.rot(host, nemesis.chance)
    await nemesis.arena.heal()
    await nemesis.wait(0, 2)
    await nemesis.arena.nurse(host)
    return done
