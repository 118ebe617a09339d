"""Scenes of a partition's replicas: who leaves the ISR, who returns, and who is left at the end."""

from ..arena import Place
from .deaths import kill, power
from .nemesis import Nemesis, both
from .network import partition


async def kill_while_cut(nemesis: Nemesis) -> bool:
    """A follower is cut off until it leaves the ISR; the leader dies as it returns."""
    place = await nemesis.arena.some_place(nemesis.chance)
    if place is None or place.leader is None:
        return await kill(nemesis)
    leader = nemesis.aim(place.leader)
    followers = [host for host in place.replicas if host != leader] or [await nemesis.anybody()]
    await nemesis.cut(both(nemesis.aim(nemesis.chance.choice(followers)), leader))
    await nemesis.wait(0.1, 7)
    await nemesis.arena.heal()
    await nemesis.wait(0, 1)
    done = await nemesis.end(leader)
    await nemesis.wait(0, 4)
    return done


async def last_one(nemesis: Nemesis) -> bool:
    """Last replica standing (KIP-966): followers are cut off one by one, the leader loses its power, all heals."""
    place = await nemesis.arena.some_place(nemesis.chance)
    if place is None or place.leader is None:
        return await partition(nemesis)
    leader = nemesis.aim(place.leader)
    for member in place.replicas:
        if member != leader:
            await nemesis.cut(both(member, leader))
            await nemesis.wait(0, 2)
    await nemesis.wait(3, 8)
    done = await nemesis.end(leader)
    await nemesis.wait(0, 1)
    await nemesis.arena.heal()
    await nemesis.wait(0, 4)
    return done


async def fall(nemesis: Nemesis) -> bool:
    """A partition's replicas fall one after the other, its leader last and by its power; they come back in some
    order, so that the wrong one may be the first."""
    place = await nemesis.arena.some_place(nemesis.chance)
    if place is None or place.leader is None:
        return await kill(nemesis)
    followers = [host for host in nemesis.some_order() if host in place.replicas and host != place.leader]
    if nemesis.chance.random() < 0.5:
        await nemesis.arena.slow_disk(place.leader, 2.0)
    for host in followers:
        await nemesis.arena.kill(nemesis.aim(host))
        await nemesis.wait(0.15, 0.9)
    done = await nemesis.lose_power(nemesis.aim(place.leader))
    await nemesis.wait(0, 0.5)
    for host in (place.leader, *followers) if nemesis.chance.random() < 0.5 else followers:
        await nemesis.start(host)
        await nemesis.wait(0.5, 3)
    await nemesis.start(place.leader)
    return done


async def stale_join(nemesis: Nemesis) -> bool:
    """A follower returns to the ISR, and is struck while the leader's request for that, or the answer, is on its
    way: the quorum and the leader do not know the same."""
    controller = await nemesis.arena.quorum_leader()
    place = await _led_elsewhere(nemesis, controller)
    if place is None or place.leader is None or controller is None:
        return await power(nemesis)
    leader = nemesis.aim(place.leader)
    others = [host for host in nemesis.some_order() if host in place.replicas and host != leader]
    follower = nemesis.aim(next((host for host in others if host != controller), others[0]))
    await nemesis.cut(both(follower, leader))
    await nemesis.wait(5.5, 7)
    await nemesis.arena.heal()
    asks = nemesis.chance.random() < 0.5
    await nemesis.arena.slow_link(*((leader, controller) if asks else (controller, leader)), 3.0)
    await nemesis.wait(0.1, 1)
    if asks:
        done = await nemesis.lose_power(follower)
        await nemesis.cut(both(follower, leader))  # what it lost it cannot have again yet
        await nemesis.start(follower)
    else:
        done = await nemesis.arena.pause(follower)
    await nemesis.wait(1, 4)
    await nemesis.arena.resume(follower)
    return done


async def _led_elsewhere(nemesis: Nemesis, controller: str | None) -> Place | None:
    """A partition that is led, and not by the controller, if there is one."""
    for _ in range(8):
        place = await nemesis.arena.some_place(nemesis.chance)
        if place is not None and place.leader not in (None, controller) and len(place.replicas) > 1:
            return place
    return None
