"""Scenes of a consumer group's coordinator."""

from .nemesis import Nemesis, both


async def coordinator(nemesis: Nemesis) -> bool:
    """The coordinator of the group dies, stops for a while, or is cut off from the others, though not from its
    members; often twice."""
    done = False
    for _ in range(nemesis.chance.choice((1, 2, 2))):
        host = await nemesis.arena.coordinator()
        if host is None:
            return done
        nemesis.aim(host)
        match nemesis.chance.choice(("kill", "kill", "pause", "cut", "cut", "stop")):
            case "kill":
                done |= await nemesis.arena.kill(host)
                await nemesis.wait(0, 4)
                await nemesis.start(host)
            case "pause":
                done |= await nemesis.arena.pause(host)
                await nemesis.wait(0.2, 8)
                await nemesis.arena.resume(host)
            case "cut":
                await nemesis.isolate(host)
                await nemesis.wait(0.5, 8)
                done |= await nemesis.arena.heal() > 0
            case _:
                done |= await nemesis.arena.stop(host)
                await nemesis.start(host)
        await nemesis.wait(0, 2)
    return done


async def lone_coordinator(nemesis: Nemesis) -> bool:
    """The coordinator of the group is cut off from its members, and then from the other nodes: another takes its
    place, and only those who ask seldom still come to it."""
    host = await nemesis.arena.coordinator()
    if host is None:
        return False
    await nemesis.cut({pair for member in nemesis.arena.members() for pair in both(nemesis.aim(host), member)})
    await nemesis.wait(0.2, 1.5)  # what it was asked to write is written
    await nemesis.isolate(host)
    await nemesis.wait(3, 9)
    return await nemesis.arena.heal() > 0


async def slow_load(nemesis: Nemesis) -> bool:
    """The coordinator dies, and the next takes long to read what it has written."""
    host = await nemesis.arena.coordinator()
    if host is None:
        return False
    for other in nemesis.arena.hosts:
        if other != host:
            await nemesis.arena.slow_disk(other, 1.0)
    done = await nemesis.arena.kill(nemesis.aim(host))
    await nemesis.wait(1, 5)
    await nemesis.arena.heal()
    await nemesis.start(host)
    return done
