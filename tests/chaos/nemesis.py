"""Faults on a schedule that one seed decides: what, when, how long, and whether it is mended before the next.

A schedule is data, so that it can be written down, replayed and made smaller. Periods of 20 s have a random few of the
kinds each, and one in four has none, so that the cluster recovers. Aims are taken when an act begins: one host, the
controller, a partition's leader, a minority, all. At most one host at a time loses what its disk had not synced, and
the next only once everything is whole: more nobody promised to survive with the page cache's flush policy.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection
from random import Random

import msgspec

from .arena import CLIENTS, Arena, Pair, Place
from .history import Fault

PERIOD_S = 20.0
QUIET_CHANCE = 0.25
PAUSE_S = (0.2, 2.0)
"""Between two acts."""
MEND_CHANCE = 0.75
LATE_S_MAX = 2.0
WHOLE_LOOKS_MAX = 30
AT = "@"
"""In a kind, before a failpoint's place: ``failpoint@log.append.before``."""

Report = Callable[[Fault], None]


class Act(msgspec.Struct, frozen=True):
    """One fault: at ``at_s`` after the start, or as soon as the one before it is over."""

    at_s: float
    kind: str
    seed: int
    mend: bool


def plan(seed: int, seconds: float, kinds: Collection[str]) -> list[Act]:
    """The schedule of a seed: acts in order, none after ``seconds``."""
    chance, names = Random(f"plan {seed}"), sorted(kinds)
    acts: list[Act] = []
    at_s, period_ends_s, chosen = chance.uniform(0, 2), 0.0, []
    while at_s < seconds and names:
        if at_s >= period_ends_s:
            period_ends_s = at_s + PERIOD_S
            quiet = chance.random() < QUIET_CHANCE and bool(acts)
            chosen = [] if quiet else chance.sample(names, min(len(names), chance.choice((1, 2, 3, 5))))
        if not chosen:
            at_s = period_ends_s
            continue
        kind, detail, mend = chance.choice(chosen), chance.randrange(1 << 30), chance.random() < MEND_CHANCE
        acts.append(Act(round(at_s, 3), kind, detail, mend))
        at_s += chance.uniform(*PAUSE_S)
    return acts


class Nemesis:
    """Plays a schedule in an arena; ``report`` is told of the beginning and end of each act."""

    def __init__(self, arena: Arena, failpoints: Collection[str], report: Report, *, durable: bool = False) -> None:
        """``durable``: what the workload was acknowledged is on the platters, so that any power may go at any time."""
        self._arena = arena
        self._failpoints = sorted(failpoints)
        self._report = report
        self._durable = durable
        self._wounded: str | None = None  # its disk has lost something and may not have it back yet
        self._chance = Random(0)  # of the present act
        self._targets: tuple[str, ...] = ()
        self._cuts = False  # the present act cut something since the last healing
        self._drained = False  # some node may be
        self.played: list[Act] = []

    async def play(self, acts: Collection[Act], seconds: float, *, punctual: bool) -> None:
        """The acts whose turn comes within ``seconds``; then everything is mended.

        ``punctual``: an act whose time is past when its turn comes is left out. Acts take longer than the schedule
        allows for, so that otherwise the kinds of the first few seconds would be all that a run ever sees.
        """
        began_s = self._arena.now_s()
        for act in acts:
            elapsed_s = self._arena.now_s() - began_s
            if elapsed_s > seconds:
                break
            if punctual and elapsed_s > act.at_s + LATE_S_MAX:
                continue
            await asyncio.sleep(max(0.0, began_s + act.at_s - self._arena.now_s()))
            self.played.append(act)
            await self._perform(act)
        await self.mend()

    async def _perform(self, act: Act) -> None:
        self._chance, self._targets, self._cuts = Random(act.seed), (), False
        begin_s = self._arena.now_s()
        started = Fault(int(begin_s * 1e9), act.kind, "start", [], False, f"seed {act.seed}")
        self._report(started)
        effective = bool(await self._play_kind(act.kind))
        if self._cuts:
            effective = await self._arena.heal() > 0 or effective
        started.effective, started.targets = effective, list(self._targets)
        self._report(Fault(int(self._arena.now_s() * 1e9), act.kind, "end", started.targets, effective, started.detail))
        # Where no majority is left nothing happens any more, and a run in which nothing happens proves nothing.
        if act.mend or 2 * sum(map(self._arena.is_up, self._arena.hosts)) <= len(self._arena.hosts):
            await self.mend()

    async def _play_kind(self, kind: str) -> bool:
        name, _, place = kind.partition(AT)
        return await self._die_at(place) if place else await ALL_KINDS[name](self)

    async def mend(self) -> None:
        """Undo every fault: heal, let stopped processes go on, start what is down."""
        await self._arena.heal()
        for host in self._arena.hosts:
            await self._arena.resume(host)
        for host in self._some_order():
            if not self._arena.is_up(host):
                await self._arena.start(host)
                await self._wait(0, 1)
        if self._drained:
            self._drained = not await self._arena.undrain()

    # --- faults of one act -------------------------------------------------------------------------------------------

    async def _kill(self) -> bool:
        done = await self._arena.kill(self._aim(await self._anybody()))
        await self._wait(0, 3)
        return done

    async def _coordinator(self) -> bool:
        """The coordinator of the group dies, stops for a while, or is cut off from the others, though not from its
        members; often twice."""
        done = False
        for _ in range(self._chance.choice((1, 2, 2))):
            host = await self._arena.coordinator()
            if host is None:
                return done
            self._aim(host)
            match self._chance.choice(("kill", "kill", "pause", "cut", "cut", "stop")):
                case "kill":
                    done |= await self._arena.kill(host)
                    await self._wait(0, 4)
                    await self._start(host)
                case "pause":
                    done |= await self._arena.pause(host)
                    await self._wait(0.2, 8)
                    await self._arena.resume(host)
                case "cut":
                    await self._cut(
                        {pair for other in self._arena.hosts if other != host for pair in _both(host, other)}
                    )
                    await self._wait(0.5, 8)
                    done |= await self._arena.heal() > 0
                case _:
                    done |= await self._arena.stop(host)
                    await self._start(host)
            await self._wait(0, 2)
        return done

    async def _client_cut(self) -> bool:
        """All that writes and watches is cut off."""
        return await self._cut_off([CLIENTS])

    async def _member_cut(self) -> bool:
        """Some members of the group are cut off, often for longer than their session, often twice."""
        done = False
        for _ in range(self._chance.choice((1, 1, 2))):
            members = self._arena.members()
            done |= await self._cut_off(
                self._chance.sample(members, min(len(members), self._chance.choice((1, 1, 2, 3))))
            )
            await self._wait(0, 2)
        return done

    async def _cut_off(self, guests: list[str]) -> bool:
        """From all nodes, from the coordinator, or from another one; both ways or one. Meanwhile it may die."""
        if not guests:
            return False
        dice, coordinator = self._chance.random(), await self._arena.coordinator()
        some = coordinator if dice < 0.8 and coordinator is not None else self._chance.choice(self._arena.hosts)
        nodes = self._arena.hosts if dice < 0.5 else [some]
        out, back = self._chance.choice(((True, True), (True, True), (True, False), (False, True)))
        pairs = {pair for guest in guests for node in nodes for pair in ((guest, node), (node, guest))}
        await self._cut({pair for pair in pairs if (out if pair[0] in guests else back)})
        await self._wait(*self._chance.choice(((0.2, 3), (3, 8), (6.5, 14))))
        if self._chance.random() < 0.2:
            await self._arena.kill(self._aim(some))
            await self._wait(0, 4)
        stopped = await self._arena.heal()
        await self._start(some)
        return stopped > 0

    async def _lone_coordinator(self) -> bool:
        """The coordinator of the group is cut off from its members, and then from the other nodes: another takes its
        place, and only those who ask seldom still come to it."""
        host = await self._arena.coordinator()
        if host is None:
            return False
        await self._cut({pair for member in self._arena.members() for pair in _both(self._aim(host), member)})
        await self._wait(0.2, 1.5)  # what it was asked to write is written
        await self._cut({pair for other in self._arena.hosts if other != host for pair in _both(host, other)})
        await self._wait(3, 9)
        return await self._arena.heal() > 0

    async def _slow_load(self) -> bool:
        """The coordinator dies, and the next takes long to read what it has written."""
        host = await self._arena.coordinator()
        if host is None:
            return False
        for other in self._arena.hosts:
            if other != host:
                await self._arena.slow_disk(other, 1.0)
        done = await self._arena.kill(self._aim(host))
        await self._wait(1, 5)
        await self._arena.heal()
        await self._start(host)
        return done

    async def _kill_all(self) -> bool:
        done = False
        for host in self._some_order():
            done |= await self._arena.kill(self._aim(host))
            await self._wait(0, 0.05)
        await self._wait(0, 2)
        return done

    async def _power(self) -> bool:
        host = self._aim(await self._anybody())
        done = await self._lose_power(host)
        await self._wait(0, 3)
        await self._start(host)
        return done

    async def _lose_power(self, host: str) -> bool:
        """Kill only, where another host's wound is still open."""
        if self._durable:
            return await self._arena.lose_power(host)
        if not await self._arena.survives_power(host):
            return await self._arena.kill(host)
        if self._wounded is not None and await self._arena.is_whole():
            self._wounded = None
        if self._wounded not in (None, host):
            return await self._arena.kill(host)
        self._wounded = host
        return await self._arena.lose_power(host)

    async def _power_all(self) -> bool:
        """All at once; they come back in some order, some of them only to lose it again."""
        done = False
        for _ in range(self._chance.choice((1, 1, 2))):
            for host in self._some_order():
                done |= await self._lose_power(self._aim(host))
            await self._wait(0, 2)
            for host in self._some_order():
                await self._start(host)
                await self._wait(0, 1)
        return done

    async def _end(self, host: str) -> bool:
        """One way or the other."""
        if self._chance.random() < 0.5:
            return await self._lose_power(host)
        return await self._arena.kill(host)

    async def _pause(self) -> bool:
        host = self._aim(await self._anybody())
        done = await self._arena.pause(host)
        await self._wait(0.2, 6)
        await self._arena.resume(host)
        return done

    async def _partition(self) -> bool:
        """Some hosts against the others: one, a minority, or half."""
        hosts = self._some_order()
        first = await self._anybody()
        hosts.remove(first)
        side = {first, *hosts[: self._chance.randrange(0, (len(hosts) + 1) // 2)]}
        await self._cut({pair for a in side for b in self._arena.hosts if b not in side for pair in _both(a, b)})
        await self._wait(0.5, 5)
        return False

    async def _one_way(self) -> bool:
        first = await self._anybody()
        others = [host for host in self._some_order() if host != first]
        others = others[: self._chance.choice((1, len(others)))]
        outward = self._chance.random() < 0.5
        await self._cut({(first, other) if outward else (other, first) for other in others})
        await self._wait(0.5, 5)
        return False

    async def _ring(self) -> bool:
        """Each sees a majority, and no two the same."""
        ring = self._some_order()
        reach = len(ring) // 2
        seen = {
            frozenset((ring[i], ring[(i + step) % len(ring)]))
            for i in range(len(ring))
            for step in range(1, max(1, reach // 2) + 1)
        }
        cut = {pair for a in ring for b in ring if a < b and frozenset((a, b)) not in seen for pair in _both(a, b)}
        await self._cut(cut or _both(ring[0], ring[1]))
        await self._wait(0.5, 5)
        return False

    async def _bridge(self) -> bool:
        """Two halves, and one host that sees both."""
        hosts = self._some_order()
        bridge, rest = hosts[0], hosts[1:]
        self._aim(bridge)
        half = len(rest) // 2
        await self._cut({pair for a in rest[:half] for b in rest[half:] for pair in _both(a, b)})
        await self._wait(0.5, 5)
        return False

    async def _storm(self) -> bool:
        """One-way cuts come and go everywhere."""
        stopped = 0
        for _ in range(self._chance.randrange(3, 8)):
            await self._cut({self._two() for _ in range(self._chance.randrange(1, 4))})
            await self._wait(0.1, 3)
            stopped += await self._arena.heal()
            await self._wait(0, 0.3)
        return stopped > 0

    async def _reset(self) -> bool:
        done = False
        for _ in range(self._chance.randrange(1, 4)):
            done |= await self._arena.reset(*self._two())
            await self._wait(0, 0.5)
        return done

    async def _delay(self) -> bool:
        first, second = self._two()
        await self._arena.slow_link(first, second, self._chance.choice((0.05, 0.5, 2.0)))
        await self._wait(0.5, 5)
        await self._arena.heal()
        return True

    async def _reconnect_reorder(self) -> bool:
        """What a broken connection still carries comes after what the next one brings."""
        first, second = self._two()
        await self._arena.slow_link(first, second, 1.0)
        await self._wait(0.1, 1)
        done = await self._arena.reset(first, second)
        await self._wait(0.5, 3)
        await self._arena.heal()
        return done

    async def _loss(self) -> bool:
        await self._arena.lose_packets(self._chance.choice((0.02, 0.1, 0.3)))
        await self._wait(1, 6)
        await self._arena.heal()
        return True

    async def _slow_disk(self) -> bool:
        await self._arena.slow_disk(self._aim(await self._anybody()), self._chance.choice((0.1, 0.5, 2.0)))
        await self._wait(0.5, 6)
        await self._arena.heal()
        return True

    async def _sync_fails(self) -> bool:
        """As dangerous to what is not synced as a power cut, so it counts as one."""
        host = self._aim(await self._anybody())
        if self._wounded is not None and await self._arena.is_whole():
            self._wounded = None
        if self._wounded not in (None, host) and not self._durable:
            return False
        self._wounded = host
        done = await self._arena.fail_sync(host)
        await self._start(host)
        await self._wait(0, 2)
        return done

    async def _disk_full(self) -> bool:
        done = await self._arena.fill_disk(self._aim(await self._anybody()))
        await self._wait(1, 5)
        await self._arena.heal()
        return done

    async def _clock(self) -> bool:
        host = self._aim(await self._anybody())
        await self._arena.skew(host, self._chance.uniform(-300, 300))
        if self._chance.random() < 0.3:  # strobe
            for _ in range(10):
                await self._wait(0, 0.3)
                await self._arena.skew(host, self._chance.uniform(-300, 300))
        return True

    async def _rolling(self) -> bool:
        """Every node in turn is told to stop, and started again."""
        done = False
        for host in self._some_order()[: self._chance.choice((1, len(self._arena.hosts)))]:
            self._aim(host)
            done |= await self._arena.stop(host)
            await self._start(host)
            await self._wait(0, 3)
        return done

    async def _transfer(self) -> bool:
        """The quorum's leader is told to stop."""
        leader = await self._arena.quorum_leader()
        if leader is None:
            return False
        done = await self._arena.stop(self._aim(leader))
        await self._start(leader)
        return done

    async def _die_at(self, place: str) -> bool:
        """Whoever is likely to come there, dies there: as it serves, starts, stops, or comes back to the others."""
        likely = [await self._arena.quorum_leader(), await self._anybody()]
        some = await self._arena.some_place(self._chance)
        likely.append(some.leader if some is not None else None)
        host = self._aim(self._chance.choice([name for name in likely if name is not None]))
        if place.startswith("log.quarantine") and not await self._wound(host):
            return False
        waiting = asyncio.ensure_future(self._arena.kill_at(host, place, power=False, within_s=8))
        await self._wait(0, 1)
        await self._bring_to(place, host)
        done = await waiting
        await self._arena.heal()
        await self._wait(0, 1)
        await self._start(host)
        return done

    async def _bring_to(self, place: str, host: str) -> None:
        dice = self._chance.random()
        if place.startswith("log.quarantine"):
            await self._arena.stop(host)
            await self._arena.spoil(host, self._chance, tear=True, tails=True, only_logs=True)
        elif dice < 0.25:
            await self._arena.kill(host)
        elif dice < 0.5:
            await self._arena.stop(host)
        elif dice < 0.75:
            others = [other for other in self._arena.hosts if other != host]
            await self._cut({pair for other in others for pair in _both(host, other)})
            await self._wait(1, 5)  # long enough for another to lead meanwhile, or not
            await self._arena.heal()
        else:  # another goes and comes back, which leaders have to deal with
            another = self._chance.choice([other for other in self._arena.hosts if other != host])
            await self._arena.kill(self._aim(another))
            await self._wait(0.2, 0.5)
            await self._start(another)
        await self._start(host)

    async def _failpoint(self) -> bool:
        """A node dies in the middle of one of the product's own steps."""
        host = self._aim(await self._anybody())
        # Mostly a place that this run has come by; the others are waited for in vain, or are about to come for once.
        known = sorted(self._arena.passed) if self._chance.random() < 0.8 else []
        place = self._chance.choice(known or self._failpoints)
        power = self._chance.random() < 0.3 and (self._durable or self._wounded in (None, host))
        if power and not self._durable:
            self._wounded = host
        within_s = self._chance.uniform(1, 6)
        done = self._arena.is_up(host) and await self._arena.kill_at(host, place, power=power, within_s=within_s)
        await self._wait(0, 2)
        await self._start(host)
        return done

    async def _member(self) -> bool:
        """An operator moves partitions, elects leaders, drains and decommissions, while nodes are struck in between."""
        done, self._drained = False, True
        for _ in range(self._chance.randrange(1, 5)):
            done |= await self._arena.administer(self._chance)
            await self._wait(0, 1.5)
            if self._chance.random() < 0.2:
                await self._end(self._aim(await self._anybody()))
                await self._wait(0, 2)
        return done

    # --- disks that rot ----------------------------------------------------------------------------------------------

    async def _corrupt(self) -> bool:
        """Bits of a stopped host's files turn over."""
        return await self._spoil(tear=False)

    async def _torn(self) -> bool:
        """The ends of a stopped host's files are gone."""
        return await self._spoil(tear=True)

    async def _spoil(self, *, tear: bool) -> bool:
        host = self._aim(await self._anybody())
        if not await self._wound(host):
            return False
        dice = self._chance.random()
        if dice < 0.4:
            await self._arena.stop(host)
        elif dice < 0.7 and not self._durable:
            await self._arena.lose_power(host)
        killed = self._arena.is_up(host) and await self._arena.kill(host)
        await self._wait(0, 1)
        done = await self._arena.spoil(host, self._chance, tear=tear, tails=not killed)
        await self._start(host)
        await self._arena.nurse(host)
        return done

    async def _rot(self) -> bool:
        """Bits of what a node serves turn over: often of what a follower has not read yet."""
        place = await self._arena.some_place(self._chance)
        host = self._aim(place.leader if place is not None and place.leader is not None else await self._anybody())
        if not await self._wound(host):
            return False
        if self._chance.random() < 0.7:
            await self._cut({pair for other in self._two() if other != host for pair in _both(host, other)})
            await self._wait(0.2, 2)
        done = await self._arena.rot(host, self._chance)
        await self._arena.heal()
        await self._wait(0, 2)
        await self._arena.nurse(host)
        return done

    async def _wound(self, host: str) -> bool:
        """Whether this host may lose what it has: everything is whole, if need be after some mending."""
        await self.mend()
        for _ in range(WHOLE_LOOKS_MAX):
            if await self._arena.is_whole():
                self._wounded = host
                return True
            await asyncio.sleep(0.5)
        return False

    # --- scenes ------------------------------------------------------------------------------------------------------

    async def _lagging_leader(self) -> bool:
        """A partition's leader loses a follower's fetches first and the quorum next, then comes back."""
        place = await self._arena.some_place(self._chance)
        if place is None or place.leader is None:
            return await self._partition()
        leader = self._aim(place.leader)
        followers = [host for host in self._some_order() if host != leader]
        await self._cut({(followers[0], leader)})
        await self._wait(0.1, 7)
        await self._cut({pair for other in followers for pair in _both(leader, other)})
        await self._wait(0.1, 7)
        done = False
        if self._chance.random() < 0.5:
            done = await self._arena.kill(self._aim(followers[0]))
            await self._wait(0, 1)
        return await self._arena.heal() > 0 or done

    async def _kill_while_cut(self) -> bool:
        """A follower is cut off until it leaves the ISR; the leader dies as it returns."""
        place = await self._arena.some_place(self._chance)
        if place is None or place.leader is None:
            return await self._kill()
        leader = self._aim(place.leader)
        followers = [host for host in place.replicas if host != leader] or [await self._anybody()]
        await self._cut(_both(self._aim(self._chance.choice(followers)), leader))
        await self._wait(0.1, 7)
        await self._arena.heal()
        await self._wait(0, 1)
        done = await self._end(leader)
        await self._wait(0, 4)
        return done

    async def _last_one(self) -> bool:
        """Last replica standing (KIP-966): followers are cut off one by one, the leader loses its power, all heals."""
        place = await self._arena.some_place(self._chance)
        if place is None or place.leader is None:
            return await self._partition()
        leader = self._aim(place.leader)
        for member in place.replicas:
            if member != leader:
                await self._cut(_both(member, leader))
                await self._wait(0, 2)
        await self._wait(3, 8)
        done = await self._end(leader)
        await self._wait(0, 1)
        await self._arena.heal()
        await self._wait(0, 4)
        return done

    async def _fall(self) -> bool:
        """A partition's replicas fall one after the other, its leader last and by its power; they come back in some
        order, so that the wrong one may be the first."""
        place = await self._arena.some_place(self._chance)
        if place is None or place.leader is None:
            return await self._kill()
        followers = [host for host in self._some_order() if host in place.replicas and host != place.leader]
        if self._chance.random() < 0.5:
            await self._arena.slow_disk(place.leader, 2.0)
        for host in followers:
            await self._arena.kill(self._aim(host))
            await self._wait(0.15, 0.9)
        done = await self._lose_power(self._aim(place.leader))
        await self._wait(0, 0.5)
        for host in (place.leader, *followers) if self._chance.random() < 0.5 else followers:
            await self._start(host)
            await self._wait(0.5, 3)
        await self._start(place.leader)
        return done

    async def _depose(self) -> bool:
        """The quorum's leader is cut off from all but its clients, time and again: for a moment two believe to lead."""
        stopped = 0
        for _ in range(self._chance.randrange(2, 5)):
            leader = self._aim((await self._arena.quorum_leader()) or await self._anybody())
            await self._cut({pair for other in self._arena.hosts if other != leader for pair in _both(leader, other)})
            await self._wait(0.8, 2)
            stopped += await self._arena.heal()
            await self._wait(0.5, 2)
        return stopped > 0

    async def _slow_election(self) -> bool:
        """The quorum's leader dies while every message between nodes is slow, and voters die and come back as they are
        asked: candidates overlap."""
        leader = self._aim((await self._arena.quorum_leader()) or await self._anybody())
        others = [host for host in self._some_order() if host != leader]
        seconds = self._chance.choice((0.2, 0.5, 1.0))
        for first, second in itertools.permutations(others, 2):
            await self._arena.slow_link(first, second, seconds)
        done = await self._arena.kill(leader)
        for host in others[: self._chance.randrange(0, 4)]:
            await self._wait(0.2, 1)
            await self._arena.kill(self._aim(host))
            await self._start(host)
        await self._wait(1, 3)
        await self._arena.heal()
        await self._start(leader)
        return done

    async def _stale_join(self) -> bool:
        """A follower returns to the ISR, and is struck while the leader's request for that, or the answer, is on its
        way: the quorum and the leader do not know the same."""
        controller = await self._arena.quorum_leader()
        place = await self._led_elsewhere(controller)
        if place is None or place.leader is None or controller is None:
            return await self._power()
        leader = self._aim(place.leader)
        others = [host for host in self._some_order() if host in place.replicas and host != leader]
        follower = self._aim(next((host for host in others if host != controller), others[0]))
        await self._cut(_both(follower, leader))
        await self._wait(5.5, 7)
        await self._arena.heal()
        asks = self._chance.random() < 0.5
        await self._arena.slow_link(*((leader, controller) if asks else (controller, leader)), 3.0)
        await self._wait(0.1, 1)
        if asks:
            done = await self._lose_power(follower)
            await self._cut(_both(follower, leader))  # what it lost it cannot have again yet
            await self._start(follower)
        else:
            done = await self._arena.pause(follower)
        await self._wait(1, 4)
        await self._arena.resume(follower)
        return done

    async def _led_elsewhere(self, controller: str | None) -> Place | None:
        """A partition that is led, and not by the controller, if there is one."""
        for _ in range(8):
            place = await self._arena.some_place(self._chance)
            if place is not None and place.leader not in (None, controller) and len(place.replicas) > 1:
                return place
        return None

    async def _comeback(self) -> bool:
        """A partition's leader is deposed with writes that only it has, comes back, and leads again as the next one
        falls, while whoever sent those writes still waits."""
        place = await self._arena.some_place(self._chance)
        if place is None or place.leader is None or len(place.replicas) < 2:
            return await self._partition()
        leader = self._aim(place.leader)
        others = [host for host in place.replicas if host != leader]
        if len(self._arena.hosts) >= 5:  # a majority is left without it: it misses all of this
            await self._arena.pause(self._aim(others[-1]))
        await self._cut({pair for other in self._arena.hosts if other != leader for pair in _both(leader, other)})
        await self._wait(3.2, 4.5)
        await self._arena.heal()
        await self._wait(0.7, 3)
        done = await self._arena.kill(self._aim(others[0]))
        await self._wait(0.5, 3)
        await self._arena.resume(others[-1])
        return done

    async def _swap(self) -> bool:
        """One majority decides, another goes on, and what they have in common is one host that lost its power."""
        leader = await self._arena.quorum_leader()
        common = self._aim(leader if leader is not None and self._chance.random() < 0.5 else await self._anybody())
        others = [host for host in self._some_order() if host != common]
        first, second = others[: len(others) // 2], others[len(others) // 2 :]
        if self._chance.random() < 0.6:
            await self._arena.slow_disk(common, self._chance.choice((0.5, 2.0)))
        await self._cut({pair for a in second for b in (common, *first) for pair in _both(a, b)})
        await self._wait(0.1, 4)
        done = await self._lose_power(common)
        for host in first:
            await self._arena.kill(self._aim(host))
        await self._arena.heal()
        await self._start(common)
        await self._wait(0.5, 5)
        return done

    async def _part_kill(self) -> bool:
        """A minority is cut off, the bridge loses its power, and the sides are exchanged (Jepsen on NATS)."""
        return await self._exchange(self._freeze_by_cut, self._arena_heal)

    async def _pause_kill(self) -> bool:
        """The same with a minority that is stopped."""
        return await self._exchange(self._freeze_by_stop, self._thaw)

    async def _exchange(
        self, freeze: Callable[[list[str]], Awaitable[None]], thaw: Callable[[list[str]], Awaitable[None]]
    ) -> bool:
        hosts = self._some_order()
        bridge, rest = hosts[0], hosts[1:]
        half = max(1, len(rest) // 2)
        await freeze(rest[:half])
        await self._wait(2, 8)
        done = await self._lose_power(self._aim(bridge))
        await thaw(rest[:half])
        await freeze(rest[half:])
        await self._start(bridge)
        await self._wait(2, 8)
        await thaw(rest[half:])
        return done

    async def _frozen_view(self) -> bool:
        """A partition's leader is deposed while it is stopped, then wakes with the view it had."""
        place = await self._arena.some_place(self._chance)
        host = self._aim(place.leader if place is not None and place.leader is not None else await self._anybody())
        done = await self._arena.pause(host)
        await self._wait(3.2, 7)
        if self._chance.random() < 0.5:
            await self._cut({pair for other in self._arena.hosts if other != host for pair in _both(host, other)})
        await self._arena.resume(host)
        await self._wait(0.5, 5)
        return done

    async def _freeze_by_cut(self, hosts: list[str]) -> None:
        others = [host for host in self._arena.hosts if host not in hosts]
        await self._cut({pair for a in hosts for b in others for pair in _both(a, b)})

    async def _arena_heal(self, hosts: list[str]) -> None:
        await self._arena.heal()

    async def _freeze_by_stop(self, hosts: list[str]) -> None:
        for host in hosts:
            await self._arena.pause(self._aim(host))

    async def _thaw(self, hosts: list[str]) -> None:
        for host in hosts:
            await self._arena.resume(host)

    # --- choices -----------------------------------------------------------------------------------------------------

    async def _anybody(self) -> str:
        """One of all, or the controller, or a leader."""
        dice = self._chance.random()
        if dice < 0.25:
            leader = await self._arena.quorum_leader()
            if leader is not None:
                return leader
        elif dice < 0.5:
            place = await self._arena.some_place(self._chance)
            if place is not None and place.leader is not None:
                return place.leader
        return self._chance.choice(self._arena.hosts)

    def _aim(self, host: str) -> str:
        if host not in self._targets:
            self._targets = (*self._targets, host)
        return host

    async def _cut(self, pairs: set[Pair]) -> None:
        self._targets = tuple(sorted({*self._targets, *(host for pair in pairs for host in pair)}))
        self._cuts = True
        await self._arena.cut(pairs)

    async def _start(self, host: str) -> None:
        if not self._arena.is_up(host):
            await self._arena.start(host)

    def _two(self) -> tuple[str, str]:
        first, second = self._chance.sample(self._arena.hosts, 2)
        return first, second

    def _some_order(self) -> list[str]:
        return self._chance.sample(self._arena.hosts, len(self._arena.hosts))

    async def _wait(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(least_s, most_s))


def _both(first: str, second: str) -> set[Pair]:
    return {(first, second), (second, first)}


KINDS: dict[str, Callable[[Nemesis], Awaitable[bool]]] = {
    "kill": Nemesis._kill,
    "kill-all": Nemesis._kill_all,
    "power": Nemesis._power,
    "pause": Nemesis._pause,
    "partition": Nemesis._partition,
    "oneway": Nemesis._one_way,
    "ring": Nemesis._ring,
    "bridge": Nemesis._bridge,
    "storm": Nemesis._storm,
    "reset": Nemesis._reset,
    "delay": Nemesis._delay,
    "reconnect-reorder": Nemesis._reconnect_reorder,
    "loss": Nemesis._loss,
    "slowdisk": Nemesis._slow_disk,
    "fsync-eio": Nemesis._sync_fails,
    "diskfull": Nemesis._disk_full,
    "clock": Nemesis._clock,
    "rolling": Nemesis._rolling,
    "transfer": Nemesis._transfer,
    "member": Nemesis._member,
    "failpoint": Nemesis._failpoint,
    "lagging-leader": Nemesis._lagging_leader,
    "kill-while-cut": Nemesis._kill_while_cut,
    "last-one": Nemesis._last_one,
    "fall": Nemesis._fall,
    "depose": Nemesis._depose,
    "slow-election": Nemesis._slow_election,
    "stale-join": Nemesis._stale_join,
    "comeback": Nemesis._comeback,
    "swap": Nemesis._swap,
    "part-kill": Nemesis._part_kill,
    "pause-kill": Nemesis._pause_kill,
    "frozen-view": Nemesis._frozen_view,
}
"""Every fault that any workload may meet, by name; each says whether it changed anything."""

DURABLE_KINDS: dict[str, Callable[[Nemesis], Awaitable[bool]]] = {"power-all": Nemesis._power_all}
"""Those that only what is durable survives."""

ROT_KINDS: dict[str, Callable[[Nemesis], Awaitable[bool]]] = {
    "corrupt": Nemesis._corrupt,
    "torn": Nemesis._torn,
    "rot": Nemesis._rot,
}
"""Disks that forget, or say something else than what was written; asked for by name."""

GROUP_KINDS: dict[str, Callable[[Nemesis], Awaitable[bool]]] = {
    "coordinator": Nemesis._coordinator,
    "slow-load": Nemesis._slow_load,
    "member-cut": Nemesis._member_cut,
    "lone-coordinator": Nemesis._lone_coordinator,
}
"""Those that aim at a consumer group."""

CLIENT_KINDS: dict[str, Callable[[Nemesis], Awaitable[bool]]] = {"client-cut": Nemesis._client_cut}
"""Those that nodes know nothing of; a group's are among its own, others ask by name."""

ALL_KINDS = {**KINDS, **DURABLE_KINDS, **ROT_KINDS, **GROUP_KINDS, **CLIENT_KINDS}
