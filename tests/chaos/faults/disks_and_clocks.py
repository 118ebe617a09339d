"""Disks that are slow, full or fail to sync, and clocks that jump."""

from .nemesis import Nemesis


async def slow_disk(nemesis: Nemesis) -> bool:
    """One disk is slow."""
    await nemesis.arena.slow_disk(nemesis.aim(await nemesis.anybody()), nemesis.chance.choice((0.1, 0.5, 2.0)))
    await nemesis.wait(0.5, 6)
    await nemesis.arena.heal()
    return True


async def sync_fails(nemesis: Nemesis) -> bool:
    """As dangerous to what is not synced as a power cut, so it counts as one."""
    host = nemesis.aim(await nemesis.anybody())
    if await nemesis.another_is_wounded(host) and not nemesis.durable:
        return False
    nemesis.wounded = host
    done = await nemesis.arena.fail_sync(host)
    await nemesis.start(host)
    await nemesis.wait(0, 2)
    return done


async def disk_full(nemesis: Nemesis) -> bool:
    """One disk is full."""
    done = await nemesis.arena.fill_disk(nemesis.aim(await nemesis.anybody()))
    await nemesis.wait(1, 5)
    await nemesis.arena.heal()
    return done


async def clock(nemesis: Nemesis) -> bool:
    """One clock jumps, or strobes."""
    host = nemesis.aim(await nemesis.anybody())
    await nemesis.arena.skew(host, nemesis.chance.uniform(-300, 300))
    if nemesis.chance.random() < 0.3:  # strobe
        for _ in range(10):
            await nemesis.wait(0, 0.3)
            await nemesis.arena.skew(host, nemesis.chance.uniform(-300, 300))
    return True
