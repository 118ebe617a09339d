"""`ottla consume`: records on standard output, to the end as it is now, or for ever."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from .problems import UsageProblem
from .progress import Bar, progress
from .record_text import record_formatter
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.consumer import Consumer, ConsumerRecord

FLUSH_BYTES = 1 << 16
FLUSH_S = 0.05


class ConsumeOptions(NamedTuple):
    """``limit``: records in all. ``start``, ``end``: start, end, an offset or @TIME. ``shape``: value, json or a
    format."""

    topics: Sequence[str]
    limit: int | None
    partitions: Sequence[int]
    start: str
    end: str | None
    follow: bool
    shape: str
    rack: str = ""
    group: str | None = None
    pattern: str | None = None


def consume(servers: str, options: ConsumeOptions) -> None:
    """Print records. Stops at the end offsets as they are at the start, or before, unless told to follow."""
    start = parse_place(options.start, "--from")
    end = None if options.end is None else parse_place(options.end, "--to")
    if end is not None and options.follow:
        raise UsageProblem("--follow does not end, and --to does; give one of them")
    _check_topics(options)
    if options.group is not None:
        _check_group(options, start)
    elif options.pattern is not None and options.follow:
        _check_pattern(options, start)
    show = record_formatter(options.shape)
    if options.limit == 0:
        return

    async def work(client: "Client") -> None:
        shown = nullcontext(Bar()) if options.follow else progress("reading", None, beside_data=True)
        with shown as bar:
            await read(client, _Printer(show, options.limit, bar))

    async def read(client: "Client", printer: "_Printer") -> None:
        chosen = options
        if options.pattern is not None and options.group is None and not options.follow:
            chosen = options._replace(topics=await _matching(client, options.pattern))
        readers = [asyncio.ensure_future(one) for one in _readers(client, start, end, chosen, printer)]
        flushing = asyncio.ensure_future(printer.flush_forever())
        try:
            await _until_done(readers, printer)
        finally:
            for task in (*readers, flushing):
                task.cancel()
            await asyncio.gather(*readers, flushing, return_exceptions=True)
            printer.flush()

    with_client(servers, work)


def _check_topics(options: ConsumeOptions) -> None:
    if bool(options.topics) == (options.pattern is not None):
        raise UsageProblem("name topics, or give a --pattern that means them")


def _check_pattern(options: ConsumeOptions, start: "str | int | Moment") -> None:
    if not isinstance(start, str) or options.partitions:
        raise UsageProblem("--pattern with --follow reads whole topics --from start or end; leave --partition out")


async def _matching(client: "Client", pattern: str) -> tuple[str, ...]:
    from ottla.client.errors import ConfigError, TopicNotFound
    from ottla.client.topic_pattern import BadPattern

    try:
        found = await client.cluster.matching(pattern)
    except BadPattern as bad:
        raise ConfigError(f"--pattern: {bad}.") from bad
    if not found:
        raise TopicNotFound(f"no topic's name is matched by {pattern!r}.", hint="See what there is: ottla topic ls")
    return found


def _check_group(options: ConsumeOptions, start: "str | int | Moment") -> None:
    if not isinstance(start, str):
        raise UsageProblem(
            "--from is start or end in a group: where it has not been yet. Use ottla group seek to move it"
        )
    if options.partitions or options.end is not None:
        raise UsageProblem("the group decides what is read: leave --partition and --to out, or --group")


def _readers(
    client: "Client",
    start: "str | int | Moment",
    end: "str | int | Moment | None",
    options: ConsumeOptions,
    printer: "_Printer",
) -> "list[Coroutine[Any, Any, None]]":
    if options.group is None and options.pattern is not None and options.follow:
        return [_follow_pattern(client, options.pattern, str(start), options.rack, printer)]
    if options.group is None:
        return [_read(client, topic, start, end, options, printer) for topic in options.topics]
    from .consume_group import read_as_member

    return [
        read_as_member(
            client,
            options.group,
            options.pattern if options.pattern is not None else options.topics,
            str(start),
            options.rack,
            printer,
            follow=options.follow,
        )
    ]


async def _follow_pattern(client: "Client", pattern: str, start: str, rack: str, printer: "_Printer") -> None:
    async with client.consumer(pattern=pattern, start=start, rack=rack) as consumer:
        async for record in consumer:
            printer.print(record)
            if printer.full.is_set():
                return


class Moment(NamedTuple):
    """A place in a log by its time: milliseconds since 1970."""

    timestamp_ms: int


def parse_place(text: str, flag: str) -> str | int | Moment:
    """``start``, ``end`` or an offset, as the SDK names them, or ``@TIME``. Raises UsageProblem."""
    from ottla.client.times import parse_time
    from ottla.log.clock import SystemClock

    named = {"start": "earliest", "end": "latest"}
    if text in named:
        return named[text]
    if text.isascii() and text.isdigit():
        return int(text)
    if not text.startswith("@"):
        raise UsageProblem(f"{flag} {text!r} is not start, end, an offset or @TIME")
    try:
        return Moment(parse_time(text, SystemClock().now_ms()))
    except ValueError as error:
        raise UsageProblem(f"{flag}: {error}") from error


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


async def _read(
    client: "Client",
    topic: str,
    start: str | int | Moment,
    end: str | int | Moment | None,
    options: ConsumeOptions,
    printer: "_Printer",
) -> None:
    partitions = tuple(options.partitions) or None
    begin = "earliest" if isinstance(start, Moment) else start
    async with client.consumer(topic, start=begin, partitions=partitions, rack=options.rack) as consumer:
        if isinstance(start, Moment):
            await consumer.seek_to_time(start.timestamp_ms)
        ends = {} if options.follow else await _ends(consumer, end)
        if printer.bar.drawn:
            printer.bar.expect(await _left(consumer, ends, options.limit))
        async for record in consumer if options.follow else consumer.read_to_end(ends):
            printer.print(record)
            if printer.full.is_set():
                return


async def _ends(consumer: "Consumer", end: str | int | Moment | None) -> dict[int, int]:
    """Where to stop before the end; partitions that are read to their end are left out."""
    if end is None or end == "latest":
        return {}
    if isinstance(end, Moment):
        found = await consumer.offsets_for_times(dict.fromkeys(consumer.partitions, end.timestamp_ms))
        return {number: offset for number, offset in found.items() if offset is not None}
    if isinstance(end, int):
        return dict.fromkeys(consumer.partitions, end)
    return await consumer.beginning_offsets()


async def _left(consumer: "Consumer", ends: dict[int, int], limit: int | None) -> int:
    """About how many records there are until there."""
    begins, last = await consumer.beginning_offsets(), await consumer.end_offsets()
    left = 0
    for number, end in last.items():
        begin = max(begins[number], consumer.position(number) or 0)
        left += max(0, min(end, ends.get(number, end)) - begin)
    return left if limit is None else min(left, limit)


class _Printer:
    """Gathers what is printed: a write per record would cost more than the record."""

    def __init__(self, show: "Callable[[ConsumerRecord], bytes]", limit: int | None, bar: Bar) -> None:
        self.full = asyncio.Event()
        self.bar = bar
        self._show = show
        self._left = limit
        self._parts: list[bytes] = []
        self._size = 0

    def print(self, record: "ConsumerRecord") -> bool:
        """Whether it was among those that are wanted."""
        if self.full.is_set():
            return False
        text = self._show(record)
        self._parts.append(text)
        self._size += len(text)
        self.bar.advance()
        if self._size >= FLUSH_BYTES:
            self.flush()
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.full.set()
        return True

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
