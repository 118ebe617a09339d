"""Takes a valid history of a group and does one thing wrong in it, at a random place; None where that will not do."""

from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from msgspec.structs import replace

from ..history import Op
from ..mutations import Ground, Mutation
from .told import COMMITS, FETCHES, HANDLER, LANES

OUTSIDE = 1_000_000
LATE_NS = 6_000_000_000

Wanted = Callable[[Op], bool]


def _some(ground: Ground, chance: Random, f: str, type: str = "ok", wanted: Wanted = lambda op: True) -> int | None:
    """The place of an operation's end, one of those that will do."""
    places = [n for n, op in enumerate(ground.ops) if op.f == f and op.type == type and wanted(op)]
    return chance.choice(places) if places else None


def _with(ground: Ground, end: int, change: Callable[[Any], None]) -> list[Op]:
    """Both halves of an operation, changed."""
    ops = list(ground.ops)
    for place in (ground.begins[end], end):
        value = deepcopy(ops[place].value)
        change(value)
        ops[place] = replace(ops[place], value=value)
    return ops


def _without(ground: Ground, ends: list[int]) -> list[Op]:
    gone = {place for end in ends for place in (end, ground.begins[end])}
    return [op for place, op in enumerate(ground.ops) if place not in gone]


def _insert(ops: list[Op], at: int, process: int, f: str, value: Any) -> list[Op] | None:
    """An ok operation of that process, right after ``at``; None where it has something under way."""
    under_way: set[int] = set()
    for op in ops[: at + 1]:
        (under_way.add if op.type == "invoke" else under_way.discard)(op.process)
    if process in under_way:
        return None
    time_ns = ops[at].time_ns
    halves = [Op(0, time_ns + 1, process, "invoke", f, value), Op(0, time_ns + 2, process, "ok", f, value)]
    return [*ops[: at + 1], *halves, *ops[at + 1 :]]


def _handlings(ground: Ground, partition: int, offset: int) -> list[int]:
    return [
        n
        for n, op in enumerate(ground.ops)
        if op.f == "handle" and op.type == "ok" and op.value["p"] == partition and op.value["o"] == offset
    ]


def _acked(ground: Ground) -> set[int]:
    return {op.value["v"] for op in ground.ops if op.f == "put-one" and op.type == "ok"}


def unhandled(ground: Ground, chance: Random) -> list[Op] | None:
    acked = _acked(ground)
    place = _some(ground, chance, "handle", wanted=lambda op: op.value["v"] in acked)
    if place is None:
        return None
    return _without(ground, _handlings(ground, ground.ops[place].value["p"], ground.ops[place].value["o"]))


def phantom(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "handle")
    return None if place is None else _with(ground, place, lambda value: value.update(v=10_000_000))


def handled_again(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "handle")
    if place is None:
        return None
    op = ground.ops[place]
    return _insert(ground.ops, place, op.process, "handle", op.value)


def skipped(ground: Ground, chance: Random) -> list[Op] | None:
    """One left out, and the next handled in the same tenure."""
    acked = _acked(ground)
    place = _some(ground, chance, "handle", wanted=lambda op: op.value["v"] in acked)
    if place is None:
        return None
    op = ground.ops[place]
    for later in ground.ops[place + 1 :]:
        if (
            later.process // LANES == op.process // LANES
            and later.f == "disown"
            and op.value["p"] in later.value["partitions"]
        ):
            return None
        if later.process == op.process and later.f == "handle" and later.value["p"] == op.value["p"]:
            return _without(ground, [place]) if later.value["v"] in acked else None
    return None


def two_owners(ground: Ground, chance: Random) -> list[Op] | None:
    """It goes on with a partition that another has already."""
    place = _some(ground, chance, "own")
    if place is None:
        return None
    own = ground.ops[place]
    partition, _ = chance.choice(own.value["starts"])
    for before in range(place - 1, -1, -1):
        op = ground.ops[before]
        if op.f == "disown" and op.type == "ok" and partition in op.value["partitions"]:
            if op.process == own.process or op.value["how"] != "revoked":
                return None
            begin = ground.begins[before]
            late = own.time_ns + 50
            moved = [replace(ground.ops[begin], time_ns=late), replace(op, time_ns=late + 1)]
            rest = [one for n, one in enumerate(ground.ops) if n not in (begin, before)]
            if any(
                one.process in (op.process, op.process - FETCHES + HANDLER) for one in ground.ops[before + 1 : place]
            ):
                return None
            at = next(n for n, one in enumerate(rest) if one is own)
            return [*rest[: at + 1], *moved, *rest[at + 1 :]]
    return None


def two_in_an_epoch(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "own")
    if place is None:
        return None
    partition, _ = chance.choice(ground.ops[place].value["starts"])
    for before in range(place - 1, -1, -1):
        op = ground.ops[before]
        if op.f == "own" and op.type == "ok" and any(each == partition for each, _ in op.value["starts"]):
            if op.process == ground.ops[place].process:
                return None
            epoch = op.value["epoch"]
            return _with(ground, place, lambda value, epoch=epoch: value.update(epoch=epoch))  # type: ignore[misc]
    return None


def _strangers(ground: Ground, place: int, partitions: set[int]) -> list[int]:
    """Members that do not take any of these for theirs."""
    owned: dict[int, set[int]] = {}
    for op in ground.ops[:place]:
        if op.process < OUTSIDE:
            mine = owned.setdefault(op.process // LANES, set())
            if op.f == "own" and op.type == "ok":
                mine.update(partition for partition, _ in op.value["starts"])
            elif op.f == "disown" and op.type == "ok":
                mine.difference_update(op.value["partitions"])
    return sorted(member for member, mine in owned.items() if not mine & partitions)


def unowned(ground: Ground, chance: Random) -> list[Op] | None:
    """Somebody else has a record that a member has just had."""
    place = _some(ground, chance, "handle")
    if place is None or not (others := _strangers(ground, place, {ground.ops[place].value["p"]})):
        return None
    return _insert(ground.ops, place, chance.choice(others) * LANES + HANDLER, "handle", ground.ops[place].value)


def wrong_start(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "own", wanted=lambda op: any(start for _, start in op.value["starts"]))
    if place is None:
        return None

    def change(value: Any) -> None:
        known = [each for each in value["starts"] if each[1]]
        known[0][1] += 3

    return _with(ground, place, change)


def lost_commit(ground: Ground, chance: Random) -> list[Op] | None:
    """A watcher sees what was committed before the last one."""
    place = _some(ground, chance, "fetch", wanted=lambda op: op.process > OUTSIDE)
    if place is None:
        return None
    known = [each for each in ground.ops[place].value["offsets"] if each[1]]
    if not known:
        return None
    partition, offset = chance.choice(known)
    acknowledged = any(
        op.f == "commit" and op.type == "ok" and [partition, offset] in op.value["offsets"] for op in ground.ops[:place]
    )
    if not acknowledged:
        return None
    earlier = chance.randrange(offset)
    if any(op.f == "commit" and op.type == "info" and [partition, earlier] in op.value["offsets"] for op in ground.ops):
        return None  # it may have happened just now
    ops = list(ground.ops)
    value = deepcopy(ops[place].value)
    next(each for each in value["offsets"] if each[0] == partition)[1] = earlier or None
    ops[place] = replace(ops[place], value=value)
    return ops


def commit_regress(ground: Ground, chance: Random) -> list[Op] | None:
    """Less than it began with, or than it committed before."""
    place = _some(ground, chance, "commit")
    if place is None:
        return None
    op = ground.ops[place]
    floor: dict[int, int] = {}
    for before in ground.ops[:place]:
        if before.process // LANES == op.process // LANES and before.type == "ok":
            if before.f == "own":
                floor.update({partition: start or 0 for partition, start in before.value["starts"]})
            elif before.f == "commit":
                floor.update(dict(before.value["offsets"]))
    low = [partition for partition, _ in op.value["offsets"] if floor.get(partition, 0) > 0]
    if not low:
        return None
    partition = chance.choice(low)

    def change(value: Any) -> None:
        next(each for each in value["offsets"] if each[0] == partition)[1] = floor[partition] - 1

    return _with(ground, place, change)


def past_handled(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "commit")
    if place is None:
        return None

    def change(value: Any) -> None:
        chance.choice(value["offsets"])[1] += chance.randint(1, 5)

    ops, state = _with(ground, place, lambda value: None), chance.getstate()
    for half in (ground.begins[place], place):
        chance.setstate(state)
        change(ops[half].value)
    return ops


def commit_unowned(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "commit")
    if place is None:
        return None
    op = ground.ops[place]
    if not (others := _strangers(ground, place, {partition for partition, _ in op.value["offsets"]})):
        return None
    return _insert(ground.ops, place, chance.choice(others) * LANES + COMMITS, "commit", op.value)


def old_commit(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "old-commit", "fail")
    if place is None:
        return None
    ops = list(ground.ops)
    ops[place] = replace(ops[place], type="ok")
    return ops


def uncommitted(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "fetch", wanted=lambda op: bool(op.value.get("final")))
    if place is None:
        return None
    acked = _acked(ground)
    last: dict[int, int] = {}
    for op in ground.ops:
        if op.f == "put-one" and op.type == "ok" and op.value["v"] in acked:
            last[op.value["p"]] = op.value["o"]
    partition = chance.choice(sorted(last))
    ops = list(ground.ops)
    value = deepcopy(ops[place].value)
    next(each for each in value["offsets"] if each[0] == partition)[1] = last[partition]
    ops[place] = replace(ops[place], value=value)
    return ops


def slow_settle(ground: Ground, chance: Random) -> list[Op] | None:
    place = _some(ground, chance, "settle")
    if place is None:
        return None
    ops = list(ground.ops)
    ops[place] = replace(ops[place], time_ns=ops[place].time_ns + LATE_NS)
    return ops


GROUP: dict[str, tuple[str, Mutation]] = {
    "unhandled": ("errors", unhandled),
    "phantom-handled": ("errors", phantom),
    "handled-again": ("errors", handled_again),
    "skipped": ("errors", skipped),
    "two-owners": ("errors", two_owners),
    "two-owners|two-in-an-epoch": ("errors", two_in_an_epoch),
    "unowned-handled": ("errors", unowned),
    "wrong-start": ("errors", wrong_start),
    "lost-commit": ("errors", lost_commit),
    "commit-regress": ("errors", commit_regress),
    "commit-past-handled": ("errors", past_handled),
    "commit-unowned": ("errors", commit_unowned),
    "old-commit-accepted": ("errors", old_commit),
    "uncommitted": ("errors", uncommitted),
    "slow-settle": ("errors", slow_settle),
}
