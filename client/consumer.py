"""The consumer without a group: every record of a topic, each partition in order."""

from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from ottla.log.errors import CorruptBatch
from ottla.log.model import Offset
from ottla.log.records import Header, Record, RecordBatch

from .cluster import Cluster
from .errors import ConfigError, CorruptBatchError, OttlaError, TopicNotFound
from .fetcher import Fetcher
from .offsets import list_offsets, offsets_for_time
from .protocol import AT_TIME, EARLIEST, LATEST, OffsetResult
from .reading import ConsumerOptions, Fetched, LogTruncated, Partition

__all__ = ["Consumer", "ConsumerOptions", "ConsumerRecord", "LogTruncated"]


class ConsumerRecord(NamedTuple):
    """One record. ``timestamp_ms``: milliseconds since 1970; a None value is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


class _Chunk(NamedTuple):
    """Decoded records of one batch, not all handed out yet."""

    partition: Partition
    generation: int
    records: list[Record]
    next_offset: Offset


class Consumer:
    """Made by ``Client.consumer``. Use it as a context manager and iterate over it; fetches run ahead in the
    background, bounded by ``prefetch_bytes``. For one task at a time."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        start: str | int,
        partitions: tuple[int, ...] | None,
        options: ConsumerOptions,
    ) -> None:
        options.check()
        if isinstance(start, str) and start not in (EARLIEST, LATEST):
            raise ConfigError(f"start is {start!r}.", hint='It is "earliest", "latest" or an offset.')
        if not isinstance(start, str) and (not isinstance(start, int) or isinstance(start, bool)):
            raise ConfigError(f"start is {start!r}.", hint='It is "earliest", "latest" or an offset.')
        if isinstance(start, int) and start < 0:
            raise ConfigError(f"start is {start}.", hint="Offsets begin at 0.")
        self._cluster = cluster
        self._options = options
        self.topic = topic
        self._fetcher = Fetcher(cluster, topic, start, partitions, options)
        self._chunk: _Chunk | None = None
        self._index = 0  # of the next record in the chunk

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the topic and begin to fetch. Raises TopicNotFound, ConnectFailed."""
        await self._fetcher.start()

    async def close(self) -> None:
        """Stop fetching. Idempotent."""
        await self._fetcher.close()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord:
        """The next record, waited for without end. Raises CorruptBatchError, LogTruncated, TopicNotFound, or
        RequestFailed with OFFSET_OUT_OF_RANGE; ``seek`` goes on after any of them."""
        while (record := self._take()) is None:
            self._open_chunk(await self._fetcher.next(None))
        return record

    async def batches(self, max_records: int = 500, max_wait: float = 0.2) -> AsyncIterator[list[ConsumerRecord]]:
        """Lists of 1 to ``max_records`` records: what there is once the first has come and ``max_wait`` seconds more
        have passed, or as soon as the list is full. Waits for the first without end."""
        while True:
            batch = [await self.__anext__()]
            deadline_s = self._cluster.clock.monotonic() + max_wait
            while len(batch) < max_records:
                record = self._take()
                if record is not None:
                    batch.append(record)
                    continue
                left_s = deadline_s - self._cluster.clock.monotonic()
                fetched = await self._next_within(max(0.0, left_s))
                if fetched is None:
                    break
                self._open_chunk(fetched)
            yield batch

    async def _next_within(self, timeout_s: float) -> Fetched | None:
        try:
            return await self._fetcher.next(timeout_s)
        except OttlaError:
            return None  # first hand over what is there; the error comes again

    async def read_to_end(self, ends: Mapping[int, int] | None = None) -> AsyncIterator[ConsumerRecord]:
        """Every record up to the ends as they are at the call, then stop; a lower offset in ``ends``, by partition,
        is where its partition stops. Raises as iteration does, and if nothing arrives for ``request_timeout_s``."""
        ends = {number: min(end, (ends or {}).get(number, end)) for number, end in (await self.end_offsets()).items()}
        await self._fetcher.settle(self._options.request_timeout_s)
        held: set[int] = set()
        try:
            while True:
                for partition in self._fetcher.partitions.values():
                    if partition.number not in held and (partition.paused or self._is_at(partition, ends)):
                        held.add(partition.number)
                        self._hold(partition, ends)
                if len(held) == len(self._fetcher.partitions):
                    return
                record = self._take()
                if record is None:
                    fetched = await self._fetcher.next(self._options.request_timeout_s)
                    if fetched is None:
                        raise self._fetcher.stalled()
                    self._open_chunk(fetched)
                elif record.offset < ends.get(record.partition, 0):
                    yield record
        finally:
            self._fetcher.resume(held, held_back=True)

    @staticmethod
    def _is_at(partition: Partition, ends: dict[int, int]) -> bool:
        position, end = partition.position, ends.get(partition.number)
        return end is None or (position is not None and position >= end)  # None: a partition that came later

    def _hold(self, partition: Partition, ends: dict[int, int]) -> None:
        """Not a record beyond the end: it is for whoever reads on later."""
        self._drop_chunk(partition.number)
        end = ends.get(partition.number)
        self._fetcher.pause((partition.number,), held_back=True)
        if end is not None and partition.position is not None and partition.position > end and partition.has_read:
            self._fetcher.seek(partition, Offset(end))

    async def fetch_batches(self) -> AsyncIterator[tuple[int, RecordBatch]]:
        """Partition numbers and batches as stored, undecoded; the first may begin below the position asked for.
        For tools that copy or measure; do not mix with reading records."""
        while True:
            fetched = await self._fetcher.next(None)
            assert fetched is not None
            fetched.partition.moved_to(fetched.batch.next_offset)
            yield fetched.partition.number, fetched.batch

    def _take(self) -> ConsumerRecord | None:
        chunk = self._chunk
        if chunk is None:
            return None
        partition = chunk.partition
        if chunk.generation != partition.generation:
            self._chunk = None
            return None
        if self._index == len(chunk.records):
            partition.moved_to(chunk.next_offset)
            self._chunk = None
            return None
        record = chunk.records[self._index]
        self._index += 1
        if self._index == len(chunk.records):
            partition.moved_to(chunk.next_offset)
            self._chunk = None
        else:
            partition.position = Offset(record.offset + 1)
        return ConsumerRecord(self.topic, partition.number, *record)

    def _open_chunk(self, fetched: Fetched | None) -> None:
        assert fetched is not None
        partition, batch = fetched.partition, fetched.batch
        wanted = partition.position
        assert wanted is not None
        try:
            records = [] if batch.is_control else [r for r in batch.records() if r.offset >= wanted]
        except CorruptBatch as error:
            failure = corrupt(self.topic, partition.number, batch.base_offset, error)
            self._fetcher.fail(partition, failure)
            raise failure from error
        self._chunk = _Chunk(partition, partition.generation, records, batch.next_offset)
        self._index = 0
        if not records:
            partition.moved_to(batch.next_offset)
            self._chunk = None

    def _drop_chunk(self, number: int) -> None:
        if self._chunk is not None and self._chunk.partition.number == number:
            self._chunk = None

    # --- where it is -------------------------------------------------------------------------------------------------

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions being read."""
        return tuple(self._fetcher.partitions)

    def position(self, partition: int) -> int | None:
        """Offset of the next record that will be handed out; None while "earliest" or "latest" is being looked up."""
        return self._partition(partition).position

    async def seek(self, topic: str, partition: int, offset: int | str) -> None:
        """Go on from ``offset``, "earliest" or "latest" (looked up now). Also goes on after an error.
        Raises OttlaError where the leader does not tell."""
        if topic != self.topic:
            raise ConfigError(f"this consumer reads {self.topic}, not {topic}.")
        target = self._partition(partition)
        if isinstance(offset, str):
            offset = (await self._offsets((partition,), offset))[partition]
        if offset < 0:
            raise ConfigError(f"offset is {offset}.", hint="Offsets begin at 0.")
        self._drop_chunk(partition)
        self._fetcher.seek(target, Offset(offset))

    def pause(self, *partitions: int) -> None:
        """Hand out no more of these partitions, all if none is named, until ``resume``."""
        numbers = partitions or self.partitions
        for number in numbers:
            self._partition(number)
            self._drop_chunk(number)
        self._fetcher.pause(numbers)

    def resume(self, *partitions: int) -> None:
        """Undo ``pause``, for all partitions if none is named."""
        self._fetcher.resume(partitions or self.partitions)

    async def beginning_offsets(self) -> dict[int, int]:
        """By partition, the first offset that can still be read. Raises OttlaError."""
        return await self._offsets(self.partitions, EARLIEST)

    async def end_offsets(self) -> dict[int, int]:
        """By partition, the offset after the last readable record (the high watermark). Raises OttlaError."""
        return await self._offsets(self.partitions, LATEST)

    async def offsets_for_times(self, timestamps_ms: Mapping[int, int]) -> dict[int, int | None]:
        """By partition, the offset of the first record with this time (milliseconds since 1970) or a later one; None
        where there is none. Raises OttlaError."""
        await self._fetcher.start()
        by_time: dict[int, list[int]] = {}
        for number, timestamp_ms in timestamps_ms.items():
            self._partition(number)
            by_time.setdefault(timestamp_ms, []).append(number)
        offsets: dict[int, int | None] = {}
        for timestamp_ms, numbers in by_time.items():
            answers = await list_offsets(
                self._cluster,
                self._fetcher.topic_id,
                numbers,
                AT_TIME,
                timeout_s=self._options.request_timeout_s,
                timestamp_ms=timestamp_ms,
            )
            for number, answer in answers.items():
                if isinstance(answer, OttlaError):
                    raise answer
                offsets[number] = answer.offset
        return offsets

    async def seek_to_time(self, timestamp_ms: int) -> None:
        """Go on, in every partition, from the first record with this time (milliseconds since 1970) or a later one;
        from the end where there is none. Raises OttlaError."""
        await self._fetcher.start()
        offsets = await offsets_for_time(
            self._cluster,
            self._fetcher.topic_id,
            self.partitions,
            timestamp_ms,
            timeout_s=self._options.request_timeout_s,
        )
        for number, offset in offsets.items():
            await self.seek(self.topic, number, offset)

    async def _offsets(self, partitions: Iterable[int], position: str) -> dict[int, int]:
        if position not in (EARLIEST, LATEST):
            raise ConfigError(f"offset is {position!r}.", hint='It is a number, "earliest" or "latest".')
        await self._fetcher.start()
        numbers = tuple(partitions) or self.partitions
        answers = await list_offsets(
            self._cluster, self._fetcher.topic_id, numbers, position, timeout_s=self._options.request_timeout_s
        )
        offsets: dict[int, int] = {}
        for number, answer in answers.items():
            if isinstance(answer, OttlaError):
                raise answer
            assert isinstance(answer, OffsetResult)
            assert answer.offset is not None
            offsets[number] = answer.offset
        return offsets

    def _partition(self, number: int) -> Partition:
        try:
            return self._fetcher.partitions[number]
        except KeyError:
            raise TopicNotFound(f"partition {number} of {self.topic} is not being read.") from None


def corrupt(topic: str, partition: int, offset: int, why: object) -> CorruptBatchError:
    """Says where, so that the reader can seek past it."""
    return CorruptBatchError(
        f"{topic}-{partition}: the batch at offset {offset} cannot be read: {why}.", hint="Seek past it to go on."
    )
