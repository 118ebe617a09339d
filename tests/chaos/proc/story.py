"""One run on real processes: the same schedule, loads and checkers as a simulated one, in a room of its own."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..checkers.verdict import RunFacts as _RunFacts, Verdict, judge, read_verdict
from ..faults.plan import Act, plan
from ..history import FAULTS_FILE, OPS_FILE, History, read_faults, read_ops
from ..story import Config, Lived
from . import room
from .arena import ProcessArena
from .live import ORDER_FILE, RESULT_FILE, RunOrder, RunResult

LIMIT_S = 120.0
"""Beyond the time of the schedule; then everything in the room is killed."""
ACT_S_MAX = 30.0
"""For one act of a given schedule."""
OUTPUT_FILE = "runner.log"
NODES = "nodes"


def run_real(seed: int, config: Config, acts: Sequence[Act] | None = None, *, directory: Path) -> Lived:
    """Live through one seed on real processes; ``acts`` in place of the schedule that the seed decides.

    Kinds that this backend cannot do are left out. ``directory`` is made, and has history, verdict and the nodes' logs
    afterwards; their data too, unless all went well. Raises RuntimeError where there can be no room (room.why_not).
    """
    reason = room.why_not()
    if reason is not None:
        raise RuntimeError(reason)
    chosen = plan(seed, config.seconds, ProcessArena.able & set(config.nemeses)) if acts is None else acts
    faults_s = config.seconds if acts is None else max(config.seconds, ACT_S_MAX * len(acts))
    order = RunOrder(seed, config, [act for act in chosen if act.kind in ProcessArena.able], faults_s, acts is None)
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    for name in (RESULT_FILE, OPS_FILE, FAULTS_FILE, OUTPUT_FILE):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / NODES, ignore_errors=True)
    (directory / ORDER_FILE).write_bytes(msgspec.json.encode(order))
    code = room.run_inside(
        "tests.chaos.proc.live",
        [str(directory)],
        limit_s=faults_s + LIMIT_S,
        output=directory / OUTPUT_FILE,
    )
    return _lived(order, directory, code)


def _lived(order: RunOrder, directory: Path, code: int) -> Lived:
    verdict = read_verdict(directory) if (directory / RESULT_FILE).exists() else None
    if verdict is None:
        words = (directory / OUTPUT_FILE).read_text(errors="replace")[-1000:]
        what = "was ended by the watchdog" if code == room.EXIT_TIMED_OUT else f"ended with {code}"
        verdict = _failed(order, f"the runner {what}: {words}")
        result = RunResult([], {}, {}, [], what, order.faults_s + LIMIT_S)
    else:
        result = msgspec.json.decode((directory / RESULT_FILE).read_bytes(), type=RunResult)
    if verdict.valid is True:
        for data in (directory / NODES).glob("*/"):
            shutil.rmtree(data, ignore_errors=True)
    return Lived(
        seed=order.seed,
        config=order.config,
        acts=result.acts,
        history=_read_history(directory),
        verdict=verdict,
        effects=result.effects,
        passed={},
        died_at=result.died_at,
        digest="",
        virtual_s=result.seconds,
        steps=0,
        trace=None,
    )


def _failed(order: RunOrder, why: str) -> Verdict:
    facts = _RunFacts(workload=order.config.workload, backend="proc", seed=order.seed)
    verdict = judge([], [], facts)
    verdict.valid, verdict.bad_error_types = False, [why]
    return verdict


def _read_history(directory: Path) -> History:
    history = History(lambda: 0)
    if (directory / OPS_FILE).exists():
        history.ops, history.faults = read_ops(directory / OPS_FILE), read_faults(directory / FAULTS_FILE)
    return history
