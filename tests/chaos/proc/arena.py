"""The real arena: `ottla start` processes on 127.0.1.n, kernel signals, packet filters, small disks, libfaketime.

What the simulation alone can do is not ``able``: a power cut (the kernel keeps its page cache, so ``lose_power`` is
kill -9 here), links that are slow (this needs netem, which not every kernel has), and cuts between clients and nodes
(all clients are at 127.0.0.1, and so is whoever watches the run).
"""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from ottla.broker.group.internal_topic import INTERNAL_TOPIC, partition_of
from ottla.client.protocol import MetadataResponse, PartitionMetadata

from ..arena import Pair, Place
from ..faults.kinds import GROUP_KINDS, KINDS
from ..group.told import GROUP
from ..members import administer, undrain_all
from .host import PORT, RESERVE_BYTES, Host, faketime_library
from .network import Network
from .view import View, trouble

STOP_S_MAX = 20.0
ADMIN_S_MAX = 5.0
SYNC_S_MAX = 4.0
END_S_MAX = 3.0
LOOK_S = 0.1
SECRET = "only the nodes of one run know this"
IMPOSSIBLE = frozenset(
    {
        "power",
        "delay",
        "reconnect-reorder",
        "stale-join",
        "slow-election",
        "client-cut",
        "member-cut",
        "lone-coordinator",
    }
)


class ProcessArena:
    """An async context inside a room (room.py): sets up the network and the disks, and ends every process at the end.

    ``effects``: how often each elementary fault changed something; ``died_at``: failpoints at which a node died.
    """

    able = frozenset({**KINDS, **GROUP_KINDS}) - IMPOSSIBLE - (frozenset() if faketime_library() else {"clock"})

    def __init__(
        self,
        directory: Path,
        size: int,
        *,
        observers: int = 0,
        kinds: frozenset[str] = frozenset(),
        bug: str | None = None,
        settings: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.hosts = [f"b{number}" for number in range(1, size + observers + 1)]
        self.effects: Counter[str] = Counter()
        self.died_at: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()  # nobody counts here
        small_disk = "diskfull" in kinds
        join = ",".join(f"127.0.1.{number}:{PORT}" for number in range(1, size + 1))
        sets = [*settings, *([f"disk.reserve.bytes={RESERVE_BYTES}"] if small_disk else [])]
        self._secret = directory / "cluster.key"
        arguments = [
            "--join",
            join,
            "--secret-file",
            str(self._secret),
            *(part for pair in sets for part in ("--set", pair)),
        ]
        self._members = {
            name: Host(name, directory, arguments, small_disk=small_disk, skewable="clock" in kinds, bug=bug)
            for name in self.hosts
        }
        self._network = Network()
        self._view = View()
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._cuts_open = False
        self._loses = False

    async def __aenter__(self) -> "ProcessArena":
        await self._network.open()
        await self._view.__aenter__()
        self._secret.parent.mkdir(parents=True, exist_ok=True)
        self._secret.write_text(SECRET)
        for member in self._members.values():
            member.prepare()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for member in self._members.values():
            await member.kill()
        await self._view.__aexit__()

    @property
    def servers(self) -> list[str]:
        return [member.address for member in self._members.values()]

    @property
    def surprises(self) -> list[str]:
        """What nodes did that no fault explains."""
        return [surprise for member in self._members.values() for surprise in member.surprises]

    def member(self, host: str) -> Host:
        return self._members[host]

    def now_s(self) -> float:
        return self._loop.time() - self._began_s

    # --- processes ---------------------------------------------------------------------------------------------------

    def is_up(self, host: str) -> bool:
        return self._members[host].up

    async def start(self, host: str) -> None:
        await self._members[host].start()

    async def kill(self, host: str) -> bool:
        return self._count("kill", await self._members[host].kill())

    async def lose_power(self, host: str) -> bool:
        return await self.kill(host)

    async def pause(self, host: str) -> bool:
        return self._count("pause", self._members[host].pause())

    async def resume(self, host: str) -> None:
        self._members[host].resume()

    async def stop(self, host: str) -> bool:
        return self._count("stop", await self._members[host].stop(STOP_S_MAX))

    async def kill_at(self, host: str, failpoint: str, *, power: bool, within_s: float) -> bool:
        member = self._members[host]
        if not member.up or member.paused:
            return False
        member.excused = True
        await member.order("trap", place=failpoint)
        died = await member.ended(within_s)
        if not died:
            calmed = await member.order("calm")
            died = not calmed and await member.ended(END_S_MAX)
            member.excused = not calmed
        self.died_at[failpoint] += died
        return self._count("failpoint", died)

    # --- network -----------------------------------------------------------------------------------------------------

    async def administer(self, chance: Random) -> bool:
        try:
            async with asyncio.timeout(ADMIN_S_MAX):
                return self._count("admin", await administer(self.servers, chance))
        except TimeoutError:
            return self._count("admin", False)

    async def undrain(self) -> bool:
        try:
            async with asyncio.timeout(ADMIN_S_MAX):
                return await undrain_all(self.servers)
        except TimeoutError:
            return False

    async def cut(self, pairs: set[Pair]) -> None:
        self._cuts_open = True
        await self._network.cut(pairs)

    def members(self) -> list[str]:
        return []

    async def reset(self, first: str, second: str) -> bool:
        return self._count("reset", await self._network.reset(first, second) > 0)

    async def slow_link(self, first: str, second: str, seconds: float) -> None:
        raise NotImplementedError("real links cannot be slowed without netem: 'delay' is not able")

    async def lose_packets(self, share: float) -> None:
        self._loses = True
        await self._network.lose(share)

    async def heal(self) -> int:
        stopped, lost = await self._network.heal()
        if self._cuts_open:
            self._count("cut", stopped > 0)
        if self._loses:
            self._count("loss", lost > 0)
        self._cuts_open = self._loses = False
        for member in self._members.values():
            member.free_disk()
        await asyncio.gather(*(member.order("calm") for member in self._members.values() if not member.paused))
        return stopped

    # --- disks and clocks --------------------------------------------------------------------------------------------

    async def slow_disk(self, host: str, seconds: float) -> None:
        self._count("slowdisk", await self._members[host].order("slow", seconds=seconds))

    async def fail_sync(self, host: str) -> bool:
        member = self._members[host]
        if not member.up or member.paused:
            return False
        member.excused = True
        await member.order("fail_sync")
        try:
            async with asyncio.timeout(SYNC_S_MAX):
                await member.failed_sync.wait()
            ended = await member.ended(END_S_MAX)
            if not ended:
                member.surprises.append(f"{host} went on after a sync that failed: {member.last_words()}")
        except TimeoutError:
            member.excused = not await member.order("calm")
        return self._count("fsync-eio", member.failed_sync.is_set())

    async def fill_disk(self, host: str) -> bool:
        member = self._members[host]
        return self._count("diskfull", member.fill_disk() and member.up)

    async def skew(self, host: str, seconds: float) -> None:
        self._members[host].skew(seconds)
        self._count("clock", self.is_up(host))

    # --- aims --------------------------------------------------------------------------------------------------------

    async def newest(self) -> MetadataResponse | None:
        """The newest view of those that run."""
        return await self._view.newest(m.address for m in self._members.values() if m.up and not m.paused)

    async def some_place(self, chance: Random) -> Place | None:
        answer = await self.newest()
        topics = [topic for topic in answer.topics if topic.partitions] if answer is not None else []
        return _place(chance.choice(chance.choice(topics).partitions)) if topics else None

    async def quorum_leader(self) -> str | None:
        answer = await self.newest()
        return None if answer is None else _host(answer.quorum_leader)

    async def coordinator(self) -> str | None:
        answer = await self.newest()
        topics = () if answer is None else answer.topics
        found = next((topic.partitions for topic in topics if topic.name == INTERNAL_TOPIC), None)
        return _place(found[partition_of(GROUP, len(found))]).leader if found else None

    async def survives_power(self, host: str) -> bool:
        return True  # here it is a kill

    async def is_whole(self) -> bool:
        return await self.why_not_whole() is None

    async def why_not_whole(self) -> str | None:
        """What is missing; None where nothing is."""
        down = [host for host, member in self._members.items() if not member.up or member.paused]
        if down:
            return f"{down} do not run"
        addresses = {host: member.address for host, member in self._members.items()}
        ready = await asyncio.gather(*(self._view.ready(address) for address in addresses.values()))
        if not all(ready):
            return f"{[host for host, fine in zip(addresses, ready, strict=True) if not fine]} are not ready"
        views = await asyncio.gather(*(self._view.metadata(address, current=True) for address in addresses.values()))
        for host, view in zip(addresses, views, strict=True):
            problem = f"{host} does not tell what is current" if view is None else trouble(view)
            if problem is not None:
                return problem
        return None

    async def until_whole(self, seconds: float) -> None:
        """Starts what ended late, as it had been told to. Raises AssertionError with what is missing."""
        until_s = self.now_s() + seconds
        while (problem := await self.why_not_whole()) is not None:
            for member in self._members.values():
                assert member.up or member.excused, member.surprises
                await member.start()
            assert self.now_s() < until_s, f"not whole within {seconds:g} s: {problem}"
            await asyncio.sleep(LOOK_S)

    def _count(self, kind: str, effective: Any) -> bool:
        self.effects[kind] += bool(effective)
        return bool(effective)


def _host(broker: int | None) -> str | None:
    return None if broker is None else f"b{broker}"


def _place(partition: PartitionMetadata) -> Place:
    return Place(
        _host(partition.leader),
        tuple(f"b{replica}" for replica in partition.replicas),
        tuple(f"b{replica}" for replica in partition.isr),
    )
