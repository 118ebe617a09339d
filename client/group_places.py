"""Where a consumer in a group is, and where it goes on: positions, seeks, pauses, ends and times of its partitions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from ottla.log.model import Offset, TopicPartition

from .arguments import by_pair, check_offset, check_times, pair
from .cluster import Cluster
from .errors import ConfigError
from .fetcher import Fetcher
from .group_partitions import GroupPartitions
from .in_hand import InHand
from .lookups import look_up
from .protocol import AT_TIME, EARLIEST, LATEST
from .reading import ConsumerOptions, NotAssigned, Partition


class GroupPlaces(ABC):
    """What of ``GroupConsumer`` is about places; it sets the attributes."""

    _cluster: Cluster
    _options: ConsumerOptions
    _parts: GroupPartitions
    _fetcher: Fetcher
    _hand: InHand

    @abstractmethod
    def _check_open(self) -> None:
        """Raises that it is closed."""

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are being read."""
        return frozenset(self._fetcher.partitions)

    def position(self, topic: str, partition: int) -> int | None:
        """Offset of the next record that will be handed out; None while it is being looked up."""
        return self._position(self._partition(topic, partition))

    def _position(self, partition: Partition) -> int | None:
        unseen = self._hand.unseen(partition.key)
        return partition.position if unseen is None else unseen

    def lag(self) -> dict[TopicPartition, int | None]:
        """By partition, records between the position and the end, as the last answers told: those of partitions that
        are not being fetched, paused or far ahead, are a few seconds old at most. None before the first."""
        return {key: partition.lag(self._position(partition)) for key, partition in self._fetcher.partitions.items()}

    async def seek(self, topic: str, partition: int, offset: int | str) -> None:
        """Go on from ``offset``, "earliest" or "latest" (looked up now). Also goes on after an error. Raises
        NotAssigned where the partition is not ours."""
        target = self._partition(topic, partition)
        if isinstance(offset, str):
            offset = (await self._look_up((target.key,), offset))[target.key]
        check_offset(offset)
        target = self._partition(topic, partition)
        self._parts.take_back([target])
        self._hand.forget((target.key,))
        self._fetcher.seek(target, Offset(offset))

    def pause(self, *keys: tuple[str, int]) -> None:
        """Hand out no more of these (topic, partition), all if none is named, until ``resume``."""
        partitions = self._named(keys)
        self._parts.take_back(partitions)
        self._fetcher.pause(partitions)

    def resume(self, *keys: tuple[str, int]) -> None:
        """Undo ``pause``, for all partitions if none is named."""
        self._fetcher.resume(self._named(keys))

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """Of each partition that is ours, the first offset that can still be read. Raises OttlaError."""
        return await self._look_up(self._fetcher.partitions, EARLIEST)

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Of each partition that is ours, the offset after the last readable record. Raises OttlaError."""
        return await self._look_up(self._fetcher.partitions, LATEST)

    async def offsets_for_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        """By (topic, partition), the offset of the first record with this time (milliseconds since 1970) or a later
        one; None where there is none. Raises OttlaError."""
        self._check_open()
        check_times(timestamps_ms)
        found: dict[TopicPartition, int | None] = {}
        for (topic, number), timestamp_ms in by_pair("the times", timestamps_ms).items():
            target = self._partition(topic, number)
            found.update(await self._ask((target,), AT_TIME, timestamp_ms))
        return found

    async def _look_up(self, keys: Iterable[TopicPartition], position: str) -> dict[TopicPartition, int]:
        if position not in (EARLIEST, LATEST):
            raise ConfigError(f"offset is {position!r}.", hint='It is a number, "earliest" or "latest".')
        self._check_open()
        found = await self._ask([self._partition(*key) for key in keys], position, None)
        return {key: offset for key, offset in found.items() if offset is not None}

    async def _ask(
        self, partitions: Iterable[Partition], position: str, timestamp_ms: int | None
    ) -> dict[TopicPartition, int | None]:
        timeout_s = self._options.request_timeout_s
        return await look_up(self._cluster, partitions, position, timeout_s=timeout_s, timestamp_ms=timestamp_ms)

    def _named(self, keys: tuple[tuple[str, int], ...]) -> list[Partition]:
        self._check_open()
        return [self._partition(*pair(key)) for key in keys or self._fetcher.partitions]

    def _partition(self, topic: str, partition: int) -> Partition:
        self._check_open()
        found = self._fetcher.partitions.get(pair((topic, partition)))
        if found is None:
            self._fetcher.check()
            hint = "It reads those of its assignment."
            raise NotAssigned(f"{topic}-{partition} is not assigned to this consumer.", hint=hint)
        return found
