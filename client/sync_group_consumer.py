"""The group's consumer of the blocking SDK (sync.py)."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Generic, Self

from ottla.log.model import TopicPartition

from . import group_consumer as _group_consumer
from .background import Background, Worker, blocking, forwarded
from .errors import OttlaError
from .in_hand import Lease
from .mirrored import AHEAD_MAX, Mirrored, made_of
from .reader import Decode
from .records import ConsumerRecord, K, V


class GroupConsumer(Mirrored, Generic[K, V]):
    """Mirrors ``ottla.client.GroupConsumer``. Its callbacks run in a thread of their own, and may use it; only what
    would wait for them they may not: the next record, and ``close``."""

    def __init__(
        self,
        inner: _group_consumer.GroupConsumer[K, V],
        background: Background,
        worker: Worker | None = None,
        decode: Decode | None = None,
    ) -> None:
        super().__init__(inner, background)
        self._worker = worker or Worker()
        self._decode = decode
        self._lease: Lease | None = None

    start = blocking(_group_consumer.GroupConsumer.start)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.refuse_inside("leave its block")
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._worker.stop()

    def close(self) -> None:
        """Commit what is finished, leave the group at once, stop fetching, as the original. Idempotent."""
        self._worker.refuse_inside("close it")
        try:
            self._background.run(self._inner.close)
        finally:
            self._worker.stop()

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
                self._worker.refuse_inside("wait for a record")
                lease = self._lease = self._background.run(lambda: self._inner.take_lease(AHEAD_MAX))
            index, records = lease.index + 1, lease.records
            if index == len(records):
                self._lease = None
                continue
            record = records[index] if self._decode is None else self._decoded(lease, index)
            lease.index = index
            if lease.taken_back:
                self._background.tell(self._inner.lease_moved)
                if not lease.shows(index):
                    continue
            if record is not None:
                return record

    def _decoded(self, lease: Lease, index: int) -> ConsumerRecord[K, V] | None:
        """What the handler sees of it, None if nothing; the record before it is finished, and it is not in hand yet: if
        it fails, it is the next one still."""
        assert self._decode is not None
        lease.done = lease.index
        if lease.taken_back:
            self._background.tell(self._inner.lease_moved)
            if not lease.shows(index):
                return None
        return self._decode(lease.records[index])

    def batches(self, max_records: int = 500, max_wait: float = 0.2) -> Iterator[list[ConsumerRecord[K, V]]]:
        """Lists of records, as the original's."""
        self._worker.refuse_inside("wait for records")
        self._lease = None
        if self._decode is None:
            return self._slices(self._inner.batches(max_records, max_wait), 1)
        return self._decoded_batches(self._decode, max_records, max_wait)

    def _decoded_batches(
        self, decode: Decode, max_records: int, max_wait: float
    ) -> Iterator[list[ConsumerRecord[K, V]]]:
        while True:
            lease: Lease = self._background.run(lambda: self._inner.take_lease(max_records, max_wait))
            made, failure = made_of(decode, lease.records)
            shown: Sequence[int] = self._background.call(partial(self._inner.show, lease, len(made)))
            batch = [record for index in shown if (record := made[index]) is not None]
            if batch:
                yield batch
            elif failure is not None and not made:  # else it comes again, as the first
                raise failure

    def commit_nowait(self, offsets: Mapping[tuple[str, int], int] | None = None) -> "Future[None]":
        """Begin to ``commit`` what it would now; the future brings what it raises, and may be ignored."""

        async def work() -> None:
            await self._inner.commit_nowait(offsets)

        return self._background.begin(work)
