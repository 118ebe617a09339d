"""The consumer of all topics that a regular expression means, without a group."""

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

from ottla.log.model import TopicPartition

from .alone import AloneMembership
from .cluster import Cluster
from .coordinator import GroupCoordinator
from .errors import ConfigError
from .group_consumer import GroupConsumer
from .group_options import GroupOptions
from .membership import Membership, Reader as PartitionReader
from .reader import Decoding
from .reading import ConsumerOptions
from .records import K, V
from .subscribed import Subscribed


class PatternConsumer(GroupConsumer[K, V]):
    """Made by ``Client.consumer`` with a ``pattern`` and no ``group``: every partition of the topics that match, those
    that come later from their beginning. It has what a consumer in a group has, but commits nothing."""

    def __init__(
        self, cluster: Cluster, pattern: str, start: Any, options: ConsumerOptions, decoding: Decoding
    ) -> None:
        def join(_: GroupCoordinator, reader: PartitionReader) -> Membership:
            return AloneMembership(cluster, subscribed, reader)

        subscribed = Subscribed(cluster, (), pattern)
        super().__init__(cluster, subscribed, None, start, options, GroupOptions(auto_commit=False), join, decoding)

    async def commit(self, offsets: Mapping[tuple[str, int], int] | None = None) -> NoReturn:
        """Raises ConfigError."""
        raise _no_group()

    def commit_nowait(self, offsets: Mapping[tuple[str, int], int] | None = None) -> "asyncio.Task[None]":
        """Raises ConfigError."""
        raise _no_group()

    async def committed(self, *keys: tuple[str, int]) -> dict[TopicPartition, int | None]:
        """Raises ConfigError."""
        raise _no_group()


def _no_group() -> ConfigError:
    return ConfigError("this consumer is in no group.", hint="Give it a group, or remember where it is yourself.")
