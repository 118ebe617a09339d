"""Whether processes sent and polled in the order of the log. Pure; one pass over the deeds.

The delta of two values is the difference of their indexes: 1 is next, more skips, less goes back or stands still.
"""

from .findings import Findings
from .versions import Deed, Versions


def check_polls(deeds: list[Deed], versions: Versions, findings: Findings) -> None:
    """Within an operation and from one to the next of the same process.

    Keys that were lost and regained while polling are exempt. Assignments keep the positions of the keys they keep,
    unless they begin at the beginning; only ok operations move a position. With subscribe others may have read on.
    """
    positions: dict[int, dict[int, int]] = {}  # process -> key -> index of the last value
    subscribed: set[int] = set()
    for deed in deeds:
        if deed.f == "crash":
            positions.pop(deed.process, None)
        elif deed.f in ("assign", "subscribe"):
            _reposition(deed, positions, subscribed)
        elif deed.polled:
            _check_polls_of(deed, versions, findings, positions, bad=deed.process not in subscribed)


def _reposition(deed: Deed, positions: dict[int, dict[int, int]], subscribed: set[int]) -> None:
    if deed.type == "fail":
        return
    (subscribed.add if deed.f == "subscribe" else subscribed.discard)(deed.process)
    if deed.from_beginning or deed.type == "info":
        positions.pop(deed.process, None)
        return
    kept = positions.get(deed.process, {})
    positions[deed.process] = {key: index for key, index in kept.items() if key in deed.keys}


def _check_polls_of(
    deed: Deed, versions: Versions, findings: Findings, positions: dict[int, dict[int, int]], *, bad: bool
) -> None:
    at = positions.setdefault(deed.process, {}) if deed.type == "ok" else {}
    begun: set[int] = set()
    for key, records in deed.polled:
        places = versions.orders[key].places  # by offset: a copy of a record is judged as a copy, not as a step back
        previous = at.get(key)
        exempt = key in deed.rebalanced
        inside = key in begun
        for offset, value in records:
            index = places[offset]
            if previous is not None and index - previous != 1 and not exempt:
                kind = "poll-skip" if index - previous > 1 else "nonmonotonic-poll"
                findings.add(
                    f"int-{kind}" if inside else kind,
                    bad=bad or inside,
                    key=key,
                    process=deed.process,
                    op=deed.index,
                    indexes=[previous, index],
                    value=value,
                )
            previous, inside = index, True
        begun.add(key)
        if previous is not None:
            at[key] = previous


def check_sends(deeds: list[Deed], versions: Versions, findings: Findings) -> None:
    """What a process sent to a key is in the log in that order. Values whose index nobody knows are passed over."""
    positions: dict[tuple[int, int], int] = {}  # (process, key) -> index of the last value
    for deed in deeds:
        if not deed.sent or deed.type == "fail":
            continue
        inside: set[int] = set()
        for key, _, value in deed.sent:
            order = versions.orders.get(key)
            index = None if order is None else order.first.get(value)
            if index is None:
                continue
            previous = positions.get((deed.process, key))
            if previous is not None and index != previous + 1:
                _note_send(deed, findings, key, value, previous, index, inside=key in inside)
            positions[deed.process, key] = index
            inside.add(key)


def _note_send(
    deed: Deed, findings: Findings, key: int, value: int, previous: int, index: int, *, inside: bool
) -> None:
    example = {"key": key, "process": deed.process, "op": deed.index, "indexes": [previous, index], "value": value}
    if index <= previous:
        findings.fault("int-nonmonotonic-send" if inside else "nonmonotonic-send", **example)
    elif inside:
        findings.allow("int-send-skip", **example)
