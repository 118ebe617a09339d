"""One fetch: the question to a broker about some partitions, and what its answer means for each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ottla.log.errors import CorruptBatch
from ottla.log.model import BrokerId, Offset
from ottla.log.records import batches_in

from .cluster import Cluster
from .connection import Answer, ConnectionLost
from .error_codes import ErrorCode
from .errors import CorruptBatchError, OttlaError, error_for
from .frames import split_batches
from .patience import answer_from_leader, begin
from .protocol import EARLIEST, FetchPartition, FetchRequest, FetchResponse, FetchResult
from .read_ahead import ReadAhead
from .reading import ConsumerOptions, Failed, Fetched, LogTruncated, Partition

METADATA_AGE_S = 30.0
BEYOND_END_PAUSE_S = 0.5
OUT_OF_RANGE_HINT = "Go on from elsewhere with seek, choose an auto_offset_reset, or set the group: ottla group seek."


class Source(NamedTuple):
    """Whom to ask. ``rack``: of the reader, where a follower may answer or be named."""

    broker: BrokerId
    rack: str


Asked = Sequence[tuple[Partition, int]]
"""Partitions, each with its generation as it was asked for: an answer to an older one is void."""


class FetchExchange:
    """``mute``: leave a partition alone for so many seconds, None for a backoff. ``fail``: end it with an error."""

    def __init__(
        self,
        cluster: Cluster,
        options: ConsumerOptions,
        read_ahead: ReadAhead,
        *,
        mute: Callable[[Partition, float | None], None],
        fail: Callable[[Partition, OttlaError], None],
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._read_ahead = read_ahead
        self._mute = mute
        self._fail = fail
        self.last_problem: OttlaError | None = None

    async def ask(self, source: Source, asked: Asked, max_bytes: int) -> Answer:
        """Raises ConnectionLost."""
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
            [partition.target for partition, _ in asked],
            due_s=options.max_wait_ms / 1000,
            timeout_s=options.max_wait_ms / 1000 + options.request_timeout_s,
        )

    def _question(self, partition: Partition) -> FetchPartition:
        leader = self._cluster.leader(*partition.target)
        assert partition.fetch_offset is not None
        return FetchPartition(
            topic_id=partition.target.topic_id,
            partition=partition.number,
            fetch_offset=partition.fetch_offset,
            current_leader_epoch=None if leader is None else leader.epoch,
            last_fetched_epoch=partition.last_epoch,
            max_bytes=self._options.partition_bytes,
        )

    def lost(self, source: Source, asked: Asked) -> None:
        """No answer came."""
        for partition, generation in asked:
            if partition.generation == generation and not self._gave_up(partition, source.broker):
                self._mute(partition, None)

    def _gave_up(self, partition: Partition, broker: BrokerId) -> bool:
        """Back to the leader, if it was a follower that failed: for as long as metadata counts as fresh."""
        if partition.replica != broker:
            return False
        partition.back_to_leader(self._cluster.clock.monotonic() + METADATA_AGE_S)
        return True

    def accept(self, source: Source, asked: Asked, answer: Answer) -> OttlaError | None:
        """Take in an answer. Returns what a refresh of the metadata may mend. Raises ConnectionLost, BadFrame."""
        response = answer.message
        if not isinstance(response, FetchResponse) or len(response.partitions) != len(asked):
            raise ConnectionLost("the broker's answer is not one to this request.")
        parts = split_batches(answer.body, [result.size for result in response.partitions])
        problem: OttlaError | None = None
        for (partition, generation), result, part in zip(asked, response.partitions, parts, strict=True):
            if partition.generation == generation:
                problem = self._accept_one(source, partition, result, part) or problem
        self._read_ahead.news.set()
        return problem

    def _accept_one(
        self, source: Source, partition: Partition, result: FetchResult, part: memoryview
    ) -> OttlaError | None:
        if result.high_watermark is not None:
            partition.high_watermark = result.high_watermark
        if (result.error or result.diverging is not None) and self._gave_up(partition, source.broker):
            self._cluster.hint(*partition.target, result.leader, result.leader_epoch)
        elif result.preferred_read_replica is not None:
            partition.failures = 0
            until_s = self._cluster.clock.monotonic() + METADATA_AGE_S
            partition.read_from(result.preferred_read_replica, until_s)
        elif result.error:
            return self._refused(partition, result)
        elif result.diverging is not None:
            self._diverged(partition, result.diverging.end_offset)
        else:
            self._buffer(partition, part)
        return None

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
                self._read_ahead.add(Fetched(partition, partition.generation, batch))
                where = batch.next_offset
                partition.fetched(batch)
        except CorruptBatch as error:
            failure = CorruptBatchError(
                f"{partition.key}: the batch at offset {where} is damaged: {error}.", hint="Seek past it to go on."
            )
            partition.failure = failure  # what came before it is handed out first
            self._read_ahead.add(Failed(partition, partition.generation, failure))

    def _refused(self, partition: Partition, result: FetchResult) -> OttlaError | None:
        said = result.message or result.error.name
        error = error_for(result.error, said if said.startswith(f"{partition.key} ") else f"{partition.key}: {said}")
        if result.error is ErrorCode.OFFSET_OUT_OF_RANGE:
            self._out_of_range(partition, result, error)
            return None
        if not result.error.retriable:
            self._fail(partition, error)
            return None
        before = self._cluster.leader(*partition.target)
        self._cluster.hint(*partition.target, result.leader, result.leader_epoch)
        self.last_problem = error
        if self._cluster.leader(*partition.target) != before:
            return None  # ask the one it named, at once
        self._mute(partition, None)
        return error

    def _out_of_range(self, partition: Partition, result: FetchResult, error: OttlaError) -> None:
        offset, log_start, start = partition.fetch_offset, result.log_start_offset, partition.start
        assert offset is not None
        never_read = isinstance(start, int) and offset == start and not partition.has_read
        if never_read and log_start is not None and offset > log_start:
            self._mute(partition, BEYOND_END_PAUSE_S)  # asked to start beyond the end: wait for the log to get there
        elif start == EARLIEST and not partition.has_read:
            partition.jump(None, EARLIEST)  # it has begun later since that was looked up
        elif self._options.auto_offset_reset == "error":
            error.hint = OUT_OF_RANGE_HINT
            self._fail(partition, error)
        else:
            self._read_ahead.discard((partition,))
            partition.jump(None, self._options.auto_offset_reset)

    def _diverged(self, partition: Partition, end_offset: Offset) -> None:
        position = partition.position
        assert position is not None
        if end_offset >= position:
            is_ahead = partition.fetch_offset != position
            self._read_ahead.discard((partition,))
            partition.jump(position)  # only what was read ahead is affected
            if not is_ahead:  # the leader does not know the epoch: compaction may have left nothing of it
                partition.forget_epochs()
        elif self._options.auto_offset_reset == "error":
            message = f"{partition.key} was truncated to offset {end_offset}, you have read to {position}."
            self._fail(partition, LogTruncated(message, end_offset))
        else:
            self._read_ahead.discard((partition,))
            partition.jump(end_offset)
