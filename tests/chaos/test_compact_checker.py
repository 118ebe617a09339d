"""The checker of compacted and retained logs: each anomaly is found, and what may be is not."""

from typing import Any

import pytest

from .checkers.compact import KEPT_MIN, check_compact
from .history import History, Op

PLACE = "compact-0"


class Story:
    def __init__(self) -> None:
        self._ns = 0
        self.history = History(self._tick)

    def _tick(self) -> int:
        self._ns += 1
        return self._ns

    def put(self, offset: int | None, key: int, value: int | None) -> "Story":
        content: dict[str, Any] = {"place": PLACE, "key": key, "value": value}
        op = self.history.invoke(1, "put", content)
        self.history.complete(op, "info" if offset is None else "ok", {**content, "offset": offset})
        return self

    def scan(self, *records: tuple[int, int, int | None], start: int = 0, **more: object) -> "Story":
        content = {"place": PLACE, "records": [], **more}
        op = self.history.invoke(2, "scan", content)
        self.history.complete(op, "ok", {**content, "start": start, "records": [list(one) for one in records]})
        return self

    def view(self, *records: tuple[int, int, int | None]) -> "Story":
        op: Op = self.history.invoke(3, "view", {"place": PLACE})
        self.history.complete(op, "ok", {"place": PLACE, "records": [list(one) for one in records]})
        return self

    def found(self) -> list[str]:
        return sorted(check_compact(self.history.ops).errors)


def written() -> Story:
    """Key 1 twice, key 2 once and deleted, key 3 once."""
    return Story().put(0, 1, 10).put(1, 2, 20).put(2, 1, 11).put(3, 2, None).put(4, 3, 30)


EVERYTHING = ((0, 1, 10), (1, 2, 20), (2, 1, 11), (3, 2, None), (4, 3, 30))


@pytest.mark.parametrize(
    "records",
    [EVERYTHING, EVERYTHING[2:], ((2, 1, 11), (4, 3, 30)), (*EVERYTHING, (5, 1, 12))],
    ids=["all", "cleaned", "tombstone gone", "more came"],
)
def test_what_may_be(records) -> None:
    assert written().put(None, 1, 12).scan(*records).view(*EVERYTHING[2:]).found() == []


@pytest.mark.parametrize(
    ("records", "kind"),
    [
        (((3, 2, None), (4, 3, 30)), "lost-key"),
        (((0, 1, 10), (3, 2, None), (4, 3, 30)), "lost-key"),
        (((1, 2, 20), (2, 1, 11), (4, 3, 30)), "lost-key"),
        ((*EVERYTHING, (5, 9, 90)), "phantom"),
        ((*EVERYTHING[:4], (4, 1, 11)), "misplaced"),
        ((*EVERYTHING[:3], EVERYTHING[4], EVERYTHING[3]), "disorder"),
    ],
    ids=["gone", "older", "deletion gone and the value not", "nobody's", "another's offset", "order"],
)
def test_what_must_not_be(records, kind: str) -> None:
    assert kind in written().scan(*records).found()


def test_a_value_may_go_before_a_tombstone_of_which_nobody_knows() -> None:
    assert written().put(None, 3, None).scan(*EVERYTHING[:4]).found() == []


def test_what_was_written_while_a_scan_went_on_need_not_be_in_it() -> None:
    story = Story()
    op = story.history.invoke(2, "scan", {"place": PLACE})
    story.put(0, 1, 10)
    story.history.complete(op, "ok", {"place": PLACE, "start": 0, "records": []})
    assert story.found() == []


def test_a_tombstone_that_stays_for_ever() -> None:
    assert written().scan(*EVERYTHING, final=True, tombstones_below=4).found() == ["tombstone-stays"]
    assert written().scan(*EVERYTHING, final=True, tombstones_below=3).found() == []


@pytest.mark.parametrize(
    ("view", "found"),
    [
        (((2, 1, 11), (4, 3, 30)), []),
        (((2, 1, 11), (3, 2, None), (4, 3, 30)), []),
        (((2, 1, 11), (1, 2, 20), (4, 3, 30)), ["views-differ"]),
        (((2, 1, 11),), ["views-differ"]),
    ],
)
def test_who_read_along_knows_the_same(view, found) -> None:
    assert written().scan((2, 1, 11), (4, 3, 30), final=True).view(*view).found() == found


def kept(count: int) -> Story:
    story = Story()
    for number in range(count):
        story.put(number, number, number)
    return story


def test_retention_takes_what_is_old() -> None:
    records = [(number, number, number) for number in range(40)]
    assert kept(40).scan(*records[20:], start=20, kept=True, final=True).found() == []
    assert kept(40).scan(*records[20:30], *records[31:], start=20, kept=True).found() == ["lost-record"]
    few = records[40 - KEPT_MIN + 1 :]
    assert kept(40).scan(*few, start=few[0][0], kept=True, final=True).found() == ["lost-record"]
    assert kept(40).scan(*few, start=few[0][0], kept=True).found() == []
