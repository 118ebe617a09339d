"""Did it come back in time, and did the run test anything at all? Pure."""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from ..history import Fault, Op, paired
from ..spans import spans_of
from .findings import Findings
from .meta import META_F
from .queue import outcomes_of
from .versions import Deed, deeds_of

FIRST_ACK_S_MAX = 5.0
UNSEEN_S_MAX = {"sim": 10.0, "proc": 20.0}
OK_SHARE_MIN = 0.5
NS = 1_000_000_000
UNCOUNTED_F = frozenset(("crash", "debug", "settle", "old-commit", "commit", "fetch", "beat"))
"""They never end as ok, or need not: of a group's requests each attempt is an operation."""


class Recovery(msgspec.Struct):
    """Milliseconds; None for what never came or was not asked for."""

    first_ack_ms: float | None = None  # after the last healing
    unseen_ms: float | None = None  # from then, or the end of the last send, until everything acknowledged was polled
    ms_max: float | None = None  # the longest of the times from the end of all faults to the next acknowledgement


def check_recovery(
    ops: Iterable[Op],
    faults: list[Fault],
    healed_ns: int | None,
    backend: Literal["sim", "proc"] = "sim",
) -> tuple[Recovery, Findings]:
    """``healed_ns``: when everything was mended for good; None for a run without faults, where nothing is judged here.

    ``slow-recovery``: no acknowledgement in time, though somebody was sending; ``slow-unseen``: polls came too late.
    """
    deeds, findings, recovery = deeds_of(ops), Findings(), Recovery()
    acks = sorted(deed.end_ns for deed in deeds if deed.sent and deed.type == "ok" and deed.end_ns is not None)
    recovery.ms_max = _longest(faults, acks)
    if healed_ns is None:
        return recovery, findings
    recovery.first_ack_ms = next((_ms(ack - healed_ns) for ack in acks if ack >= healed_ns), None)
    limit_ms = FIRST_ACK_S_MAX * 1000
    if recovery.first_ack_ms is None:
        late = _anybody_waited(deeds, healed_ns, healed_ns + int(FIRST_ACK_S_MAX * NS))
    else:
        late = recovery.first_ack_ms > limit_ms
    if late:
        findings.fault("slow-recovery", first_ack_ms=recovery.first_ack_ms, limit_ms=limit_ms)
    recovery.unseen_ms = _unseen_ms(deeds, healed_ns)
    limit_ms = UNSEEN_S_MAX[backend] * 1000
    if recovery.unseen_ms is None or recovery.unseen_ms > limit_ms:
        findings.fault("slow-unseen", unseen_ms=recovery.unseen_ms, limit_ms=limit_ms)
    return recovery, findings


def _ms(ns: int) -> float:
    return ns / 1_000_000


def _anybody_waited(deeds: list[Deed], from_ns: int, until_ns: int) -> bool:
    """Whether a send was under way at some time of the interval, and had the rest of it to be answered in."""
    return any(deed.sent and deed.begin_ns < until_ns and (deed.end_ns or until_ns) >= from_ns for deed in deeds)


def _unseen_ms(deeds: list[Deed], healed_ns: int) -> float | None:
    waiting = {(key, value): deed.end_ns for deed in deeds if deed.type == "ok" for key, _, value in deed.sent}
    from_ns = max([healed_ns, *(deed.end_ns for deed in deeds if deed.sent and deed.end_ns is not None)])
    done_ns = from_ns
    for deed in deeds:
        if deed.type == "ok" and deed.end_ns is not None:
            for key, records in deed.polled:
                for _, value in records:
                    if waiting.pop((key, value), None) is not None:
                        done_ns = max(done_ns, deed.end_ns)
    return None if waiting else _ms(done_ns - from_ns)


def _longest(faults: list[Fault], acks: list[int]) -> float | None:
    """From each moment at which no fault was left, if nothing else began before the acknowledgement."""
    spans = spans_of(faults, until_ns=acks[-1] + 1 if acks else 0)
    starts = [span.fault.time_ns for span in spans]
    times: list[float] = []
    for end_ns in sorted({span.end_ns for span in spans}):
        if any(span.fault.time_ns <= end_ns < span.end_ns for span in spans):
            continue
        at = bisect_left(acks, end_ns)
        if at < len(acks) and not any(end_ns < start_ns < acks[at] for start_ns in starts):
            times.append(_ms(acks[at] - end_ns))
    return max(times, default=None)


def lack_of_progress(
    ops: Iterable[Op],
    faults: Iterable[Fault],
    expected_f: Collection[str] = (),
    expected_kinds: Collection[str] = (),
) -> list[str]:
    """Why the run proves nothing; empty if it does. At least half of the operations of each f, and one, must be ok;
    every kind of fault of the run must have met something at least once. Of changes to topics a refusal counts as half
    an answer: it is as good as ok, but not if there is nothing else of an expected f."""
    reasons: list[str] = []
    pairs = paired(ops)
    outcomes = outcomes_of((pair.begin.f, pair.type) for pair in pairs if pair.begin.f not in UNCOUNTED_F)
    for f in sorted({*outcomes, *expected_f}):
        counts = outcomes.get(f, {})
        ok, total = counts.get("ok", 0), sum(counts.values())
        answered = ok + (counts.get("fail", 0) if f in META_F else 0)
        if not ok and (f in expected_f or not answered):
            reasons.append(f"no {f} was ok, of {total}")
        elif answered < total * OK_SHARE_MIN:
            reasons.append(f"only {answered} of {total} {f} were ok")
    met = {fault.kind for fault in faults if fault.action == "start" and fault.effective}
    reasons.extend(f"no {kind} was effective" for kind in sorted(set(expected_kinds) - met))
    return reasons
