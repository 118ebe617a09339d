"""What a member of a group is ordered, and what it tells. It is all data, since a member may be another process."""

from typing import Any, Literal

import msgspec

GROUP = "readers"
"""The group of a run."""

LANES = 4
"""A member has several operations under way at once: each lane is a process of the history."""
HANDLER, COMMITS, FETCHES, BEATS = range(LANES)


class Order(msgspec.Struct, frozen=True):
    """How a member lives. ``number``: it is the only one that ever had it."""

    number: int
    seed: int
    servers: list[str]
    group: str
    topic: str
    protocol: str
    assignors: list[str]
    instance_id: str | None
    auto_commit: bool
    session_s: float
    slow_share: float  # of the records that take a second

    def process(self, lane: int) -> int:
        """The process of the history that a lane is."""
        return self.number * LANES + lane


class Told(msgspec.Struct, frozen=True):
    """Half an operation, as it is told. ``time_ns`` is the teller's monotonic clock."""

    time_ns: int
    lane: int
    type: Literal["invoke", "ok", "info", "fail"]
    f: str
    value: Any = None
    error: str | None = None
