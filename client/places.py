"""Where a consumer without a group is, and where it goes on: positions, seeks, pauses, ends and times."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from ottla.log.model import Offset, TopicId, TopicPartition

from .arguments import check_offset, check_time, check_times, is_whole
from .cluster import Cluster
from .errors import ConfigError, OttlaError, TopicNotFound
from .fetcher import Fetcher
from .offsets import list_offsets, offsets_for_time
from .protocol import AT_TIME, EARLIEST, LATEST, OffsetResult
from .reading import ConsumerOptions, Partition
from .records import ConsumerRecord


class Places(ABC):
    """What of ``Consumer`` is about places; it sets the attributes."""

    topic: str
    lent: deque[ConsumerRecord[Any, Any]]
    _cluster: Cluster
    _options: ConsumerOptions
    _fetcher: Fetcher
    _filling: list[ConsumerRecord[Any, Any]]
    _given_back: int

    @abstractmethod
    async def _found(self) -> TopicId:
        """The topic's id, once it is known. Raises that it is closed."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raises that it is closed."""

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions being read."""
        return tuple(key.partition for key in self._fetcher.partitions)

    def position(self, partition: int) -> int | None:
        """Offset of the next record that will be handed out; None while "earliest" or "latest" is being looked up."""
        first = (record.offset for record in tuple(self.lent) if record.partition == partition)
        return next(first, self._partition(partition).position)

    async def seek(self, topic: str, partition: int, offset: int | str) -> None:
        """Go on from ``offset``, "earliest" or "latest" (looked up now). Also goes on after an error.
        Raises OttlaError where the leader does not tell."""
        self._check_open()
        if topic != self.topic:
            raise ConfigError(f"this consumer reads {self.topic}, not {topic}.")
        target = self._partition(partition)
        if isinstance(offset, str):
            offset = (await self._offsets((partition,), offset))[partition]
        check_offset(offset)
        kept = [record for record in self._filling if record.partition != partition]
        self._given_back += len(self._filling) - len(kept)
        self._filling[:] = kept  # what another task waits for goes on from there, too
        self._fetcher.seek(target, Offset(offset))

    def pause(self, *partitions: int) -> None:
        """Hand out no more of these partitions, all if none is named, until ``resume``."""
        self._check_open()
        paused = [self._partition(number) for number in partitions or self.partitions]
        self._fetcher.pause(paused)

    def resume(self, *partitions: int) -> None:
        """Undo ``pause``, for all partitions if none is named."""
        self._check_open()
        self._fetcher.resume([self._partition(number) for number in partitions or self.partitions])

    async def beginning_offsets(self) -> dict[int, int]:
        """By partition, the first offset that can still be read. Raises OttlaError."""
        return await self._offsets(self.partitions, EARLIEST)

    async def end_offsets(self) -> dict[int, int]:
        """By partition, the offset after the last readable record (the high watermark). Raises OttlaError."""
        return await self._offsets(self.partitions, LATEST)

    async def offsets_for_times(self, timestamps_ms: Mapping[int, int]) -> dict[int, int | None]:
        """By partition, the offset of the first record with this time (milliseconds since 1970) or a later one; None
        where there is none. Raises OttlaError."""
        check_times(timestamps_ms)
        topic_id = await self._found()
        by_time: dict[int, list[int]] = {}
        for number, timestamp_ms in timestamps_ms.items():
            self._partition(number)
            by_time.setdefault(timestamp_ms, []).append(number)
        offsets: dict[int, int | None] = {}
        for timestamp_ms, numbers in by_time.items():
            answers = await list_offsets(
                self._cluster,
                topic_id,
                numbers,
                AT_TIME,
                timeout_s=self._options.request_timeout_s,
                timestamp_ms=timestamp_ms,
            )
            for number, answer in answers.items():
                if isinstance(answer, OttlaError):
                    raise answer
                offsets[number] = answer.offset
        return offsets

    async def seek_to_time(self, timestamp_ms: int) -> None:
        """Go on, in every partition, from the first record with this time (milliseconds since 1970) or a later one;
        from the end where there is none. Raises OttlaError."""
        check_time(timestamp_ms)
        topic_id = await self._found()
        offsets = await offsets_for_time(
            self._cluster,
            topic_id,
            self.partitions,
            timestamp_ms,
            timeout_s=self._options.request_timeout_s,
        )
        for number, offset in offsets.items():
            await self.seek(self.topic, number, offset)

    async def _offsets(self, partitions: Iterable[int], position: str) -> dict[int, int]:
        if position not in (EARLIEST, LATEST):
            raise ConfigError(f"offset is {position!r}.", hint='It is a number, "earliest" or "latest".')
        topic_id = await self._found()
        numbers = tuple(partitions) or self.partitions
        answers = await list_offsets(
            self._cluster, topic_id, numbers, position, timeout_s=self._options.request_timeout_s
        )
        offsets: dict[int, int] = {}
        for number, answer in answers.items():
            if isinstance(answer, OttlaError):
                raise answer
            assert isinstance(answer, OffsetResult)
            assert answer.offset is not None
            offsets[number] = answer.offset
        return offsets

    def _partition(self, number: int) -> Partition:
        if not is_whole(number):
            raise ConfigError(f"a partition is {number!r:.100}.", hint="It is a whole number: this is of one topic.")
        found = self._fetcher.partitions.get(TopicPartition(self.topic, number))
        if found is None:
            raise TopicNotFound(f"partition {number} of {self.topic} is not being read.")
        return found
