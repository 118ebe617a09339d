"""What a checker found: faults, and what happened and may happen."""

from typing import Any

import msgspec

EXAMPLES_MAX = 8


class Found(msgspec.Struct):
    """All anomalies of one kind: how many, and the first of them."""

    count: int = 0
    first: list[dict[str, Any]] = []

    def add(self, example: dict[str, Any]) -> None:
        self.count += 1
        if len(self.first) < EXAMPLES_MAX:
            self.first = [*self.first, example]

    def merge(self, other: "Found") -> None:
        self.count += other.count
        self.first = [*self.first, *other.first][:EXAMPLES_MAX]


class Findings(msgspec.Struct):
    """``errors``: whatever is here makes a run bad. ``allowed``: the protocol permits it; it is counted."""

    errors: dict[str, Found] = {}
    allowed: dict[str, Found] = {}

    def fault(self, kind: str, **example: Any) -> None:
        self.errors.setdefault(kind, Found()).add(example)

    def allow(self, kind: str, **example: Any) -> None:
        self.allowed.setdefault(kind, Found()).add(example)

    def add(self, kind: str, *, bad: bool, **example: Any) -> None:
        (self.fault if bad else self.allow)(kind, **example)

    def merge(self, other: "Findings") -> None:
        for mine, theirs in ((self.errors, other.errors), (self.allowed, other.allowed)):
            for kind, found in theirs.items():
                mine.setdefault(kind, Found()).merge(found)

    def excuse(self, *kinds: str) -> None:
        """What is a fault elsewhere and none in this run."""
        for kind in kinds:
            if found := self.errors.pop(kind, None):
                self.allowed.setdefault(kind, Found()).merge(found)

    @property
    def valid(self) -> bool:
        return not self.errors
