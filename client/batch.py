"""A producer's batch and the queue of one partition."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ottla.log.compression import Compression
from ottla.log.model import ProducerIdAndEpoch, TopicIdPartition
from ottla.log.records import HEADER_SIZE, BatchBuilder, Header

RECORD_OVERHEAD_BYTES = 96
"""What a record costs in memory beside its bytes, roughly."""
FRAMING_BYTES = 32
"""At most what a record's numbers take in a batch."""
SHORT_FRAMING_BYTES = 14
"""The same of a record whose key, value and headers together are short and that is not late."""
SHORT_BYTES, SHORT_MS = 8_000, 8_000

WaiterT = TypeVar("WaiterT")


@dataclass(frozen=True, slots=True)
class Limits:
    """How batches form and how long they live. ``linger_s``: how long a batch waits for company."""

    batch_bytes: int
    buffer_bytes: int
    linger_s: float
    delivery_timeout_s: float
    in_flight_max: int
    idempotent: bool
    compression: Compression = Compression.NONE


class Batch(Generic[WaiterT]):
    """Records of one partition that travel together. ``waiters``: who waits for each record.
    ``size_bytes``: at most what it takes, before compression."""

    __slots__ = (
        "attempts",
        "begun_s",
        "buffered_bytes",
        "builder",
        "data",
        "identity",
        "in_flight",
        "is_closed",
        "maybe_stored",
        "number",
        "ordinal",
        "sequence",
        "size_bytes",
        "started_ms",
        "target",
        "waiters",
    )

    def __init__(self, number: int, target: TopicIdPartition, begun_s: float, compression: Compression) -> None:
        self.number = number
        self.target = target
        self.begun_s = begun_s
        self.builder = BatchBuilder(compression)
        self.data: bytes | None = None
        self.waiters: list[WaiterT] = []
        self.buffered_bytes = 0
        self.size_bytes = HEADER_SIZE
        self.started_ms = 0  # the first record's timestamp
        self.is_closed = False  # takes no more records
        self.identity: ProducerIdAndEpoch | None = None
        self.sequence: int | None = None
        self.ordinal = 0  # among the batches of its partition that were ever sent
        self.attempts = 0
        self.in_flight = False
        self.maybe_stored = False  # some attempt ended without a definite refusal

    def fits(self, size: int, limit: int) -> bool:
        """Whether a record of ``size`` bytes keeps the batch within ``limit`` bytes; the first one always may."""
        return self.size_bytes + size + FRAMING_BYTES <= limit or not self.waiters

    def add(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int,
        waiter: WaiterT,
        size: int,
    ) -> None:
        """Take one record. ``size``: of its key, value and headers."""
        if not self.waiters:
            self.started_ms = timestamp_ms
        self.builder.append(key, value, headers, timestamp_ms=timestamp_ms)
        self.waiters.append(waiter)
        short = size < SHORT_BYTES and 0 <= timestamp_ms - self.started_ms < SHORT_MS
        self.size_bytes += size + (SHORT_FRAMING_BYTES if short else FRAMING_BYTES)
        self.buffered_bytes += size + RECORD_OVERHEAD_BYTES

    @property
    def record_count(self) -> int:
        return len(self.waiters)

    def encoded(self) -> bytes:
        """The batch's bytes, built once per identity and sequence."""
        if self.data is None:
            if self.identity is None:
                self.data = self.builder.build()
            else:
                self.data = self.builder.build(
                    self.identity.producer_id, self.identity.producer_epoch, base_sequence=self.sequence
                )
        return self.data


@dataclass(slots=True)
class PartitionQueue(Generic[WaiterT]):
    """One partition."""

    target: TopicIdPartition
    waiting: deque[Batch[WaiterT]] = field(default_factory=deque)
    sent: list[Batch[WaiterT]] = field(default_factory=list)
    in_flight: int = 0
    identity: ProducerIdAndEpoch | None = None
    has_gap: bool = False  # something was given up under ``identity``: nothing new may follow it
    next_sequence: int = 0
    next_ordinal: int = 0
    muted_until_s: float = 0.0
    failures: int = 0  # in a row

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.sent


def smallest_batch_bytes(size: int) -> int:
    """At most what a batch of one record of ``size`` bytes takes."""
    return HEADER_SIZE + size + FRAMING_BYTES
