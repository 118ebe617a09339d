"""A cluster of real nodes in one process: their network, disks, clocks and deaths are simulated, their code is not.

    async def story(cluster):
        cluster.start_all()
        await cluster.until_ready()
        cluster.kill("b2")
        ...
    outcome = simulate(seed, story)

Known limits: a blocking call takes no virtual time but what the executor's delay gives it, and work on the event loop
takes none at all, so a node that is slow because its processor is busy is not simulated; there is no TLS and no IPv6;
a host is one process, and clients never die.
"""

import asyncio
import gc
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ottla.broker.config import Settings
from ottla.broker.node import Node
from ottla.client.errors import OttlaError

from .crashing_storage import CrashingStorage, SeededChance
from .loop import SimulatedLoop
from .network import Pair, host_of
from .patches import EPOCH_S, simulated_world

PORT = 7080
KAFKA_PORT = 9092
CLIENT = "client"
READY_S_MAX = 60.0


class Violation(AssertionError):
    """Something the product promises did not hold."""


class SimulatedClock:
    """The Clock of one process: its wall clock may be off by its host's skew."""

    def __init__(self, loop: SimulatedLoop, skew_s: Callable[[], float]) -> None:
        self._loop = loop
        self._skew_s = skew_s

    def now_ms(self) -> int:
        return int((EPOCH_S + self._loop.now + self._skew_s()) * 1000)

    def monotonic(self) -> float:
        return self._loop.now


@dataclass
class Member:
    """A host and what runs on it. ``process`` is None while nothing does."""

    host: str
    address: str
    storage: CrashingStorage
    incarnation: int = 0
    process: str | None = None
    node: Node | None = None
    skew_s: float = 0.0
    ends: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return self.process is not None and self.node is not None and self.node.state == "ready"


class SimulatedCluster:
    """Brokers ``b1`` ... ``bn``, which form a cluster of that many voters, and observers after them."""

    def __init__(
        self,
        loop: SimulatedLoop,
        seed: int,
        brokers: int = 3,
        settings: dict[str, Any] | None = None,
        *,
        observers: int = 0,
        kafka: bool = False,
    ) -> None:
        self._kafka = kafka
        self.loop = loop
        self.seed = seed
        self.faults = 0  # those that changed something
        self.members = {
            f"b{n}": Member(f"b{n}", f"10.0.0.{n}:{PORT}", CrashingStorage(seed * 100 + n))
            for n in range(1, brokers + observers + 1)
        }
        self._voters = self.servers[:brokers]
        self.violations: list[str] = []
        self.excused: set[str] = set()  # hosts whose node may end by itself: its disk fails
        self._settings = settings or {}
        for member in self.members.values():
            loop.network.hosts[member.address.partition(":")[0]] = member.host

    @property
    def servers(self) -> list[str]:
        """For clients."""
        return [member.address for member in self.members.values()]

    @property
    def kafka_servers(self) -> list[tuple[str, int]]:
        """For Kafka clients, where they are served."""
        return [(member.address.partition(":")[0], KAFKA_PORT) for member in self.members.values()]

    @property
    def hosts(self) -> list[str]:
        return list(self.members)

    def running(self) -> list[Member]:
        """Members whose process lives, stopped ones too."""
        return [member for member in self.members.values() if member.process is not None]

    def skew_of(self, process: str) -> float:
        member = self.members.get(host_of(process))
        return 0.0 if member is None else member.skew_s

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, host: str) -> None:
        """A fresh process on ``host``'s disk."""
        member = self.members[host]
        assert member.process is None, f"{host} runs"
        self.loop.network.power_on(host)
        member.incarnation += 1
        member.process = process = f"{host}#{member.incarnation}"
        self.loop.trace.record("start", process, shown=True)
        self.loop.spawn(process, self._live(member, process))

    def start_all(self) -> None:
        for member in self.members.values():
            if member.process is None:
                self.start(member.host)

    async def _live(self, member: Member, process: str) -> None:
        """What `ottla start` does, without signals."""
        settings = Settings(
            data=f"/{member.host}",
            http=member.address,
            join=",".join(self._voters),
            insecure=True,
            kafka=f"{member.address.partition(':')[0]}:{KAFKA_PORT}" if self._kafka else "off",
            **self._settings,
        )
        member.node = node = Node(
            settings,
            version="simulated",
            storage=member.storage,
            clock=SimulatedClock(self.loop, lambda: member.skew_s),
            chance=SeededChance(f"{self.seed} {process}"),
        )
        starting = asyncio.create_task(node.start())
        await asyncio.wait([starting, node.failed], return_when=asyncio.FIRST_COMPLETED)
        reason: BaseException | None = None
        if starting.done():
            reason = starting.exception()
        if reason is None:
            reason = await node.failed
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        self._ended_by_itself(member, process, reason)
        await node.stop(drain=False)
        self._exit(member, process)

    def _ended_by_itself(self, member: Member, process: str, reason: BaseException) -> None:
        code = f"{reason.code}: " if isinstance(reason, OttlaError) else ""
        text = f"{process} ended by itself: {code}{reason!r} {reason.__cause__ or ''}"
        self.loop.trace.note(process, text)
        member.ends.append(text)
        if member.host not in self.excused:
            self.violations.append(text)

    def _exit(self, member: Member, process: str) -> None:
        self.loop.trace.record("exit", process, shown=True)
        self.loop.kill(process)
        self.loop.network.process_died(process)
        member.storage = member.storage.kill()
        member.process = member.node = None

    async def stop(self, host: str) -> None:
        """SIGTERM, and wait for the end."""
        member = self.members[host]
        process, node = member.process, member.node
        if process is None or node is None:
            return
        self.loop.trace.record("terminate", process, shown=True)
        await asyncio.wait([self.loop.spawn(process, node.stop())])
        if member.process == process:
            self._exit(member, process)

    def kill(self, host: str) -> bool:
        """kill -9: memory is gone, the page cache is not. Whether anything ran."""
        return self._die(host, power=False)

    def power_loss(self, host: str) -> bool:
        """The host goes dark: what its disk had not synced is lost, in part, and nobody is told."""
        return self._die(host, power=True)

    def _die(self, host: str, *, power: bool) -> bool:
        member = self.members[host]
        if member.process is None:
            return False
        process = member.process
        self.loop.trace.record("power" if power else "kill", process, shown=True)
        self.loop.kill(process)
        if power:
            self.loop.network.power_off(host)
        self.loop.network.process_died(process)
        if power:
            chance = SeededChance(f"{self.seed} crash {process}")
            member.storage = member.storage.crash(chance)
        else:
            member.storage = member.storage.kill()
        member.process = member.node = None
        self.faults += 1
        return True

    def _go_dark(self, host: str) -> None:
        self._die(host, power=True)

    def pause(self, host: str) -> bool:
        """SIGSTOP."""
        member = self.members[host]
        if member.process is None:
            return False
        self.loop.trace.record("pause", member.process, shown=True)
        self.loop.stop_process(member.process)
        self.faults += 1
        return True

    def resume(self, host: str) -> None:
        """SIGCONT."""
        member = self.members[host]
        if member.process is not None and self.loop.is_stopped(member.process):
            self.loop.trace.record("resume", member.process, shown=True)
            self.loop.continue_process(member.process)

    # --- network and clocks ------------------------------------------------------------------------------------------

    def partition(self, pairs: set[Pair]) -> None:
        """Cut these directions, in addition to what is cut."""
        self.loop.trace.record("cut", sorted(pairs), shown=True)
        self.loop.network.cut(pairs)
        self.faults += 1

    def isolate(self, host: str, *, clients_too: bool = False) -> None:
        """Cut a host off from the others."""
        others = [*(other for other in self.hosts if other != host), *([CLIENT] if clients_too else [])]
        self.partition({(host, other) for other in others} | {(other, host) for other in others})

    def heal(self) -> None:
        """Mend the network and the disks."""
        self.loop.trace.record("heal", shown=True)
        self.loop.network.heal()
        self.loop.slow_disks.clear()
        for member in self.members.values():
            member.storage.cut_power_at(None)

    def reset(self, first: str, second: str) -> None:
        """Break every connection between two hosts."""
        self.loop.trace.record("reset", first, second, shown=True)
        broken = self.loop.network.reset(first, second) + self.loop.network.reset(second, first)
        self.faults += broken > 0

    def strand(self, first: str, second: str) -> None:
        """The first host's ends of its connections to the second break, and what they sent is still on its way."""
        self.loop.trace.record("strand", first, second, shown=True)
        self.loop.network.slow.pop((first, second), None)
        self.faults += self.loop.network.strand(first, second) > 0

    def lose(self, chance: float) -> None:
        """Each segment has this chance to be lost, each time it is sent."""
        self.loop.trace.record("lose", chance, shown=True)
        self.loop.network.loss = chance
        self.faults += 1

    def cut_power_at(self, host: str, change: int) -> None:
        """A host goes dark after so many more changes of its disk; not any more once all is healed."""
        member = self.members[host]
        if member.process is not None:
            self.loop.trace.record("power at change", host, change, shown=True)
            member.storage.on_power_cut = lambda: self._go_dark(host)
            member.storage.cut_power_at(change)

    def slow_disk(self, host: str, seconds: float) -> None:
        """Let each sync, and whatever else an executor does, take up to ``seconds`` more."""
        self.loop.trace.record("slow disk", host, seconds, shown=True)
        self.loop.slow_disks[host] = seconds
        self.faults += 1

    def slow_link(self, first: str, second: str, seconds: float) -> None:
        """Let each segment from the first host to the second take up to ``seconds`` more."""
        self.loop.trace.record("slow link", first, second, seconds, shown=True)
        self.loop.network.slow[first, second] = seconds
        self.faults += 1

    def skew(self, host: str, seconds: float) -> None:
        """Set a host's wall clock off."""
        self.loop.trace.record("skew", host, seconds, shown=True)
        self.members[host].skew_s = seconds
        self.faults += 1

    def mend(self) -> None:
        """Undo every fault: heal, let stopped processes go on, start what is down."""
        self.heal()
        for host in self.hosts:
            self.resume(host)
        self.start_all()

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = READY_S_MAX) -> None:
        """Wait in virtual time. Raises Violation after ``seconds``."""
        deadline = self.loop.now + seconds
        while not condition():
            if self.loop.now > deadline:
                raise Violation(f"not {what} within {seconds:g} s: {self.describe()}")
            await asyncio.sleep(0.05)

    async def until_ready(self, seconds: float = READY_S_MAX) -> None:
        await self.until(lambda: all(member.ready for member in self.members.values()), "ready", seconds)

    def in_sync(self) -> bool:
        """Every node is ready and every partition's ISR is all its replicas, as every node's image has it."""
        return all(member.ready and _all_in_sync(member.node) for member in self.members.values())

    def describe(self) -> str:
        """Who is in what state, and which partitions are not whole."""
        parts = [f"{m.process or m.host + ' down'} {m.node.state if m.node else ''}" for m in self.members.values()]
        for member in self.running():
            if member.node is not None and member.node.parts is not None:
                for topic in member.node.parts.manager.image.topics.values():
                    parts += [
                        f"{member.process} sees {topic.name}-{n}: {p}"
                        for n, p in enumerate(topic.partitions)
                        if set(p.isr) != set(p.replicas)
                    ]
        return "; ".join(parts)


def _all_in_sync(node: Node | None) -> bool:
    if node is None or node.parts is None:
        return False
    image = node.parts.manager.image
    partitions = [p for topic in image.topics.values() for p in topic.partitions]
    return all(set(p.isr) == set(p.replicas) and p.leader is not None for p in partitions)


@dataclass
class Outcome:
    """What came of a run. ``error`` is None where all held."""

    seed: int
    digest: str
    virtual_s: float
    steps: int
    result: Any
    error: BaseException | None
    loop: SimulatedLoop


Story = Callable[[SimulatedCluster], Awaitable[Any]]


def simulate(
    seed: int,
    story: Story,
    *,
    brokers: int = 3,
    settings: dict[str, Any] | None = None,
    observers: int = 0,
    kafka: bool = False,
) -> Outcome:
    """Run ``story`` in a world of its own. Never raises for what the story raises: it is in the outcome."""
    loop = SimulatedLoop(seed)
    cluster = SimulatedCluster(loop, seed, brokers, settings, observers=observers, kafka=kafka)
    result, error = None, None
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection runs finalizers at moments that no seed decides
    try:
        with simulated_world(loop, seed, cluster.skew_of):
            try:
                result = loop.run_until_complete(loop.spawn("", story(cluster)))
            except Exception as raised:
                error = raised
                loop.trace.note("", "".join(traceback.format_exception(raised)))
                _let_go_of_frames(raised)
            if error is None and loop.problems:
                error = Violation(f"unheard: {loop.problems[:5]}")
            digest, now = loop.trace.digest, loop.now
            _bury(loop)
    finally:
        if collecting:
            gc.enable()
    return Outcome(seed, digest, now, loop.steps, result, error, loop)


def _bury(loop: SimulatedLoop) -> None:
    """Free what the dead left behind, here and now, deaf to what their finalizers say."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        loop.bury()
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _let_go_of_frames(error: BaseException | None) -> None:
    """They hold the dead, who must be buried with the loop."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def seeded(seed: int, purpose: str) -> Random:
    """A generator of its own for each purpose, so that one more draw here changes nothing there."""
    return Random(f"{purpose} {seed}")
