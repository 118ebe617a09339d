"""Whether what was acknowledged is seen: in the end, while the run lasts, and how late. Pure."""

import msgspec

from .findings import Findings
from .versions import Deed, Versions

SERIES_MAX = 600


class Lag(msgspec.Struct):
    """How stale a poll was at least: it began ``ns`` after a value it should have come to had been acknowledged."""

    ns: int
    key: int
    process: int
    op: int


def check_lost_writes(versions: Versions, findings: Findings) -> None:
    """Committed values that nobody read, although somebody read what lies behind them."""
    for key, order in versions.orders.items():
        bound = max((order.first[value] for value in order.last if (key, value) in versions.read), default=-1)
        for value, index in order.last.items():
            if index > bound or (key, value) in versions.read:
                continue
            writer = versions.writers.get((key, value))
            if writer is not None and versions.committed(writer):
                findings.fault("lost-write", key=key, value=value, op=writer.index, index=index, read_up_to=bound)


def check_unseen(deeds: list[Deed], findings: Findings) -> list[tuple[int, int]]:
    """At the end everything acknowledged must have been polled. Returns [(time ns, how many were not)], thinned."""
    waiting: dict[tuple[int, int], int] = {}
    seen: set[tuple[int, int]] = set()
    series: list[tuple[int, int]] = []
    for deed in deeds:
        if deed.type != "ok" or deed.end_ns is None:
            continue
        before = len(waiting)
        for key, _, value in deed.sent:
            if (key, value) not in seen:
                waiting.setdefault((key, value), deed.index)
        for key, records in deed.polled:
            for _, value in records:
                if (key, value) not in seen:
                    seen.add((key, value))
                    waiting.pop((key, value), None)
        if len(waiting) != before:
            series.append((deed.end_ns, len(waiting)))
    for (key, value), op in waiting.items():
        findings.fault("unseen", key=key, value=value, op=op)
    return thinned(series)


def thinned(series: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most SERIES_MAX points (and the last): the highest of each stretch, for peaks are what matters."""
    stride = -(-len(series) // SERIES_MAX) or 1
    kept = [max(series[at : at + stride], key=lambda point: point[1]) for at in range(0, len(series), stride)]
    if series and kept[-1] != series[-1]:
        kept.append(series[-1])
    return kept


def worst_realtime_lag(deeds: list[Deed], versions: Versions) -> Lag | None:
    """A lower bound: counted from the acknowledgement, or from when the process was given the key if that is later."""
    oldest_behind = _oldest_acks(deeds, versions)
    holding: dict[int, dict[int, int]] = {}  # process -> key -> since when
    positions: dict[tuple[int, int], int] = {}
    worst: Lag | None = None
    for deed in deeds:
        if deed.f in ("assign", "subscribe") and deed.type == "ok" and deed.end_ns is not None:
            kept = {} if deed.from_beginning else holding.get(deed.process, {})
            for key in deed.keys - kept.keys():
                positions.pop((deed.process, key), None)
            holding[deed.process] = {key: kept.get(key, deed.end_ns) for key in deed.keys}
        elif deed.f in ("poll", "txn") and deed.type == "ok":
            for key, records in deed.polled:
                index = versions.orders[key].last[records[-1][1]]
                positions[deed.process, key] = max(index, positions.get((deed.process, key), -1))
            for key, since_ns in holding.get(deed.process, {}).items():
                acks = oldest_behind.get(key)
                at = positions.get((deed.process, key), -1) + 1
                if acks is None or at >= len(acks) or (acked_ns := acks[at]) is None:
                    continue
                lag_ns = deed.begin_ns - max(acked_ns, since_ns)
                if lag_ns > 0 and (worst is None or lag_ns > worst.ns):
                    worst = Lag(lag_ns, key, deed.process, deed.index)
    return worst


def _oldest_acks(deeds: list[Deed], versions: Versions) -> dict[int, list[int | None]]:
    """Per key and index: when the first value at or behind it was acknowledged."""
    acked: dict[int, list[int | None]] = {key: [None] * len(order.offsets) for key, order in versions.orders.items()}
    for deed in deeds:
        if deed.type == "ok" and deed.end_ns is not None:
            for key, _, value in deed.sent:
                order = versions.orders.get(key)
                index = None if order is None else order.first.get(value)
                if index is not None and acked[key][index] is None:
                    acked[key][index] = deed.end_ns
    for moments in acked.values():
        oldest: int | None = None
        for index in range(len(moments) - 1, -1, -1):
            here = moments[index]
            oldest = here if oldest is None else oldest if here is None else min(oldest, here)
            moments[index] = oldest
    return acked
