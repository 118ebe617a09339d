"""What has been handed out and is not finished: what a commit behind the handler must not pass."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import Any

from ottla.log.clock import Clock
from ottla.log.model import TopicPartition

from .records import ConsumerRecord


class InHand:
    """The record, or the list of records, that the handler works on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._record: ConsumerRecord[Any, Any] | None = None
        self._firsts: dict[TopicPartition, int] = {}  # of a list
        self._forgotten: set[TopicPartition] = set()
        self._watched: object = None
        self._watched_s = 0.0
        self._freed: asyncio.Event | None = None  # somebody waits

    def take(self, record: ConsumerRecord[Any, Any]) -> None:
        """The handler has this record now."""
        self._record = record

    def take_all(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """The handler has these now."""
        self._record = None
        self._firsts = {}
        for record in records:
            self._firsts.setdefault(TopicPartition(record.topic, record.partition), record.offset)

    def finish(self) -> None:
        """The handler is done with all it had."""
        self._record = None
        if self._firsts:
            self._firsts = {}
        if self._forgotten:
            self._forgotten.clear()
        if self._freed is not None:
            self._freed.set()

    def first_of(self, key: TopicPartition) -> int | None:
        """The first offset of the partition that is not finished; None where all that was handed out is."""
        if key in self._forgotten:
            return None
        record = self._record
        if record is not None:
            return record.offset if (record.topic, record.partition) == key else None
        return self._firsts.get(key)

    def forget(self, keys: Collection[TopicPartition]) -> None:
        """The partitions are read from elsewhere, or by others: what is in hand of them is nobody's measure."""
        if self._record is not None or self._firsts:
            self._forgotten.update(keys)
        if self._freed is not None:
            self._freed.set()

    async def free_of(self, keys: Collection[TopicPartition], timeout_s: float) -> None:
        """Until nothing of these is in hand, or the handler takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(self.first_of(key) is not None for key in keys):
                    self._freed = asyncio.Event()
                    await self._freed.wait()
        self._freed = None

    def held_s(self) -> float:
        """For how long, about, the handler has had what it has: since the first look at it."""
        now_s = self._clock.monotonic()
        held: object = self._record if self._record is not None else (self._firsts or None)
        if held is not self._watched or held is None:
            self._watched, self._watched_s = held, now_s
        return now_s - self._watched_s
