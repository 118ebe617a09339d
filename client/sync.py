"""The SDK for programs without asyncio: the same names, arguments, results and errors, and every call waits.

    import ottla.client.sync as ottla

    with ottla.connect("127.0.0.1:7080") as client:
        with client.producer() as producer:
            producer.send("orders", b"...", key=b"1")
        with client.consumer("orders", group="billing") as consumer:
            for record in consumer: ...

A client has one background thread with an event loop, in which everything lives: callbacks, codecs and interceptors
run there, heartbeats too, so that a handler that blocks keeps its membership. Objects may be shared by threads; one
consumer is for one thread at a time. Ctrl-C ends any call. Within a coroutine every call raises OTTLA-BLOCKING-IN-LOOP.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from ottla.log.chance import Chance
from ottla.log.clock import Clock
from ottla.log.model import TopicPartition

from . import (
    admin as _admin,
    client as _client,
    consumer as _consumer,
    group_consumer as _group_consumer,
    producer as _producer,
)
from .background import Background, blocking, forwarded
from .client import KeyKind, ValueKind
from .errors import BufferFull, OttlaError
from .in_hand import Lease
from .metrics import ClientMetrics
from .outgoing import HeadersLike, OnSend
from .producer import RecordMetadata
from .reader import OnConsume, OnError
from .records import ConsumerRecord, K, V

T = TypeVar("T")

AHEAD_MAX = 100
"""Records that cross from the loop's thread at a time."""
UNRESOLVED_MAX = 100_000
"""Futures of ``send_nowait`` that are not done; then it raises BufferFull."""


def connect(servers: str | Iterable[str], *, clock: Clock | None = None, chance: Chance | None = None) -> "Client":
    """As ``ottla.client.connect``. Raises ConfigError."""
    return Client(_client.connect(servers, clock=clock, chance=chance))


class _Mirrored:
    """``_inner``: the original."""

    def __init__(self, inner: Any, background: Background) -> None:
        self._inner = inner
        self._background = background

    def __enter__(self) -> Self:
        self._background.run(self._inner.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._background.run(lambda: self._inner.__aexit__(kind, error, trace))

    def _slices(self, iterator: AsyncIterator[T], count: int) -> Iterator[T]:
        """What an asynchronous generator brings, some at a time; all of it must be on its way."""

        async def some() -> tuple[list[T], BaseException | None]:
            found: list[T] = []
            try:
                while len(found) < count:
                    found.append(await anext(iterator))
            except (StopAsyncIteration, Exception) as error:
                return found, error
            return found, None

        try:
            while True:
                found, end = self._background.run(some)
                yield from found
                if isinstance(end, StopAsyncIteration):
                    return
                if end is not None:
                    raise end
        finally:
            self._background.run(iterator.aclose)  # type: ignore[attr-defined]


class Admin(_Mirrored):
    """Mirrors ``ottla.client.Admin``."""

    create_topic = blocking(_admin.Admin.create_topic)
    delete_topic = blocking(_admin.Admin.delete_topic)
    grow_topic = blocking(_admin.Admin.grow_topic)
    alter_topic_config = blocking(_admin.Admin.alter_topic_config)
    alter_broker_config = blocking(_admin.Admin.alter_broker_config)
    topic_config = blocking(_admin.Admin.topic_config)
    broker_config = blocking(_admin.Admin.broker_config)
    list_topics = blocking(_admin.Admin.list_topics)
    describe_topic = blocking(_admin.Admin.describe_topic)
    delete_records = blocking(_admin.Admin.delete_records)
    offsets_for_time = blocking(_admin.Admin.offsets_for_time)
    move_partitions = blocking(_admin.Admin.move_partitions)
    elect_leaders = blocking(_admin.Admin.elect_leaders)
    drain_node = blocking(_admin.Admin.drain_node)
    undrain_node = blocking(_admin.Admin.undrain_node)
    replica_states = blocking(_admin.Admin.replica_states)
    describe_cluster = blocking(_admin.Admin.describe_cluster)


class Producer(_Mirrored, Generic[K, V]):
    """Mirrors ``ottla.client.Producer``."""

    def __init__(self, inner: _producer.Producer[K, V], background: Background) -> None:
        super().__init__(inner, background)
        self._unresolved = 0

    start = blocking(_producer.Producer.start)
    close = blocking(_producer.Producer.close)
    flush = blocking(_producer.Producer.flush)
    metrics = forwarded(_producer.Producer.metrics)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return bool(self._inner.closed)

    def send(
        self,
        topic: str,
        value: V | None,
        key: K | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send one record and wait for its acknowledgement. Raises as the original does."""
        inner: _producer.Producer[K, V] = self._inner
        return self._background.run(lambda: inner.send(topic, value, key, headers, partition, timestamp_ms))

    def send_nowait(
        self,
        topic: str,
        value: V | None,
        key: K | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> "Future[RecordMetadata]":
        """Send one record; the future brings what ``send`` returns or raises, a wrong record's error included. Raises
        BufferFull when too many are not done."""
        if self._unresolved >= UNRESOLVED_MAX:
            raise BufferFull(f"{self._unresolved} records are not acknowledged.", hint="Use send() instead.")
        self._unresolved += 1
        future: Future[RecordMetadata] = self._background.begin(
            lambda: self._inner.send(topic, value, key, headers, partition, timestamp_ms)
        )
        future.add_done_callback(self._resolved)
        return future

    def _resolved(self, _: "Future[RecordMetadata]") -> None:
        self._unresolved -= 1


class Consumer(_Mirrored, Generic[K, V]):
    """Mirrors ``ottla.client.Consumer``."""

    def __init__(self, inner: _consumer.Consumer[K, V], background: Background) -> None:
        super().__init__(inner, background)
        self._ahead: deque[ConsumerRecord[K, V]] = deque()

    start = blocking(_consumer.Consumer.start)
    close = blocking(_consumer.Consumer.close)
    beginning_offsets = blocking(_consumer.Consumer.beginning_offsets)
    end_offsets = blocking(_consumer.Consumer.end_offsets)
    offsets_for_times = blocking(_consumer.Consumer.offsets_for_times)
    metrics = forwarded(_consumer.Consumer.metrics)

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
        if not self._ahead:
            self._ahead.extend(self._background.run(self._some))
        return self._ahead.popleft()

    async def _some(self) -> list[ConsumerRecord[K, V]]:
        batches = self._inner.batches(AHEAD_MAX, 0.0)
        try:
            found: list[ConsumerRecord[K, V]] = await anext(batches)
            return found
        finally:
            await batches.aclose()

    def _give_back(self) -> None:
        """What crossed and was not handed out is to be read again."""
        firsts: dict[int, int] = {}
        for record in self._ahead:
            firsts.setdefault(record.partition, record.offset)
        self._ahead.clear()
        for partition, offset in firsts.items():
            self._background.run(lambda p=partition, o=offset: self._inner.seek(self._inner.topic, p, o))  # type: ignore[misc]

    def batches(self, max_records: int = 500, max_wait: float = 0.2) -> Iterator[list[ConsumerRecord[K, V]]]:
        """Lists of records, as the original's."""
        self._give_back()
        return self._slices(self._inner.batches(max_records, max_wait), 1)

    def read_to_end(self, ends: Mapping[int, int] | None = None) -> Iterator[ConsumerRecord[K, V]]:
        """Every record up to the ends as they are now, as the original's. Do not seek meanwhile."""
        self._give_back()
        return self._slices(self._inner.read_to_end(ends), AHEAD_MAX)

    def fetch_batches(self) -> Iterator[Any]:
        """Partition numbers and batches as stored, as the original's."""
        self._give_back()
        return self._slices(self._inner.fetch_batches(), 1)

    def position(self, partition: int) -> int | None:
        """Offset of the next record that will be handed out; None while it is being looked up."""
        for record in self._ahead:
            if record.partition == partition:
                return record.offset
        inner: _consumer.Consumer[K, V] = self._inner
        return self._background.call(lambda: inner.position(partition))

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


class GroupConsumer(_Mirrored, Generic[K, V]):
    """Mirrors ``ottla.client.GroupConsumer``."""

    def __init__(self, inner: _group_consumer.GroupConsumer[K, V], background: Background) -> None:
        super().__init__(inner, background)
        self._lease: Lease | None = None

    start = blocking(_group_consumer.GroupConsumer.start)
    close = blocking(_group_consumer.GroupConsumer.close)
    commit = blocking(_group_consumer.GroupConsumer.commit)
    committed = blocking(_group_consumer.GroupConsumer.committed)
    seek = blocking(_group_consumer.GroupConsumer.seek)
    beginning_offsets = blocking(_group_consumer.GroupConsumer.beginning_offsets)
    end_offsets = blocking(_group_consumer.GroupConsumer.end_offsets)
    offsets_for_times = blocking(_group_consumer.GroupConsumer.offsets_for_times)
    position = forwarded(_group_consumer.GroupConsumer.position)
    lag = forwarded(_group_consumer.GroupConsumer.lag)
    pause = forwarded(_group_consumer.GroupConsumer.pause)
    resume = forwarded(_group_consumer.GroupConsumer.resume)
    metrics = forwarded(_group_consumer.GroupConsumer.metrics)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return bool(self._inner.closed)

    @property
    def last_commit_error(self) -> OttlaError | None:
        """Why the last commit behind the loop was not stored; None if it was."""
        inner: _group_consumer.GroupConsumer[K, V] = self._inner
        return inner.last_commit_error

    @property
    def topics(self) -> tuple[str, ...]:
        """What it subscribes to by name; with a pattern, the topics that it reads partitions of now."""
        return self._background.call(lambda: tuple(self._inner.topics))

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are being read."""
        return self._background.call(lambda: frozenset(self._inner.assignment))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumerRecord[K, V]:
        """The next record, waited for without end; the one before it is finished. Raises as the original does."""
        while True:
            lease = self._lease
            if lease is None:
                lease = self._lease = self._background.run(lambda: self._inner.take_lease(AHEAD_MAX))
                index = 0
            else:
                index = lease.index + 1
                if index == len(lease.records):
                    self._lease = None
                    continue
                lease.index = index
                if lease.taken_back:
                    self._background.tell(self._inner.lease_moved)
            record = lease.records[index]
            if not lease.taken_back or TopicPartition(record.topic, record.partition) not in lease.taken_back:
                return record

    def batches(self, max_records: int = 500, max_wait: float = 0.2) -> Iterator[list[ConsumerRecord[K, V]]]:
        """Lists of records, as the original's."""
        self._lease = None
        return self._slices(self._inner.batches(max_records, max_wait), 1)

    def commit_nowait(self, offsets: Mapping[tuple[str, int], int] | None = None) -> "Future[None]":
        """Begin to ``commit`` what it would now; the future brings what it raises, and may be ignored."""

        async def work() -> None:
            await self._inner.commit_nowait(offsets)

        return self._background.begin(work)


class Client(_Mirrored):
    """Mirrors ``ottla.client.Client``."""

    def __init__(self, inner: _client.Client) -> None:
        super().__init__(inner, Background())
        self.admin = Admin(inner.admin, self._background)

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self._background.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def producer(
        self,
        *,
        key: KeyKind[K] = bytes,  # type: ignore[assignment]
        value: ValueKind[V] = bytes,  # type: ignore[assignment]
        interceptors: Iterable[OnSend] = (),
        **options: Any,
    ) -> Producer[K, V]:
        """A producer, as the original's. Raises ConfigError."""
        make = self._inner.producer
        return self._background.call(
            lambda: Producer(make(key=key, value=value, interceptors=interceptors, **options), self._background)
        )

    @overload
    def consumer(
        self,
        topic: str | Iterable[str],
        *,
        group: str,
        start: str = ...,
        key: KeyKind[K] = ...,
        value: ValueKind[V] = ...,
        on_error: OnError = ...,
        interceptors: Iterable[OnConsume] = ...,
        **options: Any,
    ) -> GroupConsumer[K, V]: ...

    @overload
    def consumer(
        self,
        *,
        pattern: str,
        group: str | None = ...,
        start: str = ...,
        key: KeyKind[K] = ...,
        value: ValueKind[V] = ...,
        on_error: OnError = ...,
        interceptors: Iterable[OnConsume] = ...,
        **options: Any,
    ) -> GroupConsumer[K, V]: ...

    @overload
    def consumer(
        self,
        topic: str,
        *,
        group: None = ...,
        start: str | int = ...,
        partitions: Iterable[int] | None = ...,
        key: KeyKind[K] = ...,
        value: ValueKind[V] = ...,
        on_error: OnError = ...,
        interceptors: Iterable[OnConsume] = ...,
        **options: Any,
    ) -> Consumer[K, V]: ...

    def consumer(
        self,
        topic: str | Iterable[str] | None = None,
        *,
        pattern: str | None = None,
        group: str | None = None,
        start: str | int = "earliest",
        partitions: Iterable[int] | None = None,
        key: Any = bytes,
        value: Any = bytes,
        on_error: OnError = "raise",
        interceptors: Iterable[OnConsume] = (),
        **options: Any,
    ) -> Any:
        """A consumer, as the original's. Raises ConfigError."""
        chosen = {"partitions": partitions, "key": key, "value": value, "on_error": on_error}
        inner = self._background.call(
            lambda: self._inner.consumer(
                topic, pattern=pattern, group=group, start=start, interceptors=interceptors, **chosen, **options
            )
        )
        kind = Consumer if group is None and pattern is None else GroupConsumer
        return kind(inner, self._background)

    def metrics(self) -> ClientMetrics:
        """What the producers and consumers that are open have done so far."""
        inner: _client.Client = self._inner
        return self._background.call(inner.metrics)

    def close(self) -> None:
        """Close every stream, and end the thread. Idempotent."""
        if not self._background.stopped:
            self._background.run(self._inner.close)
            self._background.stop()
