"""What has been handed out and is not finished: what a commit behind the handler must not pass."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

from ottla.log.clock import Clock
from ottla.log.model import TopicPartition

from .records import ConsumerRecord


class Lease:
    """Records that the handler has, up to ``index`` done with; -1: it has not gone on to the first yet, which may still
    be decoded. ``one_by_one``: it sees one at a time, and what is behind that can still be taken back: it passes over
    what is ``taken_back``, by partition the index from which on. ``filling``: the handler has not got them yet, and may
    never; nothing of them is done with. Another thread may advance ``index``, and then asks ``shows``: what it went on
    to before is its own, however late it asks, and what it goes on to at the same moment it may see though it is read
    again."""

    __slots__ = ("done", "filling", "index", "one_by_one", "records", "taken_back")

    def __init__(
        self, records: list[ConsumerRecord[Any, Any]], *, one_by_one: bool = False, filling: bool = False
    ) -> None:
        self.records = records
        self.filling = filling
        self.index = 0
        self.done = -1  # the index whose record is done with, though the handler has not gone on
        self.one_by_one = one_by_one
        self.taken_back: dict[TopicPartition, int] = {}

    def unfinished(self, key: TopicPartition) -> list[int]:
        """Offsets of the partition that are not finished, in order; what was taken back is not ours to finish."""
        index = self.index
        end = self.taken_back.get(key, len(self.records))
        begin = index + (self.done == index)
        return [record.offset for record in self.records[begin:end] if (record.topic, record.partition) == key]

    def is_handling(self, key: TopicPartition) -> bool:
        """Whether the handler works on a record of the partition now."""
        index = self.index
        end = index + 1 if self.one_by_one else len(self.records)
        begin = index + (self.done == index)
        return any((record.topic, record.partition) == key for record in self.records[begin:end])

    def behind(self, key: TopicPartition) -> int | None:
        """The first offset of the partition that the handler has not seen yet."""
        if self.filling:
            return self._first(key, 0)
        if not self.one_by_one or key in self.taken_back:
            return None
        return self._first(key, self.index + 1)

    def _first(self, key: TopicPartition, index: int) -> int | None:
        later = self.records[index:]
        return next((record.offset for record in later if (record.topic, record.partition) == key), None)

    def shows(self, index: int) -> bool:
        """Whether the handler, which has gone on to it, is to see this record."""
        record = self.records[index]
        return index < self.taken_back.get(TopicPartition(record.topic, record.partition), len(self.records))

    def take_back(self, keys: Collection[TopicPartition]) -> dict[TopicPartition, list[int]]:
        """By partition, the offsets that will not be seen."""
        first, unseen = self.index + 1, {}
        for key in set(keys) - set(self.taken_back) if self.one_by_one else ():
            self.taken_back[key] = first
            offsets = [record.offset for record in self.records[first:] if (record.topic, record.partition) == key]
            if offsets:
                unseen[key] = offsets
        return unseen

    def drop(self, keys: Collection[TopicPartition]) -> int:
        """The handler is to get none of these: how many they were. For one that is filling."""
        kept = [record for record in self.records if (record.topic, record.partition) not in keys]
        dropped = len(self.records) - len(kept)
        self.records[:] = kept
        return dropped

    @property
    def ahead(self) -> int:
        """How many the handler is to see yet."""
        if self.filling:
            return len(self.records)
        return sum(map(self.shows, range(self.index + 1, len(self.records)))) if self.one_by_one else 0


class InHand:
    """The record, or the records, that the handler works on. ``record`` may be replaced by the next of its batch
    without another word; ``finish`` comes before anything else is read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.record: ConsumerRecord[Any, Any] | None = None
        self._lease: Lease | None = None
        self._forgotten: set[TopicPartition] = set()
        self._watched: object = None
        self._watched_s = 0.0
        self._moved: asyncio.Event | None = None  # somebody waits
        self._given_back = 0

    @property
    def unshown(self) -> int:
        """How many of those that were ever taken from the reader the handler has not seen, or not then."""
        return self._given_back + (0 if self._lease is None else self._lease.ahead)

    def give_back(self, count: int) -> None:
        """The handler was not shown so many; who asks for more reads them again, or nobody does."""
        self._given_back += count

    def lease(self, lease: Lease) -> None:
        """The handler has these now."""
        self.record = None
        self._lease = lease

    def finish(self) -> None:
        """The handler is done with all it had."""
        self.record = self._lease = None
        if self._forgotten:
            self._forgotten.clear()
        self.moved()

    def show_done(self) -> None:
        """The handler is done with all that it was shown."""
        lease = self._lease
        if lease is not None and lease.filling:
            return
        if lease is None or not lease.one_by_one:
            self.finish()
        else:
            lease.done = lease.index
            self.moved()

    @property
    def is_shown_one_by_one(self) -> bool:
        """Whether the handler may have seen only a part of what is in hand."""
        return self._lease is not None and self._lease.one_by_one

    def moved(self) -> None:
        """The handler has got further: whoever waits for it looks again."""
        if self._moved is not None:
            self._moved.set()

    def first_of(self, key: TopicPartition) -> int | None:
        """The first offset of the partition that is not finished; None where all that was handed out is."""
        if key in self._forgotten:
            return None
        record = self.record
        if record is not None:
            return record.offset if (record.topic, record.partition) == key else None
        unfinished = self._lease.unfinished(key) if self._lease is not None else None
        return unfinished[0] if unfinished else None

    def unseen(self, key: TopicPartition) -> int | None:
        """The first offset of the partition that is in hand and was not shown to the handler."""
        return None if self._lease is None or key in self._forgotten else self._lease.behind(key)

    def take_back(self, keys: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Show the handler no more of these; by partition, the first offset that it will not see."""
        unseen = {} if self._lease is None else self._lease.take_back(keys)
        self._given_back += sum(map(len, unseen.values()))
        return {key: offsets[0] for key, offsets in unseen.items()}

    def forget(self, keys: Collection[TopicPartition]) -> None:
        """The partitions are read from elsewhere, or by others: what is in hand of them is nobody's measure."""
        if self._lease is not None and self._lease.filling:
            self._given_back += self._lease.drop(keys)
        elif self.record is not None or self._lease is not None:
            self._forgotten.update(keys)
        self.moved()

    async def free_of(self, keys: Collection[TopicPartition], timeout_s: float) -> None:
        """Until the handler works on nothing of these, or takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(self._is_handling(key) for key in keys):
                    self._moved = asyncio.Event()
                    await self._moved.wait()
        self._moved = None

    def _is_handling(self, key: TopicPartition) -> bool:
        if key in self._forgotten:
            return False
        if self.record is not None:
            return (self.record.topic, self.record.partition) == key
        return self._lease is not None and self._lease.is_handling(key)

    def held_s(self) -> float:
        """For how long, about, the handler has had what it has: since the first look at it."""
        now_s = self._clock.monotonic()
        lease = self._lease
        held: object = self.record
        if held is None and lease is not None:
            held = lease.records[lease.index] if lease.index < len(lease.records) else None
        if held is not self._watched or held is None:
            self._watched, self._watched_s = held, now_s
        return now_s - self._watched_s
