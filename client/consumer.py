"""The consumer without a group: every record of a topic, each partition in order."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Generic, Self

from ottla.log.model import Offset, TopicId
from ottla.log.records import RecordBatch

from .arguments import check_batches, check_ends, check_offset, chosen_partitions
from .cluster import Cluster
from .errors import ConfigError, TopicNotFound
from .fetcher import Fetcher
from .metrics import ConsumerMetrics
from .one_reader import Loop, OneReader
from .places import Places
from .protocol import EARLIEST, LATEST
from .reader import Decode, Decoding, Reader, corrupt
from .reading import ConsumerOptions, LogTruncated, Partition, consumer_closed
from .records import ConsumerRecord, K, V

__all__ = ["Consumer", "ConsumerOptions", "ConsumerRecord", "LogTruncated", "check_start", "corrupt"]


def check_start(start: str | int) -> None:
    """Raises ConfigError."""
    wrong_type = not isinstance(start, int) or isinstance(start, bool)
    if start not in (EARLIEST, LATEST) if isinstance(start, str) else wrong_type:
        raise ConfigError(f"start is {start!r}.", hint='It is "earliest", "latest" or an offset.')
    if isinstance(start, int):
        check_offset(start)


class Consumer(Places, Generic[K, V]):
    """Made by ``Client.consumer``. Use it as a context manager and iterate over it; fetches run ahead in the
    background, bounded by ``prefetch_bytes``. For one task at a time."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        start: str | int,
        partitions: Iterable[int] | None,
        options: ConsumerOptions,
        decoding: Decoding | None = None,
    ) -> None:
        options.check()
        check_start(start)
        numbers = chosen_partitions(partitions)
        self._cluster = cluster
        self._options = options
        self.topic = topic
        self._topic_id: TopicId | None = None
        self._start = start
        self._numbers = numbers
        self._started_s = cluster.clock.monotonic()
        self._fetcher = Fetcher(cluster, options)
        self._reader = Reader(self._fetcher, cluster.clock, decoding or Decoding())
        self._alone = OneReader()
        self._filling: list[ConsumerRecord[K, V]] = []
        self._given_back = 0  # of those that the reader gave
        self.lent: deque[ConsumerRecord[K, V]] = deque()  # gone to another thread, which has shown them to nobody yet

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the topic and begin to fetch. Raises TopicNotFound, ConnectFailed. Idempotent."""
        await self._found()

    async def _found(self) -> TopicId:
        self._check_open()
        self._cluster.check_loop()
        if self._topic_id is not None:
            return self._topic_id
        topic = await self._cluster.topic(self.topic, timeout_s=self._options.request_timeout_s)
        topic_id, count = topic.topic_id, len(topic.partitions)
        assert topic_id is not None
        self._check_open()  # it may have been closed meanwhile
        numbers = range(count) if self._numbers is None else self._numbers
        for number in numbers:
            if not 0 <= number < count:
                raise TopicNotFound(f"{self.topic} has partitions 0 to {count - 1}, not {number}.")
        if self._topic_id is None:
            self._topic_id = topic_id
            if self._numbers is None:
                self._fetcher.growing[self.topic] = topic_id
            self._fetcher.add(Partition(self.topic, topic_id, number, self._start) for number in numbers)
        return topic_id

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._fetcher.closed

    def _check_open(self) -> None:
        """Raises that it is closed."""
        if self._fetcher.closed:
            raise consumer_closed()

    async def close(self) -> None:
        """Stop fetching. Idempotent. ``position`` is told after it as well."""
        self._cluster.check_loop()
        self.take_back()
        self._alone.may_be_taken = True
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

    def __aiter__(self) -> AsyncIterator[ConsumerRecord[K, V]]:
        return self._alone.looped(self._records)

    async def _records(self, loop: Loop) -> AsyncGenerator[ConsumerRecord[K, V], None]:
        """As ``__anext__`` again and again, without a coroutine for each."""
        await self._ready()
        self._alone.enter(loop)
        while True:
            for record in self._reader.here():
                yield record
            with self._alone:
                await self._reader.turn()

    async def _ready(self) -> None:
        await self._found()
        self._alone.check()

    async def __anext__(self) -> ConsumerRecord[K, V]:
        """The next record, waited for without end. Raises CorruptBatchError, UndecodableRecord, LogTruncated,
        TopicNotFound, or RequestFailed with OFFSET_OUT_OF_RANGE; ``seek`` goes on after any of them; and ConsumerBusy
        where another task reads."""
        if self._alone.may_be_taken:
            await self._ready()
        record = self._reader.take()
        if record is None:
            with self._alone:
                record = await self._reader.next()
        return record

    def batches(self, max_records: int = 500, max_wait: float = 0.2) -> AsyncIterator[list[ConsumerRecord[K, V]]]:
        """Lists of 1 to ``max_records`` records: what there is once the first has come and ``max_wait`` seconds more
        have passed, or as soon as the list is full. Waits for the first without end."""
        check_batches(max_records, max_wait)
        return self._alone.looped(lambda loop: self._batches(loop, max_records, max_wait))

    async def _batches(
        self, loop: Loop, max_records: int, max_wait: float
    ) -> AsyncGenerator[list[ConsumerRecord[K, V]], None]:
        await self._ready()
        self._alone.enter(loop)
        while True:
            with self._alone:
                batch: list[ConsumerRecord[K, V]] = [self._reader.take() or await self._reader.next()]
                self._filling = batch
                try:
                    await self._reader.fill(batch, max_records, max_wait)
                    self._check_open()  # by another task
                except BaseException:
                    self._give_back(batch)
                    raise
                finally:
                    self._filling = []
            if batch:
                yield batch

    def take_back(self) -> None:
        """What went to another thread, and was shown to nobody, is the next to be read."""
        records = list(self.lent)
        self.lent.clear()
        self._give_back(records)

    def _give_back(self, records: list[ConsumerRecord[K, V]]) -> None:
        """Nobody was shown these: they are the next to be read."""
        self._given_back += len(records)
        firsts = {record.partition: record.offset for record in reversed(records)}
        for number, offset in firsts.items():
            self._fetcher.seek(self._partition(number), Offset(offset))

    async def read_to_end(self, ends: Mapping[int, int] | None = None) -> AsyncIterator[ConsumerRecord[K, V]]:
        """Every record up to the ends as they are at the call, then stop; a lower offset in ``ends``, by partition,
        is where its partition stops. Raises as iteration does, and if nothing arrives for ``request_timeout_s``."""
        check_ends(ends)
        ends = {number: min(end, (ends or {}).get(number, end)) for number, end in (await self.end_offsets()).items()}
        await self._fetcher.settle(self._options.request_timeout_s)
        held: set[Partition] = set()
        try:
            self._end_handout(ends)
            while True:
                for record in self._reader.here():
                    yield record
                self._hold_what_is_done(ends, held)
                if len(held) == len(self._fetcher.partitions):
                    return
                fetched = await self._fetcher.next(self._options.request_timeout_s)
                if fetched is None:
                    raise self._fetcher.stalled()
                self._reader.open(fetched)
                self._end_handout(ends)
        finally:
            self._fetcher.resume(held, held_back=True)

    def _end_handout(self, ends: dict[int, int]) -> None:
        """Not a record beyond the end: it is for whoever reads on later, however this reading ends."""
        opened = self._reader.opened
        if opened is None:
            return
        end = Offset(ends.get(opened.partition.number, 0))
        if opened.end_at(end):
            self._fetcher.cut(opened.partition, end)

    def _hold_what_is_done(self, ends: dict[int, int], held: set[Partition]) -> None:
        for partition in self._fetcher.partitions.values():
            if partition in held:
                continue
            position, end = partition.position, ends.get(partition.number)  # None: a partition that came later
            if partition.paused or end is None or (position is not None and position >= end):
                held.add(partition)
                self._fetcher.pause((partition,), held_back=True)
                if end is not None and position is not None and position > end and partition.has_read:
                    self._fetcher.seek(partition, Offset(end))

    def decode_elsewhere(self) -> Decode | None:
        """As ``Reader.decode_elsewhere``."""
        return self._reader.decode_elsewhere()

    async def fetch_batches(self) -> AsyncIterator[tuple[int, RecordBatch]]:
        """Partition numbers and batches as stored, undecoded; the first may begin below the position asked for.
        For tools that copy or measure; do not mix with reading records."""
        await self._found()
        while True:
            fetched = await self._fetcher.next(None)
            assert fetched is not None
            fetched.partition.moved_to(fetched.batch.next_offset)
            yield fetched.partition.number, fetched.batch

    def metrics(self) -> ConsumerMetrics:
        """What it has done so far."""
        partitions = self._fetcher.partitions.values()
        return ConsumerMetrics(
            group=None,
            topics=(self.topic,),
            partitions=len(partitions),
            records_read=self._reader.records_read - self._given_back - len(self.lent),
            buffered_bytes=self._fetcher.read_ahead.buffered_bytes,
            lag=sum(partition.lag(self.position(partition.number)) or 0 for partition in partitions),
            commits=0,
            seconds=self._cluster.clock.monotonic() - self._started_s,
        )
