"""Reads every partition of the topics it subscribes to, in no group: those that come later, too."""

import asyncio
import contextlib

from ottla.log.model import TopicPartition

from .backoff import backoff_s
from .cluster import Cluster
from .commits import Identity
from .errors import OttlaError
from .fetch_exchange import METADATA_AGE_S
from .membership import Keys, Reader
from .subscribed import Subscribed


class AloneMembership:
    """A Membership that no coordinator knows of."""

    def __init__(self, cluster: Cluster, subscribed: Subscribed, reader: Reader) -> None:
        self._cluster = cluster
        self._subscribed = subscribed
        self._reader = reader
        self._owned: Keys = frozenset()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def owned(self) -> Keys:
        return self._owned

    def identity(self) -> Identity:
        return Identity("", None)

    def start(self) -> None:
        self._task = asyncio.create_task(self._guarded(), name="ottla-topics")

    def hurry(self) -> None:
        self._news.set()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def leave(self) -> None:
        pass

    async def _guarded(self) -> None:
        try:
            await self._follow()
        except Exception as error:  # a callback's, or a bug of ours: the reader must not wait for ever
            ended = error if isinstance(error, OttlaError) else OttlaError(f"{type(error).__name__}: {error}")
            if ended is not error:
                ended.__cause__ = error
            self._reader.end(ended)

    async def _follow(self) -> None:
        attempt = 0
        while True:
            try:
                await self._subscribed.look()
            except OttlaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(backoff_s(attempt, self._cluster.chance))
                attempt += 1
                continue
            attempt = 0
            await self._take(self._wanted())
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(METADATA_AGE_S):
                    await self._news.wait()

    def _wanted(self) -> Keys:
        known = ((name, self._cluster.known_topic(name)) for name in self._subscribed.topics)
        return frozenset(
            TopicPartition(name, state.partition)
            for name, found in known
            if found is not None and found.topic_id is not None
            for state in found.partitions
        )

    async def _take(self, wanted: Keys) -> None:
        if gone := (self._owned - wanted) | self._reader.outlived(self._owned):
            self._owned -= gone
            await self._reader.lose(gone)
        if new := wanted - self._owned:
            self._owned |= await self._reader.assign(new)
