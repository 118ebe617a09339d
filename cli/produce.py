"""`ottla produce`: one record a line from standard input."""

import asyncio
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from ottla.client.errors import BufferFull, OttlaError, RecordTooLarge

from .output import talk
from .progress import Bar, progress
from .record_text import (
    BadRecord,
    LineSplitter,
    TextRecord,
    line_parser,
    merge_headers,
    parse_header,
    parse_json_record,
)
from .sdk import with_client
from .standard_input import read_chunks

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.producer import Producer, RecordFuture
    from ottla.log.clock import Clock

PROGRESS_S = 0.2


class ProduceOptions(NamedTuple):
    """``separator``: between key and value. ``headers``: NAME=VALUE each. ``as_json``: a JSON object a line."""

    topic: str
    separator: str | None
    headers: Sequence[str]
    partition: int | None
    acks: str
    compression: str
    as_json: bool


def produce(servers: str, options: ProduceOptions, descriptor: int = 0) -> None:
    """Send everything; say how much and how fast on standard error. Raises the first refusal."""
    parse = parse_json_record if options.as_json else line_parser(options.separator)
    fixed = tuple(parse_header(header) for header in options.headers)

    async def work(client: "Client") -> None:
        async with client.producer(acks=options.acks, compression=options.compression) as producer:
            with _bar(descriptor) as bar:
                lines = _Lines(producer, options, parse, fixed, client.cluster.clock, bar)
                await lines.send_all(descriptor)

    with_client(servers, work)


def _bar(descriptor: int) -> "AbstractContextManager[Bar]":
    """Of a file, how much of it is sent. Whoever types sees what there is."""
    if os.isatty(descriptor):
        return nullcontext(Bar())
    found = os.fstat(descriptor)
    return progress("sending", found.st_size if stat.S_ISREG(found.st_mode) else None, in_bytes=True)


class _Sent(NamedTuple):
    """A record on its way: the number of its line, and the line's bytes."""

    future: "RecordFuture"
    line: int
    size: int


def _name_line(error: OttlaError, line: int) -> None:
    """Say which line it was that was refused for what it is, rather than for what the cluster is."""
    if isinstance(error, RecordTooLarge) or "has partitions" in str(error.args[0]):
        error.args = (f"line {line}: {error.args[0]}", *error.args[1:])


class _Lines:
    """Sends lines, remembers which wait for their acknowledgement, and counts."""

    def __init__(
        self,
        producer: "Producer",
        options: ProduceOptions,
        parse: Callable[[bytes], TextRecord],
        fixed: tuple[tuple[str, bytes], ...],
        clock: "Clock",
        bar: Bar | None = None,
    ) -> None:
        self._producer = producer
        self._options = options
        self._parse = parse
        self._fixed = fixed
        self._clock = clock
        self._bar = bar or Bar()
        self._read = 0
        self._started_s = clock.monotonic()
        self._shown_s = self._started_s
        self._waiting: deque[_Sent] = deque()
        self._lines = 0
        self._stored = 0
        self._bytes = 0

    async def send_all(self, descriptor: int) -> None:
        splitter = LineSplitter()
        try:
            async for chunk in read_chunks(descriptor):
                for line in splitter.receive(chunk):
                    await self._send(line)
                self._read += len(chunk)
                self._settle()
            for line in splitter.end():
                await self._send(line)
            await self._producer.flush()
            self._settle()
        finally:
            await self._producer.close(timeout_s=None if sys.exc_info()[0] is None else 5.0)
            self._count_stored()
            self._bar.end()
            talk(self._summary())

    async def _send(self, line: bytes) -> None:
        self._lines += 1
        try:
            record = self._parse(line)
        except BadRecord as error:
            raise BadRecord(f"line {self._lines}: {error.args[0]}", hint=error.hint) from error
        headers = merge_headers(self._fixed, record.headers)
        partition = record.partition if self._options.partition is None else self._options.partition
        while True:
            try:
                future = self._producer.send_nowait(
                    self._options.topic, record.value, record.key, headers, partition, record.timestamp_ms
                )
                break
            except BufferFull:
                await self._make_room()
            except OttlaError as error:
                _name_line(error, self._lines)
                raise
        self._waiting.append(_Sent(future, self._lines, len(line)))

    async def _make_room(self) -> None:
        if self._waiting:
            await asyncio.wait([self._waiting[0].future])
        self._settle()

    def _settle(self) -> None:
        """Let go of what is acknowledged. Raises the first refusal."""
        waiting = self._waiting
        while waiting and waiting[0].future.done():
            sent = waiting.popleft()
            try:
                sent.future.result()
            except OttlaError as error:
                _name_line(error, sent.line)
                raise
            self._count(sent)
        now_s = self._clock.monotonic()
        if self._bar.drawn and now_s - self._shown_s >= PROGRESS_S:
            self._shown_s = now_s
            self._bar.to(self._read, note=self._summary())

    def _count_stored(self) -> None:
        """After the end, good or bad: what was stored of the rest; the first failure is already on its way."""
        for sent in self._waiting:
            if sent.future.done() and not sent.future.cancelled() and sent.future.exception() is None:
                self._count(sent)

    def _count(self, sent: "_Sent") -> None:
        self._stored += 1
        self._bytes += sent.size

    def _summary(self) -> str:
        seconds = max(self._clock.monotonic() - self._started_s, 1e-6)
        rate, megabytes = self._stored / seconds, self._bytes / 1e6 / seconds
        records = "record" if self._stored == 1 else "records"
        return f"{self._stored:,} {records} in {seconds:.1f} s ({rate:,.0f}/s, {megabytes:.1f} MB/s)"
