"""The producer: batches, keeps order, stores each record once, and says when it is safe."""

import asyncio
from functools import partial
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self

from ottla.log.records import Header

from .accumulator import Accumulator
from .cluster import Cluster
from .error_codes import ErrorCode
from .errors import BufferFull, DeliveryTimeout, OttlaError, RequestFailed
from .metrics import ProducerMetrics, Tally
from .outgoing import Encoding, HeadersLike, OutgoingRecord, content_size, header_list, header_size
from .partitioner import StickyChoice
from .placement import Placement, Record, Topic
from .producer_options import ProducerOptions
from .records import K, V
from .sender import ProducerBatch, Sender
from .serializers import encode_with
from .staging import Staging

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
Encoded = tuple[str, Any, Any, HeadersLike, int | None, int | None]
"""A record as ``send`` takes it, its key and value in bytes."""


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
        self._topics: dict[str, Topic] = {}
        self._placement = Placement(cluster, options, self._accumulator)
        self._progress = asyncio.Event()  # set at every resolution: room and flushes look again
        self._staging = Staging(
            cluster,
            options,
            self._accumulator,
            self._placement,
            self._tally,
            self._progress,
            self._wake,
        )
        self._room_turn = asyncio.Lock()
        self._sender: Sender | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the sender
        self._closing = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready to send. ``async with`` and the first ``send`` do it too."""
        self._cluster.check_loop()
        self._started()

    def _started(self) -> Sender:
        if self._closing:
            raise OttlaError("the producer is closed.", code="OTTLA-CLOSED")
        if self._sender is None:
            self._loop = self._cluster.check_loop()
            self._sender = Sender(
                self._cluster,
                self._accumulator,
                acks=self._options.acks_number,
                request_timeout_s=self._options.request_timeout_s,
                max_in_flight=self._options.max_in_flight,
                topic_name=lambda target: self._placement.names.get(target.topic_id, target.topic_id),
                on_stored=self._on_stored,
                on_failed=self._on_failed,
            )
        return self._sender

    def _wake(self) -> None:
        self._started().wake()

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
        self._cluster.check_loop()
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
                self._staging.fail(topic, error)
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
        if self._encoding is not None:
            return await self.send_encoded(*self.encoded(topic, value, key, headers, partition, timestamp_ms))
        try:
            future = self.send_nowait(topic, value, key, headers, partition, timestamp_ms)
        except BufferFull:
            future = await self._send_when_room(topic, value, key, headers, partition, timestamp_ms)
        return await future

    def encoded(
        self,
        topic: str,
        value: V | None,
        key: K | None,
        headers: HeadersLike,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> Encoded:
        """What ``send_encoded`` takes: interceptors and codecs have had their turn, in this thread. Raises
        UnencodableRecord, and what an interceptor raises."""
        encoding = self._encoding
        if encoding is None:
            return topic, value, key, headers, partition, timestamp_ms
        given: tuple[str, Any, Any, HeadersLike, int | None, int | None]
        given = topic, key, value, headers, partition, timestamp_ms
        if encoding.interceptors:
            given = encoding.intercepted(
                OutgoingRecord(topic, key, value, header_list(headers), partition, timestamp_ms)
            )
        topic, raw_key, raw_value, headers, partition, timestamp_ms = given
        stored_key = raw_key if encoding.key is None else encode_with(encoding.key, raw_key, "key")
        stored_value = raw_value if encoding.value is None else encode_with(encoding.value, raw_value, "value")
        return topic, stored_value, stored_key, headers, partition, timestamp_ms

    async def send_encoded(
        self,
        topic: str,
        value: Any,
        key: Any,
        headers: HeadersLike,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> RecordMetadata:
        """``send`` behind interceptors and codecs."""
        try:
            future = self._send_encoded_nowait(topic, value, key, headers, partition, timestamp_ms)
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
        return self._send_bytes(*self.encoded(topic, value, key, headers, partition, timestamp_ms))

    def _send_encoded_nowait(
        self, topic: str, value: Any, key: Any, headers: HeadersLike, partition: int | None, timestamp_ms: int | None
    ) -> RecordFuture:
        if key is None and partition is None and timestamp_ms is None and not headers and type(value) is bytes:
            return self._join_open(topic, value) or self._send_bytes(topic, value, key, headers, partition, None)
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
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._cluster.check_loop()
        future: RecordFuture = loop.create_future()
        self._accumulator.join(batch, None, value, (), self._clock.now_ms(), future, size)
        tally = self._tally
        tally.sent += 1
        tally.sent_bytes += size
        return future

    def _send_bytes(
        self, topic: str, value: Any, key: Any, headers: HeadersLike, partition: int | None, timestamp_ms: int | None
    ) -> RecordFuture:
        sender = self._sender or self._started()
        size = len(value) if type(value) is bytes else content_size(value, "value")
        if key is not None:
            size += content_size(key, "key")
        fields: tuple[Header, ...] = ()
        if headers:
            fields = header_list(headers)
            size += sum(header_size(name, content) for name, content in fields)
        if timestamp_ms is None:
            timestamp_ms = self._clock.now_ms()
        elif type(timestamp_ms) is not int or not 0 <= timestamp_ms < 1 << 63:
            # In a batch it would fail the records beside it, too.
            message = f"timestamp_ms is {timestamp_ms!r:.100}, not milliseconds since 1970 in 63 bits."
            raise RequestFailed(ErrorCode.INVALID_TIMESTAMP, message)
        if partition is not None and type(partition) is not int:
            raise TypeError(f"partition is {type(partition).__name__}, not int.")
        known = self._topics.get(topic)
        if known is None:
            if not isinstance(topic, str):
                raise TypeError(f"topic is {type(topic).__name__}, not str.")
            known = self._topics[topic] = Topic(topic, StickyChoice(self._cluster.chance.randbelow))
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._cluster.check_loop()
        future: RecordFuture = loop.create_future()
        layout = None if known.staged else self._placement.layout(known)
        record = Record(key, value, fields, partition, timestamp_ms, size, future)
        if layout is None:
            self._staging.stage(known, record)
        else:
            if self._placement.append(known, layout, record):
                sender.wake()
            chosen = known.sticky.partition
            if chosen is not None and key is None and partition is None:
                known.open = self._accumulator.open_batch(layout.targets[chosen], 0, layout.max_message_bytes)
        self._tally.sent += 1
        self._tally.sent_bytes += size
        return future

    # --- when there is no room ---------------------------------------------------------------------------------------

    async def _send_when_room(
        self,
        topic: str,
        value: Any,
        key: Any,
        headers: HeadersLike,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> RecordFuture:
        send = partial(self._send_encoded_nowait, topic, value, key, headers, partition, timestamp_ms)
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
        buffered = self._staging.held_bytes + self._accumulator.buffered_bytes
        return self._tally.snapshot(self._cluster.clock.monotonic(), buffered)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def _on_stored(self, batch: ProducerBatch, base_offset: int | None, log_append_time_ms: int | None) -> None:
        topic, partition = self._placement.names[batch.target.topic_id], batch.target.partition
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
        self._cluster.check_loop()
        for topic in list(self._topics.values()):
            if topic.opening is not None:
                await asyncio.wait([topic.opening])
        number = self._accumulator.flush()
        if self._accumulator.is_flushed(number):
            return
        self._started().wake()
        while not self._accumulator.is_flushed(number):
            await self._wait_for_progress()
