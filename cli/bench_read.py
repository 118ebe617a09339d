"""`ottla bench consume` and `ottla bench end-to-end`: how fast records are read, and how long one is on its way."""

import asyncio
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from .bench import summarize_latencies
from .output import Output, show_document
from .progress import progress
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.consumer import Consumer
    from ottla.log.clock import Clock

BATCH_RECORDS = 5_000
IDLE_S = 10.0
"""A benchmark that gets nothing for so long is over."""
STAMP = struct.Struct(">d")


class EndToEndOptions(NamedTuple):
    """``size``: bytes of a value, at least 8. ``rate``: records a second."""

    topic: str
    size: int
    records: int
    rate: float
    acks: str


def bench_consume(servers: str, topic: str, records: int | None, group: str | None, output: Output) -> None:
    """Read from the beginning, decoding every record, and show what was measured."""
    result = with_client(servers, lambda client: measure_consume(client, topic, records, group))
    if output is not Output.table:
        show_document(result, output)
        return
    print(
        f"{result['records']:,} records, {result['bytes']:,} B in {result['seconds']:.2f} s: "
        f"{result['records_per_s']:,.0f} records/s, {result['mb_per_s']:.1f} MB/s"
    )


async def measure_consume(client: "Client", topic: str, records: int | None, group: str | None) -> dict[str, Any]:
    """``records``: None for all there are now. Raises OttlaError."""
    clock = client.cluster.clock
    async with client.consumer(topic) as looking:
        begins, ends = await looking.beginning_offsets(), await looking.end_offsets()
        wanted = sum(ends[number] - begins[number] for number in ends)
    if records is not None:
        wanted = min(wanted, records)
    member = client.consumer(topic) if group is None else client.consumer(topic, group=group)
    started_s = clock.monotonic()
    count = size = 0
    async with member as consumer:
        batches = consumer.batches(BATCH_RECORDS, 0.0)
        with progress("reading", wanted) as bar:
            while count < wanted:
                batch = await asyncio.wait_for(anext(batches), IDLE_S)
                count += len(batch)
                size += sum(len(record.value or b"") + len(record.key or b"") for record in batch)
                bar.advance(len(batch))
        seconds = max(clock.monotonic() - started_s, 1e-9)
    return {
        "topic": topic,
        "group": group,
        "records": count,
        "bytes": size,
        "seconds": round(seconds, 6),
        "records_per_s": round(count / seconds, 1),
        "mb_per_s": round(size / 1e6 / seconds, 3),
    }


def bench_end_to_end(servers: str, options: EndToEndOptions, output: Output) -> None:
    """Send and receive in this process, one clock, and show how long records took."""
    result = with_client(servers, lambda client: measure_end_to_end(client, options))
    if output is not Output.table:
        show_document(result, output)
        return
    print(f"{result['records']:,} records of {options.size} B, {result['records_per_s']:,.0f} records/s")
    print("latency ms  " + "  ".join(f"{name} {value:.2f}" for name, value in result["latency_ms"].items()))


async def measure_end_to_end(client: "Client", options: EndToEndOptions) -> dict[str, Any]:
    """From ``send`` to the consumer's loop. Raises OttlaError."""
    clock = client.cluster.clock
    await client.cluster.topic(options.topic, auto_create=True)
    async with client.consumer(options.topic, start="latest") as consumer:
        for number, end in (await consumer.end_offsets()).items():
            await consumer.seek(options.topic, number, end)
        begun_s = clock.monotonic()
        sending = asyncio.ensure_future(_send(client, clock, options))
        try:
            latencies_s = await _receive(consumer, clock, options.records)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        seconds = max(clock.monotonic() - begun_s, 1e-9)
    return {
        "topic": options.topic,
        "records": len(latencies_s),
        "record_bytes": options.size,
        "acks": options.acks,
        "rate": options.rate,
        "seconds": round(seconds, 6),
        "records_per_s": round(len(latencies_s) / seconds, 1),
        "latency_ms": summarize_latencies(latencies_s),
    }


async def _send(client: "Client", clock: "Clock", options: EndToEndOptions) -> None:
    async with client.producer(acks=options.acks, linger_ms=0) as producer:
        begun_s = clock.monotonic()
        padding = bytes(max(0, options.size - STAMP.size))
        for number in range(options.records):
            await asyncio.sleep(max(0.0, begun_s + number / options.rate - clock.monotonic()))
            producer.send_nowait(options.topic, STAMP.pack(clock.monotonic()) + padding)


async def _receive(consumer: "Consumer", clock: "Clock", count: int) -> list[float]:
    latencies_s: list[float] = []
    with progress("sending and receiving", count) as bar:
        while len(latencies_s) < count:
            record = await asyncio.wait_for(anext(consumer), IDLE_S)
            sent_s = STAMP.unpack_from(record.value or bytes(STAMP.size))[0]
            latencies_s.append(clock.monotonic() - sent_s)
            bar.advance()
    return latencies_s
