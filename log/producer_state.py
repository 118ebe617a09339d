"""What a partition remembers of idempotent producers, so that a retried batch is stored once (KIP-98).

Each batch of a producer carries (producer id, producer epoch, base sequence); sequences run on from batch to
batch within an epoch and wrap from 2^31-1 to 0. The last five batches are kept, as many as a producer may have
in flight.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import InvalidProducerEpoch, OutOfOrderSequence, UnknownProducerId
from .model import Offset, ProducerEpoch, ProducerId
from .producer_snapshot import SnapshotEntry
from .records import SEQUENCE_COUNT, RecordBatch

BATCHES_KEPT = 5
EXPIRATION_MS = 24 * 3600 * 1000
"""producer.id.expiration.ms: a producer not heard of for a day is forgotten."""
PRODUCERS_MAX = 10_000
"""Per partition; beyond it the one that has been silent longest is forgotten, whatever its age."""


class Duplicate(NamedTuple):
    """The batch is stored already, here."""

    base_offset: Offset
    last_offset: Offset
    timestamp: int


class _Stored(NamedTuple):
    base_sequence: int
    last_sequence: int
    base_offset: Offset
    last_offset: Offset
    timestamp: int


@dataclass(slots=True)
class _Producer:
    epoch: ProducerEpoch
    seen_ms: int
    batches: deque[_Stored] = field(default_factory=lambda: deque(maxlen=BATCHES_KEPT))


class ProducerStateManager:
    """The producers of one partition. ``check`` before the leader appends, ``update`` after any append."""

    def __init__(self, expiration_ms: int = EXPIRATION_MS, producers_max: int = PRODUCERS_MAX) -> None:
        self.expiration_ms = expiration_ms
        self._producers_max = producers_max
        self._producers: dict[ProducerId, _Producer] = {}  # the longest silent first

    def __len__(self) -> int:
        return len(self._producers)

    def check(self, batch: RecordBatch, *, may_be_forgotten: bool = False) -> Duplicate | None:
        """Where ``batch`` is stored already; None if it may be appended. Raises InvalidProducerEpoch,
        OutOfOrderSequence or UnknownProducerId if it may not. ``may_be_forgotten``: a producer that is not known goes
        on where it is, because it would not know how to begin again (decision 18)."""
        if batch.producer_id is None:
            return None
        assert batch.producer_epoch is not None
        assert batch.base_sequence is not None
        producer = self._producers.get(batch.producer_id)
        if producer is None:
            if not may_be_forgotten:
                _check_first(batch)
            return None
        if batch.producer_epoch < producer.epoch:
            raise InvalidProducerEpoch(
                f"producer {batch.producer_id} is at epoch {producer.epoch}; a batch of epoch {batch.producer_epoch} "
                "is from an earlier session"
            )
        if batch.producer_epoch > producer.epoch:
            _check_new_epoch(batch)
            return None
        return _find_or_check_next(batch, producer)

    def update(self, batch: RecordBatch, now_ms: int) -> None:
        """``batch`` is in the log, at its base offset. Never refuses: what the leader stored is what happened."""
        if batch.producer_id is None or batch.producer_epoch is None or batch.base_sequence is None:
            return
        producer = self._producers.pop(batch.producer_id, None)
        if producer is None or producer.epoch != batch.producer_epoch:
            producer = _Producer(batch.producer_epoch, now_ms)
        last_sequence = batch.last_sequence
        assert last_sequence is not None
        producer.batches.append(
            _Stored(batch.base_sequence, last_sequence, batch.base_offset, batch.last_offset, batch.max_timestamp)
        )
        producer.seen_ms = now_ms
        self._producers[batch.producer_id] = producer
        self.expire(now_ms)

    def expire(self, now_ms: int) -> None:
        """Forget the producers that have been silent too long, or are too many."""
        while self._producers:
            oldest = next(iter(self._producers))
            silent = now_ms - self._producers[oldest].seen_ms > self.expiration_ms
            if not silent and len(self._producers) <= self._producers_max:
                return
            del self._producers[oldest]

    def holds_from(self, offset: Offset) -> bool:
        """Whether any producer's remembered batch reaches ``offset`` or above: whether a truncation to there
        changes anything here."""
        return any(producer.batches[-1].last_offset >= offset for producer in self._producers.values())

    def last_offsets(self) -> dict[ProducerId, Offset]:
        """Where each producer's last batch ends."""
        return {number: producer.batches[-1].last_offset for number, producer in self._producers.items()}

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        self._producers.clear()

    def capture(self) -> list[SnapshotEntry]:
        """All remembered batches, each producer's oldest first; the longest silent producer first."""
        return [
            SnapshotEntry(
                producer_id,
                producer.epoch,
                stored.last_sequence,
                stored.last_offset,
                stored.last_offset - stored.base_offset,
                stored.timestamp,
            )
            for producer_id, producer in self._producers.items()
            for stored in producer.batches
        ]

    def restore(self, entries: Iterable[SnapshotEntry], now_ms: int) -> None:
        """Remember what was captured, instead of what there is. A producer counts as heard of now, as it does when
        its batches are read from the log. Entries without a batch (Kafka's, of a transaction) say nothing here."""
        self._producers.clear()
        for entry in entries:
            if entry.last_sequence < 0 or entry.offset_delta < 0 or entry.last_offset < entry.offset_delta:
                continue
            if entry.producer_id < 0 or entry.producer_epoch < 0:
                continue
            self._restore(entry, now_ms)
        self.expire(now_ms)

    def _restore(self, entry: SnapshotEntry, now_ms: int) -> None:
        producer_id, epoch = ProducerId(entry.producer_id), ProducerEpoch(entry.producer_epoch)
        producer = self._producers.get(producer_id)
        if producer is None or producer.epoch != epoch:
            producer = self._producers[producer_id] = _Producer(epoch, now_ms)
        base_sequence = (entry.last_sequence - entry.offset_delta) % SEQUENCE_COUNT
        base_offset, last_offset = Offset(entry.last_offset - entry.offset_delta), Offset(entry.last_offset)
        producer.batches.append(_Stored(base_sequence, entry.last_sequence, base_offset, last_offset, entry.timestamp))


def _check_first(batch: RecordBatch) -> None:
    if batch.base_sequence != 0:
        raise UnknownProducerId(
            f"producer {batch.producer_id} is not known here, so its batch must start at sequence 0, not "
            f"{batch.base_sequence}; raise the producer's epoch and start again"
        )


def _check_new_epoch(batch: RecordBatch) -> None:
    if batch.base_sequence != 0:
        raise OutOfOrderSequence(
            f"producer {batch.producer_id} must start epoch {batch.producer_epoch} at sequence 0, not "
            f"{batch.base_sequence}"
        )


def _find_or_check_next(batch: RecordBatch, producer: _Producer) -> Duplicate | None:
    last_sequence = batch.last_sequence
    for stored in producer.batches:
        if stored.base_sequence == batch.base_sequence and stored.last_sequence == last_sequence:
            return Duplicate(stored.base_offset, stored.last_offset, stored.timestamp)
    expected = (producer.batches[-1].last_sequence + 1) % SEQUENCE_COUNT
    if batch.base_sequence != expected:
        raise OutOfOrderSequence(
            f"producer {batch.producer_id} sent sequence {batch.base_sequence} where {expected} was due; retry the "
            "batches before it first"
        )
    return None
