"""The producer: batches, keeps order, stores each record once, and says when it is safe."""

import asyncio
from collections import deque
from functools import partial
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self

from ottla.log.model import TopicIdPartition
from ottla.log.records import Header

from .accumulator import Accumulator
from .batch import RECORD_OVERHEAD_BYTES, smallest_batch_bytes
from .cluster import Cluster
from .error_codes import ErrorCode
from .errors import BufferFull, DeliveryTimeout, OttlaError, RecordTooLarge, RequestFailed, TopicNotFound
from .metrics import ProducerMetrics, Tally
from .outgoing import Encoding, HeadersLike, OutgoingRecord, header_list
from .partitioner import StickyChoice
from .producer_options import ProducerOptions
from .protocol import TopicMetadata
from .records import K, V
from .sender import ProducerBatch, Sender, unsent

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default max.message.bytes: 1 MiB and a batch's overhead."""
HURRIED_FLUSH_S = 5.0
"""How long leaving the block by cancellation goes on delivering."""


class RecordMetadata(NamedTuple):
    """Where a record is. ``offset`` is None with acks=0, where nobody tells. ``timestamp_ms``: the record's own,
    or the broker's where the topic's message.timestamp.type is LogAppendTime."""

    topic: str
    partition: int
    offset: int | None
    timestamp_ms: int


RecordFuture = asyncio.Future[RecordMetadata]


class _Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    partition: int | None
    timestamp_ms: int
    size: int
    future: RecordFuture


class _Topic:
    """A topic that records were sent to. ``staged``: records that came before its metadata, in order. ``open``: the
    batch that records without a key join while it is not closed and the metadata is still this."""

    __slots__ = ("metadata", "name", "open", "opening", "seen", "staged", "sticky")

    def __init__(self, name: str, sticky: StickyChoice) -> None:
        self.name = name
        self.sticky = sticky
        self.metadata: TopicMetadata | None = None
        self.open: ProducerBatch | None = None
        self.seen: _Layout | None = None
        self.staged: deque[_Record] = deque()
        self.opening: asyncio.Task[None] | None = None


class _Layout(NamedTuple):
    """What is needed per record, taken from the metadata once. ``targets``: by partition number. ``batch_bytes``: at
    most in a batch that is not of one record."""

    targets: tuple[TopicIdPartition, ...]
    available: tuple[int, ...]
    max_message_bytes: int
    batch_bytes: int


class Producer(Generic[K, V]):
    """Made by ``Client.producer``. Use it as a context manager: leaving flushes. Safe for any number of tasks of one
    loop; the order of calls is the order in each partition."""

    def __init__(self, cluster: Cluster, options: ProducerOptions, encoding: Encoding | None = None) -> None:
        options.check()
        self._encoding = encoding if encoding != Encoding() else None
        self._tally = Tally(cluster.clock.monotonic())
        self._cluster = cluster
        self._clock = cluster.clock
        self._options = options
        self._accumulator: Accumulator[asyncio.Future[Any]] = Accumulator(options.limits())
        self._topics: dict[str, _Topic] = {}
        self._names: dict[str, str] = {}
        self._staged_bytes = 0
        self._progress = asyncio.Event()  # set at every resolution: room and flushes look again
        self._room_turn = asyncio.Lock()
        self._sender: Sender | None = None
        self._closing = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready to send. ``async with`` and the first ``send`` do it too."""
        self._started()

    def _started(self) -> Sender:
        if self._closing:
            raise OttlaError("the producer is closed.", code="OTTLA-CLOSED")
        if self._sender is None:
            self._sender = Sender(
                self._cluster,
                self._accumulator,
                acks=self._options.acks_number,
                request_timeout_s=self._options.request_timeout_s,
                max_in_flight=self._options.max_in_flight,
                topic_name=lambda target: self._names.get(target.topic_id, target.topic_id),
                on_stored=self._on_stored,
                on_failed=self._on_failed,
            )
        return self._sender

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hurried = kind is not None and not issubclass(kind, Exception)
        await self.close(timeout_s=HURRIED_FLUSH_S if hurried else None)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing

    async def close(self, *, timeout_s: float | None = None) -> None:
        """Deliver what is left, for ``timeout_s`` or the delivery timeout; the rest fails. Idempotent."""
        if self._closing:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.flush()
        except TimeoutError:
            pass
        finally:
            self._closing = True
            error = OttlaError("the producer was closed before the acknowledgement.", code="OTTLA-CLOSED")
            for topic in self._topics.values():
                if topic.opening is not None:
                    topic.opening.cancel()
                topic.open = None
                self._fail_staged(topic, error)
            sender, self._sender = self._sender, None
            if sender is not None:
                await sender.close(error)

    # --- sending -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        value: V | None,
        key: K | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send one record and await its acknowledgement; where the buffer is full, wait for room first.

        ``value`` None is a tombstone. ``timestamp_ms``: milliseconds since 1970, now if None. Raises RecordTooLarge,
        TopicNotFound, DeliveryTimeout (it may or may not be stored), or another OttlaError; TypeError at once for what
        is neither bytes nor None. If cancelled, the record may still be sent.
        """
        try:
            future = self.send_nowait(topic, value, key, headers, partition, timestamp_ms)
        except BufferFull:
            future = await self._send_when_room(topic, value, key, headers, partition, timestamp_ms)
        return await future

    def send_nowait(
        self,
        topic: str,
        value: V | None,
        key: K | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordFuture:
        """Send one record; the future brings what ``send`` returns or raises. Raises BufferFull when the brokers are
        slower than the caller, RecordTooLarge, and TypeError for what is neither bytes nor None, or UnencodableRecord
        where a codec was given."""
        if self._encoding is None:
            if key is None and partition is None and timestamp_ms is None and not headers and type(value) is bytes:
                return self._join_open(topic, value) or self._send_bytes(topic, value, key, headers, partition, None)
            return self._send_bytes(topic, value, key, headers, partition, timestamp_ms)
        given = OutgoingRecord(topic, key, value, header_list(headers), partition, timestamp_ms)
        topic, key, value, headers, partition, timestamp_ms = self._encoding.encoded(given)
        return self._send_bytes(topic, value, key, headers, partition, timestamp_ms)

    def _join_open(self, topic: str, value: bytes) -> RecordFuture | None:
        """The way of nearly all records: into a batch that is open. None where there is more to it."""
        known = self._topics.get(topic)
        if known is None or (batch := known.open) is None or batch.is_closed:
            return None
        layout, size = known.seen, len(value)
        if layout is None or self._cluster.known_topic(topic) is not known.metadata:
            return None
        if not batch.fits(size, layout.batch_bytes):
            return None
        future: RecordFuture = asyncio.get_running_loop().create_future()
        self._accumulator.join(batch, None, value, (), self._clock.now_ms(), future, size)
        tally = self._tally
        tally.sent += 1
        tally.sent_bytes += size
        return future

    def _send_bytes(
        self, topic: str, value: Any, key: Any, headers: HeadersLike, partition: int | None, timestamp_ms: int | None
    ) -> RecordFuture:
        sender = self._sender or self._started()
        size = len(value) if type(value) is bytes else _size(value, "value")
        if key is not None:
            size += _size(key, "key")
        fields: tuple[Header, ...] = ()
        if headers:
            fields = header_list(headers)
            size += sum(_header_size(name, content) for name, content in fields)
        if timestamp_ms is None:
            timestamp_ms = self._clock.now_ms()
        elif not 0 <= timestamp_ms < 1 << 63:  # in a batch it would fail the records beside it, too
            message = f"timestamp_ms is {timestamp_ms}, not milliseconds since 1970 in 63 bits."
            raise RequestFailed(ErrorCode.INVALID_TIMESTAMP, message)
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = _Topic(topic, StickyChoice(self._cluster.chance.randbelow))
        future: RecordFuture = asyncio.get_running_loop().create_future()
        layout = None if known.staged else self._layout(known)
        record = _Record(key, value, fields, partition, timestamp_ms, size, future)
        if layout is None:
            self._stage(known, record)
        else:
            if self._append(known, layout, record):
                sender.wake()
            chosen = known.sticky.partition
            if chosen is not None and key is None and partition is None:
                known.open = self._accumulator.open_batch(layout.targets[chosen], 0, layout.max_message_bytes)
        self._tally.sent += 1
        self._tally.sent_bytes += size
        return future

    def _append(self, topic: _Topic, layout: _Layout, record: _Record) -> bool:
        key, value, headers, chosen, timestamp_ms, size, future = record
        count = len(layout.targets)
        if smallest_batch_bytes(size) > layout.max_message_bytes:
            raise RecordTooLarge(size, layout.max_message_bytes)
        if chosen is None:
            if key is None:
                chosen = topic.sticky.choose(
                    layout.available,
                    lambda number: self._accumulator.has_room(layout.targets[number], size, layout.max_message_bytes),
                )
            else:
                chosen = self._options.partitioner(key, count)
        if not 0 <= chosen < count:
            raise TopicNotFound(f"{topic.name} has partitions 0 to {count - 1}, not {chosen}.")
        return self._accumulator.append(
            layout.targets[chosen],
            key,
            value,
            headers,
            timestamp_ms,
            future,
            size=size,
            now_s=self._cluster.clock.monotonic(),
            batch_bytes_max=layout.max_message_bytes,
        )

    def _layout(self, topic: _Topic) -> _Layout | None:
        """The topic's shape as of the newest metadata; None where it is not known."""
        metadata = self._cluster.known_topic(topic.name)
        if metadata is topic.metadata:
            return topic.seen
        topic.metadata, topic.seen, topic.open = metadata, None, None
        if metadata is None or metadata.topic_id is None:
            return None
        numbers = [state.partition for state in metadata.partitions]
        configured = metadata.configs.get("max.message.bytes", "")
        max_bytes = int(configured) if configured.isascii() and configured.isdigit() else MAX_MESSAGE_BYTES
        led = tuple(state.partition for state in metadata.partitions if state.leader is not None)
        topic.seen = _Layout(
            tuple(TopicIdPartition(metadata.topic_id, number) for number in numbers),
            led or tuple(numbers),
            max_bytes,
            min(max_bytes, self._options.batch_size),
        )
        self._names[metadata.topic_id] = topic.name
        return topic.seen

    # --- records that wait: for metadata, for room -------------------------------------------------------------------

    def _stage(self, topic: _Topic, record: _Record) -> None:
        cost = record.size + RECORD_OVERHEAD_BYTES
        held = self._staged_bytes + self._accumulator.buffered_bytes
        if held and held + cost > self._options.buffer_bytes:
            raise BufferFull(f"{held} bytes wait for {topic.name}'s metadata.", hint="Await send() instead.")
        topic.staged.append(record)
        self._staged_bytes += cost
        if topic.opening is None:
            topic.opening = asyncio.create_task(self._open_topic(topic), name=f"open-{topic.name}")

    async def _open_topic(self, topic: _Topic) -> None:
        try:
            await self._cluster.topic(topic.name, auto_create=True, timeout_s=self._options.delivery_timeout_s)
            await self._append_staged(topic)
        except OttlaError as error:
            self._fail_staged(topic, error)
        except Exception as error:  # a bug of ours: whoever waits must be told
            self._fail_staged(topic, unsent(topic.name, error))
            raise
        finally:
            topic.opening = None

    async def _append_staged(self, topic: _Topic) -> None:
        while topic.staged:
            layout = self._layout(topic)
            if layout is None:
                raise TopicNotFound(f"there is no topic {topic.name}.")
            record = topic.staged[0]
            try:
                self._append(topic, layout, record)
            except BufferFull:
                await self._wait_for_progress()
                continue
            except Exception as error:  # the record's own fault, or a partitioner's: the next ones may do
                if not record.future.done():
                    record.future.set_exception(error)
            topic.staged.popleft()
            self._staged_bytes -= record.size + RECORD_OVERHEAD_BYTES
        self._started().wake()

    def _fail_staged(self, topic: _Topic, error: OttlaError) -> None:
        while topic.staged:
            record = topic.staged.popleft()
            self._staged_bytes -= record.size + RECORD_OVERHEAD_BYTES
            self._tally.failed += 1
            if not record.future.done():
                record.future.set_exception(error)
        self._progress.set()

    async def _send_when_room(
        self,
        topic: str,
        value: V | None,
        key: K | None,
        headers: HeadersLike,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> RecordFuture:
        send = partial(self.send_nowait, topic, value, key, headers, partition, timestamp_ms)
        try:
            async with asyncio.timeout(self._options.delivery_timeout_s), self._room_turn:  # in the order they came
                while True:
                    try:
                        return send()
                    except BufferFull:
                        await self._wait_for_progress()
        except TimeoutError:
            waited_s = self._options.delivery_timeout_s
            raise DeliveryTimeout(
                f"no room in the producer's buffer within {waited_s:g} s; the record was never sent."
            ) from None

    async def _wait_for_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    def metrics(self) -> ProducerMetrics:
        """What it has done so far."""
        buffered = self._staged_bytes + self._accumulator.buffered_bytes
        return self._tally.snapshot(self._cluster.clock.monotonic(), buffered)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def _on_stored(self, batch: ProducerBatch, base_offset: int | None, log_append_time_ms: int | None) -> None:
        topic, partition = self._names[batch.target.topic_id], batch.target.partition
        offset = base_offset
        self._tally.stored(len(batch.waiters), self._cluster.clock.monotonic() - batch.begun_s)
        new, kind = tuple.__new__, RecordMetadata  # twice as fast as calling it, and this is once a record
        for future, timestamp_ms in zip(batch.waiters, batch.builder.timestamps(), strict=True):
            if not future.done():
                stored_ms = timestamp_ms if log_append_time_ms is None else log_append_time_ms
                future.set_result(new(kind, (topic, partition, offset, stored_ms)))
            if offset is not None:
                offset += 1
        self._progress.set()

    def _on_failed(self, batch: ProducerBatch, error: OttlaError) -> None:
        self._tally.failed += len(batch.waiters)
        for future in batch.waiters:
            if not future.done():
                future.set_exception(error)
        self._progress.set()

    async def flush(self) -> None:
        """Until every record sent before is acknowledged or failed; their futures say which. Bounded by the delivery
        timeout. Raises nothing of theirs."""
        for topic in list(self._topics.values()):
            if topic.opening is not None:
                await asyncio.wait([topic.opening])
        number = self._accumulator.flush()
        if self._accumulator.is_flushed(number):
            return
        self._started().wake()
        while not self._accumulator.is_flushed(number):
            await self._wait_for_progress()


def _size(content: bytes | None, what: str) -> int:
    """Bytes. Raises TypeError: a wrong type must not get as far as a batch that holds other records, too."""
    if content is None:
        return 0
    if isinstance(content, bytes):
        return len(content)
    hint = f" Encode it: {what.rpartition(' ')[2]}.encode()" if isinstance(content, str) else ""
    raise TypeError(f"{what} is {type(content).__name__}, not bytes.{hint}")


def _header_size(name: str, content: bytes | None) -> int:
    if not isinstance(name, str):
        raise TypeError(f"a header's name is {type(name).__name__}, not str.")
    return len(name.encode()) + 16 + _size(content, "header value")
