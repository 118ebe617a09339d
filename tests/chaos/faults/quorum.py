"""Scenes of the quorum: who leads it, and which majority decides."""

import itertools
from collections.abc import Awaitable, Callable

from .nemesis import Nemesis, between

Step = Callable[[Nemesis, list[str]], Awaitable[None]]


async def depose(nemesis: Nemesis) -> bool:
    """The quorum's leader is cut off from all but its clients, time and again: for a moment two believe to lead."""
    stopped = 0
    for _ in range(nemesis.chance.randrange(2, 5)):
        leader = nemesis.aim((await nemesis.arena.quorum_leader()) or await nemesis.anybody())
        await nemesis.isolate(leader)
        await nemesis.wait(0.8, 2)
        stopped += await nemesis.arena.heal()
        await nemesis.wait(0.5, 2)
    return stopped > 0


async def slow_election(nemesis: Nemesis) -> bool:
    """The quorum's leader dies while every message between nodes is slow, and voters die and come back as they are
    asked: candidates overlap."""
    leader = nemesis.aim((await nemesis.arena.quorum_leader()) or await nemesis.anybody())
    others = [host for host in nemesis.some_order() if host != leader]
    seconds = nemesis.chance.choice((0.2, 0.5, 1.0))
    for first, second in itertools.permutations(others, 2):
        await nemesis.arena.slow_link(first, second, seconds)
    done = await nemesis.arena.kill(leader)
    for host in others[: nemesis.chance.randrange(0, 4)]:
        await nemesis.wait(0.2, 1)
        await nemesis.arena.kill(nemesis.aim(host))
        await nemesis.start(host)
    await nemesis.wait(1, 3)
    await nemesis.arena.heal()
    await nemesis.start(leader)
    return done


async def swap(nemesis: Nemesis) -> bool:
    """One majority decides, another goes on, and what they have in common is one host that lost its power."""
    leader = await nemesis.arena.quorum_leader()
    common = nemesis.aim(leader if leader is not None and nemesis.chance.random() < 0.5 else await nemesis.anybody())
    others = [host for host in nemesis.some_order() if host != common]
    first, second = others[: len(others) // 2], others[len(others) // 2 :]
    if nemesis.chance.random() < 0.6:
        await nemesis.arena.slow_disk(common, nemesis.chance.choice((0.5, 2.0)))
    await nemesis.cut(between(second, (common, *first)))
    await nemesis.wait(0.1, 4)
    done = await nemesis.lose_power(common)
    for host in first:
        await nemesis.arena.kill(nemesis.aim(host))
    await nemesis.arena.heal()
    await nemesis.start(common)
    await nemesis.wait(0.5, 5)
    return done


async def part_kill(nemesis: Nemesis) -> bool:
    """A minority is cut off, the bridge loses its power, and the sides are exchanged (Jepsen on NATS)."""
    return await _exchange(nemesis, _freeze_by_cut, _heal)


async def pause_kill(nemesis: Nemesis) -> bool:
    """The same with a minority that is stopped."""
    return await _exchange(nemesis, _freeze_by_stop, _thaw)


async def _exchange(nemesis: Nemesis, freeze: Step, thaw: Step) -> bool:
    hosts = nemesis.some_order()
    bridge, rest = hosts[0], hosts[1:]
    half = max(1, len(rest) // 2)
    await freeze(nemesis, rest[:half])
    await nemesis.wait(2, 8)
    done = await nemesis.lose_power(nemesis.aim(bridge))
    await thaw(nemesis, rest[:half])
    await freeze(nemesis, rest[half:])
    await nemesis.start(bridge)
    await nemesis.wait(2, 8)
    await thaw(nemesis, rest[half:])
    return done


async def _freeze_by_cut(nemesis: Nemesis, hosts: list[str]) -> None:
    others = [host for host in nemesis.arena.hosts if host not in hosts]
    await nemesis.cut(between(hosts, others))


async def _heal(nemesis: Nemesis, hosts: list[str]) -> None:
    await nemesis.arena.heal()


async def _freeze_by_stop(nemesis: Nemesis, hosts: list[str]) -> None:
    for host in hosts:
        await nemesis.arena.pause(nemesis.aim(host))


async def _thaw(nemesis: Nemesis, hosts: list[str]) -> None:
    for host in hosts:
        await nemesis.arena.resume(host)
