"""Messages that are cut, broken off, late or lost between nodes."""

from .nemesis import Nemesis, between, both


async def partition(nemesis: Nemesis) -> bool:
    """Some hosts against the others: one, a minority, or half."""
    hosts = nemesis.some_order()
    first = await nemesis.anybody()
    hosts.remove(first)
    side = {first, *hosts[: nemesis.chance.randrange(0, (len(hosts) + 1) // 2)]}
    await nemesis.cut(between(side, [host for host in nemesis.arena.hosts if host not in side]))
    await nemesis.wait(0.5, 5)
    return False


async def one_way(nemesis: Nemesis) -> bool:
    """One is not heard by others, or does not hear them."""
    first = await nemesis.anybody()
    others = [host for host in nemesis.some_order() if host != first]
    others = others[: nemesis.chance.choice((1, len(others)))]
    outward = nemesis.chance.random() < 0.5
    await nemesis.cut({(first, other) if outward else (other, first) for other in others})
    await nemesis.wait(0.5, 5)
    return False


async def ring(nemesis: Nemesis) -> bool:
    """Each sees a majority, and no two the same."""
    hosts = nemesis.some_order()
    reach = len(hosts) // 2
    seen = {
        frozenset((hosts[i], hosts[(i + step) % len(hosts)]))
        for i in range(len(hosts))
        for step in range(1, max(1, reach // 2) + 1)
    }
    cut = {pair for a in hosts for b in hosts if a < b and frozenset((a, b)) not in seen for pair in both(a, b)}
    await nemesis.cut(cut or both(hosts[0], hosts[1]))
    await nemesis.wait(0.5, 5)
    return False


async def bridge(nemesis: Nemesis) -> bool:
    """Two halves, and one host that sees both."""
    hosts = nemesis.some_order()
    middle, rest = hosts[0], hosts[1:]
    nemesis.aim(middle)
    half = len(rest) // 2
    await nemesis.cut(between(rest[:half], rest[half:]))
    await nemesis.wait(0.5, 5)
    return False


async def storm(nemesis: Nemesis) -> bool:
    """One-way cuts come and go everywhere."""
    stopped = 0
    for _ in range(nemesis.chance.randrange(3, 8)):
        await nemesis.cut({nemesis.two() for _ in range(nemesis.chance.randrange(1, 4))})
        await nemesis.wait(0.1, 3)
        stopped += await nemesis.arena.heal()
        await nemesis.wait(0, 0.3)
    return stopped > 0


async def reset(nemesis: Nemesis) -> bool:
    """Connections break."""
    done = False
    for _ in range(nemesis.chance.randrange(1, 4)):
        done |= await nemesis.arena.reset(*nemesis.two())
        await nemesis.wait(0, 0.5)
    return done


async def delay(nemesis: Nemesis) -> bool:
    """What two say to each other, one way, is late."""
    first, second = nemesis.two()
    await nemesis.arena.slow_link(first, second, nemesis.chance.choice((0.05, 0.5, 2.0)))
    await nemesis.wait(0.5, 5)
    await nemesis.arena.heal()
    return True


async def reconnect_reorder(nemesis: Nemesis) -> bool:
    """What a broken connection still carries comes after what the next one brings."""
    first, second = nemesis.two()
    await nemesis.arena.slow_link(first, second, 1.0)
    await nemesis.wait(0.1, 1)
    done = await nemesis.arena.reset(first, second)
    await nemesis.wait(0.5, 3)
    await nemesis.arena.heal()
    return done


async def loss(nemesis: Nemesis) -> bool:
    """Some of all packets are lost."""
    await nemesis.arena.lose_packets(nemesis.chance.choice((0.02, 0.1, 0.3)))
    await nemesis.wait(1, 6)
    await nemesis.arena.heal()
    return True
