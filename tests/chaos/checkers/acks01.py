"""What holds even for acks=0 and acks=1: loss is counted, but order, duplicates and visibility are judged.

An offset that a send was told of proves nothing, for its record may be lost and the offset used again; so versions
come from polls alone. What a poll showed was below the high watermark and must stay: ``read-then-gone``,
``read-then-changed``. The reads that decide are the *final passes*: assignments from the beginning that began after
the last send had ended.

Without idempotence a record may be stored twice only if it was sent again, or nobody knows what became of it: if its
operation ended as info, never ended, or says ``retried`` in its error; with ``hidden_retries``, where the client asks
again and does not tell, any may. Such copies are counted; others, and all with ``idempotent``, are faults. The first
copy must be in order all the same, for the next record was sent after the last one's answer; only what nobody knows of
may come late.
"""

from collections.abc import Iterable

from ..history import Op
from .cycles import check_cycles
from .findings import Findings
from .orders import check_polls, check_sends
from .queue import QueueResult, check_reads, check_versions, result_of
from .seen import check_lost_writes, check_unseen
from .versions import Deed, Versions, deeds_of, versions_of

RETRIED = "retried"


def check_acks01(ops: Iterable[Op], *, idempotent: bool = False, hidden_retries: bool = False) -> QueueResult:
    """Judge a history of the queue whose sends asked for less than all."""
    ops = list(ops)
    deeds = deeds_of(ops)
    versions = versions_of(deeds, from_sends=False)
    findings = Findings()
    unknown = {deed.number for deed in deeds if deed.type == "info" and not idempotent}
    allowed = set() if idempotent else _copies_allowed(ops, deeds, unknown, everywhere=hidden_retries)
    _check_copies(versions, allowed, findings)
    check_reads(deeds, versions, findings)
    check_lost_writes(versions, findings)
    unseen = check_unseen(deeds, findings)
    findings.excuse("lost-write", "unseen")
    check_polls(deeds, versions, findings)
    check_sends([deed for deed in deeds if deed.number not in unknown], versions, findings)
    check_cycles(deeds, versions, findings)
    check_stays(deeds, findings)
    return result_of(deeds, versions, findings, unseen)


def _copies_allowed(ops: list[Op], deeds: list[Deed], unknown: set[int], *, everywhere: bool) -> set[tuple[int, int]]:
    """Keys and values that may have been sent more than once."""
    error_of = {op.index: op.error or "" for op in ops}
    return {
        (key, value)
        for deed in deeds
        if everywhere or deed.number in unknown or RETRIED in error_of[deed.index]
        for key, _, value in deed.sent
    }


def _check_copies(versions: Versions, retried: set[tuple[int, int]], findings: Findings) -> None:
    found = Findings()
    check_versions(versions, found)
    for key, order in versions.orders.items():
        for value, last in order.last.items():
            if (first := order.first[value]) != last:
                offsets = [order.offsets[first], order.offsets[last]]
                bad = (key, value) not in retried
                findings.add("duplicate", bad=bad, key=key, value=value, offsets=offsets)
    found.errors.pop("duplicate", None)
    findings.merge(found)


def check_stays(deeds: list[Deed], findings: Findings) -> None:
    """Whatever a poll showed, the final passes show too, at the same offset."""
    final = _final_reads(deeds)
    told: set[tuple[int, int, int]] = set()
    for deed in deeds:
        for key, records in deed.polled:
            there = final.get(key)
            if there is None:
                continue
            for offset, value in records:
                now = there.get(offset)
                if now == value or (key, offset, value) in told:
                    continue
                told.add((key, offset, value))
                kind = "read-then-gone" if now is None else "read-then-changed"
                findings.fault(kind, key=key, offset=offset, value=value, now=now, op=deed.index)


def _final_reads(deeds: list[Deed]) -> dict[int, dict[int, int]]:
    """Key -> offset -> value, of all final passes together."""
    last_send_ns = max((deed.end_ns or deed.begin_ns for deed in deeds if deed.sent), default=-1)
    passing: dict[int, frozenset[int]] = {}  # process -> the keys it reads from the beginning
    final: dict[int, dict[int, int]] = {}
    for deed in deeds:
        if deed.f in ("assign", "subscribe"):
            begins = deed.from_beginning and deed.type == "ok" and deed.begin_ns >= last_send_ns
            passing[deed.process] = deed.keys if begins else passing.get(deed.process, frozenset()) & deed.keys
        elif deed.type == "ok":
            for key, records in deed.polled:
                if key in passing.get(deed.process, ()):
                    final.setdefault(key, {}).update(dict(records))
    return final
