"""Where a time is in a log, to the record: the index finds a batch, and only that batch is decoded."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from ottla.log.model import Offset
from ottla.log.records import Record, RecordBatch, batches_in
from ottla.log.run_blocking import RunBlocking

from ..replica import Replica

READ_BYTES = 64 << 10
DECODE_INLINE_BYTES = 64 << 10
"""A larger batch is decoded in an executor; a compressed one may unpack to much more, and always is."""


class Found(NamedTuple):
    """``timestamp_ms``: of the record at ``offset``; None where no record was asked for."""

    offset: Offset
    timestamp_ms: int | None


async def first_at_time(replica: Replica, limit: Offset, timestamp_ms: int, run_blocking: RunBlocking) -> Found | None:
    """The first readable record below ``limit`` whose time is ``timestamp_ms`` or later. Raises LogError."""
    offset = replica.log.first_batch_at_time(timestamp_ms)
    while offset is not None and offset < limit and (data := replica.log.read(offset, READ_BYTES, limit)):
        for batch in batches_in(data):
            if batch.max_timestamp >= timestamp_ms:
                start = replica.log.log_start_offset
                found = await _search(batch, start, lambda record: record.timestamp_ms >= timestamp_ms, run_blocking)
                if found is not None:
                    return found
            # Its late records are below the log's start, or compaction took them: on to the next one.
            offset = batch.next_offset
        await asyncio.sleep(0)
        offset = max(offset, replica.log.log_start_offset)
    return None


async def newest_time(replica: Replica, limit: Offset, run_blocking: RunBlocking) -> Found | None:
    """The first record with the largest time of all; None where that is not below ``limit``. Raises LogError."""
    offset = replica.log.largest_timestamp_offset
    if offset is None or not replica.log.log_start_offset <= offset < limit:
        return None
    batch = next(batches_in(replica.log.read(offset, 1, limit)), None)
    if batch is None:
        return None
    start, newest = replica.log.log_start_offset, batch.max_timestamp
    return await _search(batch, start, lambda record: record.timestamp_ms == newest, run_blocking)


async def _search(
    batch: RecordBatch, start: Offset, wanted: Callable[[Record], bool], run_blocking: RunBlocking
) -> Found | None:
    def search() -> Found | None:
        for record in batch.records():
            if record.offset >= start and wanted(record):
                return Found(Offset(record.offset), record.timestamp_ms)
        return None

    if batch.size_bytes <= DECODE_INLINE_BYTES and not batch.compression:
        return search()
    return await run_blocking(search)
