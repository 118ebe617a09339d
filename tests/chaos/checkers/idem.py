"""Idempotence: however often a value was sent again, the log has it once, and each producer's in the order sent.

A process is a producer: one session of one client. It may send a value in several operations; only the same process may
send it again, for to the cluster another producer's record is another record. The answers must name one offset:
``inconsistent-ack``. The rest is the queue's: loss, unseen, phantoms, G1a where every attempt failed, polls.
"""

from collections.abc import Iterable

from ..history import Op
from .findings import Findings
from .orders import check_polls
from .queue import QueueResult, check_reads, check_versions, result_of
from .seen import check_lost_writes, check_unseen
from .versions import Deed, Versions, deeds_of, versions_of

CERTAINTY = {"fail": 0, "info": 1, "ok": 2}


def check_idempotence(ops: Iterable[Op]) -> QueueResult:
    """Judge a history in which values are sent again."""
    deeds = deeds_of(ops)
    versions = versions_of(deeds)
    _choose_writers(deeds, versions)
    findings = Findings()
    check_versions(versions, findings)
    check_reads(deeds, versions, findings)
    check_lost_writes(versions, findings)
    unseen = check_unseen(deeds, findings)
    check_polls(deeds, versions, findings)
    _check_acks(deeds, findings)
    _check_order(deeds, versions, findings)
    return result_of(deeds, versions, findings, unseen)


def _choose_writers(deeds: list[Deed], versions: Versions) -> None:
    """Of all attempts the one that knows most speaks for the value."""
    for deed in deeds:
        for key, _, value in deed.sent:
            known = versions.writers[key, value]
            if CERTAINTY[deed.type] > CERTAINTY[known.type]:
                versions.writers[key, value] = deed


def _check_acks(deeds: list[Deed], findings: Findings) -> None:
    told: dict[tuple[int, int], tuple[int, int]] = {}  # (key, value) -> offset, op
    for deed in deeds:
        if deed.type == "ok":
            for key, offset, value in deed.sent:
                if offset is None:
                    continue
                before, op = told.setdefault((key, value), (offset, deed.index))
                if before != offset:
                    findings.fault(
                        "inconsistent-ack", key=key, value=value, offsets=[before, offset], ops=[op, deed.index]
                    )


def _check_order(deeds: list[Deed], versions: Versions, findings: Findings) -> None:
    """By the first attempt of each value; of what failed nothing is expected."""
    last: dict[tuple[int, int], tuple[int, int]] = {}  # (process, key) -> index, value
    begun: set[tuple[int, int]] = set()
    for deed in sorted(deeds, key=lambda deed: (deed.begin_ns, deed.index)):
        for key, _, value in deed.sent:
            if (key, value) in begun:
                continue
            begun.add((key, value))
            order = versions.orders.get(key)
            index = None if order is None else order.first.get(value)
            if index is None:
                continue
            before = last.get((deed.process, key))
            if before is not None and index < before[0]:
                example = {"key": key, "process": deed.process, "op": deed.index, "values": [before[1], value]}
                findings.fault("nonmonotonic-send", **example)
            last[deed.process, key] = (index, value)
