"""Scenes of a partition's leader that goes on, or comes back, with what others have left behind."""

from .nemesis import Nemesis, between
from .network import partition


async def lagging_leader(nemesis: Nemesis) -> bool:
    """A partition's leader loses a follower's fetches first and the quorum next, then comes back."""
    place = await nemesis.arena.some_place(nemesis.chance)
    if place is None or place.leader is None:
        return await partition(nemesis)
    leader = nemesis.aim(place.leader)
    followers = [host for host in nemesis.some_order() if host != leader]
    await nemesis.cut({(followers[0], leader)})
    await nemesis.wait(0.1, 7)
    await nemesis.cut(between([leader], followers))
    await nemesis.wait(0.1, 7)
    done = False
    if nemesis.chance.random() < 0.5:
        done = await nemesis.arena.kill(nemesis.aim(followers[0]))
        await nemesis.wait(0, 1)
    return await nemesis.arena.heal() > 0 or done


async def comeback(nemesis: Nemesis) -> bool:
    """A partition's leader is deposed with writes that only it has, comes back, and leads again as the next one
    falls, while whoever sent those writes still waits."""
    place = await nemesis.arena.some_place(nemesis.chance)
    if place is None or place.leader is None or len(place.replicas) < 2:
        return await partition(nemesis)
    leader = nemesis.aim(place.leader)
    others = [host for host in place.replicas if host != leader]
    if len(nemesis.arena.hosts) >= 5:  # a majority is left without it: it misses all of this
        await nemesis.arena.pause(nemesis.aim(others[-1]))
    await nemesis.isolate(leader)
    await nemesis.wait(3.2, 4.5)
    await nemesis.arena.heal()
    await nemesis.wait(0.7, 3)
    done = await nemesis.arena.kill(nemesis.aim(others[0]))
    await nemesis.wait(0.5, 3)
    await nemesis.arena.resume(others[-1])
    return done


async def frozen_view(nemesis: Nemesis) -> bool:
    """A partition's leader is deposed while it is stopped, then wakes with the view it had."""
    place = await nemesis.arena.some_place(nemesis.chance)
    host = nemesis.aim(place.leader if place is not None and place.leader is not None else await nemesis.anybody())
    done = await nemesis.arena.pause(host)
    await nemesis.wait(3.2, 7)
    if nemesis.chance.random() < 0.5:
        await nemesis.isolate(host)
    await nemesis.arena.resume(host)
    await nemesis.wait(0.5, 5)
    return done
