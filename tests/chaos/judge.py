"""A verdict on a run, as it ends or from what was written down of it."""

from pathlib import Path

import msgspec

from .checkers.verdict import RunFacts, Verdict, judge, read_verdict
from .history import FAULTS_FILE, OPS_FILE, Fault, Op, read_faults, read_ops
from .workloads import WORKLOADS

HEAL = "heal"
"""The record of the last mending."""


def facts_of(faults: list[Fault], known: RunFacts) -> RunFacts:
    """``known`` completed by what the workload is and the faults tell."""
    workload = WORKLOADS[known.workload]
    healed = [fault.time_ns for fault in faults if fault.kind == HEAL]
    return msgspec.structs.replace(
        known,
        expected_f=list(workload.expected_f),
        healed_ns=healed[-1] if healed else None,
        **workload.facts,  # type: ignore[arg-type]
    )


def judge_run(ops: list[Op], faults: list[Fault], known: RunFacts) -> Verdict:
    """What the checkers say."""
    return judge(ops, [fault for fault in faults if fault.kind != HEAL], facts_of(faults, known))


def judge_directory(directory: Path) -> Verdict:
    """The same of a run that was written down, with the checkers as they are now."""
    told = read_verdict(directory)
    known = (
        RunFacts()
        if told is None
        else RunFacts(
            workload=told.workload,
            backend=told.backend,  # type: ignore[arg-type]
            seed=told.seed,
            trace_hash=told.trace_hash,
            config=told.config,
        )
    )
    return judge_run(read_ops(directory / OPS_FILE), read_faults(directory / FAULTS_FILE), known)
