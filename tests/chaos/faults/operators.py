"""What operators do, in a bad moment: stop nodes, move partitions, drain."""

from .nemesis import Nemesis


async def rolling(nemesis: Nemesis) -> bool:
    """Every node in turn is told to stop, and started again."""
    done = False
    for host in nemesis.some_order()[: nemesis.chance.choice((1, len(nemesis.arena.hosts)))]:
        nemesis.aim(host)
        done |= await nemesis.arena.stop(host)
        await nemesis.start(host)
        await nemesis.wait(0, 3)
    return done


async def transfer(nemesis: Nemesis) -> bool:
    """The quorum's leader is told to stop."""
    leader = await nemesis.arena.quorum_leader()
    if leader is None:
        return False
    done = await nemesis.arena.stop(nemesis.aim(leader))
    await nemesis.start(leader)
    return done


async def member(nemesis: Nemesis) -> bool:
    """An operator moves partitions, elects leaders, drains and decommissions, while nodes are struck in between."""
    done, nemesis.drained = False, True
    for _ in range(nemesis.chance.randrange(1, 5)):
        done |= await nemesis.arena.administer(nemesis.chance)
        await nemesis.wait(0, 1.5)
        if nemesis.chance.random() < 0.2:
            await nemesis.end(nemesis.aim(await nemesis.anybody()))
            await nemesis.wait(0, 2)
    return done
