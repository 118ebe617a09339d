"""A load whose every acknowledgement is remembered, and the check that each is stored once and in order.

Each producer writes 0, 1, 2 ... under a key of its own, so all its records go to one partition: what is read back must
be that very sequence, with nothing acknowledged missing, nothing twice, and the partition's offsets without a gap.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, field

from ottla.client.client import Client, connect
from ottla.client.consumer import ConsumerRecord
from ottla.client.errors import OttlaError

PIPELINE = 32


@dataclass
class LoadReport:
    """What the load saw."""

    acknowledged: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    acked_at: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))  # monotonic seconds

    @property
    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def longest_stall_s(self) -> float:
        """The longest time for which any one producer had nothing acknowledged."""
        gaps = (later - earlier for moments in self.acked_at.values() for earlier, later in itertools.pairwise(moments))
        return max(gaps, default=0.0)


class Load:
    """An async context: producers run inside it. ``report`` is complete after it."""

    def __init__(self, servers: list[str], topic: str, producers: int = 6, pause_s: float = 0.002) -> None:
        self._servers = servers
        self._topic = topic
        self._count = producers
        self._pause_s = pause_s
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._client: Client | None = None
        self.report = LoadReport()

    async def __aenter__(self) -> "Load":
        self._client = await connect(self._servers).__aenter__()
        self._tasks = [asyncio.create_task(self._produce(self._client, number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        assert self._client is not None
        await self._client.close()

    async def _produce(self, client: Client, number: int) -> None:
        async with client.producer(linger_ms=1, delivery_timeout_s=60) as producer:
            pending: set[asyncio.Future[None]] = set()
            value = 0
            while not self._stopping.is_set():
                task = asyncio.ensure_future(self._send(producer, number, value))
                pending.add(task)
                task.add_done_callback(pending.discard)
                value += 1
                if len(pending) >= PIPELINE:
                    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(self._pause_s)
            await asyncio.gather(*pending)

    async def _send(self, producer, number: int, value: int) -> None:
        try:
            await producer.send(self._topic, value=b"%d" % value, key=b"producer-%d" % number)
        except OttlaError as error:
            self.report.errors.append(f"{error.code}: {error}")
            return
        self.report.acknowledged[number].append(value)
        self.report.acked_at[number].append(time.monotonic())

    async def until_acknowledged(self, count: int) -> None:
        """Until ``count`` more records are acknowledged."""
        target = self.report.total + count
        async with asyncio.timeout(60):
            while self.report.total < target:
                await asyncio.sleep(0.01)


@dataclass
class Stored:
    """All that a topic holds, as a consumer reads it: values by key, offsets by partition, in the order read."""

    values: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    offsets: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    records: dict[tuple[int, int], tuple[bytes, bytes]] = field(default_factory=dict)  # (partition, offset)

    def add(self, record: ConsumerRecord) -> None:
        """The next record that was read."""
        self.values[record.key].append(int(record.value))
        self.offsets[record.partition].append(record.offset)
        self.records[record.partition, record.offset] = (record.key, record.value)


async def verify(servers: list[str], topic: str, report: LoadReport) -> int:
    """Read everything back; raises AssertionError for whatever is not as promised. Returns the records stored."""
    stored = await read_stored(servers, topic)
    check_stored(stored, report)
    return len(stored.records)


async def read_stored(servers: list[str], topic: str) -> Stored:
    """Read a topic from its start to its present end."""
    stored = Stored()
    async with connect(servers) as client, client.consumer(topic, start="earliest") as consumer:
        async for record in consumer.read_to_end():
            stored.add(record)
    return stored


def check_stored(stored: Stored, report: LoadReport) -> None:
    """Raise AssertionError where what is stored is not what was acknowledged, once each and in order."""
    for partition, found in stored.offsets.items():
        assert found == list(range(len(found))), f"partition {partition}: offsets are not contiguous"
    for number, acknowledged in report.acknowledged.items():
        values = stored.values[b"producer-%d" % number]
        assert len(set(values)) == len(values), f"producer {number}: {len(values) - len(set(values))} stored twice"
        missing = set(acknowledged) - set(values)
        assert not missing, f"producer {number}: {len(missing)} acknowledged and not stored, as {sorted(missing)[:5]}"
        assert values == sorted(values), f"producer {number}: not in order"
