"""Those who write, watch and read in groups, cut off from the nodes."""

from ..arena import CLIENTS
from .nemesis import Nemesis


async def client_cut(nemesis: Nemesis) -> bool:
    """All that writes and watches is cut off."""
    return await _cut_off(nemesis, [CLIENTS])


async def member_cut(nemesis: Nemesis) -> bool:
    """Some members of the group are cut off, often for longer than their session, often twice."""
    done = False
    for _ in range(nemesis.chance.choice((1, 1, 2))):
        members = nemesis.arena.members()
        done |= await _cut_off(
            nemesis, nemesis.chance.sample(members, min(len(members), nemesis.chance.choice((1, 1, 2, 3))))
        )
        await nemesis.wait(0, 2)
    return done


async def _cut_off(nemesis: Nemesis, guests: list[str]) -> bool:
    """From all nodes, from the coordinator, or from another one; both ways or one. Meanwhile it may die."""
    if not guests:
        return False
    dice, coordinator = nemesis.chance.random(), await nemesis.arena.coordinator()
    some = coordinator if dice < 0.8 and coordinator is not None else nemesis.chance.choice(nemesis.arena.hosts)
    nodes = nemesis.arena.hosts if dice < 0.5 else [some]
    out, back = nemesis.chance.choice(((True, True), (True, True), (True, False), (False, True)))
    pairs = {pair for guest in guests for node in nodes for pair in ((guest, node), (node, guest))}
    await nemesis.cut({pair for pair in pairs if (out if pair[0] in guests else back)})
    await nemesis.wait(*nemesis.chance.choice(((0.2, 3), (3, 8), (6.5, 14))))
    if nemesis.chance.random() < 0.2:
        await nemesis.arena.kill(nemesis.aim(some))
        await nemesis.wait(0, 4)
    stopped = await nemesis.arena.heal()
    await nemesis.start(some)
    return stopped > 0
