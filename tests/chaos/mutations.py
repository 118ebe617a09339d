"""Takes a valid history and does one thing wrong in it, at a random place.

A mutation returns the changed history, or None where the place it tried will not do. It never changes what it was
given.
"""

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from msgspec.structs import replace

from .history import Op

Mutation = Callable[["Ground", Random], "list[Op] | None"]
Place = tuple[int, int]
"""A poll or send by its place in the history, and a key."""


@dataclass
class Ground:
    """A valid history, and where in it things can go wrong. Places are those of completions."""

    ops: list[Op]
    begins: dict[int, int] = field(default_factory=dict)  # place of an end -> of its beginning
    sends: list[int] = field(default_factory=list)  # ok
    refused: list[int] = field(default_factory=list)
    transactions: list[int] = field(default_factory=list)  # ok
    polls: list[Place] = field(default_factory=list)  # ok, and records came
    following: list[Place] = field(default_factory=list)  # those whose process had a position in the key
    readers: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)  # (key, value) -> offset, of what was read
    logs: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # key -> values in order

    @classmethod
    def of(cls, ops: list[Op]) -> "Ground":
        ground, under_way, positions = cls(ops), dict[int, int](), defaultdict[int, set[int]](set)
        for place, op in enumerate(ops):
            if op.type == "invoke":
                under_way[op.process] = place
            else:
                ground.begins[place] = under_way.pop(op.process)
                ground._survey(place, op, positions[op.process])
        for key in {key for key, _ in ground.offsets}:
            order = sorted((offset, value) for (where, value), offset in ground.offsets.items() if where == key)
            ground.logs[key] = [value for _, value in order]
        return ground

    def _survey(self, place: int, op: Op, positions: set[int]) -> None:
        if op.f in ("assign", "subscribe"):
            if op.value["from_beginning"]:
                positions.clear()
            positions.intersection_update(op.value["keys"])
        elif op.f in ("send", "txn") and op.type == "fail":
            self.refused.append(place)
        elif op.f in ("send", "txn", "poll"):
            if op.type == "ok" and op.f != "poll":
                (self.sends if op.f == "send" else self.transactions).append(place)
            self._survey_polled(place, op, positions)

    def _survey_polled(self, place: int, op: Op, positions: set[int]) -> None:
        for key, records in polled(op):
            for offset, value in records:
                self.readers[key, value].append(place)
                self.offsets[key, value] = offset
            if op.type == "ok" and op.f == "poll":
                self.polls.append((place, key))
                if key in positions:
                    self.following.append((place, key))
                positions.add(key)

    def with_changed(self, *places: int) -> list[Op]:
        """The history with copies at these places, free to be changed."""
        ops = list(self.ops)
        for place in places:
            ops[place] = replace(ops[place], value=deepcopy(ops[place].value))
        return ops

    def without(self, key: int, values: set[int]) -> list[Op]:
        """Nobody ever polled these."""
        ops = self.with_changed(*{place for value in values for place in self.readers[key, value]})
        for place in {place for value in values for place in self.readers[key, value]}:
            records = records_of(ops[place], key)
            records[:] = [record for record in records if record[1] not in values]
        return ops

    def swapped(self, key: int, one: int, other: int) -> list[Op]:
        """Each of two values where the other was, in all that was told of them."""
        places = {
            *self.readers[key, one],
            *self.readers[key, other],
            *self.writers(key, one),
            *self.writers(key, other),
        }
        ops, exchange = self.with_changed(*places), {one: other, other: one}
        offsets = {value: self.offsets[key, exchange[value]] for value in exchange}
        for place in places:
            for step in ops[place].value:
                if step[0] == "send" and step[1] == key and isinstance(step[2], list) and step[2][1] in exchange:
                    step[2][0] = offsets[step[2][1]]
            for where, records in polled(ops[place]):
                if where == key:
                    for record in records:
                        record[1] = exchange.get(record[1], record[1])
        return ops

    def writers(self, key: int, value: int) -> list[int]:
        """Where its send ended."""
        return [place for place in (*self.sends, *self.transactions) if (key, value) in sent(self.ops[place])]

    def inserted(self, at: int, new: list[Op]) -> list[Op]:
        """With operations in the midst, and all renumbered."""
        moment = self.ops[at].time_ns
        added = [replace(op, time_ns=moment) for op in new]
        return [replace(op, index=index) for index, op in enumerate([*self.ops[:at], *added, *self.ops[at:]])]


def polled(op: Op) -> list[Any]:
    """[key, records] of all its polls."""
    if op.f not in ("poll", "txn"):
        return []
    return [entry for step in op.value if step[0] == "poll" and len(step) > 1 for entry in step[1]]


def sent(op: Op) -> list[tuple[int, int]]:
    """(key, value) of all its sends."""
    steps = [step for step in op.value if step[0] == "send"]
    return [(key, result if isinstance(result, int) else result[1]) for _, key, result in steps]


def records_of(op: Op, key: int) -> list[list[int]]:
    """Of its one poll of the key."""
    return next(records for where, records in polled(op) if where == key)


def inconsistent_offsets(ground: Ground, chance: Random) -> list[Op] | None:
    if chance.random() < 0.5:
        place = chance.choice(ground.sends)
        ops = ground.with_changed(place)
        _, key, result = chance.choice(ops[place].value)
        result[0] = ground.offsets[key, chance.choice([value for value in ground.logs[key] if value != result[1]])]
        return ops
    place, key = chance.choice(ground.polls)
    ops = ground.with_changed(place)
    record = chance.choice(records_of(ops[place], key))
    record[1] = chance.choice([value for value in ground.logs[key] if value != record[1]])
    return ops


def duplicate(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.polls)
    ops = ground.with_changed(place)
    chance.choice(records_of(ops[place], key))[0] = max(ground.offsets.values()) + chance.randint(1, 9)
    return ops


def lost_write(ground: Ground, chance: Random) -> list[Op] | None:
    place = chance.choice(ground.sends)
    _, key, (offset, value) = chance.choice(ground.ops[place].value)
    return None if offset is None or value == ground.logs[key][-1] else ground.without(key, {value})


def unseen(ground: Ground, chance: Random) -> list[Op] | None:
    key = chance.choice(sorted(ground.logs))
    tail = set(ground.logs[key][-chance.randint(1, 40) :])
    acknowledged = {value for place in ground.sends for where, value in sent(ground.ops[place]) if where == key}
    return ground.without(key, tail) if tail & acknowledged else None


def aborted_read(ground: Ground, chance: Random) -> list[Op] | None:
    if chance.random() < 0.5:
        place = chance.choice([*ground.sends, *ground.transactions])
        ops = list(ground.ops)
        ops[place] = replace(ops[place], type="fail")
        return ops
    key, value = chance.choice(sent(ground.ops[chance.choice(ground.refused)]))
    places = [place for place, where in ground.polls if where == key]
    place = chance.choice(places)
    ops = ground.with_changed(place)
    chance.choice(records_of(ops[place], key))[1] = value
    return ops


def precommitted_read(ground: Ground, chance: Random) -> list[Op] | None:
    place = chance.choice(ground.transactions)
    ops = ground.with_changed(place)
    (poll,) = (step for step in ops[place].value if step[0] == "poll")
    ((key, (offset, value)),) = ((step[1], step[2]) for step in ops[place].value if step[0] == "send")
    if offset is None:
        return None
    poll[1].append([key, [[offset, value]]])
    return ops


def phantom_read(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.polls)
    ops = ground.with_changed(place)
    chance.choice(records_of(ops[place], key))[1] = 10**9
    return ops


def poll_skips_within(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.polls)
    ops = ground.with_changed(place)
    records = records_of(ops[place], key)
    if len(records) < 3:
        return None
    del records[chance.randrange(1, len(records) - 1)]
    return ops


def poll_goes_back_within(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.polls)
    ops = ground.with_changed(place)
    records = records_of(ops[place], key)
    if len(records) < 2:
        return None
    at = chance.randrange(1, len(records))
    records[at - 1], records[at] = records[at], records[at - 1]
    return ops


def poll_skips(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.following)
    ops = ground.with_changed(place)
    records = records_of(ops[place], key)
    if len(records) < 2:
        return None
    del records[: chance.randrange(1, len(records))]
    return ops


def poll_goes_back(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.following)
    ops = ground.with_changed(place)
    records = records_of(ops[place], key)
    at = ground.logs[key].index(records[0][1])
    behind = ground.logs[key][max(0, at - chance.randint(1, 5)) : at]
    records[:0] = [[ground.offsets[key, value], value] for value in behind]
    return ops


def sends_overtake(ground: Ground, chance: Random) -> list[Op] | None:
    place = chance.choice(ground.sends)
    key, _ = chance.choice(sent(ground.ops[place]))
    process = ground.ops[place].process
    before = [
        (at, other)
        for at in ground.sends
        if at < place and ground.ops[at].process == process
        for where, other in sent(ground.ops[at])
        if where == key
    ]
    if not before:
        return None
    last = [other for at, other in before if at == before[-1][0]]
    mine = [other for where, other in sent(ground.ops[place]) if where == key]
    return None if mine[0] in last else ground.swapped(key, last[-1], mine[0])


def sends_overtake_within(ground: Ground, chance: Random) -> list[Op] | None:
    found = _twice_to_a_key(ground, chance)
    if found is None:
        return None
    key, values = found
    return ground.swapped(key, values[0], values[1])


def another_comes_between(ground: Ground, chance: Random) -> list[Op] | None:
    found = _twice_to_a_key(ground, chance)
    if found is None:
        return None
    key, values = found
    at = ground.logs[key].index(values[-1])
    behind = ground.logs[key][at + 1 : at + 2]
    return ground.swapped(key, values[-1], behind[0]) if behind else None


def _twice_to_a_key(ground: Ground, chance: Random) -> tuple[int, list[int]] | None:
    """Some ok operation's sends to one key, if it has several."""
    pairs = sent(ground.ops[chance.choice(ground.sends)])
    key = chance.choice(pairs)[0]
    values = [value for where, value in pairs if where == key]
    return (key, values) if len(values) > 1 else None


NEW_PROCESS = 1_000_000
NEW_VALUE = 2_000_000


def _two_transactions(ground: Ground, chance: Random, one: list[Any], other: list[Any]) -> list[Op]:
    """Side by side, at a random place, by processes that do nothing else."""
    ops = []
    for type_ in ("invoke", "ok"):
        for process, steps in ((NEW_PROCESS, one), (NEW_PROCESS + 1, other)):
            asked = [["poll"] if step[0] == "poll" else ["send", step[1], step[2][1]] for step in steps]
            ops.append(Op(0, 0, process, type_, "txn", steps if type_ == "ok" else asked))  # type: ignore[arg-type]
    return ground.inserted(chance.randrange(len(ground.ops)), ops)


def circular_information(ground: Ground, chance: Random) -> list[Op] | None:
    one, other = chance.sample(sorted(ground.logs), 2)
    end = max(ground.offsets.values()) + chance.randint(1, 9)
    mine, theirs = [end, NEW_VALUE], [end, NEW_VALUE + 1]
    return _two_transactions(
        ground,
        chance,
        [["send", one, mine], ["poll", [[other, [theirs]]]]],
        [["send", other, theirs], ["poll", [[one, [mine]]]]],
    )


def dirty_write(ground: Ground, chance: Random) -> list[Op] | None:
    one, other = chance.sample(sorted(ground.logs), 2)
    end = max(ground.offsets.values()) + chance.randint(1, 9)
    return _two_transactions(
        ground,
        chance,
        [["send", one, [end, NEW_VALUE]], ["send", other, [end + 1, NEW_VALUE + 1]]],
        [["send", one, [end + 1, NEW_VALUE + 2]], ["send", other, [end, NEW_VALUE + 3]]],
    )


def overwritten_information(ground: Ground, chance: Random) -> list[Op] | None:
    one, other = chance.sample(sorted(ground.logs), 2)
    end = max(ground.offsets.values()) + chance.randint(1, 9)
    theirs = [end, NEW_VALUE + 1]
    return _two_transactions(
        ground,
        chance,
        [["send", one, [end, NEW_VALUE]], ["poll", [[other, [theirs]]]]],
        [["send", one, [end + 1, NEW_VALUE + 2]], ["send", other, theirs]],
    )


def read_of_the_future(ground: Ground, chance: Random) -> list[Op] | None:
    place = chance.choice(ground.sends)
    key, value = chance.choice(sent(ground.ops[place]))
    before = [where for where, _ in ground.polls if where < ground.begins[place]]
    if not before:
        return None
    early = chance.choice(before)
    ops = ground.with_changed(early)
    ops[early].value[0][1].append([key, [[ground.offsets[key, value], value]]])
    return ops


# acks 0 and 1


def _finally(ground: Ground, key: int, value: int) -> list[int]:
    """Where final passes read it; empty unless somebody had read it before."""
    last_send = max(place for place in ground.begins if ground.ops[place].f in ("send", "txn"))
    finals = [place for place in ground.readers[key, value] if place > last_send]
    return finals if len(finals) < len(ground.readers[key, value]) else []


def read_then_gone(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.polls)
    _, value = chance.choice(records_of(ground.ops[place], key))
    finals = _finally(ground, key, value)
    ops = ground.with_changed(*finals)
    for final in finals:
        records = records_of(ops[final], key)
        records[:] = [record for record in records if record[1] != value]
    return ops if finals else None


def read_then_changed(ground: Ground, chance: Random) -> list[Op] | None:
    place, key = chance.choice(ground.polls)
    _, value = chance.choice(records_of(ground.ops[place], key))
    finals = _finally(ground, key, value)
    ops = ground.with_changed(*finals)
    for final in finals:
        for record in records_of(ops[final], key):
            if record[1] == value:
                record[1] = chance.choice(ground.logs[key])
                if record[1] == value:
                    return None
    return ops if finals else None


# Idempotence


def inconsistent_ack(ground: Ground, chance: Random) -> list[Op] | None:
    known: set[tuple[int, int]] = set()
    again = []
    for place in ground.sends:
        mine = set(sent(ground.ops[place]))
        if mine <= known and all(step[2][0] is not None for step in ground.ops[place].value):
            again.append(place)
        known |= mine
    place = chance.choice(again)
    ops = ground.with_changed(place)
    chance.choice(ops[place].value)[2][0] += chance.choice((-1, 1))
    return ops


# Topics


def stale_topic(ground: Ground, chance: Random) -> list[Op] | None:
    """A current list shows a configuration that was replaced before it began."""
    lists = [place for place in ground.begins if ground.ops[place].f == "list" and ground.ops[place].type == "ok"]
    place = chance.choice(lists)
    begin = ground.begins[place]
    if not ground.ops[begin].value["current"]:
        return None
    name = chance.choice([f"topic-{number}" for number in range(8)])
    changes = [
        end
        for end in ground.begins
        if end < begin and ground.ops[end].type == "ok" and ground.ops[end].f in ("create", "alter", "delete")
        if ground.ops[ground.begins[end]].value["topic"] == name
    ]
    old = [
        end for end in changes if ground.ops[end].f != "delete" and any(ground.begins[later] > end for later in changes)
    ]
    if not old:
        return None
    ops = ground.with_changed(place)
    ops[place].value[name] = ground.ops[ground.begins[chance.choice(old)]].value["config"]
    return ops


QUEUE: dict[str, tuple[str, Mutation]] = {
    "inconsistent-offsets": ("errors", inconsistent_offsets),
    "duplicate": ("errors", duplicate),
    "lost-write": ("errors", lost_write),
    "unseen": ("errors", unseen),
    "G1a": ("errors", aborted_read),
    "precommitted-read": ("errors", precommitted_read),
    "phantom-read": ("errors", phantom_read),
    "int-poll-skip": ("errors", poll_skips_within),
    "int-nonmonotonic-poll": ("errors", poll_goes_back_within),
    "poll-skip": ("errors", poll_skips),
    "nonmonotonic-poll": ("errors", poll_goes_back),
    "nonmonotonic-send": ("errors", sends_overtake),
    "int-nonmonotonic-send": ("errors", sends_overtake_within),
    "int-send-skip": ("allowed", another_comes_between),
    "G0": ("allowed", dirty_write),
    "G1c": ("errors", circular_information),
    "G1c-process|G1c-realtime": ("errors", read_of_the_future),
    "G1c-ww": ("allowed", overwritten_information),
}
ACKS01: dict[str, tuple[str, Mutation]] = {
    "read-then-gone": ("errors", read_then_gone),
    "read-then-changed": ("errors", read_then_changed),
    "nonmonotonic-send": ("errors", sends_overtake),
    "duplicate": ("errors", duplicate),
}
IDEMPOTENCE: dict[str, tuple[str, Mutation]] = {
    "duplicate": ("errors", duplicate),
    "nonmonotonic-send": ("errors", sends_overtake),
    "inconsistent-ack": ("errors", inconsistent_ack),
}
TOPICS: dict[str, tuple[str, Mutation]] = {"not-linearizable": ("errors", stale_topic)}
