"""One simulated run: a cluster forms, is loaded, suffers by its schedule, is mended, and is read back."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.simulation.invariants import Invariants, check_equal_logs, check_producers
from tests.simulation.planted import PLANTED
from tests.simulation.world import Outcome, SimulatedCluster, simulate

from .checkers.verdict import RunFacts, Verdict
from .failpoints import armed, names
from .faults.kinds import KINDS, ROT_KINDS
from .faults.nemesis import Nemesis
from .faults.plan import Act, plan
from .faults.player import Player
from .history import Fault, History
from .judge import HEAL, judge_run
from .sim import SimulatedArena, SimulatedStage
from .workloads import WORKLOADS

CHECK_EVERY_S = 0.05
CALM_S = 6.0
"""Between the last mending and the end of the load: time to be acknowledged again."""
ENDS_ONLY = ("unseen", "slow-unseen", "slow-recovery", "slow-settle", "unhandled", "uncommitted")
"""Findings that only a run that came to its end can have."""
SCRUB_MS = 2000
"""Where disks rot; else the scrubber would only make the traces longer."""
SETTLE_S = 1.5
"""A follower learns of the last high watermark with its next fetch."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of; with a seed it is the whole run."""

    workload: str = "queue"
    nemeses: tuple[str, ...] = tuple(KINDS)
    seconds: float = 60.0
    rate: float = 20.0
    clients: int = 5
    nodes: int = 3
    observers: int = 0
    bug: str | None = None
    punctual: bool = True  # see Player.play
    settings: dict[str, int] = {}  # of the nodes, beside the defaults


class Lived(msgspec.Struct):
    """What came of a run. ``acts``: the schedule that was played."""

    seed: int
    config: Config
    acts: list[Act]
    history: History
    verdict: Verdict
    effects: dict[str, int]
    passed: dict[str, int]  # failpoints
    died_at: dict[str, int]  # failpoints
    digest: str
    virtual_s: float
    steps: int
    trace: Any


def run_seed(seed: int, config: Config, acts: Sequence[Act] | None = None) -> Lived:
    """Live through one seed; ``acts`` in place of the schedule that the seed decides."""
    schedule = list(plan(seed, config.seconds, config.nemeses) if acts is None else acts)
    story = _Story(config, schedule, punctual=config.punctual and acts is None)
    planted = PLANTED[config.bug]() if config.bug else None
    if planted is not None:
        planted.__enter__()
    try:
        with armed(story.hit):
            outcome = simulate(
                seed, story.live, brokers=config.nodes, settings=_settings(config), observers=config.observers
            )
    finally:
        if planted is not None:
            planted.__exit__(None, None, None)
    return story.judged(outcome)


def _settings(config: Config) -> dict[str, object]:
    """Leaderships go back by themselves only where operators move things: elsewhere it would mend some acts' scenes."""
    rots = {"log_scrub_interval_ms": SCRUB_MS} if ROT_KINDS.keys() & set(config.nemeses) else {}
    own = getattr(WORKLOADS[config.workload], "settings", {})
    return {"auto_leader_rebalance_enable": "member" in config.nemeses, **rots, **own, **config.settings}


class _Story:
    def __init__(self, config: Config, acts: Sequence[Act], *, punctual: bool) -> None:
        self._config = config
        self._acts = acts
        self._punctual = punctual
        self._played: Sequence[Act] = []
        self._arena: SimulatedArena | None = None
        self._stage: SimulatedStage | None = None

    def hit(self, place: str) -> None:
        if self._arena is not None:
            self._arena.hit(place)

    async def live(self, cluster: SimulatedCluster) -> None:
        config = self._config
        stage = self._stage = SimulatedStage(cluster, rate=config.rate, clients=config.clients)
        arena = self._arena = SimulatedArena(cluster, stage)
        workload = WORKLOADS[config.workload](stage)
        durable = getattr(workload, "durable", False)
        player = Player(Nemesis(arena, names(), durable=durable), stage.history.faults.append)
        cluster.loop.every(getattr(workload, "check_every_s", CHECK_EVERY_S), Invariants(cluster).check)
        cluster.start_all()
        await cluster.until_ready()
        await workload.start()
        await asyncio.sleep(1)
        self._played = player.played
        await player.play(self._acts, config.seconds, punctual=self._punctual)
        if self._acts:
            stage.history.faults.append(Fault(int(cluster.loop.now * 1e9), HEAL, "end"))
        await asyncio.sleep(max(CALM_S, config.seconds + 1 - stage.now_s() if not self._acts else 0))
        await workload.stop()
        await cluster.until(cluster.in_sync, "whole again")
        await workload.verify()
        await cluster.until(cluster.in_sync, "whole at the end")
        await asyncio.sleep(SETTLE_S)
        check_equal_logs(cluster)
        check_producers(cluster)

    def judged(self, outcome: Outcome) -> Lived:
        assert self._stage is not None
        assert self._arena is not None
        history, arena = self._stage.history, self._arena
        known = RunFacts(
            workload=self._config.workload,
            backend="sim",
            seed=outcome.seed,
            trace_hash=outcome.digest,
            config=msgspec.json.decode(msgspec.json.encode(self._config)),
        )
        verdict = judge_run(history.ops, history.faults, known)
        if outcome.error is not None:  # the run ended there: what it did not come to see says nothing
            seen = [kind for kind in verdict.bad_error_types if kind not in ENDS_ONLY]
            verdict.valid = False
            verdict.bad_error_types = [f"{type(outcome.error).__name__}: {outcome.error}"[:500], *seen]
        return Lived(
            outcome.seed,
            self._config,
            list(self._played),
            history,
            verdict,
            dict(arena.effects),
            dict(arena.passed),
            dict(arena.died_at),
            outcome.digest,
            outcome.virtual_s,
            outcome.steps,
            outcome.loop.trace,
        )
