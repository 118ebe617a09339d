"""Reads partitions from their leaders ahead of a consumer, bounded by bytes.

Each leader is asked for all of its partitions that have room and no request under way. A partition that is full is
left out and asked for again once read, in a request of its own beside the long poll of the others.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ottla.log.errors import CorruptBatch
from ottla.log.model import BrokerId, Offset, TopicId, TopicIdPartition
from ottla.log.records import batches_in

from .backoff import backoff_s
from .cluster import Cluster
from .connection import Answer, ConnectionLost
from .error_codes import ErrorCode
from .errors import CorruptBatchError, OttlaError, TopicNotFound, error_for
from .frames import BadFrame, split_batches
from .jobs import Jobs
from .offsets import list_offsets
from .patience import answer_from_leader, begin
from .protocol import EARLIEST, FetchPartition, FetchRequest, FetchResponse, FetchResult, OffsetResult
from .read_ahead import ReadAhead
from .reading import ConsumerOptions, Failed, Fetched, LogTruncated, Partition

METADATA_AGE_S = 30.0
LOOKUP_TIMEOUT_S = 5.0
BEYOND_END_PAUSE_S = 0.5

_TOPIC_GONE = frozenset({ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID})


class _Source(NamedTuple):
    """Whom to ask. ``rack``: of the reader, where a follower may answer or be named."""

    broker: BrokerId
    rack: str


class Fetcher:
    """``numbers``: the partitions to read, None for all, also later ones."""

    def __init__(
        self, cluster: Cluster, topic: str, start: str | int, numbers: tuple[int, ...] | None, options: ConsumerOptions
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._start = start
        self._numbers = numbers
        self._options = options
        self.partitions: dict[int, Partition] = {}
        self.topic_id = TopicId("")
        self.read_ahead = ReadAhead()
        self._asked_bytes = 0
        self._jobs = Jobs(self._schedule)
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._refreshed_s = 0.0
        self._last_problem: OttlaError | None = None
        self._closed = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises TopicNotFound, ConnectFailed, ConfigError. Idempotent."""
        if self.topic_id:
            return
        topic = await self._cluster.topic(self._topic, timeout_s=self._options.request_timeout_s)
        assert topic.topic_id is not None
        count = len(topic.partitions)
        for number in range(count) if self._numbers is None else self._numbers:
            if not 0 <= number < count:
                raise TopicNotFound(f"{self._topic} has partitions 0 to {count - 1}, not {number}.")
            self.partitions[number] = Partition(number, self._start)
        self.topic_id = topic.topic_id
        self._refreshed_s = self._cluster.clock.monotonic()
        self._schedule()

    async def close(self) -> None:
        """Stop; what was read ahead is dropped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._jobs.close()
        self.read_ahead.clear()

    # --- for the consumer --------------------------------------------------------------------------------------------

    async def next(self, timeout_s: float | None) -> Fetched | None:
        """The next batch; None after ``timeout_s``. Raises what ended a partition, each time until it is sought."""
        await self.start()
        try:
            async with asyncio.timeout(timeout_s):
                while (fetched := self._pop()) is None:
                    await self.read_ahead.wait()
                return fetched
        except TimeoutError:
            return None

    def _pop(self) -> Fetched | None:
        if self._closed:
            raise OttlaError("the consumer is closed.", code="OTTLA-CLOSED")
        item = self.read_ahead.pop()
        if isinstance(item, Failed):
            raise item.error
        if item is not None:
            self._schedule()
            return item
        for partition in self.partitions.values():
            if partition.failure is not None and not partition.paused and not partition.held:
                raise partition.failure
        return None

    async def settle(self, timeout_s: float) -> None:
        """Until every partition has a position. Raises what hinders it."""
        try:
            async with asyncio.timeout(timeout_s):
                while any(partition.position is None for partition in self.partitions.values()):
                    for partition in self.partitions.values():
                        if partition.failure is not None:
                            raise partition.failure
                    await self.read_ahead.wait()
        except TimeoutError:
            raise self.stalled() from None

    def stalled(self) -> OttlaError:
        """Why nothing came for so long."""
        if self._last_problem is not None:
            return self._last_problem
        return OttlaError(f"nothing arrived of {self._topic}.", code="OTTLA-REQUEST-TIMED-OUT", retriable=True)

    def seek(self, partition: Partition, offset: Offset) -> None:
        self.read_ahead.discard({partition.number})
        partition.jump(offset)
        self._schedule()

    def pause(self, numbers: Iterable[int], *, held_back: bool = False) -> None:
        """Read no more of them; what was read ahead is dropped, to leave its room to others."""
        names = set(numbers)
        self.read_ahead.discard(names)
        for number in names:
            partition = self.partitions[number]
            partition.rewind()
            if held_back:
                partition.held = True
            else:
                partition.paused = True

    def resume(self, numbers: Collection[int], *, held_back: bool = False) -> None:
        for number in numbers:
            if held_back:
                self.partitions[number].held = False
            else:
                self.partitions[number].paused = False
        self._schedule()

    def fail(self, partition: Partition, error: OttlaError) -> None:
        """Nothing more of the partition until it is sought."""
        self.read_ahead.discard({partition.number})
        partition.rewind()
        partition.failure = error
        self.read_ahead.add(Failed(partition, partition.generation, error))

    # --- what to do next ---------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        now_s = self._cluster.clock.monotonic()
        by_source: dict[_Source, list[Partition]] = {}
        wants_lookup = leaderless = False
        for partition in self.partitions.values():
            if not self._is_open(partition, now_s):
                continue
            if partition.lookup is not None:
                wants_lookup = True
                continue
            leader = self._cluster.leader(self.topic_id, partition.number)
            if leader is None or leader.broker not in self._cluster.brokers:
                leaderless = True
            elif partition.buffered_bytes < self._options.partition_bytes:
                by_source.setdefault(self._source(partition, leader.broker, now_s), []).append(partition)
        if wants_lookup:
            self._jobs.start_once("lookup", self._look_up)
        if leaderless or now_s - self._refreshed_s > METADATA_AGE_S:
            self._jobs.start_once("refresh", self._refresh)
        for source, partitions in by_source.items():
            self._begin_fetch(source, partitions)
        self._set_timer(now_s)

    def _source(self, partition: Partition, leader: BrokerId, now_s: float) -> _Source:
        """Who is asked: a follower near by while it is of use, else the leader, which may name one."""
        near = partition.replica
        if near is not None and (now_s >= partition.replica_until_s or near == leader):
            partition.replica = near = None
        if near is not None and near in self._cluster.brokers:
            return _Source(near, self._options.rack)
        return _Source(leader, self._options.rack if now_s >= partition.replica_banned_until_s else "")

    @staticmethod
    def _is_open(partition: Partition, now_s: float) -> bool:
        idle = partition.paused or partition.held or partition.fetching or partition.failure is not None
        return not idle and partition.muted_until_s <= now_s

    def _set_timer(self, now_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        times = [self._refreshed_s + METADATA_AGE_S + 0.1]
        times += [p.muted_until_s for p in self.partitions.values() if p.muted_until_s > now_s]
        self._timer = asyncio.get_running_loop().call_later(max(0.001, min(times) - now_s), self._step)

    # --- metadata and offsets ----------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        await self._try_refresh()
        await asyncio.sleep(backoff_s(2, self._cluster.chance))

    async def _try_refresh(self) -> None:
        try:
            await self._cluster.refresh((self._topic,))
        except OttlaError as error:
            self._last_problem = error
            return
        finally:
            self._refreshed_s = self._cluster.clock.monotonic()
        known = self._cluster.known_topic(self._topic)
        if known is None or known.topic_id != self.topic_id:
            gone = TopicNotFound(f"the topic {self._topic} was deleted.", code=ErrorCode.UNKNOWN_TOPIC_ID.stable_code)
            for partition in self.partitions.values():
                if partition.failure is None:
                    self.fail(partition, gone)
        elif self._numbers is None:
            for number in range(len(self.partitions), len(known.partitions)):
                self.partitions[number] = Partition(number, EARLIEST)  # a new partition is read from its beginning

    async def _look_up(self) -> None:
        wanted: dict[str, list[Partition]] = {}
        for partition in self.partitions.values():
            if partition.lookup is not None and partition.failure is None:
                wanted.setdefault(partition.lookup, []).append(partition)
        for position, partitions in wanted.items():
            generations = [partition.generation for partition in partitions]
            numbers = [partition.number for partition in partitions]
            answers = await list_offsets(self._cluster, self.topic_id, numbers, position, timeout_s=LOOKUP_TIMEOUT_S)
            for partition, generation in zip(partitions, generations, strict=True):
                if partition.generation == generation:
                    self._looked_up(partition, answers[partition.number])
        self.read_ahead.news.set()

    def _looked_up(self, partition: Partition, answer: OffsetResult | OttlaError) -> None:
        if isinstance(answer, OffsetResult):
            partition.position = partition.fetch_offset = answer.offset
            partition.lookup = None
            return
        self._last_problem = answer
        if answer.retriable:
            self._mute(partition)
        else:
            self.fail(partition, answer)

    def _mute(self, partition: Partition, pause_s: float | None = None) -> None:
        if pause_s is None:
            pause_s = backoff_s(partition.failures, self._cluster.chance)
            partition.failures += 1
        partition.muted_until_s = self._cluster.clock.monotonic() + pause_s

    # --- fetching ----------------------------------------------------------------------------------------------------

    def _begin_fetch(self, source: _Source, partitions: list[Partition]) -> None:
        options = self._options
        room = options.prefetch_bytes - self.read_ahead.buffered_bytes - self._asked_bytes
        max_bytes = min(options.fetch_bytes, len(partitions) * options.partition_bytes, room)
        if max_bytes <= 0:
            return
        for partition in partitions:
            partition.fetching = True
        self._asked_bytes += max_bytes
        asked = [(partition, partition.generation) for partition in partitions]
        self._jobs.start(f"fetch-{source.broker}", self._fetch(source, asked, max_bytes))

    async def _fetch(self, source: _Source, asked: list[tuple[Partition, int]], max_bytes: int) -> None:
        try:
            answer = await self._ask(source, asked, max_bytes)
            problem = self._accept(source, asked, answer)
        except (ConnectionLost, BadFrame) as error:
            problem = error if isinstance(error, OttlaError) else ConnectionLost(str(error))
            for partition, generation in asked:
                if partition.generation == generation and not self._gave_up(partition, source.broker):
                    self._mute(partition)
        finally:
            self._asked_bytes -= max_bytes
            for partition, generation in asked:
                if partition.generation == generation:
                    partition.fetching = False
        if problem is not None:
            self._last_problem = problem
            self._jobs.start_once("refresh", self._refresh)

    def _gave_up(self, partition: Partition, broker: BrokerId) -> bool:
        """Back to the leader, if it was a follower that failed: for as long as metadata counts as fresh."""
        if partition.replica != broker:
            return False
        partition.back_to_leader(self._cluster.clock.monotonic() + METADATA_AGE_S)
        return True

    async def _ask(self, source: _Source, asked: list[tuple[Partition, int]], max_bytes: int) -> Answer:
        options = self._options
        request = FetchRequest(
            max_wait_ms=options.max_wait_ms,
            min_bytes=1,
            max_bytes=max_bytes,
            partitions=tuple(self._question(partition) for partition, _ in asked),
            rack=source.rack,
        )
        connection = await self._cluster.connection(source.broker, "fetch")
        writing = begin(connection.send(request))
        return await answer_from_leader(
            self._cluster,
            source.broker,
            connection,
            writing,
            [TopicIdPartition(self.topic_id, partition.number) for partition, _ in asked],
            due_s=options.max_wait_ms / 1000,
            timeout_s=options.max_wait_ms / 1000 + options.request_timeout_s,
        )

    def _question(self, partition: Partition) -> FetchPartition:
        leader = self._cluster.leader(self.topic_id, partition.number)
        assert partition.fetch_offset is not None
        return FetchPartition(
            topic_id=self.topic_id,
            partition=partition.number,
            fetch_offset=partition.fetch_offset,
            current_leader_epoch=None if leader is None else leader.epoch,
            last_fetched_epoch=partition.last_epoch,
            max_bytes=self._options.partition_bytes,
        )

    def _accept(self, source: _Source, asked: list[tuple[Partition, int]], answer: Answer) -> OttlaError | None:
        """Take in an answer. Returns what a refresh of the metadata may mend."""
        response = answer.message
        if not isinstance(response, FetchResponse) or len(response.partitions) != len(asked):
            raise ConnectionLost("the broker's answer is not one to this request.")
        parts = split_batches(answer.body, [result.size for result in response.partitions])
        problem: OttlaError | None = None
        for (partition, generation), result, part in zip(asked, response.partitions, parts, strict=True):
            if partition.generation != generation:
                continue
            if (result.error or result.diverging is not None) and self._gave_up(partition, source.broker):
                self._cluster.hint(self.topic_id, partition.number, result.leader, result.leader_epoch)
            elif result.preferred_read_replica is not None:
                partition.failures = 0
                until_s = self._cluster.clock.monotonic() + METADATA_AGE_S
                partition.read_from(result.preferred_read_replica, until_s)
            elif result.error:
                problem = self._refused(partition, result) or problem
            elif result.diverging is not None:
                self._diverged(partition, result.diverging.end_offset)
            else:
                self._buffer(partition, part)
        self.read_ahead.news.set()
        return problem

    def _buffer(self, partition: Partition, part: memoryview) -> None:
        partition.failures = 0
        where = partition.fetch_offset
        try:
            for batch in batches_in(part):
                assert where is not None
                if batch.next_offset <= where:
                    continue
                if self._options.check_crc:
                    batch.verify_crc()
                self.read_ahead.add(Fetched(partition, partition.generation, batch))
                where = partition.fetch_offset = batch.next_offset
                partition.last_epoch = batch.leader_epoch
        except CorruptBatch as error:
            failure = CorruptBatchError(
                f"{self._topic}-{partition.number}: the batch at offset {where} is damaged: {error}.",
                hint="Seek past it to go on.",
            )
            partition.failure = failure  # what came before it is handed out first
            self.read_ahead.add(Failed(partition, partition.generation, failure))

    def _refused(self, partition: Partition, result: FetchResult) -> OttlaError | None:
        error = error_for(result.error, f"{self._topic}-{partition.number}: {result.message or result.error.name}")
        if result.error is ErrorCode.OFFSET_OUT_OF_RANGE:
            self._out_of_range(partition, result, error)
            return None
        if not result.error.retriable:
            self.fail(partition, error)
            return None
        before = self._cluster.leader(self.topic_id, partition.number)
        self._cluster.hint(self.topic_id, partition.number, result.leader, result.leader_epoch)
        self._last_problem = error
        if self._cluster.leader(self.topic_id, partition.number) != before:
            return None  # ask the one it named, at once
        self._mute(partition)
        return error

    def _out_of_range(self, partition: Partition, result: FetchResult, error: OttlaError) -> None:
        offset, log_start = partition.fetch_offset, result.log_start_offset
        assert offset is not None
        never_read = isinstance(self._start, int) and offset == self._start and not partition.has_read
        if never_read and log_start is not None and offset > log_start:
            self._mute(partition, BEYOND_END_PAUSE_S)  # asked to start beyond the end: wait for the log to get there
        elif self._start == EARLIEST and not partition.has_read:
            partition.jump(None, EARLIEST)  # it has begun later since that was looked up
        elif self._options.auto_offset_reset == "error":
            self.fail(partition, error)
        else:
            self.read_ahead.discard({partition.number})
            partition.jump(None, self._options.auto_offset_reset)

    def _diverged(self, partition: Partition, end_offset: Offset) -> None:
        position = partition.position
        assert position is not None
        if end_offset >= position:
            self.read_ahead.discard({partition.number})
            partition.jump(position)  # only what was read ahead is affected
        elif self._options.auto_offset_reset == "error":
            message = (
                f"{self._topic}-{partition.number} was truncated to offset {end_offset}, you have read to {position}."
            )
            self.fail(partition, LogTruncated(message, end_offset))
        else:
            self.read_ahead.discard({partition.number})
            partition.jump(end_offset)
