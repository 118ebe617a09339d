"""Standard input in chunks, without blocking the event loop where it can be waited for."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator

CHUNK_BYTES = 1 << 16


async def read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    """Chunks until the end. A file is read as it comes; a pipe or terminal is waited for.

    The descriptor stays in blocking mode: it may be shared with the shell and with our own output.
    """
    waits = _can_be_waited_for(descriptor)
    while True:
        if waits:
            await _readable(descriptor)
        else:
            await asyncio.sleep(0)
        chunk = os.read(descriptor, CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
