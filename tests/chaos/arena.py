"""What a nemesis can do to a cluster, simulated or real. Hosts are ``b1`` ... ``bn``; node n runs on host ``bn``.

Every action tells whether it changed anything where that is known at once; what only shows later (a cut that stopped a
message) is told by ``heal``.
"""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple, Protocol

Pair = tuple[str, str]
"""From the first host to the second."""
CLIENTS = "client"
"""The host of all that writes, watches and administers. A cut may name it."""


class Place(NamedTuple):
    """A partition, and the hosts that hold it; ``leader`` None where nobody leads."""

    leader: str | None
    replicas: tuple[str, ...]
    isr: tuple[str, ...]


class Arena(Protocol):
    """``able``: the fault kinds that this backend can do (faults.kinds). ``passed``: the failpoints that nodes have
    come by, and how often; empty where nobody counts."""

    hosts: list[str]
    able: frozenset[str]
    passed: Mapping[str, int]

    def now_s(self) -> float: ...

    # Processes

    def is_up(self, host: str) -> bool:
        """Whether a process runs there, stopped or not."""
        ...

    async def start(self, host: str) -> None:
        """Start what is down; not waited for."""
        ...

    async def kill(self, host: str) -> bool: ...

    async def lose_power(self, host: str) -> bool: ...

    async def pause(self, host: str) -> bool: ...

    async def resume(self, host: str) -> None: ...

    async def stop(self, host: str) -> bool:
        """SIGTERM, and wait for the end (bounded)."""
        ...

    async def kill_at(self, host: str, failpoint: str, *, power: bool, within_s: float) -> bool:
        """Kill it as it passes that place; whether it came there in time."""
        ...

    async def administer(self, chance: Random) -> bool:
        """Something an operator does; whether it was done (bounded)."""
        ...

    async def undrain(self) -> bool:
        """Whether every node may lead again (bounded)."""
        ...

    # Network

    async def cut(self, pairs: set[Pair]) -> None: ...

    async def reset(self, first: str, second: str) -> bool: ...

    async def slow_link(self, first: str, second: str, seconds: float) -> None: ...

    async def lose_packets(self, share: float) -> None: ...

    def members(self) -> list[str]:
        """The hosts of those who read in a group now, each its own. A cut may name them."""
        ...

    async def heal(self) -> int:
        """Mend network and disks; how many messages the cuts had stopped."""
        ...

    # Disks and clocks

    async def slow_disk(self, host: str, seconds: float) -> None: ...

    async def fail_sync(self, host: str) -> bool:
        """The next sync there fails; the node must stop. Whether it did, in a few seconds."""
        ...

    async def fill_disk(self, host: str) -> bool: ...

    async def skew(self, host: str, seconds: float) -> None: ...

    async def spoil(self, host: str, chance: Random, *, tear: bool, tails: bool, only_logs: bool = False) -> bool:
        """Let bytes of some files of a host that is down rot, or their ends go. ``tails``: also of what came last:
        after a kill -9 nobody could tell that from a write that the death tore."""
        ...

    async def rot(self, host: str, chance: Random) -> bool:
        """Let bytes of a log rot while a node serves it."""
        ...

    async def nurse(self, host: str) -> None:
        """An operator looks after a host whose disk has rotted until it has found all of it (bounded): he removes the
        checkpoints that it complains of, and restarts it where it has given partitions up."""
        ...

    # What a nemesis aims at

    async def some_place(self, chance: Random) -> Place | None: ...

    async def quorum_leader(self) -> str | None: ...

    async def coordinator(self) -> str | None:
        """Of the group that the workload reads with."""
        ...

    async def survives_power(self, host: str) -> bool:
        """Whether min.insync.replicas is above 1 for all that it holds: an operator may have moved a partition to so
        few that its one copy in sync is all that is promised."""
        ...

    async def is_whole(self) -> bool:
        """Every node is ready, every partition led, every ISR full."""
        ...
