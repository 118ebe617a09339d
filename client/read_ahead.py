"""What was fetched and not yet handed out, in the order it came."""

import asyncio
from collections import deque
from collections.abc import Collection

from .reading import Failed, Fetched, Partition

Item = Fetched | Failed


class ReadAhead:
    """A queue of batches, and of errors in their place between them. ``news`` is set when something is added."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self.news = asyncio.Event()
        self.buffered_bytes = 0

    def add(self, item: Item) -> None:
        self._items.append(item)
        self._count(item, 1)
        self.news.set()

    def pop(self) -> Item | None:
        """The next item that no jump has made void; None if there is none."""
        while self._items:
            item = self._items.popleft()
            self._count(item, -1)
            if item.generation == item.partition.generation:
                return item
        return None

    def discard(self, partitions: Collection[Partition]) -> None:
        """Drop everything of these partitions."""
        kept: deque[Item] = deque()
        for item in self._items:
            if item.partition in partitions:
                self._count(item, -1)
            else:
                kept.append(item)
        self._items = kept

    def clear(self) -> None:
        """Drop everything and wake whoever waits."""
        while self._items:
            self._count(self._items.popleft(), -1)
        self.news.set()

    async def wait(self) -> None:
        """Until something is added, or ``news`` is set for another reason."""
        self.news.clear()
        await self.news.wait()

    def _count(self, item: Item, sign: int) -> None:
        if isinstance(item, Fetched):
            item.partition.buffered_bytes += sign * item.batch.size_bytes
            self.buffered_bytes += sign * item.batch.size_bytes
