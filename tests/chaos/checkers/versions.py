"""A queue's history as deeds, and the order of versions that each key must have had.

The version order of a key (jepsen.tests.kafka): every offset that somebody was told of, with its value or values,
sorted, holes closed up (offsets are used by other things too). The place of a value in it is its *index*. Offsets come
from the sends that must have committed, and from all polls, even those that failed: a poller must only ever see safe
data.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..history import Op, OpType, paired

Sent = tuple[int, int | None, int]
"""Key, offset if known, value."""
Polled = tuple[int, list[list[int]]]
"""Key, [offset, value] in the order in which they came."""

QUEUE_F = frozenset(("send", "poll", "txn"))
POSITION_F = frozenset(("assign", "subscribe"))


@dataclass(slots=True, eq=False)
class Deed:
    """One operation from beginning to end; ``end_ns`` is None for one that never ended."""

    number: int
    process: int
    type: OpType
    f: str
    begin_ns: int
    end_ns: int | None
    index: int  # in the history, of its end if it has one
    sent: list[Sent] = field(default_factory=list)
    polled: list[Polled] = field(default_factory=list)
    keys: frozenset[int] = frozenset()  # assign, subscribe
    from_beginning: bool = False
    rebalanced: frozenset[int] = frozenset()


def deeds_of(ops: Iterable[Op]) -> list[Deed]:
    """The queue operations, assignments and crashes of a history, in the order in which they ended."""
    deeds: list[Deed] = []
    for pair in paired(ops):
        begin, end = pair.begin, pair.end
        known = begin if end is None else end
        end_ns = None if end is None else end.time_ns
        deed = Deed(len(deeds), begin.process, pair.type, begin.f, begin.time_ns, end_ns, known.index)
        if begin.f in QUEUE_F:
            _read_steps(deed, known.value)
            if known.rebalance_log:
                deed.rebalanced = frozenset(key for keys in known.rebalance_log for key in keys)
        elif begin.f in POSITION_F:
            deed.keys = frozenset(begin.value["keys"])
            deed.from_beginning = begin.value.get("from_beginning", False)
        elif begin.f != "crash":
            continue
        deeds.append(deed)
    return deeds


def _read_steps(deed: Deed, steps: list[list]) -> None:  # type: ignore[type-arg]
    for step in steps:
        if step[0] == "send":
            _, key, result = step
            if isinstance(result, int):
                deed.sent.append((key, None, result))
            else:
                deed.sent.append((key, result[0], result[1]))
        elif len(step) > 1:
            deed.polled += [(key, records) for key, records in step[1] if records]


@dataclass(slots=True)
class Order:
    """The versions of one key. ``values[i]`` has one value, unless offsets are inconsistent."""

    offsets: list[int]
    places: dict[int, int]  # offset -> index
    values: list[list[int]]
    first: dict[int, int]  # value -> its lowest index
    last: dict[int, int]  # value -> its highest

    @classmethod
    def of(cls, log: dict[int, list[int]]) -> "Order":
        offsets = sorted(log)
        places = {offset: index for index, offset in enumerate(offsets)}
        values = [log[offset] for offset in offsets]
        last = {value: index for index, here in enumerate(values) for value in here}
        if len(last) == len(values) and all(len(here) == 1 for here in values):
            return cls(offsets, places, values, last, last)
        first: dict[int, int] = {}
        for index, here in enumerate(values):
            for value in here:
                first.setdefault(value, index)
        return cls(offsets, places, values, first, last)


@dataclass(slots=True)
class Versions:
    """What is known of all keys. ``writers`` has the first deed that sent a value."""

    writers: dict[tuple[int, int], Deed]
    read: set[tuple[int, int]]  # (key, value) that an ok operation polled
    orders: dict[int, Order]

    def committed(self, deed: Deed) -> bool:
        """Whether it must have committed: it is known to, or somebody was shown a part of it."""
        return deed.type == "ok" or (
            deed.type == "info" and any((key, value) in self.read for key, _, value in deed.sent)
        )


def versions_of(deeds: list[Deed], *, from_sends: bool = True) -> Versions:
    """``from_sends``: what a send was told counts. Not where acknowledged records may be lost and replaced."""
    writers: dict[tuple[int, int], Deed] = {}
    read: set[tuple[int, int]] = set()
    logs: dict[int, dict[int, list[int]]] = {}
    for deed in deeds:
        for key, _, value in deed.sent:
            writers.setdefault((key, value), deed)
        ok = deed.type == "ok"
        for key, records in deed.polled:
            if ok:
                read.update([(key, value) for _, value in records])
            log = logs.setdefault(key, {})
            for offset, value in records:
                here = log.get(offset)
                if here is None:
                    log[offset] = [value]
                elif value not in here:
                    here.append(value)
    versions = Versions(writers, read, {})
    for deed in deeds:
        if deed.sent and from_sends and versions.committed(deed):
            for key, at, value in deed.sent:
                if at is not None:
                    here = logs.setdefault(key, {}).setdefault(at, [])
                    if value not in here:
                        here.append(value)
    versions.orders = {key: Order.of(log) for key, log in sorted(logs.items())}
    return versions
