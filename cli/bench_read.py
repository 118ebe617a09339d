"""`ottla bench consume` and `ottla bench end-to-end`: how fast records are read, and how long one is on its way."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ottla.client.errors import BufferFull, OttlaError, RequestFailed

from .bench import summarize_latencies
from .output import Output, show_document, talk
from .progress import progress
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.consumer import Consumer, ConsumerRecord
    from ottla.client.producer import RecordFuture
    from ottla.log.clock import Clock

T = TypeVar("T")

BATCH_RECORDS = 5_000
IDLE_S = 10.0
"""A benchmark that gets nothing for so long is over."""
NUMBER = struct.Struct(">Q")
"""The first bytes of a value: which record it is, of all that anybody sends there."""


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
    """``records``: None for all there are now. A group goes on where it has got to. Raises OttlaError."""
    clock = client.cluster.clock
    begins, ends = await _bounds(client, topic, group)
    left = sum(max(0, end - begins[number]) for number, end in ends.items())
    wanted = left if records is None else min(left, records)
    alone = client.consumer(topic) if group is None else None
    member = alone if group is None else client.consumer(topic, group=group)
    assert member is not None
    started_s = ended_s = clock.monotonic()
    count = size = 0
    async with member as consumer:
        batches = consumer.batches(BATCH_RECORDS, 0.0)
        with progress("reading", wanted) as bar:
            while count < wanted and not (alone is not None and _at(ends, alone)):
                batch = await next_within(batches, IDLE_S)
                if batch is None:
                    _ended_early(topic, count, wanted)
                    break
                count += len(batch)
                size += sum(len(record.value or b"") + len(record.key or b"") for record in batch)
                ended_s = clock.monotonic()
                bar.advance(len(batch))
    seconds = max(ended_s - started_s, 1e-9)
    return {
        "topic": topic,
        "group": group,
        "records": count,
        "bytes": size,
        "seconds": round(seconds, 6),
        "records_per_s": round(count / seconds, 1),
        "mb_per_s": round(size / 1e6 / seconds, 3),
    }


async def _bounds(client: "Client", topic: str, group: str | None) -> tuple[dict[int, int], dict[int, int]]:
    """From where to where is read, by partition. Raises OttlaError where a group has read all there is."""
    async with client.consumer(topic) as looking:
        begins, ends = await looking.beginning_offsets(), await looking.end_offsets()
    if group is None or begins == ends:
        return begins, ends
    try:
        described = await client.admin.describe_group(group)
    except RequestFailed as error:
        if error.code != "OTTLA-GROUP-ID-NOT-FOUND":
            raise
        return begins, ends
    for known in described.partitions:
        if known.topic == topic and known.committed is not None:
            begins[known.partition] = known.committed
    if all(begins[number] >= end for number, end in ends.items()):
        hint = f"Set it back: ottla group seek {group} -t {topic} --to start"
        raise OttlaError(f"{group} has read all of {topic}.", code="OTTLA-NOTHING-LEFT", hint=hint)
    return begins, ends


def _at(ends: dict[int, int], consumer: "Consumer") -> bool:
    """Compaction may have left fewer records than there are offsets."""
    return all((consumer.position(number) or 0) >= end for number, end in ends.items())


def _ended_early(topic: str, count: int, wanted: int) -> None:
    """Raises OttlaError where nothing was measured."""
    why = f"Nothing more came of {topic} for {IDLE_S:g} s: other members read it, or compaction has taken records."
    if not count:
        raise OttlaError(why, code="OTTLA-NOTHING-CAME")
    talk(f"{why} Read {count:,} of {wanted:,}.")


async def next_within(iterator: AsyncIterator[T], seconds: float) -> T | None:
    """The next, or None where it takes longer. (Not ``asyncio.wait_for``: where a cancellation, Ctrl-C, meets the
    result on its way it is forgotten.)"""
    try:
        async with asyncio.timeout(seconds):
            return await anext(iterator)
    except TimeoutError:
        return None


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
        sender = _Sender(client, clock, options)
        sending = asyncio.ensure_future(sender.run())
        receiving = asyncio.ensure_future(receive(consumer, sender.on_their_way, clock, options))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_EXCEPTION)
            if sending.done():
                sending.result()
            latencies_s = await receiving
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
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


class _Sender:
    """``on_their_way``: when each record was sent that has not been received."""

    def __init__(self, client: "Client", clock: "Clock", options: EndToEndOptions) -> None:
        self._client = client
        self._clock = clock
        self._options = options
        self._first = client.cluster.chance.randbelow(1 << 63)
        self._failure: BaseException | None = None
        self.on_their_way: dict[bytes, float] = {}

    async def run(self) -> None:
        """Raises what the first record failed with that did."""
        options, clock = self._options, self._clock
        async with self._client.producer(acks=options.acks, linger_ms=0) as producer:
            begun_s = clock.monotonic()
            padding = bytes(max(0, options.size - NUMBER.size))
            for number in range(options.records):
                await asyncio.sleep(max(0.0, begun_s + number / options.rate - clock.monotonic()))
                self._check()
                name = NUMBER.pack(self._first + number)
                self.on_their_way[name] = clock.monotonic()
                try:
                    producer.send_nowait(options.topic, name + padding).add_done_callback(self._settled)
                except BufferFull as full:
                    full.hint = "Ask for a lower --rate."
                    raise
            await producer.flush()
            await asyncio.sleep(0)  # the last callbacks
            self._check()

    def _settled(self, future: "RecordFuture") -> None:
        if not future.cancelled() and self._failure is None:
            self._failure = future.exception()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


async def receive(
    records: "AsyncIterator[ConsumerRecord]", on_their_way: dict[bytes, float], clock: "Clock", options: EndToEndOptions
) -> list[float]:
    """Seconds of each record of ours; what others send there is passed over. Raises OttlaError."""
    latencies_s: list[float] = []
    idle_s = IDLE_S + 1 / options.rate
    latest_s = clock.monotonic() + idle_s
    with progress("sending and receiving", options.records) as bar:
        while len(latencies_s) < options.records:
            record = await next_within(records, latest_s - clock.monotonic())
            if record is None:
                message = f"{len(latencies_s):,} of {options.records:,} records came, and none for {idle_s:g} s"
                raise OttlaError(message, code="OTTLA-NOTHING-CAME")
            sent_s = on_their_way.pop((record.value or b"")[: NUMBER.size], None)
            if sent_s is not None:
                now_s = clock.monotonic()
                latencies_s.append(now_s - sent_s)
                latest_s = now_s + idle_s
                bar.advance()
    return latencies_s
