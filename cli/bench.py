"""`ottla bench produce`: how many records a second, and how long an acknowledgement takes."""

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import BufferFull

from .output import Output, show_document
from .progress import Bar, progress
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.producer import Producer, RecordFuture
    from ottla.log.clock import Clock

SAMPLES_MAX = 100_000
"""Latencies kept; of a longer run every n-th record is measured."""
SLICE = 100
"""Records sent between two looks at the clock and the event loop."""
PERCENTILES = (50.0, 95.0, 99.0, 99.9)


class BenchOptions(NamedTuple):
    """``size``: bytes of a value. ``rate``: records a second, None for as many as go. ``in_flight``: requests per
    broker."""

    topic: str
    size: int
    records: int
    acks: str
    batch_size: int
    compression: str
    in_flight: int
    rate: float | None


def bench_produce(servers: str, options: BenchOptions, output: Output) -> None:
    """Run it, and show what was measured."""
    result = with_client(servers, lambda client: measure_produce(client, options))
    if output is not Output.table:
        show_document(result, output)
        return
    latency = result["latency_ms"]
    print(
        f"{result['records']:,} records of {options.size} B in {result['seconds']:.2f} s: "
        f"{result['records_per_s']:,.0f} records/s, {result['mb_per_s']:.1f} MB/s"
    )
    print("latency ms  " + "  ".join(f"{name} {value:.2f}" for name, value in latency.items()))


async def measure_produce(client: "Client", options: BenchOptions) -> dict[str, Any]:
    """Send the records, which have no keys. Raises the first refusal."""
    clock = client.cluster.clock
    await client.cluster.topic(options.topic, auto_create=True)
    async with client.producer(
        acks=options.acks,
        batch_size=options.batch_size,
        compression=options.compression,
        max_in_flight=options.in_flight,
    ) as producer:
        with progress("sending", options.records) as bar:
            run = _Run(producer, options, clock, bar)
            started_s = clock.monotonic()
            await run.send_all()
            seconds = max(clock.monotonic() - started_s, 1e-9)
    return {
        "topic": options.topic,
        "records": options.records,
        "record_bytes": options.size,
        "acks": options.acks,
        "compression": options.compression,
        "batch_size": options.batch_size,
        "in_flight": options.in_flight,
        "seconds": round(seconds, 6),
        "records_per_s": round(options.records / seconds, 1),
        "mb_per_s": round(options.records * options.size / 1e6 / seconds, 3),
        "latency_ms": summarize_latencies(run.latencies_s),
    }


def summarize_latencies(latencies_s: list[float]) -> dict[str, float]:
    """Percentiles by nearest rank, and the largest, in milliseconds; empty for no samples."""
    ordered = sorted(latencies_s)
    if not ordered:
        return {}
    ranks = {f"p{percent:g}": ordered[nearest_rank(len(ordered), percent)] for percent in PERCENTILES}
    return {name: round(seconds * 1000, 3) for name, seconds in {**ranks, "max": ordered[-1]}.items()}


def nearest_rank(count: int, percent: float) -> int:
    """Index of the smallest value that ``percent`` of ``count`` values do not exceed."""
    rank = -(-count * percent // 100)
    return min(count - 1, max(0, int(rank) - 1))


class _Run:
    def __init__(self, producer: "Producer", options: BenchOptions, clock: "Clock", bar: Bar) -> None:
        self._bar = bar
        self._producer = producer
        self._options = options
        self._clock = clock
        self._value = bytes(33 + (7 * i) % 90 for i in range(options.size))
        self._every = -(-options.records // SAMPLES_MAX)
        self._waiting: deque[RecordFuture] = deque()
        self.latencies_s: list[float] = []

    async def send_all(self) -> None:
        begun_s = self._clock.monotonic()
        for number in range(self._options.records):
            if number % SLICE == 0:
                self._bar.advance(SLICE)
                await self._pace(number, begun_s)
            future = await self._send()
            self._waiting.append(future)
            if number % self._every == 0:
                future.add_done_callback(partial(self._measure, self._clock.monotonic()))
        await self._producer.flush()
        self._settle()
        await asyncio.sleep(0)  # the last callbacks

    async def _send(self) -> "RecordFuture":
        while True:
            try:
                return self._producer.send_nowait(self._options.topic, self._value)
            except BufferFull:
                await asyncio.wait([self._waiting[0]])
                self._settle()

    async def _pace(self, number: int, begun_s: float) -> None:
        self._settle()
        rate = self._options.rate
        ahead_s = 0.0 if rate is None else begun_s + number / rate - self._clock.monotonic()
        await asyncio.sleep(max(0.0, ahead_s))

    def _settle(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()

    def _measure(self, sent_s: float, future: "RecordFuture") -> None:
        self.latencies_s.append(self._clock.monotonic() - sent_s)
