"""One random history of a small cluster, from one seed."""

import itertools
import logging

from ottla.raft.engine import SafeSyncObj

from .cluster import Boom, World


def live_through(
    seed: int, *, core: type[SafeSyncObj] = SafeSyncObj, steps: int = 700, power: bool = True, crashes: bool = True
) -> int:
    """Delays, broken links, kills, power cuts and slow disks, then peace. Returns how many commands were
    acknowledged; raises Boom (or the engine's own alarm) where a promise was broken."""
    logging.disable(logging.CRITICAL)
    try:
        world = World(seed, 3 if seed % 2 else 5, core=core)
        commands = itertools.count()
        try:
            for _ in range(steps):
                _one_step(world, commands, power, crashes)
        except SystemExit as divergence:
            raise Boom(str(divergence)) from None
        _make_peace(world)
        return len(world.acked)
    finally:
        logging.disable(logging.NOTSET)


def _one_step(world: World, commands: "itertools.count[int]", power: bool, crashes: bool) -> None:
    chance = world.random
    world.now += chance.choice((0.002, 0.005, 0.01, 0.03, 0.06))
    for i in chance.sample(world.ids, len(world.ids)):
        if i in world.voters:
            voter = world.voters[i]
            if chance.random() < 0.4:
                voter.finish_sync()
            if chance.random() < 0.8:
                voter.tick()
            if chance.random() < 0.8:
                voter.begin_sync()
    for link in sorted(world.up):
        if chance.random() < 0.7:
            world.deliver(link, chance.choice((1, 1, 2, 5, None)))
    if chance.random() < 0.4:
        for voter in world.voters.values():
            if voter.core.is_leader:
                for _ in range(chance.choice((1, 1, 3, 12))):
                    voter.propose(b"%d" % next(commands) + b"z" * 100)
    _one_fault(world, power, crashes)


def _one_fault(world: World, power: bool, crashes: bool) -> None:
    chance = world.random
    dice = chance.random()
    a, b = chance.sample(world.ids, 2)
    if dice < 0.03:
        world.link(a, b, False)
    elif dice < 0.09:
        if a in world.voters and b in world.voters:
            world.link(a, b, True)
    elif dice < 0.11 and crashes:
        if a in world.voters:
            world.crash(a, power=power and chance.random() < 0.7)
    elif dice < 0.115 and crashes and power:
        for i in list(world.voters):  # the whole room goes dark
            world.crash(i, power=True)
    elif dice < 0.16:
        for i in world.ids:
            if i not in world.voters:
                world.start(i)
                for j in world.voters:
                    world.link(i, j, True)
                break


def _make_peace(world: World) -> None:
    for i in world.ids:
        if i not in world.voters:
            world.start(i)
    world.mesh()
    failure: Boom | None = None
    for _ in range(6):
        try:
            world.run(4, 0.03)
            if world.leader() is None:
                raise Boom("nobody leads")
            world.check_converged()
            return
        except SystemExit as divergence:
            raise Boom(str(divergence)) from None
        except Boom as boom:
            failure = boom
    assert failure is not None
    raise failure
