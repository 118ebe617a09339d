"""The consumer of the blocking SDK (sync.py)."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Self

from . import consumer as _consumer
from .background import Background, blocking, forwarded
from .mirrored import AHEAD_MAX, Mirrored, made_of
from .reader import Decode
from .records import ConsumerRecord, K, V


class Consumer(Mirrored, Generic[K, V]):
    """Mirrors ``ottla.client.Consumer``."""

    def __init__(self, inner: _consumer.Consumer[K, V], background: Background, decode: Decode | None = None) -> None:
        super().__init__(inner, background)
        self._decode = decode
        self._ahead: deque[ConsumerRecord[K, V]] = inner.lent

    start = blocking(_consumer.Consumer.start)
    close = blocking(_consumer.Consumer.close)
    beginning_offsets = blocking(_consumer.Consumer.beginning_offsets)
    end_offsets = blocking(_consumer.Consumer.end_offsets)
    offsets_for_times = blocking(_consumer.Consumer.offsets_for_times)
    metrics = forwarded(_consumer.Consumer.metrics)
    position = forwarded(_consumer.Consumer.position)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return bool(self._inner.closed)

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions being read."""
        return self._background.call(lambda: tuple(self._inner.partitions))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumerRecord[K, V]:
        """The next record, waited for without end. Raises as the original does."""
        while True:
            try:
                if self._decode is None:
                    return self._ahead.popleft()
                record = self._ahead[0]  # and stays the next one, if it fails
            except IndexError:
                self._background.run(self._some)
                continue
            made = self._decode(record)
            if self._went(record) and made is not None:
                return made

    def _went(self, record: ConsumerRecord[K, V]) -> bool:
        """Whether it was still the next one, and is not any more: it may have been taken back, by a seek say."""
        try:
            return self._ahead[0] is record and self._ahead.popleft() is record
        except IndexError:
            return False

    async def _some(self) -> None:
        batches = self._inner.batches(AHEAD_MAX, 0.0)
        try:
            self._ahead.extend(await anext(batches))  # here: Ctrl-C may come before there has been an answer
        finally:
            await batches.aclose()

    def _give_back(self, before: Sequence[ConsumerRecord[K, V]] = ()) -> None:
        """What crossed and was not handed out is to be read again; ``before``: what is in front of that."""
        self._ahead.extendleft(reversed(before))
        if self._ahead:
            self._background.call(self._inner.take_back)

    def batches(self, max_records: int = 500, max_wait: float = 0.2) -> Iterator[list[ConsumerRecord[K, V]]]:
        """Lists of records, as the original's."""
        self._give_back()
        lists: Iterator[list[ConsumerRecord[K, V]]] = self._slices(self._inner.batches(max_records, max_wait), 1)
        return lists if self._decode is None else self._decoded_lists(self._decode, lists)

    def _decoded_lists(
        self, decode: Decode, lists: Iterator[list[ConsumerRecord[K, V]]]
    ) -> Iterator[list[ConsumerRecord[K, V]]]:
        for records in lists:
            made: list[ConsumerRecord[K, V] | None] = []
            try:
                made, failure = made_of(decode, records)
            finally:
                if len(made) < len(records):
                    self._give_back(records[len(made) :])
            batch = [record for record in made if record is not None]
            if batch:
                yield batch
            elif failure is not None and not made:  # else it comes again, as the first
                raise failure

    def read_to_end(self, ends: Mapping[int, int] | None = None) -> Iterator[ConsumerRecord[K, V]]:
        """Every record up to the ends as they are now, as the original's. Do not seek meanwhile."""
        self._give_back()
        records = self._to_the_end(self._slices(self._inner.read_to_end(ends), AHEAD_MAX, self._ahead))
        return records if self._decode is None else self._decoded(self._decode, records)

    def _to_the_end(self, records: Iterator[ConsumerRecord[K, V]]) -> Iterator[ConsumerRecord[K, V]]:
        try:
            yield from records
        finally:
            self._give_back()

    def _decoded(self, decode: Decode, records: Iterator[ConsumerRecord[K, V]]) -> Iterator[ConsumerRecord[K, V]]:
        record = None
        try:
            for record in records:
                made = decode(record)
                record = None
                if made is not None:
                    yield made
        finally:
            records.close()  # type: ignore[attr-defined]
            if record is not None and not self.closed:
                self._give_back((record,))

    def fetch_batches(self) -> Iterator[Any]:
        """Partition numbers and batches as stored, as the original's."""
        self._give_back()
        return self._slices(self._inner.fetch_batches(), 1)

    def seek(self, topic: str, partition: int, offset: int | str) -> None:
        """Go on from ``offset``, "earliest" or "latest". Raises as the original does."""
        self._give_back()
        self._background.run(lambda: self._inner.seek(topic, partition, offset))

    def seek_to_time(self, timestamp_ms: int) -> None:
        """Go on, in every partition, from the first record that is as late, or the end."""
        self._give_back()
        self._background.run(lambda: self._inner.seek_to_time(timestamp_ms))

    def pause(self, *partitions: int) -> None:
        """Hand out no more of these partitions, all if none is named, until ``resume``."""
        self._give_back()
        self._background.call(lambda: self._inner.pause(*partitions))

    def resume(self, *partitions: int) -> None:
        """Undo ``pause``."""
        self._background.call(lambda: self._inner.resume(*partitions))
