"""From batches to records: decoded one batch at a time, handed out one by one, each partition in order."""

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

from ottla.log.clock import Clock
from ottla.log.errors import CorruptBatch
from ottla.log.model import Offset
from ottla.log.records import Record

from .errors import CorruptBatchError, OttlaError
from .fetcher import Fetcher
from .reading import Fetched, Partition
from .records import ConsumerRecord
from .serializers import Codec, UndecodableRecord

OnError = Literal["raise", "skip"] | Callable[[UndecodableRecord], None]
"""What becomes of a record that does not decode: raised, passed over, or told to a function and passed over."""
OnConsume = Callable[[ConsumerRecord[Any, Any]], ConsumerRecord[Any, Any]]
"""An interceptor: what it returns is handed out in place of the record."""


class Decoding(NamedTuple):
    """How records become what the user sees. None: bytes as they are."""

    key: Codec[Any] | None = None
    value: Codec[Any] | None = None
    on_error: OnError = "raise"
    interceptors: tuple[OnConsume, ...] = ()


class _Chunk(NamedTuple):
    """Decoded records of one batch, not all handed out yet."""

    partition: Partition
    generation: int
    records: list[Record]
    next_offset: Offset


class Reader:
    """Takes records from a fetcher, for one task at a time."""

    def __init__(self, fetcher: Fetcher, clock: Clock, decoding: Decoding) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._decoding = decoding
        self._plain = decoding == Decoding()
        self._chunk: _Chunk | None = None
        self._index = 0  # of the next record in the chunk
        self.records_read = 0

    def take(self) -> ConsumerRecord[Any, Any] | None:
        """The next record that is here already. Raises UndecodableRecord, again and again until it is sought past."""
        while (chunk := self._chunk) is not None:
            partition = chunk.partition
            if chunk.generation != partition.generation:
                self._chunk = None
                return None
            record = chunk.records[self._index]
            if self._plain:
                made: ConsumerRecord[Any, Any] | None = ConsumerRecord(partition.topic, partition.number, *record)
            else:
                made = self._decoded(partition, record)
            self._index += 1
            self.records_read += 1
            if self._index == len(chunk.records):
                partition.moved_to(chunk.next_offset)
                self._chunk = None
            else:
                partition.position = Offset(record.offset + 1)
            if made is not None:
                return made
        return None

    def _decoded(self, partition: Partition, record: Record) -> ConsumerRecord[Any, Any] | None:
        decoding = self._decoding
        key: Any = record.key
        value: Any = record.value
        what = "key"
        try:
            if decoding.key is not None and key is not None:
                key = decoding.key.decode(key)
            what = "value"
            if decoding.value is not None and value is not None:
                value = decoding.value.decode(value)
        except Exception as error:  # a codec is the user's: whatever it raises is about this record
            failure = UndecodableRecord(partition.topic, partition.number, record.offset, what, error)
            if decoding.on_error == "raise":
                raise failure from error
            if decoding.on_error != "skip":
                decoding.on_error(failure)
            return None
        made: ConsumerRecord[Any, Any] = ConsumerRecord(
            partition.topic, partition.number, record.offset, record.timestamp_ms, key, value, record.headers
        )
        for interceptor in decoding.interceptors:
            made = interceptor(made)
        return made

    async def next(self) -> ConsumerRecord[Any, Any]:
        """The next record, waited for without end."""
        while (record := self.take()) is None:
            self.open(await self._fetcher.next(None))
        return record

    async def fill(self, batch: list[ConsumerRecord[Any, Any]], max_records: int, max_wait: float) -> None:
        """Add records to a batch that has some already, until it is full or ``max_wait`` seconds have passed."""
        deadline_s = self._clock.monotonic() + max_wait
        try:
            while len(batch) < max_records:
                record = self.take()
                if record is not None:
                    batch.append(record)
                    continue
                fetched = await self._fetcher.next(max(0.0, deadline_s - self._clock.monotonic()))
                if fetched is None:
                    return
                self.open(fetched)
        except OttlaError:
            return  # first hand over what is there; the error comes again

    def open(self, fetched: Fetched | None) -> None:
        """Decode a batch. Raises CorruptBatchError."""
        assert fetched is not None
        partition, batch = fetched.partition, fetched.batch
        wanted = partition.position
        assert wanted is not None
        try:
            records = [] if batch.is_control else [r for r in batch.records() if r.offset >= wanted]
        except CorruptBatch as error:
            failure = corrupt(partition.topic, partition.number, batch.base_offset, error)
            self._fetcher.fail(partition, failure)
            raise failure from error
        self._chunk = _Chunk(partition, partition.generation, records, batch.next_offset)
        self._index = 0
        if not records:
            partition.moved_to(batch.next_offset)
            self._chunk = None

    def drop(self, partitions: Collection[Partition]) -> None:
        """Hand out no more of what was decoded of these."""
        if self._chunk is not None and self._chunk.partition in partitions:
            self._chunk = None


def corrupt(topic: str, partition: int, offset: int, why: object) -> CorruptBatchError:
    """Says where, so that the reader can seek past it."""
    return CorruptBatchError(
        f"{topic}-{partition}: the batch at offset {offset} cannot be read: {why}.", hint="Seek past it to go on."
    )
