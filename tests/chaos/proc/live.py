"""Inside the room: one run from the first start to the comparison of the files. Started by story.run_real.

python -m tests.chaos.proc.live DIRECTORY
"""

import asyncio
import contextlib
import sys
import traceback
from pathlib import Path

import msgspec

from ..checkers.replicas import ReplicaDump
from ..checkers.verdict import RunFacts, Verdict, judge, write_verdict
from ..failpoints import names
from ..faults.nemesis import Nemesis
from ..faults.plan import Act
from ..faults.player import Player
from ..history import Fault
from ..judge import HEAL, facts_of
from ..stage import Workload
from ..story import Config
from ..workloads import WORKLOADS
from . import room
from .arena import ProcessArena
from .dumps import dump_node
from .stage import ProcessStage

ORDER_FILE = "run.json"
RESULT_FILE = "result.json"
SPARE_S = 110.0
"""More than this beyond the time of the schedule, and the run has failed."""
READY_S_MAX = 40.0
WHOLE_S_MAX = 40.0
CALM_S = 8.0
"""Between the last mending and the end of the load: time to start again, and to be acknowledged again."""
READ_S_MAX = 45.0
SETTLE_S = 1.5


class RunOrder(msgspec.Struct):
    """What to live through. No act begins later than ``faults_s`` after the first.

    ``punctual``: see Player.play.
    """

    seed: int
    config: Config
    acts: list[Act]
    faults_s: float
    punctual: bool


class RunResult(msgspec.Struct):
    """What verdict and history do not tell. ``seconds``: how long it took, by the wall."""

    acts: list[Act]  # that were played
    effects: dict[str, int]
    died_at: dict[str, int]
    surprises: list[str]
    error: str | None
    seconds: float


class Life:
    """One run; ``live`` raises what went wrong beyond what checkers find."""

    def __init__(self, order: RunOrder, directory: Path) -> None:
        config = order.config
        self._order = order
        self._directory = directory
        kinds = frozenset(act.kind for act in order.acts)
        own = getattr(WORKLOADS[config.workload], "settings", {})
        self.arena = ProcessArena(
            directory / "nodes",
            config.nodes,
            observers=config.observers,
            kinds=kinds,
            bug=config.bug,
            settings=tuple(f"{name.replace('_', '.')}={value}" for name, value in {**own, **config.settings}.items()),
        )
        self._stage = ProcessStage(self.arena, order.seed, rate=config.rate, clients=config.clients)
        self._workload: Workload = WORKLOADS[config.workload](self._stage)
        self._dumps: list[ReplicaDump] = []
        self._played: list[Act] = []

    async def live(self) -> None:
        """Start, load, suffer, mend, read back, stop, compare."""
        config, arena, workload = self._order.config, self.arena, self._workload
        for host in arena.hosts:
            await arena.start(host)
        await arena.until_whole(READY_S_MAX)
        await workload.start()
        await asyncio.sleep(1)
        await self._suffer()
        await asyncio.sleep(CALM_S if self._order.acts else config.seconds)
        await workload.stop()
        await arena.until_whole(WHOLE_S_MAX)
        await self._read_back()
        await arena.until_whole(WHOLE_S_MAX)
        await asyncio.sleep(SETTLE_S)
        await asyncio.gather(*(arena.stop(host) for host in arena.hosts))
        for host in arena.hosts:
            self._dumps += dump_node(host, arena.member(host).data)
        assert self._dumps or config.workload == "meta", "no replica was found in the nodes' files"

    async def _read_back(self) -> None:
        """Bounded: a reader would wait for minutes for what is lost, and what it has not seen is judged anyway."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(getattr(self._workload, "read_s_max", READ_S_MAX)):
                await self._workload.verify()

    async def _suffer(self) -> None:
        if not self._order.acts:
            return
        faults = self._stage.history.faults
        player = Player(Nemesis(self.arena, names()), faults.append)
        order = self._order
        self._played = player.played
        await player.play(order.acts, order.faults_s, punctual=order.punctual)
        faults.append(Fault(int(self.arena.now_s() * 1e9), HEAL, "end"))

    def judged(self, error: str | None) -> Verdict:
        """By all checkers, and by what the nodes did that no fault explains."""
        history, config = self._stage.history, self._order.config
        known = RunFacts(
            workload=config.workload, backend="proc", seed=self._order.seed, config=msgspec.to_builtins(config)
        )
        faults = [fault for fault in history.faults if fault.kind != HEAL]
        verdict = judge(history.ops, faults, facts_of(history.faults, known), self._dumps)
        strange = [*([error] if error else []), *self.arena.surprises]
        if strange:
            verdict.valid = False
            verdict.bad_error_types = [*verdict.bad_error_types, *(text[:500] for text in strange)]
        return verdict

    def write(self, error: str | None) -> Verdict:
        """Everything into the directory."""
        verdict = self.judged(error)
        self._stage.history.write(self._directory)
        arena = self.arena
        result = RunResult(
            acts=self._played,
            effects=dict(arena.effects),
            died_at=dict(+arena.died_at),
            surprises=arena.surprises,
            error=error,
            seconds=arena.now_s(),
        )
        (self._directory / RESULT_FILE).write_bytes(msgspec.json.encode(result))
        write_verdict(self._directory, verdict)
        return verdict


async def live(directory: Path) -> bool:
    """The run that is written down in ``directory``; whether its verdict is good."""
    order = msgspec.json.decode((directory / ORDER_FILE).read_bytes(), type=RunOrder)
    life, error = Life(order, directory), None
    async with life.arena:
        try:
            async with asyncio.timeout(order.faults_s + SPARE_S):
                await life.live()
        except Exception as raised:
            traceback.print_exc()
            error = f"{type(raised).__name__}: {raised}"
        verdict = life.write(error)
        if verdict.valid is not True:
            for host in life.arena.hosts:
                await life.arena.kill(host)
                life.arena.member(host).keep_data()
    return verdict.valid is True


if __name__ == "__main__":
    room.enter()
    sys.exit(0 if asyncio.run(live(Path(sys.argv[1]))) else 1)
