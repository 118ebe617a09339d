"""From when to when faults lasted, out of their starts and ends."""

from collections.abc import Iterable
from typing import NamedTuple

from .history import Fault

HEAL = "heal"
"""The kind whose end ends everything."""


class Span(NamedTuple):
    """A fault, as it started, and when it was over."""

    fault: Fault
    end_ns: int


def spans_of(faults: Iterable[Fault], until_ns: int) -> list[Span]:
    """By their starts. An end closes the faults of its kind, those of its targets or all if it names none; what has no
    end lasts until ``until_ns``."""
    under_way: list[Fault] = []
    spans: list[Span] = []
    for fault in sorted(faults, key=lambda fault: fault.time_ns):
        if fault.action == "start":
            under_way.append(fault)
            continue
        over = [other for other in under_way if _ends(fault, other)]
        spans.extend(Span(other, fault.time_ns) for other in over)
        under_way = [other for other in under_way if not _ends(fault, other)]
    spans.extend(Span(fault, until_ns) for fault in under_way)
    return sorted(spans, key=lambda span: (span.fault.time_ns, span.end_ns))


def _ends(end: Fault, fault: Fault) -> bool:
    if end.kind == HEAL:
        return True
    return end.kind == fault.kind and (not end.targets or set(fault.targets) <= set(end.targets))
