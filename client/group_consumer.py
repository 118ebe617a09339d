"""The consumer in a group: the partitions that the group gives it, from where the group has got to."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self

from ottla.log.model import Offset, TopicPartition

from .arguments import by_pair, check_batches, check_offset, pair
from .cluster import Cluster
from .commits import Place
from .errors import ConfigError, OttlaError
from .group_options import GroupOptions
from .group_partitions import GroupPartitions, Join, in_callback
from .group_places import GroupPlaces
from .in_hand import Lease
from .metrics import ConsumerMetrics
from .one_reader import Loop, OneReader
from .protocol import EARLIEST, LATEST
from .reader import Decode, Decoding
from .reading import ConsumerOptions, check_name, consumer_closed
from .records import ConsumerRecord, K, V
from .subscribed import Subscribed

HURRIED_COMMIT_S = 2.0
"""How long a consumer that is torn down by cancellation tries to commit."""


class GroupConsumer(GroupPlaces, Generic[K, V]):
    """Made by ``Client.consumer`` with a ``group``. Use it as a context manager and iterate over it, in one task.

    A record counts as finished when the next one is asked for, or the block is left without an exception. Commits
    behind the loop cover finished records only, so a record is handled at least once. Heartbeats have their own
    task: a slow handler keeps its membership.
    """

    def __init__(
        self,
        cluster: Cluster,
        subscribed: Subscribed,
        group: str | None,
        start: str,
        options: ConsumerOptions,
        group_options: GroupOptions,
        join: Join,
        decoding: Decoding | None = None,
    ) -> None:
        options.check()
        group_options.check()
        if group == "":
            raise ConfigError("group is empty.", hint="Give it a name, or leave it out.")
        check_name("group", "" if group is None else group, 255)
        if not isinstance(start, str) or start not in (EARLIEST, LATEST):
            raise ConfigError(f"start is {start!r}.", hint='Here it is "earliest" or "latest".')
        self._subscribed = subscribed
        self.group = group
        self._cluster = cluster
        self._start = start
        self._options = options
        self._group_options = group_options
        self._started_s = cluster.clock.monotonic()
        self._parts = GroupPartitions(cluster, group, start, options, group_options, join, decoding or Decoding())
        self._fetcher, self._reader = self._parts.fetcher, self._parts.reader
        self._hand, self._commits = self._parts.hand, self._parts.commits
        self._membership = self._parts.membership
        self._alone = OneReader()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = self._closed = self._gone = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the topics and begin to join. Raises TopicNotFound, ConnectFailed, or that it is closed. Idempotent."""
        self._cluster.check_loop()
        if self._closed:
            raise consumer_closed()
        if self._started:
            return
        if self._subscribed.pattern is not None:
            await self._subscribed.look()
        else:
            for topic in self._subscribed.topics:
                await self._cluster.topic(topic, timeout_s=self._options.request_timeout_s)
        if self._closed:  # maybe while the topics were looked for
            raise consumer_closed()
        if not self._started:
            self._started = True
            self._membership.start()
            self._spawn(self._parts.commit_forever())

    @property
    def topics(self) -> tuple[str, ...]:
        """What it subscribes to by name; with a pattern, the topics that it reads partitions of now."""
        if self._subscribed.pattern is None:
            return self._subscribed.topics
        return tuple(sorted({key.topic for key in self._fetcher.partitions}))

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    async def close(self) -> None:
        """Commit what is finished, leave the group at once, stop fetching. Idempotent. A record that was handed out
        counts as finished: leave the block by an exception where it is not."""
        self._hand.show_done()
        if not self._closed:
            await self._close(self._group_options.commit_timeout_s)
            self._parts.raise_untold()

    async def _close(self, commit_timeout_s: float) -> None:
        if self._closed:
            return
        self._cluster.check_loop()
        self._closed = self._alone.may_be_taken = True
        self._parts.take_back(list(self._fetcher.partitions.values()))
        self._fetcher.shut()
        try:
            await self._membership.stop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._group_options.auto_commit:
                await self._parts.try_commit(self._parts.finished(self._fetcher.partitions), commit_timeout_s)
            await self._parts.tell_last()
        finally:
            if self._started:
                await self._membership.leave()
            self._gone = True  # until here ``on_revoked`` may ask and commit
            await self._fetcher.close()
            self._hand.forget(self._fetcher.partitions)
            self._fetcher.partitions.clear()

    def _check_open(self) -> None:
        """Raises that it is closed."""
        if self._gone:
            raise consumer_closed()

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
        if kind is None:
            self._hand.show_done()
        hurried = kind is not None and not issubclass(kind, Exception)
        await self._close(HURRIED_COMMIT_S if hurried else self._group_options.commit_timeout_s)
        if kind is None:
            self._parts.raise_untold()

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- reading -----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[ConsumerRecord[K, V]]:
        return self._alone.looped(self._records)

    async def _records(self, loop: Loop) -> AsyncGenerator[ConsumerRecord[K, V], None]:
        """As ``__anext__`` again and again, without a coroutine for each."""
        await self._ready()
        self._alone.enter(loop)
        hand = self._hand
        while True:
            for record in self._reader.here():
                hand.record = record  # and the one before it is finished
                yield record
            self._parts.handler_is_back()  # whatever waits for that has ended what was here, too
            with self._alone:
                await self._reader.turn()

    async def __anext__(self) -> ConsumerRecord[K, V]:
        """The next record, waited for without end; the one before it is finished. Raises CorruptBatchError,
        UndecodableRecord, LogTruncated, TopicNotFound, or RequestFailed with OFFSET_OUT_OF_RANGE, after which
        ``seek`` goes on; what ended the membership for good; and ConsumerBusy where another task reads."""
        await self._ready()
        record = self._reader.take()
        if record is None:
            with self._alone:
                record = await self._reader.next()
        self._hand.record = record
        return record

    def batches(self, max_records: int = 500, max_wait: float = 0.2) -> AsyncIterator[list[ConsumerRecord[K, V]]]:
        """Lists of 1 to ``max_records`` records: what there is once the first has come and ``max_wait`` seconds more
        have passed, or as soon as the list is full. A list is finished when the next one is asked for."""
        check_batches(max_records, max_wait)
        return self._alone.looped(lambda loop: self._batches(loop, max_records, max_wait))

    async def _batches(
        self, loop: Loop, max_records: int, max_wait: float
    ) -> AsyncGenerator[list[ConsumerRecord[K, V]], None]:
        await self._ready()
        self._alone.enter(loop)
        while True:
            batch = await self._next_batch(max_records, max_wait)
            self._hand.lease(Lease(batch))
            if batch:
                yield batch

    async def _next_batch(self, max_records: int, max_wait: float) -> list[ConsumerRecord[K, V]]:
        await self._ready()
        with self._alone:
            batch: list[ConsumerRecord[K, V]] = [self._reader.take() or await self._reader.next()]
            self._hand.lease(Lease(batch, filling=True))  # and grows
            try:
                await self._reader.fill(batch, max_records, max_wait)
                if self._closed:  # by another task: others have these now
                    raise consumer_closed()
            except BaseException:
                self._give_back(batch)
                raise
        owned = self._fetcher.partitions  # what was revoked meanwhile is for others
        kept = [record for record in batch if TopicPartition(record.topic, record.partition) in owned]
        self._hand.give_back(len(batch) - len(kept))
        return kept

    def _give_back(self, batch: list[ConsumerRecord[K, V]]) -> None:
        """Nobody was shown these, and nobody will be: they are the next to be read, not finished."""
        for key in {TopicPartition(record.topic, record.partition) for record in batch}:
            first = self._hand.first_of(key)
            if first is not None:
                self._fetcher.seek(self._fetcher.partitions[key], Offset(first))
        self._hand.give_back(len(batch))
        self._hand.finish()

    def decode_elsewhere(self) -> Decode | None:
        """As ``Reader.decode_elsewhere``."""
        return self._reader.decode_elsewhere()

    async def take_lease(self, max_records: int, max_wait: float = 0.0) -> Lease:
        """For a handler in another thread: what there is, at least one record, to be handled one by one. The caller
        advances ``Lease.index``, and calls ``lease_moved`` where something was taken back."""
        while not (batch := await self._next_batch(max_records, max_wait)):
            pass
        lease = Lease(batch, one_by_one=True)
        lease.index = -1  # it has gone on to none of them yet
        self._hand.lease(lease)
        return lease

    def show(self, lease: Lease, count: int) -> Sequence[int]:
        """The handler has the first ``count`` records of a lease now, together; the others are read again. Returns the
        indices of those that it may see: others may have been taken back meanwhile."""
        shown: Sequence[int] = range(count)
        if lease.taken_back:
            shown = [index for index in shown if lease.shows(index)]
        lease.index = count - 1
        if count < len(lease.records):
            self._parts.take_back(list(self._fetcher.partitions.values()))
        if shown:
            self._hand.lease(Lease([lease.records[index] for index in shown]))
        else:
            self._hand.finish()
        return shown

    def lease_moved(self) -> None:
        """The handler of a lease has gone on to the next record."""
        self._hand.moved()

    async def _ready(self) -> None:
        if self._alone.may_be_taken:
            await self.start()
            self._alone.check()
        self._parts.handler_is_back()

    # --- commits -----------------------------------------------------------------------------------------------------

    async def commit(self, offsets: Mapping[tuple[str, int], int] | None = None) -> None:
        """Store how far the group has got: all that was handed out, the record in hand included (but not in a callback,
        which does not know what the handler does), or these offsets of next records by (topic, partition). Raises
        CommitFailed where the group has gone on without us, or OttlaError where the coordinator cannot be reached in
        ``commit_timeout_s``."""
        await self._commits.commit(self._places(offsets), timeout_s=self._group_options.commit_timeout_s)

    def commit_nowait(self, offsets: Mapping[tuple[str, int], int] | None = None) -> "asyncio.Task[None]":
        """Begin to ``commit`` what it would now; the task brings what it raises, and may be ignored."""
        work = self._commits.commit(self._places(offsets), timeout_s=self._group_options.commit_timeout_s)
        task = self._spawn(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _places(self, offsets: Mapping[tuple[str, int], int] | None) -> dict[TopicPartition, Place]:
        self._check_open()
        self._fetcher.check()
        if offsets is None:
            if not in_callback.get():
                self._hand.show_done()
            return self._parts.finished(self._fetcher.partitions)
        given = by_pair("offsets", offsets)
        for offset in given.values():
            check_offset(offset)
        partitions = ((self._partition(*key), offset) for key, offset in given.items())
        return {
            found.key: Place(offset, found.trail.before(offset), found.target.topic_id) for found, offset in partitions
        }

    @property
    def last_commit_error(self) -> OttlaError | None:
        """Why the last commit behind the loop was not stored; None if it was."""
        return self._parts.last_commit_error

    async def committed(self, *keys: tuple[str, int]) -> dict[TopicPartition, int | None]:
        """What the group has committed of these partitions, by default of those that are assigned; None where it has
        not. Raises OttlaError."""
        self._check_open()
        wanted = [pair(key) for key in keys] or list(self._fetcher.partitions)
        found = await self._commits.fetch(wanted)
        return {key: found[key].offset if key in found else None for key in wanted}

    def metrics(self) -> ConsumerMetrics:
        """What it has done so far."""
        partitions = self._fetcher.partitions.values()
        return ConsumerMetrics(
            group=self.group,
            topics=self.topics,
            partitions=len(partitions),
            records_read=self._reader.records_read - self._hand.unshown,
            buffered_bytes=self._fetcher.read_ahead.buffered_bytes,
            lag=sum(lag or 0 for lag in self.lag().values()),
            commits=self._commits.count,
            seconds=self._cluster.clock.monotonic() - self._started_s,
        )
