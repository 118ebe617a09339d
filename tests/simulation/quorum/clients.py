"""Clients of a simulated quorum: what they asked, what they were told, and whether it can be true.

Each request (a write, a compare-and-set, a read behind a barrier) is a wish that ends only with an answer; what became
UNKNOWN is asked again under its name, and the state machine knows it. The log gives the order in which requests had
their effect, so linearizability is one comparison for each: whatever was answered before a request began has its
effect before, and what an answer says is what the registers held there (Herlihy and Wing, 1990).
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from ottla.raft.quorum import MetadataQuorum, Outcome, Proposal, QuorumUnavailable

from .machine import Command, Kind, Result
from .voter import Voter
from .world import QuorumWorld, chance_of

T = TypeVar("T")

CLIENTS = 4
REGISTERS = 4
PAUSE_S = (0.05, 0.4)
CALL_TIMEOUT_S = 2.5
APPLIED_TIMEOUT_S = 1.0


class Clients:
    """``answered`` counts answers per client; ``outcomes`` every kind of answer, with its reason."""

    def __init__(self, world: QuorumWorld) -> None:
        self.world = world
        self.answered: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self._ledger = world.ledger
        self._chance = chance_of(world, "clients")
        self._floor = 1  # the latest effect of any request that was answered
        self._last_values: Counter[int] = Counter()
        self._values = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False

    def start(self) -> None:
        self._tasks = [self.world.loop.spawn("client", self._live(number)) for number in range(CLIENTS)]

    def let_go(self) -> None:
        """After the run: hold on to nothing that lived in the loop."""
        self._tasks = []

    async def finish(self) -> None:
        """Let each end what it is at."""
        self._over = True
        done, pending = await asyncio.wait(self._tasks, timeout=10)
        if pending:
            self._ledger.breaks(f"{len(pending)} clients still wait for an answer: {self.world.describe()}")
        for task in done:
            task.result()

    async def _live(self, client: int) -> None:
        sequence = 0
        while not self._over:
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))
            sequence += 1
            if self._chance.random() < 0.3:
                await self._read()
            else:
                await self._change(client, sequence)
            self.answered[client] += 1

    # --- asking ------------------------------------------------------------------------------------------------------

    def _somebody(self) -> Voter | None:
        """Mostly one that says it leads, the stale ones too."""
        leaders = self.world.leaders()
        if leaders and self._chance.random() < 0.97:
            return self._chance.choice(leaders)
        up = [voter for voter in self.world.voters.values() if voter.up]
        return self._chance.choice(up) if up and self._chance.random() < 0.2 else None

    async def _ask(self, voter: Voter, call: Coroutine[Any, Any, T]) -> T | None:
        """In the voter's process; None where no answer came."""
        process = voter.process
        assert process is not None
        task = self.world.loop.spawn(process, call)
        await asyncio.wait([task], timeout=CALL_TIMEOUT_S)
        return task.result() if task.done() and not task.cancelled() else None

    async def _change(self, client: int, sequence: int) -> None:
        kind = self._chance.choices(("write", "swap", "poison"), (60, 38, 2))[0]
        key = self._chance.randrange(REGISTERS)
        self._values += 1
        value = self._values
        expected = self._last_values[key] or None if kind == "swap" else None
        if kind == "write":
            self._last_values[key] = value
        floor, attempt = self._floor, 0
        while True:
            voter = self._somebody()
            if voter is None or voter.quorum is None:
                await asyncio.sleep(0.1)
                continue
            attempt += 1
            command = Command(client, sequence, attempt, _kind(kind), key, value, expected)
            answer = await self._ask(voter, voter.quorum.propose(msgspec.msgpack.encode(command)))
            if self._settled(command, answer, floor):
                return
            await asyncio.sleep(self._chance.uniform(0.02, 0.3))

    async def _read(self) -> None:
        floor, key = self._floor, self._chance.randrange(REGISTERS)
        while True:
            voter = self._somebody()
            if voter is not None and voter.quorum is not None:
                answer = await self._ask(voter, _read(voter.quorum, voter, key))
                if answer is not None:
                    self._was_read(key, *answer, floor)
                    return
                self.outcomes["read refused"] += 1
            await asyncio.sleep(self._chance.uniform(0.05, 0.3))

    # --- checking ----------------------------------------------------------------------------------------------------

    def _settled(self, command: Command, answer: Proposal | None, floor: int) -> bool:
        """Note one answer to one attempt; whether it ends the request."""
        if answer is None or answer.outcome is Outcome.UNKNOWN:
            self.outcomes["UNKNOWN " + ("no answer" if answer is None else answer.reason)] += 1
            return False
        if answer.outcome is Outcome.FAILED:
            return self._was_failed(command, answer)
        self.outcomes["OK"] += 1
        self._was_acknowledged(command, answer, floor)
        return True

    def _was_failed(self, command: Command, answer: Proposal) -> bool:
        raised = answer.reason.startswith("APPLY_RAISED")
        self.outcomes["FAILED " + ("APPLY_RAISED" if raised else answer.reason)] += 1
        if raised:
            return True
        self._ledger.failed.add(command.name)
        if command.name in self._ledger.attempts:
            self._ledger.breaks(f"{command} was applied, and then reported FAILED: {answer.reason}")
        return False

    def _was_acknowledged(self, command: Command, answer: Proposal, floor: int) -> None:
        ledger = self._ledger
        index, data = answer.index, answer.result
        if index is None or data is None or ledger.commands.get(index) != msgspec.msgpack.encode(command):
            ledger.breaks(f"{command} was acknowledged at {index}, which holds {ledger.commands.get(index or 0)!r}")
            return
        result = msgspec.msgpack.decode(data, type=Result)
        if data != ledger.results.get(index) or result.index != ledger.effects.get(command.request):
            ledger.breaks(f"{command} was told {result}, its effect was at {ledger.effects.get(command.request)}")
        if result.index <= floor:
            ledger.breaks(f"{command} had its effect at {result.index}, and began after {floor} was answered")
        if result.held != ledger.value_at(command.key, result.index - 1):
            ledger.breaks(f"{command} found {result.held} at {result.index}")
        if result.done != (command.kind == "write" or result.held == command.expected):
            ledger.breaks(f"{command} was told {result}")
        self._floor = max(self._floor, result.index)
        self.outcomes["repeated request answered from memory"] += result.index != index

    def _was_read(self, key: int, value: int | None, at: int, floor: int) -> None:
        if at < floor:
            self._ledger.breaks(f"a read saw the state at {at} after {floor} was answered")
        if value != self._ledger.value_at(key, at):
            self._ledger.breaks(f"a read at {at} saw {value}, not {self._ledger.value_at(key, at)}")
        self.outcomes["read behind a barrier"] += 1
        self._floor = max(self._floor, at)


def _kind(kind: str) -> Kind:
    assert kind == "write" or kind == "swap" or kind == "poison"
    return kind


async def _read(quorum: MetadataQuorum, voter: Voter, key: int) -> tuple[int | None, int] | None:
    try:
        index = await quorum.read_barrier()
        await quorum.wait_applied(index, APPLIED_TIMEOUT_S)
    except (QuorumUnavailable, TimeoutError):
        return None
    return voter.machine.get(key), quorum.applied_index
