"""One random history of a small cluster, from one seed."""

import itertools
import logging
from collections.abc import Callable
from typing import NamedTuple

from ottla.raft.compaction import CompactionSettings
from ottla.raft.engine import SafeSyncObj

from .cluster import Boom, PowerCut, World

EAGER = CompactionSettings(entries=20, kept=6)
"""Snapshots so often that whoever was away needs one."""


class Lived(NamedTuple):
    """How many commands were acknowledged, snapshots taken, and snapshots of a leader installed."""

    acked: int
    snapshots: int
    installs: int


def live_through(
    seed: int,
    *,
    core: type[SafeSyncObj] = SafeSyncObj,
    steps: int = 700,
    power: bool = True,
    crashes: bool = True,
    compaction: CompactionSettings | None = None,
) -> Lived:
    """Delays, broken links, kills, power cuts and slow disks, then peace. With ``compaction``, the power also goes in
    the middle of what the disk is asked for. Raises Boom (or the engine's own alarm) where a promise was broken."""
    logging.disable(logging.CRITICAL)
    try:
        size = 3 if seed % 2 else 5
        if compaction is None:
            world = World(seed, size, core=core)
        else:
            world = World(seed, size, core=core, compaction=compaction, segment_bytes=1000)
        commands = itertools.count()
        try:
            for _ in range(steps):
                _one_step(world, commands, power, crashes)
        except SystemExit as divergence:
            raise Boom(str(divergence)) from None
        _make_peace(world)
        return Lived(len(world.acked), world.snapshots, world.installs)
    finally:
        logging.disable(logging.NOTSET)


def _surviving(world: World, node_id: int, step: Callable[[], object]) -> bool:
    """Do it; if the power goes in the middle, the node is gone. Whether it is still there."""
    try:
        step()
    except PowerCut:
        world.crash(node_id, power=True)
        return False
    return True


def _start(world: World, node_id: int) -> None:
    try:
        world.start(node_id)
    except PowerCut:
        world.disks[node_id] = world.disks[node_id].crash(world.random.randrange(1 << 30))


def _live(world: World, node_id: int) -> None:
    voter, chance = world.voters[node_id], world.random
    if chance.random() < 0.4:
        voter.finish_sync()
    if chance.random() < 0.3:
        voter.install_snapshot()
    if chance.random() < 0.8:
        voter.tick()
    if chance.random() < 0.8:
        voter.begin_sync()
    if world.compaction is not None:
        if chance.random() < 0.2:
            voter.write_snapshot()
        if chance.random() < 0.5:
            voter.fetch_snapshot(chance.choice((100, 1000, 10_000)))


def _one_step(world: World, commands: "itertools.count[int]", power: bool, crashes: bool) -> None:
    chance = world.random
    world.now += chance.choice((0.002, 0.005, 0.01, 0.03, 0.06))
    for i in chance.sample(world.ids, len(world.ids)):
        if i in world.voters:
            _surviving(world, i, lambda i=i: _live(world, i))
    for link in sorted(world.up):
        if chance.random() < 0.7 and link in world.up:
            _surviving(world, link[1], lambda link=link: world.deliver(link, chance.choice((1, 1, 2, 5, None))))
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
                _start(world, i)
                for j in world.voters:
                    if i in world.voters:
                        world.link(i, j, True)
                break
    elif dice < 0.18 and crashes and power and world.compaction is not None:
        world.disks[a].cut_power_at(chance.randrange(1, 12))


def _make_peace(world: World) -> None:
    for i in world.ids:
        world.disks[i].cut_power_at(None)
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
