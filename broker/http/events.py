"""A stream of server-sent events: records as they come, each with an id to go on from.

What a reader has not taken yet is bounded: by what the consumer reads ahead, and by one block of text here. One that
takes nothing for ``STALL_S`` is dropped, and comes back with the id of the last event that it has seen.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from ottla.client.consumer import Consumer, ConsumerRecord
from ottla.client.errors import OttlaError

from .event_ids import PARTITIONS_MAX, id_of_positions, id_of_record

log = structlog.get_logger(__name__)

SSE = "text/event-stream"
RETRY_MS = 2_000
"""After which a browser connects again."""
KEEP_ALIVE_S = 15.0
"""A line that means nothing is sent after so long: those between see that we live, and we, that the reader does."""
STALL_S = 15.0
BATCH_RECORDS = 200
BLOCK_BYTES = 1 << 16
READ_AHEAD = {"fetch_bytes": 1 << 20, "partition_bytes": 1 << 18, "prefetch_bytes": 1 << 20}
"""Options of the consumer behind a stream: there may be many streams."""


class ReaderStalled(Exception):
    """It takes nothing any more."""


class EventStream:
    """One response. ``show``: a record as JSON can hold it. ``one``: it reads one partition."""

    def __init__(
        self,
        request: web.Request,
        consumer: Consumer,
        topic_id: str,
        *,
        one: bool,
        show: Callable[[ConsumerRecord], dict[str, Any]],
    ) -> None:
        self.response = web.StreamResponse(headers={"Content-Type": SSE, "Cache-Control": "no-store"})
        self._request = request
        self._consumer = consumer
        self._topic_id = topic_id
        self._one = one
        self._show = show
        self._has_ids = one or len(consumer.partitions) <= PARTITIONS_MAX
        known = ((number, consumer.position(number)) for number in consumer.partitions)
        self._positions = {number: offset for number, offset in known if offset is not None}

    async def run(self, limit: int | None, gaps: list[dict[str, int]]) -> None:
        """Until the reader leaves or, if there is a limit, has had so many. ``gaps``: told before anything else."""
        await self.response.prepare(self._request)
        try:
            await self._write(self._opening() + b"".join(_event("gap", gap) for gap in gaps))
            await self._pump(limit)
        except OttlaError as error:
            await self._write(_event("error", {"code": error.code, "detail": str(error)}))
        except ReaderStalled:
            log.info("event stream dropped: its reader takes nothing", peer=self._request.remote)
            if self._request.transport is not None:
                self._request.transport.abort()

    def _opening(self) -> bytes:
        """How soon to come back, and where to, if nothing has come until then."""
        here = f"id: {id_of_positions(self._topic_id, self._positions)}\n" if self._has_ids and not self._one else ""
        return f"retry: {RETRY_MS}\n{here}\n".encode()

    async def _pump(self, limit: int | None) -> None:
        batches = self._consumer.batches(BATCH_RECORDS, 0.0)
        left = limit
        coming: asyncio.Future[list[ConsumerRecord]] | None = None
        try:
            while left is None or left > 0:
                if coming is None:
                    coming = asyncio.ensure_future(anext(batches))
                await asyncio.wait([coming], timeout=KEEP_ALIVE_S)
                if not coming.done():
                    await self._write(b": still here\n\n")
                    continue
                records, coming = coming.result()[:left], None
                await self._send(records)
                left = None if left is None else left - len(records)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await batches.aclose()  # type: ignore[attr-defined]

    async def _send(self, records: list[ConsumerRecord]) -> None:
        block = bytearray()
        for record in records:
            if self._has_ids:
                block += f"id: {self._id(record)}\n".encode()
            block += b"data: " + msgspec.json.encode(self._show(record)) + b"\n\n"
            if len(block) >= BLOCK_BYTES:
                await self._write(bytes(block))
                block.clear()
        if block:
            await self._write(bytes(block))

    def _id(self, record: ConsumerRecord) -> str:
        if self._one:
            return id_of_record(record.partition, record.offset)
        self._positions[record.partition] = record.offset + 1
        return id_of_positions(self._topic_id, self._positions)

    async def _write(self, block: bytes) -> None:
        try:
            async with asyncio.timeout(STALL_S):
                await self.response.write(block)
        except TimeoutError:
            raise ReaderStalled from None


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
