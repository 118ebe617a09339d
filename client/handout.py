"""The records of one batch while they are handed out, one after another."""

from bisect import bisect_left
from collections.abc import Iterator
from operator import length_hint
from typing import Any

from ottla.log.model import Offset
from ottla.log.record_decoder import Columns

from .reading import Partition
from .records import ConsumerRecord


class Handout:
    """``rows``: what is left, made as it is taken. Nothing else is counted per record: how far it has got is asked of
    the iterator of the offsets, and cutting their list short is what ends ``rows``."""

    __slots__ = ("_columns", "_left", "_next_offset", "_offsets", "_start", "partition", "rows")

    def __init__(self, partition: Partition, columns: Columns, next_offset: Offset) -> None:
        """The partition's position is in here from now on; what lies before it is left out."""
        wanted = partition.position
        assert wanted is not None
        skipped = bisect_left(columns.offsets, wanted)
        self.partition = partition
        self._columns = columns.behind(skipped) if skipped else columns
        self._offsets = self._columns.offsets
        self._start, self._next_offset = wanted, next_offset
        self._left = iter(self._offsets)
        self.rows: Iterator[ConsumerRecord[Any, Any]] = self._columns.rows(
            ConsumerRecord, partition.topic, partition.number, offsets=self._left
        )
        partition.handout = self

    @property
    def taken(self) -> int:
        """How many have been."""
        return len(self._offsets) - length_hint(self._left)

    @property
    def position(self) -> Offset:
        """The next offset that will be handed out."""
        taken = self.taken
        if taken == len(self._offsets):
            return self._next_offset
        return Offset(self._offsets[taken - 1] + 1) if taken else self._start

    def peek(self) -> ConsumerRecord[Any, Any] | None:
        """The next record, which stays the next one."""
        taken = self.taken
        if taken == len(self._offsets):
            return None
        return ConsumerRecord(self.partition.topic, self.partition.number, *self._columns.row(taken))

    def end_at(self, offset: Offset) -> bool:
        """Hand out nothing from ``offset`` on. Whether there was anything to cut off."""
        keep = bisect_left(self._offsets, offset)
        if keep == len(self._offsets) or keep < self.taken:
            return False
        del self._offsets[keep:]
        self._next_offset = offset
        return True

    def stop(self) -> None:
        """Hand out no more of it."""
        del self._offsets[self.taken :]
