"""The queue's checker: jepsen.tests.kafka's anomalies over a history of sends, polls and assignments.

| anomaly | meaning |
|---|---|
| inconsistent-offsets | one offset of a key held two values |
| duplicate | one value at two offsets of a key |
| lost-write | committed and read by nobody, though what lies behind it was read |
| unseen | acknowledged, and nobody had polled it when the history ended |
| G1a | an ok poll showed a value whose send failed |
| precommitted-read | an operation polled what it sent itself |
| phantom-read | a poll showed a value that nobody sent |
| int-poll-skip, int-nonmonotonic-poll | one operation skipped versions of a key, or went back |
| poll-skip, nonmonotonic-poll | so did one operation after the last of its process; with subscribe allowed |
| nonmonotonic-send, int-nonmonotonic-send | a process's sends are in another order in the log |
| int-send-skip (allowed) | others wrote between the sends of one operation |
| G0, G1c-ww (allowed), G1c | cycles.py |
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from ..history import Op
from .cycles import check_cycles
from .findings import Findings, Found
from .orders import check_polls, check_sends
from .seen import Lag, check_lost_writes, check_unseen, worst_realtime_lag
from .versions import QUEUE_F, Deed, Versions, deeds_of, versions_of


class QueueResult(msgspec.Struct):
    """What became of a history's operations, and the anomalies among them."""

    valid: bool
    bad_error_types: list[str]
    errors: dict[str, Found]
    allowed: dict[str, Found]
    ops: int
    acked: int  # values whose send was acknowledged
    outcomes: dict[str, dict[str, int]]  # f -> ok, info, fail -> how many
    unseen: list[tuple[int, int]]  # time ns, values acknowledged and not polled by then
    worst_lag: Lag | None
    bad_keys: list[int]


def check_queue(ops: Iterable[Op], *, loss_allowed: bool = False) -> QueueResult:
    """``loss_allowed``: more was taken from the cluster than it promises to survive; loss is counted, the rest judged.

    What a send was told is then no proof of what an offset holds: its record may be gone and the offset used again.
    """
    deeds = deeds_of(ops)
    versions = versions_of(deeds, from_sends=not loss_allowed)
    findings = Findings()
    check_versions(versions, findings)
    check_reads(deeds, versions, findings)
    check_lost_writes(versions, findings)
    unseen = check_unseen(deeds, findings)
    check_polls(deeds, versions, findings)
    check_sends(deeds, versions, findings)
    check_cycles(deeds, versions, findings)
    if loss_allowed:
        findings.excuse("lost-write", "unseen")
    return result_of(deeds, versions, findings, unseen)


def check_versions(versions: Versions, findings: Findings) -> None:
    """One value at an offset, and one offset for a value."""
    for key, order in versions.orders.items():
        for offset, values in zip(order.offsets, order.values, strict=True):
            if len(values) > 1:
                findings.fault("inconsistent-offsets", key=key, offset=offset, values=sorted(values))
        if order.first is order.last:
            continue
        for value, last in order.last.items():
            if (first := order.first[value]) != last:
                offsets = [order.offsets[first], order.offsets[last]]
                findings.fault("duplicate", key=key, value=value, offsets=offsets)


def check_reads(deeds: list[Deed], versions: Versions, findings: Findings) -> None:
    """Nobody is shown what was never sent, what was aborted, or what is their own and not yet committed."""
    writers = versions.writers
    for deed in deeds:
        for key, records in deed.polled:
            for offset, value in records:
                writer = writers.get((key, value))
                if writer is not None and writer is not deed and writer.type != "fail":
                    continue
                example = {"key": key, "offset": offset, "value": value, "process": deed.process, "op": deed.index}
                if writer is None:
                    findings.fault("phantom-read", **example)
                elif writer is deed:
                    findings.fault("precommitted-read", **example)
                elif deed.type == "ok":
                    findings.fault("G1a", **example, writer=writer.index)


def result_of(deeds: list[Deed], versions: Versions, findings: Findings, unseen: list[tuple[int, int]]) -> QueueResult:
    """The findings and the figures."""
    examples = [example for found in findings.errors.values() for example in found.first]
    return QueueResult(
        valid=findings.valid,
        bad_error_types=sorted(findings.errors),
        errors=findings.errors,
        allowed=findings.allowed,
        ops=sum(deed.f in QUEUE_F for deed in deeds),
        acked=sum(len(deed.sent) for deed in deeds if deed.type == "ok"),
        outcomes=outcomes_of((deed.f, deed.type) for deed in deeds),
        unseen=unseen,
        worst_lag=worst_realtime_lag(deeds, versions),
        bad_keys=sorted({example["key"] for example in examples if "key" in example}),
    )


def outcomes_of(ended: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """(f, type) of each operation, counted."""
    counts = Counter(ended)
    names = sorted({f for f, _ in counts})
    return {f: {kind: counts[f, kind] for kind in ("ok", "info", "fail")} for f in names}
