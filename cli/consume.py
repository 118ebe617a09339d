"""`ottla consume`: records on standard output, to the end as it is now, or for ever."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .problems import UsageProblem
from .record_text import record_formatter
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.consumer import Consumer, ConsumerRecord

FLUSH_BYTES = 1 << 16
FLUSH_S = 0.05


class ConsumeOptions(NamedTuple):
    """``limit``: records in all. ``start``: start, end or an offset. ``shape``: value, json or a format."""

    topics: Sequence[str]
    limit: int | None
    partitions: Sequence[int]
    start: str
    follow: bool
    shape: str
    rack: str = ""


def consume(servers: str, options: ConsumeOptions) -> None:
    """Print records. Stops at the end offsets as they are at the start, unless told to follow."""
    start = parse_start(options.start)
    show = record_formatter(options.shape)
    if options.limit == 0:
        return

    async def work(client: "Client") -> None:
        printer = _Printer(show, options.limit)
        readers = [asyncio.ensure_future(_read(client, topic, start, options, printer)) for topic in options.topics]
        flushing = asyncio.ensure_future(printer.flush_forever())
        try:
            await _until_done(readers, printer)
        finally:
            for task in (*readers, flushing):
                task.cancel()
            await asyncio.gather(*readers, flushing, return_exceptions=True)
            printer.flush()

    with_client(servers, work)


def parse_start(text: str) -> str | int:
    """``start``, ``end`` or an offset, as the SDK names them. Raises UsageProblem."""
    named = {"start": "earliest", "end": "latest"}
    if text in named:
        return named[text]
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageProblem(f"--from {text!r} is not start, end or an offset")


async def _until_done(readers: "Sequence[asyncio.Future[None]]", printer: "_Printer") -> None:
    """All read, the limit reached, or the first failure raised."""
    full: asyncio.Future[Any] = asyncio.ensure_future(printer.full.wait())
    try:
        waiting: set[asyncio.Future[Any]] = set(readers)
        while waiting and not printer.full.is_set():
            done, _ = await asyncio.wait([*waiting, full], return_when=asyncio.FIRST_COMPLETED)
            for reader in done & waiting:
                reader.result()
            waiting -= done
    finally:
        full.cancel()


async def _read(client: "Client", topic: str, start: str | int, options: ConsumeOptions, printer: "_Printer") -> None:
    partitions = tuple(options.partitions) or None
    async with client.consumer(topic, start=start, partitions=partitions, rack=options.rack) as consumer:
        async for record in _records(consumer, options.follow):
            printer.print(record)
            if printer.full.is_set():
                return


def _records(consumer: "Consumer", follow: bool) -> "AsyncIterator[ConsumerRecord]":
    return consumer if follow else consumer.read_to_end()


class _Printer:
    """Gathers what is printed: a write per record would cost more than the record."""

    def __init__(self, show: "Callable[[ConsumerRecord], bytes]", limit: int | None) -> None:
        self.full = asyncio.Event()
        self._show = show
        self._left = limit
        self._parts: list[bytes] = []
        self._size = 0

    def print(self, record: "ConsumerRecord") -> None:
        if self.full.is_set():
            return
        text = self._show(record)
        self._parts.append(text)
        self._size += len(text)
        if self._size >= FLUSH_BYTES:
            self.flush()
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.full.set()

    def flush(self) -> None:
        """Hand over what is gathered. Raises BrokenPipeError when nobody reads."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts:
            sys.stdout.buffer.write(b"".join(parts))
            sys.stdout.buffer.flush()

    async def flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                self.flush()
            except BrokenPipeError:
                self.full.set()
                return
