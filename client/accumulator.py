"""What a producer has still to deliver: batches per partition, in order, with the sequence numbers that let a broker
store each once (KIP-98).

Per partition: ``waiting`` batches have never been stored and have no sequence yet; ``sent`` batches have one, are in
sequence order, and each is either in flight or to be sent again with the same sequence. The rules that keep order and
exactly-once:

- a batch that was in flight when its answer failed is sent again only when nothing of its partition is in flight, the
  oldest first, one at a time, and before anything new;
- nothing is sent that would push the oldest unresolved batch out of the five that a broker remembers: its answer may
  be late from a leader that is none any more while the next one takes what comes behind it;
- a batch given up leaves a gap under its producer id, so the partition takes a new id, once nothing is unresolved
  under the old one, before it sends anything new;
- a batch refused for that gap moves to the new id only if none of its attempts may have been stored.

Time is passed in, seconds of a monotonic clock.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic

from ottla.log.model import ProducerIdAndEpoch, TopicIdPartition
from ottla.log.records import SEQUENCE_COUNT, Header

from .batch import RECORD_OVERHEAD_BYTES, Batch, Limits, PartitionQueue, WaiterT
from .errors import BufferFull

REMEMBERED_BATCHES = 5
"""Of each producer, by a partition's leader: a retry of one of these is recognised (KIP-98)."""


class Accumulator(Generic[WaiterT]):
    """All partitions of one producer.

    Invariants: a batch is in exactly one of one partition's ``waiting`` and ``sent``, or resolved; only the last of the
    waiting ones may not be closed; batch numbers rise
    along ``sent`` and then ``waiting``; ``buffered_bytes`` is the sum over unresolved batches.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.identity: ProducerIdAndEpoch | None = None
        self.buffered_bytes = 0
        self.last_number = 0
        self._flush_to = 0  # batches up to this number do not linger
        self._queues: dict[TopicIdPartition, PartitionQueue[WaiterT]] = {}
        self._unresolved: dict[int, Batch[WaiterT]] = {}

    # --- records come in ---------------------------------------------------------------------------------------------

    def has_room(self, target: TopicIdPartition, size: int, batch_bytes_max: int) -> bool:
        """Whether a record of ``size`` bytes would join the partition's open batch rather than begin one."""
        return self.open_batch(target, size, batch_bytes_max) is not None

    def open_batch(self, target: TopicIdPartition, size: int, batch_bytes_max: int) -> Batch[WaiterT] | None:
        """The batch that a record of ``size`` bytes would join; None where it would begin one."""
        queue = self._queues.get(target)
        if queue is None or not queue.waiting:
            return None
        batch = queue.waiting[-1]
        return None if batch.is_closed or not batch.fits(size, min(self.limits.batch_bytes, batch_bytes_max)) else batch

    def join(
        self,
        batch: Batch[WaiterT],
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int,
        waiter: WaiterT,
        size: int,
    ) -> None:
        """Take one record, of ``size`` bytes, into an open batch. Raises BufferFull, and then has changed nothing."""
        cost = size + RECORD_OVERHEAD_BYTES
        if self.buffered_bytes + cost > self.limits.buffer_bytes and self.buffered_bytes:
            raise BufferFull(
                f"{self.buffered_bytes} bytes wait for the brokers, the limit is {self.limits.buffer_bytes}.",
                hint="Await send() instead, or raise buffer_bytes.",
            )
        batch.add(key, value, headers, timestamp_ms, waiter, size)
        self.buffered_bytes += cost

    def append(
        self,
        target: TopicIdPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int,
        waiter: WaiterT,
        *,
        size: int,
        now_s: float,
        batch_bytes_max: int,
    ) -> bool:
        """Take one record; ``size``: of its key, value and headers. True if the sender has something to look at: a
        batch began or filled up. Raises BufferFull, and then has changed nothing."""
        batch = self.open_batch(target, size, batch_bytes_max)
        if batch is not None:
            self.join(batch, key, value, headers, timestamp_ms, waiter, size)
            return False
        begun: Batch[WaiterT] = Batch(self.last_number + 1, target, now_s, self.limits.compression)
        self.join(begun, key, value, headers, timestamp_ms, waiter, size)
        self._begin(begun)
        return True

    def _begin(self, batch: Batch[WaiterT]) -> None:
        queue = self._queues.get(batch.target)
        if queue is None:
            queue = self._queues[batch.target] = PartitionQueue(batch.target)
        if queue.waiting:
            queue.waiting[-1].is_closed = True
        queue.waiting.append(batch)
        self.last_number = batch.number
        self._unresolved[batch.number] = batch

    # --- batches go out ----------------------------------------------------------------------------------------------

    def flush(self) -> int:
        """Let nothing that is here now linger. Returns the number to wait for with ``is_flushed``."""
        self._flush_to = self.last_number
        return self.last_number

    def is_flushed(self, number: int) -> bool:
        """Whether every batch up to ``number`` is resolved."""
        oldest = next(iter(self._unresolved), None)
        return oldest is None or oldest > number

    @property
    def needs_identity(self) -> bool:
        """Whether a producer id must be had before everything here can go."""
        if not self.limits.idempotent or self.identity is not None:
            return False
        return any(q.waiting and (q.identity is None or (q.has_gap and not q.sent)) for q in self._queues.values())

    def ready(self, now_s: float) -> Iterator[TopicIdPartition]:
        """Partitions with a batch to send now, the longest unserved first."""
        for target, queue in self._queues.items():
            if self._next(queue, now_s) is not None:
                yield target

    def next_event_s(self, now_s: float) -> float | None:
        """When to look again if nothing happens before."""
        times: list[float] = []
        for queue in self._queues.values():
            if queue.is_empty:
                continue
            oldest = queue.sent[0] if queue.sent else queue.waiting[0]
            times.append(oldest.begun_s + self.limits.delivery_timeout_s)
            if queue.muted_until_s > now_s:
                times.append(queue.muted_until_s)
            elif queue.waiting and not queue.waiting[0].is_closed:
                lingered_s = queue.waiting[0].begun_s + self.limits.linger_s
                if lingered_s > now_s:
                    times.append(lingered_s)
        return min(times, default=None)

    def drain(
        self, now_s: float, max_bytes: int, is_wanted: Callable[[TopicIdPartition], bool]
    ) -> list[Batch[WaiterT]]:
        """Take the next batch of each wanted partition that is ready, up to ``max_bytes`` together or one larger.
        They are in flight until ``succeeded`` or ``failed`` says otherwise. Raises nothing."""
        taken: list[Batch[WaiterT]] = []
        room = max_bytes
        for target in [target for target in self._queues if is_wanted(target)]:
            queue = self._queues[target]
            batch = self._next(queue, now_s)
            if batch is None:
                continue
            if taken and batch.size_bytes > room:
                break
            self._send(queue, batch)
            room -= len(batch.encoded())
            taken.append(batch)
            self._queues[target] = self._queues.pop(target)  # to the end: each gets its turn
        return taken

    def _next(self, queue: PartitionQueue[WaiterT], now_s: float) -> Batch[WaiterT] | None:
        if queue.muted_until_s > now_s or queue.is_empty:
            return None
        in_flight = queue.in_flight
        if len(queue.sent) > in_flight or (queue.sent and queue.sent[0].attempts > 1):
            if in_flight:
                return None  # recovering: one at a time, the oldest first
            return queue.sent[0]
        if not queue.waiting or in_flight >= self.limits.in_flight_max:
            return None
        if queue.sent and queue.next_ordinal - queue.sent[0].ordinal >= REMEMBERED_BATCHES:
            return None
        if self.limits.idempotent and not self._identity_for(queue):
            return None
        batch = queue.waiting[0]
        lingers = (
            not batch.is_closed
            and now_s < batch.begun_s + self.limits.linger_s
            and batch.number > self._flush_to
            and self.buffered_bytes * 2 < self.limits.buffer_bytes
        )
        return None if lingers else batch

    def _identity_for(self, queue: PartitionQueue[WaiterT]) -> ProducerIdAndEpoch | None:
        if queue.identity is not None and not queue.has_gap:
            return queue.identity
        return None if queue.sent else self.identity

    def _send(self, queue: PartitionQueue[WaiterT], batch: Batch[WaiterT]) -> None:
        if queue.waiting and queue.waiting[0] is batch:
            if self.limits.idempotent:
                self._number(queue, batch)
            batch.ordinal = queue.next_ordinal
            queue.next_ordinal += 1
            queue.waiting.popleft()
            queue.sent.append(batch)
            batch.is_closed = True
        assert not batch.in_flight
        batch.in_flight = True
        batch.attempts += 1
        queue.in_flight += 1

    def _number(self, queue: PartitionQueue[WaiterT], batch: Batch[WaiterT]) -> None:
        identity = self._identity_for(queue)
        assert identity is not None
        if queue.identity != identity:
            queue.identity, queue.next_sequence, queue.has_gap = identity, 0, False
        batch.identity, batch.sequence = identity, queue.next_sequence
        queue.next_sequence = (queue.next_sequence + batch.record_count) % SEQUENCE_COUNT

    # --- answers come in ---------------------------------------------------------------------------------------------

    def succeeded(self, batch: Batch[WaiterT]) -> bool:
        """The batch is stored. False if it was given up before."""
        if batch.number not in self._unresolved:
            return False
        queue = self._landed(batch)
        queue.failures = 0
        queue.muted_until_s = 0.0
        self._resolve(queue, batch)
        return True

    def retry(self, batch: Batch[WaiterT], *, maybe_stored: bool, until_s: float) -> None:
        """The attempt failed in a way that may pass: the same batch goes again, not before ``until_s``."""
        if batch.number not in self._unresolved:
            return
        queue = self._landed(batch)
        batch.maybe_stored = batch.maybe_stored or maybe_stored
        if queue.sent[0] is batch:  # what was behind it in the pipeline fails with it: that is one failure
            queue.failures += 1
        queue.muted_until_s = max(queue.muted_until_s, until_s)

    def refused_for_gap(self, batch: Batch[WaiterT], *, until_s: float) -> bool:
        """OUT_OF_ORDER_SEQUENCE_NUMBER or UNKNOWN_PRODUCER_ID. True if the batch will go again: in its turn, where an
        earlier one is still unresolved, or under a new producer id. False if it must be given up, because an
        attempt of it may have been stored."""
        if batch.number not in self._unresolved:
            return True
        queue = self._queues[batch.target]
        if queue.sent[0] is not batch:
            self._landed(batch)
            return True
        if batch.maybe_stored:
            return False
        self._landed(batch)
        queue.failures += 1
        queue.muted_until_s = max(queue.muted_until_s, until_s)
        self._leave_gap(queue)
        queue.sent.remove(batch)
        batch.identity = batch.sequence = batch.data = None
        batch.attempts = 0
        behind = sum(1 for other in queue.waiting if other.number < batch.number)
        queue.waiting.insert(behind, batch)
        return True

    def give_up(self, batch: Batch[WaiterT]) -> bool:
        """The batch will not be sent again. False if it was resolved before."""
        if batch.number not in self._unresolved:
            return False
        queue = self._queues[batch.target]
        if batch.in_flight:
            self._landed(batch)
        if batch in queue.sent:
            self._leave_gap(queue)
        self._resolve(queue, batch)
        return True

    @property
    def in_flight(self) -> list[Batch[WaiterT]]:
        """What has been taken to be sent and has no outcome yet, oldest first."""
        return [batch for batch in self._unresolved.values() if batch.in_flight]

    def expire(self, now_s: float) -> list[Batch[WaiterT]]:
        """Give up what is older than the delivery timeout."""
        expired: list[Batch[WaiterT]] = []
        for batch in self._unresolved.values():  # oldest first
            if now_s < batch.begun_s + self.limits.delivery_timeout_s:
                break
            expired.append(batch)
        for batch in expired:
            self.give_up(batch)
        return expired

    def give_up_partition(self, target: TopicIdPartition) -> list[Batch[WaiterT]]:
        """Give up everything of a partition that is no more."""
        queue = self._queues.get(target)
        batches = [] if queue is None else [*queue.sent, *queue.waiting]
        for batch in batches:
            self.give_up(batch)
        self._queues.pop(target, None)
        return batches

    def give_up_all(self) -> list[Batch[WaiterT]]:
        """Give up everything: the producer closes."""
        batches = list(self._unresolved.values())
        for batch in batches:
            self.give_up(batch)
        return batches

    def failures(self, target: TopicIdPartition) -> int:
        """How often in a row this partition failed: the attempt to back off for."""
        queue = self._queues.get(target)
        return 0 if queue is None else queue.failures

    def _landed(self, batch: Batch[WaiterT]) -> PartitionQueue[WaiterT]:
        queue = self._queues[batch.target]
        assert batch.in_flight
        batch.in_flight = False
        queue.in_flight -= 1
        return queue

    def _leave_gap(self, queue: PartitionQueue[WaiterT]) -> None:
        if not self.limits.idempotent:
            return
        queue.has_gap = True
        if queue.identity == self.identity:
            self.identity = None  # other partitions may go on under it; this one needs another

    def _resolve(self, queue: PartitionQueue[WaiterT], batch: Batch[WaiterT]) -> None:
        batch.is_closed = True
        if batch in queue.sent:
            queue.sent.remove(batch)
        else:
            queue.waiting.remove(batch)
        del self._unresolved[batch.number]
        self.buffered_bytes -= batch.buffered_bytes
        assert self.buffered_bytes >= 0
