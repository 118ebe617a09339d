"""Where a record goes: the topic's shape, the choice of a partition, and the batch that takes the record in."""

import asyncio
from collections import deque
from typing import Any, NamedTuple

from ottla.log.model import TopicIdPartition
from ottla.log.records import Header

from .accumulator import Accumulator
from .batch import smallest_batch_bytes
from .cluster import Cluster
from .errors import RecordTooLarge, TopicNotFound
from .partitioner import StickyChoice
from .producer_options import ProducerOptions
from .protocol import TopicMetadata
from .sender import ProducerBatch

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default max.message.bytes: 1 MiB and a batch's overhead."""


class Record(NamedTuple):
    """As it goes into a batch. ``size``: of all its bytes."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    partition: int | None
    timestamp_ms: int
    size: int
    future: asyncio.Future[Any]


class Topic:
    """A topic that records were sent to. ``staged``: records that came before its metadata, in order. ``open``: the
    batch that records without a key join while it is not closed and the metadata is still this."""

    __slots__ = ("metadata", "name", "open", "opening", "seen", "staged", "sticky")

    def __init__(self, name: str, sticky: StickyChoice) -> None:
        self.name = name
        self.sticky = sticky
        self.metadata: TopicMetadata | None = None
        self.open: ProducerBatch | None = None
        self.seen: Layout | None = None
        self.staged: deque[Record] = deque()
        self.opening: asyncio.Task[None] | None = None


class Layout(NamedTuple):
    """What is needed per record, taken from the metadata once. ``targets``: by partition number. ``batch_bytes``: at
    most in a batch that is not of one record."""

    targets: tuple[TopicIdPartition, ...]
    available: tuple[int, ...]
    max_message_bytes: int
    batch_bytes: int


class Placement:
    """Of one producer. ``names``: of the topics that records were sent to, by id."""

    def __init__(
        self, cluster: Cluster, options: ProducerOptions, accumulator: Accumulator[asyncio.Future[Any]]
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._accumulator = accumulator
        self.names: dict[str, str] = {}

    def append(self, topic: Topic, layout: Layout, record: Record) -> bool:
        """Put it into a batch; whether the sender has something to do. Raises RecordTooLarge, TopicNotFound,
        BufferFull, and what a partitioner raises."""
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

    def layout(self, topic: Topic) -> Layout | None:
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
        topic.seen = Layout(
            tuple(TopicIdPartition(metadata.topic_id, number) for number in numbers),
            led or tuple(numbers),
            max_bytes,
            min(max_bytes, self._options.batch_size),
        )
        self.names[metadata.topic_id] = topic.name
        return topic.seen
