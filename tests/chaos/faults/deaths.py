"""Processes that die or stop, one or all, with what their disks had not synced or without."""

from .nemesis import Nemesis


async def kill(nemesis: Nemesis) -> bool:
    """One dies."""
    done = await nemesis.arena.kill(nemesis.aim(await nemesis.anybody()))
    await nemesis.wait(0, 3)
    return done


async def kill_all(nemesis: Nemesis) -> bool:
    """All die, one after the other."""
    done = False
    for host in nemesis.some_order():
        done |= await nemesis.arena.kill(nemesis.aim(host))
        await nemesis.wait(0, 0.05)
    await nemesis.wait(0, 2)
    return done


async def power(nemesis: Nemesis) -> bool:
    """One loses its power."""
    host = nemesis.aim(await nemesis.anybody())
    done = await nemesis.lose_power(host)
    await nemesis.wait(0, 3)
    await nemesis.start(host)
    return done


async def power_all(nemesis: Nemesis) -> bool:
    """All at once; they come back in some order, some of them only to lose it again."""
    done = False
    for _ in range(nemesis.chance.choice((1, 1, 2))):
        for host in nemesis.some_order():
            done |= await nemesis.lose_power(nemesis.aim(host))
        await nemesis.wait(0, 2)
        for host in nemesis.some_order():
            await nemesis.start(host)
            await nemesis.wait(0, 1)
    return done


async def pause(nemesis: Nemesis) -> bool:
    """One stops for a while."""
    host = nemesis.aim(await nemesis.anybody())
    done = await nemesis.arena.pause(host)
    await nemesis.wait(0.2, 6)
    await nemesis.arena.resume(host)
    return done
