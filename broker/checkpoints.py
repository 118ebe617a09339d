"""A node's checkpoints of where its replicas are, written every few seconds and at its end."""

import asyncio

import structlog

from ottla.log.run_blocking import RunBlocking

from .assembly import Parts

log = structlog.get_logger(__name__)

CHECKPOINT_INTERVAL_S = 5.0


async def checkpoint_forever(parts: Parts, run_blocking: RunBlocking) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(CHECKPOINT_INTERVAL_S)
        await checkpoint(parts, run_blocking)


async def checkpoint(parts: Parts, run_blocking: RunBlocking) -> None:
    """High watermarks and log starts."""
    marks = parts.manager.high_watermarks()
    try:
        await run_blocking(lambda: parts.logs.checkpoint_high_watermarks(marks))
        await run_blocking(parts.logs.checkpoint_log_starts)
    except OSError as error:  # a full disk: an old checkpoint costs nothing but a slower start
        log.warning("checkpoint.failed", problem=str(error))
