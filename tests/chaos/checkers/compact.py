"""What readers of compacted and of retained logs must see. Pure.

Operations: ``put`` of a key and a value that is used once (null: a tombstone), which ends with its ``offset``;
``scan``, all of a partition from its beginning, as ``[[offset, key, value], ...]``; ``view``, what somebody who read
along all the time has of each key in the end, in the same form. ``final``: after the end of all writing.

A record may be gone where its key has a newer one (``kept`` false), or where it is older than the log's ``start`` and
not among the last KEPT_MIN (``kept`` true).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..history import Op, Pair, paired
from .findings import Findings

COMPACT_F = frozenset(("put", "scan", "view"))
KEPT_MIN = 15
"""Of the last records in a log that ``retention.bytes`` bounds, so many at least are within the bound."""

Key = int
Value = int | None


@dataclass(slots=True)
class _Place:
    """One partition."""

    sent: dict[tuple[Key, Value], bool] = field(default_factory=dict)  # whether nobody knows what became of it
    acked: dict[int, tuple[Key, Value, int]] = field(default_factory=dict)  # offset -> key, value, when
    scans: list[Pair] = field(default_factory=list)
    view: Pair | None = None


def check_compact(ops: Iterable[Op]) -> Findings:
    """``phantom``: nobody wrote it; ``misplaced``: an offset names two records; ``disorder``: offsets do not rise;
    ``lost-key``: the last value of a key is gone; ``lost-record``: retention took what it had to leave;
    ``tombstone-stays``: a deleted key is there long after; ``views-differ``: who read along knows another value."""
    findings, places = Findings(), _places(ops)
    for name, place in sorted(places.items()):
        for scan in place.scans:
            _check_records(name, place, scan, findings)
            if scan.begin.value.get("kept"):
                _check_retained(name, place, scan, findings)
            else:
                _check_last_values(name, place, scan, findings)
        finals = [scan for scan in place.scans if scan.begin.value.get("final")]
        if finals and place.view is not None:
            _check_view(name, finals[-1], place.view, findings)
    return findings


def _places(ops: Iterable[Op]) -> dict[str, _Place]:
    places: dict[str, _Place] = defaultdict(_Place)
    for pair in paired(op for op in ops if op.f in COMPACT_F):
        value = pair.value
        place = places[value["place"]]
        if pair.begin.f == "put":
            place.sent[value["key"], value["value"]] = pair.type == "info"
            if pair.type == "ok" and pair.end is not None:
                place.acked[value["offset"]] = (value["key"], value["value"], pair.end.time_ns)
        elif pair.type == "ok" and pair.begin.f == "scan":
            place.scans.append(pair)
        elif pair.type == "ok":
            place.view = pair
    return places


def _check_records(name: str, place: _Place, scan: Pair, findings: Findings) -> None:
    before = -1
    for offset, key, value in scan.value["records"]:
        example = {"place": name, "offset": offset, "key": key, "value": value, "op": scan.begin.index}
        if offset <= before:
            findings.fault("disorder", **example)
        before = offset
        if (key, value) not in place.sent:
            findings.fault("phantom", **example)
        known = place.acked.get(offset)
        if known is not None and known[:2] != (key, value):
            findings.fault("misplaced", written=known[:2], **example)


def _check_last_values(name: str, place: _Place, scan: Pair, findings: Findings) -> None:
    """Of what was acknowledged before the scan began."""
    due: dict[Key, tuple[int, Value]] = {}
    for offset, (key, value, at_ns) in sorted(place.acked.items()):
        if at_ns < scan.begin.time_ns:
            due[key] = (offset, value)
    seen = {key: (offset, value) for offset, key, value in scan.value["records"]}
    for key, (offset, value) in due.items():
        there = seen.get(key)
        if there is not None and there[0] >= offset:
            continue
        # A tombstone may be gone with all before it; so may a value before a tombstone of which nobody knows.
        if there is None and (value is None or place.sent.get((key, None)) or _deleted_later(place, key, offset)):
            continue
        findings.fault("lost-key", place=name, key=key, offset=offset, value=value, seen=there, op=scan.begin.index)
    limit = scan.begin.value.get("tombstones_below")
    for key, (offset, value) in seen.items():
        if value is None and limit is not None and offset < limit:
            findings.fault("tombstone-stays", place=name, key=key, offset=offset, limit=limit, op=scan.begin.index)


def _deleted_later(place: _Place, key: Key, offset: int) -> bool:
    """A tombstone that was written while the scan went on."""
    return any(at > offset and found[:2] == (key, None) for at, found in place.acked.items())


def _check_retained(name: str, place: _Place, scan: Pair, findings: Findings) -> None:
    seen = {offset for offset, _, _ in scan.value["records"]}
    due = sorted(offset for offset, (_, _, at_ns) in place.acked.items() if at_ns < scan.begin.time_ns)
    start = max(scan.value["start"], min(seen, default=0))
    if scan.begin.value.get("final"):
        start = min([start, *due[-KEPT_MIN:]])
    for offset in due:
        if offset >= start and offset not in seen:
            findings.fault("lost-record", place=name, offset=offset, start=start, op=scan.begin.index)


def _check_view(name: str, scan: Pair, view: Pair, findings: Findings) -> None:
    """Deleted keys are the same as none: one may have met the tombstone, the other come after it was gone."""
    there = {key: (offset, value) for offset, key, value in scan.value["records"]}
    known = {key: (offset, value) for offset, key, value in view.value["records"]}
    for key in sorted({*there, *known}):
        mine, theirs = known.get(key), there.get(key)
        if mine != theirs and not (_is_gone(mine) and _is_gone(theirs)):
            findings.fault("views-differ", place=name, key=key, view=mine, scan=theirs, op=view.begin.index)


def _is_gone(found: tuple[int, Value] | None) -> bool:
    return found is None or found[1] is None
