"""Records that came before their topic's metadata."""

import asyncio
from collections.abc import Callable
from typing import Any

from .accumulator import Accumulator
from .batch import RECORD_OVERHEAD_BYTES
from .cluster import Cluster
from .errors import BufferFull, OttlaError, TopicNotFound
from .metrics import Tally
from .placement import Placement, Record, Topic
from .producer_options import ProducerOptions
from .sender import unsent


class Staging:
    """``held_bytes``: what waits, counted as if in a batch. ``progress``: is set at every resolution."""

    def __init__(
        self,
        cluster: Cluster,
        options: ProducerOptions,
        accumulator: Accumulator[asyncio.Future[Any]],
        placement: Placement,
        tally: Tally,
        progress: asyncio.Event,
        wake: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._accumulator = accumulator
        self._placement = placement
        self._tally = tally
        self._progress = progress
        self._wake = wake
        self.held_bytes = 0

    def stage(self, topic: Topic, record: Record) -> None:
        """Keep it until the topic is known. Raises BufferFull."""
        cost = record.size + RECORD_OVERHEAD_BYTES
        held = self.held_bytes + self._accumulator.buffered_bytes
        if held and held + cost > self._options.buffer_bytes:
            raise BufferFull(f"{held} bytes wait for {topic.name}'s metadata.", hint="Await send() instead.")
        topic.staged.append(record)
        self.held_bytes += cost
        if topic.opening is None:
            topic.opening = asyncio.create_task(self._open_topic(topic), name=f"open-{topic.name}")

    async def _open_topic(self, topic: Topic) -> None:
        try:
            await self._cluster.topic(topic.name, auto_create=True, timeout_s=self._options.delivery_timeout_s)
            await self._append_staged(topic)
        except OttlaError as error:
            self.fail(topic, error)
        except Exception as error:  # a bug of ours: whoever waits must be told
            self.fail(topic, unsent(topic.name, error))
            raise
        finally:
            topic.opening = None

    async def _append_staged(self, topic: Topic) -> None:
        while topic.staged:
            layout = self._placement.layout(topic)
            if layout is None:
                raise TopicNotFound(f"there is no topic {topic.name}.")
            record = topic.staged[0]
            try:
                self._placement.append(topic, layout, record)
            except BufferFull:
                self._progress.clear()
                await self._progress.wait()
                continue
            except Exception as error:  # the record's own fault, or a partitioner's: the next ones may do
                if not record.future.done():
                    record.future.set_exception(error)
            topic.staged.popleft()
            self.held_bytes -= record.size + RECORD_OVERHEAD_BYTES
        self._wake()

    def fail(self, topic: Topic, error: OttlaError) -> None:
        """None of the topic's records will be sent."""
        while topic.staged:
            record = topic.staged.popleft()
            self.held_bytes -= record.size + RECORD_OVERHEAD_BYTES
            self._tally.failed += 1
            if not record.future.done():
                record.future.set_exception(error)
        self._progress.set()
