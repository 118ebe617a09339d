"""A quorum of real voters in one process: their network, disks, clocks and deaths are simulated, their code is not.

Each voter is a MetadataQuorum behind an aiohttp server of its own, on a disk of its own. The clients of clients.py call
it directly, as a broker does.
"""

import asyncio
import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
from aiohttp import web

from ottla.raft.compaction import CompactionSettings
from ottla.raft.handshake import PeerIdentity
from ottla.raft.quorum import MetadataQuorum, QuorumSettings
from ottla.raft.snapshot_keeper import StateHooks
from ottla.raft.transport import Endpoint
from ottla.raft.wal import WalFull

from ..crashing_storage import CrashingStorage, PowerCut, SeededChance
from ..loop import SimulatedLoop
from ..network import Pair, host_of
from ..world import Violation, seeded
from .ledger import Ledger
from .machine import Command, Machine
from .voter import HostClock, Voter

PORT = 7080
CLUSTER = "simulated"
ECHO_CHANCE = 0.05
SETTINGS = QuorumSettings(propose_timeout_s=2.0, compaction=CompactionSettings(entries=60, kept=10))


class QuorumWorld:
    """Voters ``v1`` ... ``vn``. ``effects`` counts each kind of fault that changed something."""

    def __init__(self, loop: SimulatedLoop, seed: int, size: int) -> None:
        self.loop = loop
        self.seed = seed
        self.effects: Counter[str] = Counter()
        self.echoing: set[str] = set()  # hosts whose voters hear messages again, later
        self.echo_chance = ECHO_CHANCE
        self.raising = False  # callbacks of proposals may raise
        chance = seeded(seed, "hosts")
        self.voters = {
            f"v{n}": Voter(
                f"v{n}",
                n,
                CrashingStorage(seed * 100 + n, holes=seed % 2 == 1),
                HostClock(loop.time, chance.uniform(0, 1e6)),
            )
            for n in range(1, size + 1)
        }
        self.ledger = Ledger(list(self.voters))
        self._endpoints = {voter.node_id: Endpoint(f"10.0.0.{voter.node_id}", PORT) for voter in self.voters.values()}
        for voter in self.voters.values():
            loop.network.hosts[f"10.0.0.{voter.node_id}"] = voter.host

    @property
    def hosts(self) -> list[str]:
        return list(self.voters)

    def running(self) -> list[Voter]:
        return [voter for voter in self.voters.values() if voter.process is not None]

    def leaders(self) -> list[Voter]:
        """Who believes to lead."""
        return [voter for voter in self.voters.values() if voter.quorum is not None and voter.quorum.is_leader]

    def skew_of(self, process: str) -> float:
        voter = self.voters.get(host_of(process))
        return 0.0 if voter is None else voter.clock.skew_s

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, host: str) -> None:
        """A fresh process on ``host``'s disk."""
        voter = self.voters[host]
        assert voter.process is None, f"{host} runs"
        self.loop.network.power_on(host)
        voter.incarnation += 1
        voter.process = process = f"{host}#{voter.incarnation}"
        voter.storage.on_power_cut = lambda: self._went_dark(voter, process)
        voter.disk_may_fail = voter.stopping = False
        self.loop.trace.record("start", process, shown=True)
        self.loop.spawn(process, self._live(voter, process))

    def start_all(self) -> None:
        for voter in self.voters.values():
            if voter.process is None:
                self.start(voter.host)

    async def _live(self, voter: Voter, process: str) -> None:
        failed: asyncio.Future[BaseException] = self.loop.create_future()
        try:
            await self._open(voter, process, failed)
        except (Exception, PowerCut) as error:
            reason: BaseException = error
        else:
            reason = await failed
        if voter.process == process:
            self._ended_by_itself(voter, process, reason)

    async def _open(self, voter: Voter, process: str, failed: "asyncio.Future[BaseException]") -> None:
        voter.machine = machine = Machine(lambda index, digest: self.ledger.holds_state(process, index, digest))
        identity = PeerIdentity(node_id=voter.node_id, cluster_id=CLUSTER, directory_id=voter.host, incarnation=process)
        executor = object()
        quorum = MetadataQuorum(
            local=identity,
            voters=self._endpoints,
            directory=Path("/raft"),
            storage=voter.storage,
            clock=voter.clock,
            chance=SeededChance(f"{self.seed} {process}"),  # type: ignore[arg-type]  # any seed of Random will do
            secret=b"secret" if self.seed % 2 else None,
            apply=lambda index, term, data: self._apply(process, machine, index, term, data),
            state=StateHooks(machine.capture, machine.restore),
            settings=SETTINGS,
            run_blocking=lambda call: self.loop.run_in_executor(executor, call),
            on_fatal=lambda error: None if failed.done() else failed.set_result(error),
        )
        app = web.Application()
        quorum.add_routes(app)
        voter.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await voter.runner.setup()
        await web.TCPSite(voter.runner, self._endpoints[voter.node_id].host, PORT).start()
        await quorum.start()
        voter.quorum = quorum

    def _apply(self, process: str, machine: Machine, index: int, term: int, data: bytes) -> bytes:
        ledger = self.ledger
        first = index not in ledger.commands
        ledger.applies(process, index, term, data)
        result, effective = None, False
        try:
            result, effective = machine.apply(index, data)
            return result
        finally:
            ledger.applied(process, index, machine.digest, result)
            if first:
                self._first_applied(index, data, result, effective)

    def _first_applied(self, index: int, data: bytes, result: bytes | None, effective: bool) -> None:
        command = msgspec.msgpack.decode(data, type=Command)
        done = effective and result is not None and bool(msgspec.msgpack.decode(result)[1])
        self.ledger.first_applied(index, command, effective, done)

    def _ended_by_itself(self, voter: Voter, process: str, reason: BaseException) -> None:
        """Only a disk may make it: full when the voter started, or failing."""
        self.loop.trace.note(process, "ended by itself", repr(reason), repr(reason.__cause__))
        number = reason.errno if isinstance(reason, OSError) else None
        if number == errno.EIO and voter.disk_may_fail:
            self.effects["failing disk"] += 1
            # Whoever starts it again may not reboot the host: what the page cache holds calls itself clean by then.
            self._die(voter, power=chance_of(self, f"failing disk {process}").random() < 0.4)
        elif number == errno.ENOSPC or isinstance(reason, WalFull):
            self._die(voter, power=False)
        else:
            self.ledger.breaks(f"{process} ended by itself: {reason!r} {reason.__cause__ or ''}")
            self._die(voter, power=False)

    def _went_dark(self, voter: Voter, process: str) -> None:
        if voter.process == process:
            self.effects["kill in a write" if voter.dies_in_write else "power cut in a write"] += 1
            self._die(voter, power=not voter.dies_in_write)

    def _die(self, voter: Voter, *, power: bool) -> None:
        process = voter.process
        assert process is not None
        self.loop.trace.record("power" if power else "kill", process, shown=True)
        self.loop.kill(process)
        if power:
            self.loop.network.power_off(voter.host)
        self.loop.network.process_died(process)
        capacity, voter.storage.capacity = voter.storage.capacity, None
        if power:
            voter.storage = voter.storage.crash(SeededChance(f"{self.seed} crash {process}"))  # type: ignore[arg-type]
        else:
            voter.storage = voter.storage.kill()
        voter.storage.capacity = capacity
        voter.process = voter.quorum = voter.runner = None
        self.ledger.has_role(voter.host, False)

    def kill(self, host: str) -> bool:
        """kill -9: memory is gone, the page cache is not. Whether anything ran."""
        return self._end(host, "kill", power=False)

    def power_loss(self, host: str) -> bool:
        """The host goes dark: what its disk had not synced is lost, in part, and nobody is told."""
        return self._end(host, "power loss", power=True)

    def _end(self, host: str, kind: str, *, power: bool) -> bool:
        voter = self.voters[host]
        if voter.process is None:
            return False
        self.effects[kind] += 1
        self._die(voter, power=power)
        return True

    async def stop(self, host: str) -> None:
        """SIGTERM, and wait for the end, which a leader gives its leadership to another before."""
        voter = self.voters[host]
        process, quorum, runner = voter.process, voter.quorum, voter.runner
        if process is None or quorum is None or runner is None or voter.stopping or self.loop.is_stopped(process):
            return
        voter.stopping = True
        self.loop.trace.record("terminate", process, shown=True)
        self.effects["stop of the leader" if quorum.is_leader else "stop"] += 1

        async def end() -> None:
            await quorum.stop()
            await runner.cleanup()

        await asyncio.wait([self.loop.spawn(process, end())], timeout=10)
        if voter.process == process:
            self._die(voter, power=False)

    def pause(self, host: str) -> None:
        """SIGSTOP."""
        voter = self.voters[host]
        if voter.process is not None:
            self.loop.trace.record("pause", voter.process, shown=True)
            self.loop.stop_process(voter.process)
            self.effects["pause of the leader" if voter in self.leaders() else "pause"] += 1

    def resume(self, host: str) -> None:
        """SIGCONT."""
        process = self.voters[host].process
        if process is not None and self.loop.is_stopped(process):
            self.loop.trace.record("resume", process, shown=True)
            self.loop.continue_process(process)

    # --- network and disks -------------------------------------------------------------------------------------------

    def cut(self, pairs: set[Pair]) -> None:
        """Nothing gets from the first host of a pair to the second."""
        self.loop.trace.record("cut", sorted(pairs), shown=True)
        self.loop.network.cut(pairs)

    def heal(self) -> None:
        """Mend the network and the disks."""
        self.loop.trace.record("heal", shown=True)
        self.loop.network.heal()
        self.loop.slow_disks.clear()
        self.echoing.clear()
        self.echo_chance = ECHO_CHANCE
        self.raising = False
        for voter in self.voters.values():
            voter.storage.capacity = None
            voter.storage.cut_power_at(None)
            voter.storage.forgive()
            voter.clock.disturb(1.0)

    def mend(self) -> None:
        """Undo every fault: heal, let stopped processes go on, start what is down."""
        self.heal()
        for host in self.hosts:
            self.resume(host)
        self.start_all()

    async def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait in virtual time. Breaks the run after ``seconds``."""
        deadline = self.loop.now + seconds
        while not condition():
            if self.loop.now > deadline:
                raise Violation(f"not {what} within {seconds:g} s: {self.describe()}")
            await asyncio.sleep(0.05)

    def converged(self) -> bool:
        """All voters run, have applied all that any log holds, and hold one state."""
        if not all(voter.up for voter in self.voters.values()) or len(self.leaders()) != 1:
            return False
        quorums = [voter.quorum for voter in self.voters.values() if voter.quorum is not None]
        ends = {(quorum.applied_index, quorum.last_index) for quorum in quorums}
        digests = {(voter.machine.index, voter.machine.digest) for voter in self.voters.values()}
        return len(ends) == 1 and len(set(ends.pop())) == 1 and len(digests) == 1

    def let_go(self) -> None:
        """After the run: hold on to nothing that lived in the loop."""
        for voter in self.voters.values():
            voter.quorum = voter.runner = None

    def describe(self) -> str:
        """Who is where."""
        parts = []
        for voter in self.voters.values():
            quorum = voter.quorum
            where = "" if quorum is None else f"term {quorum.term} applied {quorum.applied_index}/{quorum.last_index}"
            leads = " leads" if voter in self.leaders() else ""
            parts.append(f"{voter.process or voter.host + ' down'} {where}{leads}")
        return "; ".join(parts)


def chance_of(world: QuorumWorld, purpose: str) -> Random:
    """A generator of its own for each purpose."""
    return seeded(world.seed, purpose)
