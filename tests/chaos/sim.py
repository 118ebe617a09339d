"""The simulated arena: whole nodes, real aiohttp and the SDK, in one process on virtual time."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

from ottla.broker.group.internal_topic import INTERNAL_TOPIC, partition_of
from ottla.raft.image import Partition
from tests.simulation.loop import PROCESS
from tests.simulation.network import host_of
from tests.simulation.world import CLIENT, SimulatedCluster

from .arena import Pair, Place
from .faults.kinds import ALL_KINDS
from .group.hands import Hear, SimulatedHand
from .group.told import GROUP, Order
from .history import History
from .members import administer, undrain_all
from .rot import rot_log, spoil_files

STOP_S_MAX = 20.0
ADMIN_S_MAX = 5.0
SYNC_S_MAX = 4.0
FULL_BYTES = 4096
NURSE_S_MAX = 60.0
NURSE_QUIET_S = 5.0
"""Several times as long as a scrubber's pass takes in these runs."""


class Killed(BaseException):
    """Raised out of a failpoint at which the process ended."""


class SimulatedStage:
    """What workloads are given."""

    def __init__(self, cluster: SimulatedCluster, *, rate: float, clients: int) -> None:
        self.servers = cluster.servers
        self.seed = cluster.seed
        self.rate = rate
        self.clients = clients
        self.history = History(lambda: int(cluster.loop.now * 1e9))
        self.members: dict[str, asyncio.Event] = {}  # all that were ever hired, by host, and whether they have ended
        self._loop = cluster.loop

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return self._loop.spawn(CLIENT, work)

    def now_s(self) -> float:
        return self._loop.now

    members_max = 20

    async def hire(self, order: Order, hear: Hear) -> SimulatedHand:
        hand = SimulatedHand(self._loop, order, hear)
        self.members[hand.host] = hand.ended
        return hand


class SimulatedArena:
    """``effects``: how often each elementary fault changed something. ``passed``: how often each failpoint was."""

    able = frozenset(ALL_KINDS)

    def __init__(self, cluster: SimulatedCluster, stage: SimulatedStage) -> None:
        self.hosts = cluster.hosts
        self._stage = stage
        self.effects: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.died_at: Counter[str] = Counter()  # failpoints
        self._cluster = cluster
        self._trap: tuple[str, str, bool] | None = None  # host, place, power
        self._cuts_open = False
        self._seen = Counter(cluster.loop.network.effects)
        self._slowed = 0
        self._spoiled: dict[str, list[Path]] = {}  # files of hosts

    def now_s(self) -> float:
        return self._cluster.loop.now

    # --- processes ---------------------------------------------------------------------------------------------------

    def is_up(self, host: str) -> bool:
        return self._cluster.members[host].process is not None

    async def start(self, host: str) -> None:
        if not self.is_up(host):
            self._cluster.start(host)

    async def kill(self, host: str) -> bool:
        return self._count("kill", self._cluster.kill(host))

    async def lose_power(self, host: str) -> bool:
        return self._count("power", self._cluster.power_loss(host))

    async def pause(self, host: str) -> bool:
        return self._count("pause", self._cluster.pause(host))

    async def resume(self, host: str) -> None:
        self._cluster.resume(host)

    async def stop(self, host: str) -> bool:
        member = self._cluster.members[host]
        if not member.ready or member.process is None or self._cluster.loop.is_stopped(member.process):
            return False
        stopping = asyncio.ensure_future(self._cluster.stop(host))
        await asyncio.wait([stopping], timeout=STOP_S_MAX)
        return self._count("stop", True)

    async def kill_at(self, host: str, failpoint: str, *, power: bool, within_s: float) -> bool:
        self._trap = (host, failpoint, power)
        until_s = self.now_s() + within_s
        while self._trap is not None and self.now_s() < until_s:
            await asyncio.sleep(0.05)
        trapped, self._trap = self._trap is None, None
        self.died_at[failpoint] += trapped
        return self._count("failpoint", trapped)

    def hit(self, place: str) -> None:
        """A process passes a failpoint."""
        host = host_of(PROCESS.get())
        self.passed[place] += 1
        if self._trap is None or self._trap[:2] != (host, place):
            return
        power, self._trap = self._trap[2], None
        self._cluster.loop.trace.record("failpoint", host, place, shown=True)
        (self._cluster.power_loss if power else self._cluster.kill)(host)
        raise Killed(place)

    # --- operators ---------------------------------------------------------------------------------------------------

    async def administer(self, chance: Random) -> bool:
        working = self._cluster.loop.spawn(CLIENT, administer(self._cluster.servers, chance))
        await asyncio.wait([working], timeout=ADMIN_S_MAX)
        if not working.done():
            working.cancel()
            return self._count("admin", False)
        kind = working.result()
        self._cluster.loop.trace.record("admin", kind or "in vain", shown=True)
        return self._count("admin", kind is not None)

    async def undrain(self) -> bool:
        working = self._cluster.loop.spawn(CLIENT, undrain_all(self._cluster.servers))
        await asyncio.wait([working], timeout=STOP_S_MAX)
        if not working.done():
            working.cancel()
            return False
        return bool(working.result())

    # --- network -----------------------------------------------------------------------------------------------------

    async def cut(self, pairs: set[Pair]) -> None:
        self._cuts_open = True
        self._cluster.partition(pairs)

    def members(self) -> list[str]:
        return [host for host, ended in self._stage.members.items() if not ended.is_set()]

    async def reset(self, first: str, second: str) -> bool:
        before = self._cluster.faults
        if self._cluster.loop.network.slow.get((first, second)):
            self._cluster.strand(first, second)
        else:
            self._cluster.reset(first, second)
        return self._count("reset", self._cluster.faults > before)

    async def slow_link(self, first: str, second: str, seconds: float) -> None:
        self._cluster.slow_link(first, second, seconds)
        self._count("delay", True)

    async def lose_packets(self, share: float) -> None:
        self._cluster.lose(share)
        self._count("loss", True)

    async def heal(self) -> int:
        effects = self._cluster.loop.network.effects
        stopped = effects["stopped"] - self._seen["stopped"]
        self._seen = Counter(effects)
        if self._cuts_open:
            self._count("cut", stopped > 0)
            self._cuts_open = False
        self._cluster.heal()
        for member in self._cluster.members.values():
            member.storage.capacity = None
        return stopped

    # --- disks and clocks --------------------------------------------------------------------------------------------

    async def slow_disk(self, host: str, seconds: float) -> None:
        self._cluster.slow_disk(host, seconds)
        self._count("slowdisk", True)

    async def fail_sync(self, host: str) -> bool:
        member = self._cluster.members[host]
        if member.process is None:
            return False
        storage = member.storage
        self._cluster.excused.add(host)
        storage.fail("sync")
        until_s = self.now_s() + SYNC_S_MAX
        while storage.has_faults and self.now_s() < until_s and member.storage is storage:
            await asyncio.sleep(0.05)
        met = not storage.has_faults
        storage.forgive()
        await asyncio.sleep(0.5)
        self._cluster.excused.discard(host)
        return self._count("fsync-eio", met)

    async def fill_disk(self, host: str) -> bool:
        storage = self._cluster.members[host].storage
        storage.capacity = storage.used_bytes() + FULL_BYTES
        return self._count("diskfull", self.is_up(host))

    async def skew(self, host: str, seconds: float) -> None:
        self._cluster.skew(host, seconds)
        self._count("clock", True)

    async def spoil(self, host: str, chance: Random, *, tear: bool, tails: bool, only_logs: bool = False) -> bool:
        storage = self._cluster.members[host].storage
        hit = spoil_files(storage, host, chance, tear=tear, tails=tails, only_logs=only_logs)
        self._cluster.loop.trace.record("spoil", host, [str(path) for path in hit], shown=True)
        self._spoiled[host] = [*self._spoiled.get(host, ()), *hit]
        return self._count("torn" if tear else "corrupt", bool(hit))

    async def rot(self, host: str, chance: Random) -> bool:
        member = self._cluster.members[host]
        if not member.ready or member.node is None or member.node.parts is None:
            return False
        logs = [log for log in member.node.parts.logs.logs() if log.size_bytes]
        hit = rot_log(member.storage, chance.choice(logs), chance) if logs else None
        self._cluster.loop.trace.record("rot", host, str(hit), shown=True)
        return self._count("rot", hit is not None)

    async def nurse(self, host: str) -> None:
        member = self._cluster.members[host]
        self._cluster.excused.add(host)
        until_s, quiet_s = self.now_s() + NURSE_S_MAX, 0.0
        while self.now_s() < until_s and quiet_s < NURSE_QUIET_S:
            await asyncio.sleep(0.1)
            quiet_s += 0.1
            if member.process is None:
                for path in self._spoiled.get(host, ()):
                    if path.name.endswith("-offset-checkpoint") and f"{path}: " in (member.ends or [""])[-1]:
                        member.storage.remove(path)
                self._cluster.start(host)
                quiet_s = 0.0
            elif not member.ready:
                quiet_s = 0.0
            elif member.node is not None and member.node.parts is not None and member.node.parts.manager.offline:
                await asyncio.sleep(0.5)
                await self.stop(host)
        self._cluster.excused.discard(host)

    # --- aims --------------------------------------------------------------------------------------------------------

    async def some_place(self, chance: Random) -> Place | None:
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None:
                topics = [topic for _, topic in sorted(member.node.parts.manager.image.topics.items())]
                if topics:
                    return _place(chance.choice(chance.choice(topics).partitions))
        return None

    async def quorum_leader(self) -> str | None:
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None and member.node.parts.quorum.is_leader:
                return member.host
        return None

    async def coordinator(self) -> str | None:
        for member in self._cluster.running():
            if member.node is not None and member.node.parts is not None:
                topic = member.node.parts.manager.image.topics.get(INTERNAL_TOPIC)
                if topic is not None:
                    return _place(topic.partitions[partition_of(GROUP, len(topic.partitions))]).leader
        return None

    async def survives_power(self, host: str) -> bool:
        images = [m.node.parts.manager.image for m in self._cluster.running() if m.node is not None and m.node.parts]
        if not images:
            return True
        image = max(images, key=lambda each: each.index)
        return all(
            image.min_insync(topic, state) > 1
            for topic in image.topics.values()
            for state in topic.partitions
            if host in (f"b{member}" for member in state.replicas)
        )

    async def is_whole(self) -> bool:
        return self._cluster.in_sync()

    def _count(self, kind: str, effective: bool) -> bool:
        self.effects[kind] += effective
        return effective


def _place(partition: Partition) -> Place:
    return Place(
        None if partition.leader is None else f"b{partition.leader}",
        tuple(f"b{replica}" for replica in partition.replicas),
        tuple(f"b{replica}" for replica in partition.isr),
    )
