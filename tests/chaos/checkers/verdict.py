"""All checkers of a run brought together: ``verdict.json``."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..history import Fault, Op, paired
from .acks01 import check_acks01
from .compact import COMPACT_F, check_compact
from .findings import Findings, Found
from .group import GROUP_F, check_group, lack_of_group_progress
from .idem import check_idempotence
from .liveness import Recovery, check_recovery, lack_of_progress
from .meta import META_F, check_meta
from .queue import QueueResult, check_queue, outcomes_of
from .replicas import ReplicaDump, check_replicas
from .seen import Lag

VERDICT_FILE = "verdict.json"
INVALID = "INVALID"


class RunFacts(msgspec.Struct):
    """What the checkers cannot read off a history. ``expected_f`` and ``nemeses`` are what the run set out to do."""

    workload: str = "queue"
    backend: Literal["sim", "proc"] = "sim"
    seed: int | None = None
    git: str = ""
    trace_hash: str = ""
    config: dict[str, Any] = {}
    expected_f: list[str] = []
    nemeses: list[str] = []
    healed_ns: int | None = None  # when everything was mended for good; None: nothing ever broke
    loss_allowed: bool = False  # more lost power than is promised to be survived
    idempotent: bool = False  # of acks01: its producers are
    hidden_retries: bool = False  # of meta and acks01: the client asks again by itself, and does not tell


class Verdict(msgspec.Struct):
    """``valid``: True, False, or "INVALID": nothing bad was seen, but the run proves nothing (``invalid_because``)."""

    valid: bool | str
    bad_error_types: list[str]
    errors: dict[str, Found]
    allowed: dict[str, Found]
    invalid_because: list[str]
    fault_model: str
    ops: int
    acked: int
    outcomes: dict[str, dict[str, int]]
    faults: dict[str, int]  # kind -> how many were effective
    recovery: Recovery
    worst_lag: Lag | None
    bad_keys: list[int]
    unseen: list[tuple[int, int]]
    workload: str
    backend: str
    seed: int | None
    git: str
    trace_hash: str
    config: dict[str, Any]


def judge(
    ops: Iterable[Op],
    faults: Iterable[Fault],
    facts: RunFacts,
    replicas: Iterable[ReplicaDump] = (),
    invariants: Findings | None = None,
) -> Verdict:
    """``invariants``: what was found by those who watch something else than the history, such as invariants."""
    ops, faults = list(ops), list(faults)
    result = _queue_checker(facts, calm=not faults)([op for op in ops if op.f not in META_F | COMPACT_F | GROUP_F])
    findings = Findings(result.errors, result.allowed)
    meta_ops = [op for op in ops if op.f in META_F]
    findings.merge(check_meta(meta_ops, hidden_retries=facts.hidden_retries))
    compact_ops = [op for op in ops if op.f in COMPACT_F]
    findings.merge(check_compact(compact_ops))
    group_ops = [op for op in ops if op.f in GROUP_F]
    findings.merge(check_group(group_ops, facts.healed_ns, facts.backend))
    findings.merge(check_replicas(replicas))
    recovery, recovery_findings = check_recovery(ops, faults, facts.healed_ns, facts.backend)
    if facts.loss_allowed or facts.workload == "acks01":
        recovery_findings.excuse("slow-unseen")
    findings.merge(recovery_findings)
    if invariants is not None:
        findings.merge(invariants)
    reasons = lack_of_progress(ops, faults, facts.expected_f, facts.nemeses)
    if facts.workload == "group":
        reasons += lack_of_group_progress(group_ops)
    others = [*meta_ops, *compact_ops, *group_ops]
    result.outcomes |= outcomes_of((pair.begin.f, pair.type) for pair in paired(others))
    result.ops += sum(op.type == "invoke" for op in others)
    result.acked += sum(op.type == "ok" and op.f in ("put", "put-one") for op in others)
    return _verdict(result, findings, recovery, reasons, faults, facts)


def _queue_checker(facts: RunFacts, *, calm: bool) -> Callable[[Iterable[Op]], QueueResult]:
    if facts.workload == "acks01":
        # Where nothing went wrong there was no reason to send again.
        return partial(check_acks01, idempotent=facts.idempotent, hidden_retries=facts.hidden_retries and not calm)
    if facts.workload == "idem":
        return check_idempotence
    return partial(check_queue, loss_allowed=facts.loss_allowed)


def _verdict(
    result: QueueResult,
    findings: Findings,
    recovery: Recovery,
    reasons: list[str],
    faults: list[Fault],
    facts: RunFacts,
) -> Verdict:
    met = Counter(fault.kind for fault in faults if fault.action == "start" and fault.effective)
    return Verdict(
        valid=False if not findings.valid else INVALID if reasons else True,
        bad_error_types=sorted(findings.errors),
        errors=findings.errors,
        allowed=findings.allowed,
        invalid_because=reasons,
        fault_model=_fault_model(facts),
        ops=result.ops,
        acked=result.acked,
        outcomes=result.outcomes,
        faults=dict(sorted(met.items())),
        recovery=recovery,
        worst_lag=result.worst_lag,
        bad_keys=result.bad_keys,
        unseen=result.unseen,
        workload=facts.workload,
        backend=facts.backend,
        seed=facts.seed,
        git=facts.git,
        trace_hash=facts.trace_hash,
        config=facts.config,
    )


def _fault_model(facts: RunFacts) -> str:
    if facts.workload == "acks01":
        return "acks 0 and 1: loss is allowed and counted; order, copies and what was once read are judged"
    if facts.loss_allowed:
        return "more replicas lost power than min.insync.replicas - 1: loss is allowed and counted, the rest is judged"
    return "at most min.insync.replicas - 1 replicas lost power at a time: nothing acknowledged may be lost"


def write_verdict(directory: Path, verdict: Verdict) -> None:
    """``directory``/verdict.json, for people and machines."""
    encoded = msgspec.json.format(msgspec.json.encode(verdict, order="sorted"), indent=1)
    (directory / VERDICT_FILE).write_bytes(encoded + b"\n")


def read_verdict(directory: Path) -> Verdict | None:
    """None where none has been written."""
    path = directory / VERDICT_FILE
    return msgspec.json.decode(path.read_bytes(), type=Verdict) if path.exists() else None
