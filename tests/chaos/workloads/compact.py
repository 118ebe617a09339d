"""Keys overwritten and deleted while logs are cleaned all the time, and a log of which retention leaves little.

Some read all of a partition now and then; one reads along for each, as a cache would, and begins anew where it could
not for a while (a tombstone must stay for those that come within ``delete.retention.ms``).
"""

import asyncio
import contextlib
import itertools
from typing import ClassVar

from ottla.client.client import Client, connect
from ottla.client.consumer import Consumer
from ottla.client.errors import OttlaError, TopicExists
from ottla.client.producer import Producer

from ..history import Op
from ..stage import Stage, chance

KEYS = 30
COMPACTED, KEPT = "compact", "kept"
PLACES = ((COMPACTED, 0), (COMPACTED, 1), (KEPT, 0))
SEGMENT_BYTES = 1000
RETENTION_BYTES = 3000
BURST, BURST_BYTES = 40, 100
DELETE_RETENTION_S = 20.0
READ_ALONG_S = 0.5
READ_ALONG_LATE_S = 8.0
SEND_TIMEOUT_S = 10.0
RETRY_S = 0.3
CLOSE_S = 5.0
LAST_ROUNDS, LAST_PAUSE_S = 5, 8.0
"""Together longer than DELETE_RETENTION_S: each rolls the segments, so that they are cleaned."""
FILLER = KEYS


class CompactWorkload:
    name = "compact"
    expected_f = ("put", "scan", "view")
    facts: ClassVar[dict[str, object]] = {}
    settings: ClassVar[dict[str, int]] = {
        "log_cleaner_backoff_ms": 300,
        "log_retention_check_interval_ms": 500,
        "log_cleaner_dedupe_buffer_size": 192 * 10,  # of ten records: one pass does not see all
    }

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._values = itertools.count()
        self._processes = itertools.count(1)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._followers = [_ReadsAlong(stage, place) for place in PLACES if place[0] == COMPACTED]

    async def start(self) -> None:
        self._tasks = [self._stage.spawn(self._run()) for _ in range(self._stage.clients)]
        self._tasks += [self._stage.spawn(follower.run()) for follower in self._followers]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks[: self._stage.clients])

    async def verify(self) -> None:
        await self._stage.spawn(self._verify())

    async def _verify(self) -> None:
        process = next(self._processes)
        limits: dict[tuple[str, int], int] = {}
        async with connect(self._stage.servers) as client, client.producer(linger_ms=0) as producer:
            for _ in range(LAST_ROUNDS):
                for topic, partition in PLACES:
                    key = FILLER if topic == COMPACTED else None
                    offset = await self._put(producer, process, topic, partition, key, next(self._values))
                    limits.setdefault((topic, partition), offset or 0)
                await asyncio.sleep(LAST_PAUSE_S)
            for follower in self._followers:
                await follower.end(next(self._processes))
            for topic, partition in PLACES:
                await self._scan(client, process, topic, partition, limits[topic, partition])

    async def _run(self) -> None:
        process = next(self._processes)
        dice = chance(self._stage, f"compact {process}")
        pause_s = self._stage.clients / self._stage.rate
        while not self._stopping:
            client = connect(self._stage.servers)
            try:
                await client.__aenter__()
                await _make_topics(client)
                async with client.producer(
                    delivery_timeout_s=SEND_TIMEOUT_S, linger_ms=0, batch_size=SEGMENT_BYTES // 2
                ) as producer:
                    while not self._stopping:
                        # Some keys are hot and some hardly ever written: those are what must not get lost.
                        await self._act(client, producer, process, dice.random(), int(dice.random() ** 3 * KEYS))
                        await asyncio.sleep(dice.uniform(0, 2 * pause_s))
            except OttlaError:
                await asyncio.sleep(RETRY_S)
            finally:
                await _close(client)

    async def _act(self, client: Client, producer: Producer, process: int, dice: float, key: int) -> None:
        if dice < 0.06:
            await self._scan(client, process, *PLACES[int(dice * 1000) % len(PLACES)])
        elif dice < 0.09:  # more than retention leaves, none of it acknowledged yet
            await asyncio.gather(
                *(self._put(producer, next(self._processes), KEPT, 0, None, next(self._values)) for _ in range(BURST))
            )
        elif dice < 0.25:
            await self._put(producer, process, KEPT, 0, None, next(self._values))
        else:
            value = None if dice < 0.4 else next(self._values)
            await self._put(producer, process, COMPACTED, key % 2, key, value)

    async def _put(
        self, producer: Producer, process: int, topic: str, partition: int, key: int | None, value: int | None
    ) -> int | None:
        """A record of the log that is kept is its own key."""
        number = value if key is None else key
        content = {"place": f"{topic}-{partition}", "key": number, "value": value}
        op = self._stage.history.invoke(process, "put", content)
        text = None if value is None else b"%0*d" % (BURST_BYTES if key is None else 1, value)
        try:
            sent = await producer.send(topic, value=text, key=b"%d" % (number or 0), partition=partition)
        except OttlaError as error:
            self._stage.history.complete(op, "info", content, error=f"{error.code}: {error}"[:200])
            raise
        self._stage.history.complete(op, "ok", {**content, "offset": sent.offset})
        return sent.offset

    async def _scan(
        self, client: Client, process: int, topic: str, partition: int, tombstones_below: int | None = None
    ) -> None:
        final = tombstones_below is not None
        content = {"place": f"{topic}-{partition}", "kept": topic == KEPT, "final": final, "records": []}
        op = self._stage.history.invoke(process, "scan", {**content, "tombstones_below": tombstones_below})
        try:
            async with _reader(client, topic, partition) as consumer:
                content["records"] = await _records(consumer)
                content["start"] = (await consumer.beginning_offsets())[partition]
        except OttlaError as error:
            self._stage.history.complete(op, "fail", op.value, error=f"{error.code}: {error}"[:200])
            raise
        self._stage.history.complete(op, "ok", content)


class _ReadsAlong:
    """One partition as a cache would have it."""

    def __init__(self, stage: Stage, place: tuple[str, int]) -> None:
        self._stage = stage
        self._topic, self._partition = place
        self._stopping = asyncio.Event()
        self._ended: asyncio.Event = asyncio.Event()
        self._view: dict[int, list[int | None]] = {}

    async def run(self) -> None:
        while not self._ended.is_set():
            client = connect(self._stage.servers)
            try:
                await client.__aenter__()
                await _make_topics(client)
                async with _reader(client, self._topic, self._partition) as consumer:
                    self._view = {}
                    await self._follow(consumer)
            except OttlaError:
                await asyncio.sleep(RETRY_S)
            finally:
                await _close(client)

    async def _follow(self, consumer: Consumer) -> None:
        """Until it was too late, or the end. Raises OttlaError."""
        while True:
            began_s, last = self._stage.now_s(), self._stopping.is_set()
            for offset, key, value in await _records(consumer):
                self._view[key or 0] = [offset, key, value]
            if self._stage.now_s() - began_s > READ_ALONG_LATE_S:
                return
            if last:
                self._ended.set()
                return
            await asyncio.sleep(READ_ALONG_S)

    async def end(self, process: int) -> None:
        """Read to the end once more; what is known then."""
        content = {"place": f"{self._topic}-{self._partition}"}
        op: Op = self._stage.history.invoke(process, "view", content)
        self._stopping.set()
        await self._ended.wait()
        self._stage.history.complete(op, "ok", {**content, "records": sorted(self._view.values(), key=str)})


async def _make_topics(client: Client) -> None:
    compacted = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": 0,
        "delete.retention.ms": int(DELETE_RETENTION_S * 1000),
        "segment.ms": 2000,
    }
    kept = {"cleanup.policy": "delete", "retention.bytes": RETENTION_BYTES}
    for topic, partitions, config in ((COMPACTED, 2, compacted), (KEPT, 1, kept)):
        both = {"segment.bytes": SEGMENT_BYTES, "file.delete.delay.ms": 1000, "index.interval.bytes": 200}
        with contextlib.suppress(TopicExists):
            await client.admin.create_topic(topic, partitions=partitions, replication=3, config={**config, **both})


def _reader(client: Client, topic: str, partition: int) -> Consumer:
    return client.consumer(
        topic, partitions=[partition], auto_offset_reset="earliest", request_timeout_s=SEND_TIMEOUT_S
    )


async def _records(consumer: Consumer) -> list[list[int | None]]:
    """To the end as it is now: offset, key, value."""
    return [
        [record.offset, int(record.key or b"0"), None if record.value is None else int(record.value)]
        async for record in consumer.read_to_end()
    ]


async def _close(client: Client) -> None:
    with contextlib.suppress(OttlaError, TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await client.close()
