"""Jepsen's kafka workload: unique integers sent to keys (partitions) and polled from them, by processes that assign
themselves keys, and crash now and then. After everything was mended each process reads all keys from the beginning
until it has seen the highest offset that anybody knows of.
"""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import ClassVar

from ottla.client.client import Client, connect
from ottla.client.consumer import Consumer
from ottla.client.errors import ConfigError, OttlaError, RecordTooLarge, TopicExists
from ottla.client.producer import Producer

from ..stage import Stage, chance

KEYS_ACTIVE = 4
WRITES_PER_KEY = 128
"""Then another key takes its place."""
PARTITIONS = 2
POLL_S = 0.1
SEND_TIMEOUT_S = 10.0
ASSIGN_CHANCE = 1 / 64
CRASH_EVERY_S = 30.0
FINAL_POLL_S = 1.0
FINAL_ROUND_S = 10.0
FINAL_S_MAX = 200.0
DEFINITE = (ConfigError, RecordTooLarge)
"""Errors after which a record was surely not stored."""


@dataclass
class KeyPool:
    """Which keys are written now, and what is known of each. Keys 2t and 2t + 1 are partitions 0 and 1 of topic t."""

    active: list[int] = field(default_factory=lambda: list(range(KEYS_ACTIVE)))
    next_value: dict[int, int] = field(default_factory=dict)
    highest: dict[int, int] = field(default_factory=dict)  # the highest offset that an ok operation has told
    _fresh: int = KEYS_ACTIVE

    def value_for(self, place: int) -> tuple[int, int]:
        """A key and a value that it never had."""
        key = self.active[place % len(self.active)]
        value = self.next_value.get(key, 0)
        self.next_value[key] = value + 1
        if value + 1 >= WRITES_PER_KEY:
            self.active[self.active.index(key)] = self._fresh
            self._fresh += 1
        return key, value

    def told(self, key: int, offset: int) -> None:
        self.highest[key] = max(offset, self.highest.get(key, -1))


def place_of(key: int) -> tuple[str, int]:
    """Topic and partition."""
    return f"queue-{key // PARTITIONS}", key % PARTITIONS


class QueueWorkload:
    """``producer``: options of the producers beside the Jepsen ones."""

    name = "queue"
    sends_last = True  # what was acknowledged stays, so everybody must see it in the end
    expected_f = ("send", "poll", "assign")
    facts: ClassVar[dict[str, object]] = {}
    durable = False  # whether what is acknowledged survives the loss of power everywhere
    topic_config: ClassVar[dict[str, object]] = {}

    def __init__(self, stage: Stage, **producer: object) -> None:
        self.keys = KeyPool()
        self._stage = stage
        self._options = {"delivery_timeout_s": SEND_TIMEOUT_S, "linger_ms": 1, **producer}
        self._made: set[str] = set()
        self._processes = itertools.count(1)
        self._workers = [_Worker(self, number) for number in range(stage.clients)]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        self._tasks = [self._stage.spawn(worker.run()) for worker in self._workers]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def verify(self) -> None:
        """Every process reads everything."""
        await asyncio.gather(*(self._stage.spawn(worker.read_all()) for worker in self._workers))
        await asyncio.gather(*(self._stage.spawn(worker.close()) for worker in self._workers))

    # What workers share

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def options(self) -> dict[str, object]:
        return self._options

    def options_of(self, number: int) -> dict[str, object]:
        """Of the producer of the worker of that number."""
        return self._options

    @property
    def stopping(self) -> bool:
        return self._stopping

    def new_process(self) -> int:
        return next(self._processes)

    async def make(self, client: Client, key: int) -> None:
        """The key's topic. Raises OttlaError."""
        topic, _ = place_of(key)
        if topic in self._made:
            return
        with contextlib.suppress(TopicExists):
            await client.admin.create_topic(topic, partitions=PARTITIONS, replication=3, config=self.topic_config)
        self._made.add(topic)


class _Worker:
    """One of Jepsen's threads: a process at a time, a new one after each crash."""

    def __init__(self, workload: QueueWorkload, number: int) -> None:
        self._load = workload
        self._stage = workload.stage
        self._chance = chance(self._stage, f"queue {number}")
        self._number = number
        self._process = workload.new_process()
        self._client: Client | None = None
        self._producer: Producer | None = None
        self._consumers: dict[int, Consumer] = {}

    async def run(self) -> None:
        pause_s = self._stage.clients / self._stage.rate
        crash_at = self._stage.now_s() + self._chance.expovariate(1 / CRASH_EVERY_S)
        while not self._load.stopping:
            began_s = self._stage.now_s()
            if began_s >= crash_at:
                crash_at = began_s + self._chance.expovariate(1 / CRASH_EVERY_S)
                await self._crash()
            elif self._chance.random() < ASSIGN_CHANCE or not self._consumers:
                await self._assign(self._some_keys(), from_beginning=False)
            elif self._chance.random() < 0.5:
                await self._send()
            else:
                await self._poll(POLL_S)
            spent_s = self._stage.now_s() - began_s
            await asyncio.sleep(max(0.0, self._chance.uniform(0, 2 * pause_s) - spent_s))

    async def read_all(self) -> None:
        """Until everything that anybody was told of has been seen, or FINAL_S_MAX have passed."""
        give_up_s = self._stage.now_s() + FINAL_S_MAX
        seen: dict[int, int] = {}
        while self._stage.now_s() < give_up_s:
            await self._crash()
            await self._assign(sorted(self._load.keys.highest), from_beginning=True)
            round_ends_s = self._stage.now_s() + FINAL_ROUND_S
            while self._stage.now_s() < round_ends_s:
                for key, offset in await self._poll(FINAL_POLL_S):
                    seen[key] = max(offset, seen.get(key, -1))
                if all(seen.get(key, -1) >= offset for key, offset in self._load.keys.highest.items()):
                    return
                await asyncio.sleep(0.2)

    # Operations

    async def _send(self) -> None:
        key, value = self._load.keys.value_for(self._chance.randrange(1 << 20))
        op = self._stage.history.invoke(self._process, "send", [["send", key, value]])
        topic, partition = place_of(key)
        offset: int | None = None
        try:
            await self._load.make(await self._connected(), key)
            producer = await self._producing()
            sent = await producer.send(topic, value=b"%d" % value, partition=partition)
            offset = sent.offset
        except OttlaError as error:
            kind = "fail" if isinstance(error, DEFINITE) else "info"
            self._stage.history.complete(op, kind, [["send", key, value]], error=f"{error.code}: {error}"[:200])
            return
        if offset is not None and self._load.sends_last:
            self._load.keys.told(key, offset)
        self._stage.history.complete(op, "ok", [["send", key, [offset, value]]])

    async def _poll(self, wait_s: float) -> list[tuple[int, int]]:
        """Keys and offsets that came."""
        op = self._stage.history.invoke(self._process, "poll", [["poll"]])
        got: dict[int, list[list[int]]] = {}
        error: OttlaError | None = None
        try:
            await self._take(got, wait_s)
        except OttlaError as raised:
            error = raised
        value = [["poll", [[key, records] for key, records in sorted(got.items())]]]
        if error is not None:
            self._stage.history.complete(op, "info", value, error=f"{error.code}: {error}"[:200])
            await self._assign(sorted(self._consumers), from_beginning=True)
            return []
        self._stage.history.complete(op, "ok", value)
        told = [(key, records[-1][0]) for key, records in got.items()]
        for key, offset in told:
            self._load.keys.told(key, offset)
        return told

    async def _take(self, got: dict[int, list[list[int]]], wait_s: float) -> None:
        until_s = self._stage.now_s() + wait_s
        for key, consumer in list(self._consumers.items()):
            while (left_s := until_s - self._stage.now_s()) > 0:
                try:
                    record = await asyncio.wait_for(anext(consumer), min(left_s, wait_s / len(self._consumers)))
                except TimeoutError:
                    break
                got.setdefault(key, []).append([record.offset, int(record.value or b"-1")])

    async def _assign(self, keys: list[int], *, from_beginning: bool) -> None:
        """Read these keys: from where this process is in those it reads already, unless from the beginning.

        A process that reaches no node is none yet: an operation that fails at once, and again four times a second,
        would say how long the faults took and nothing of what they did.
        """
        try:
            client = await self._connected()
        except OttlaError:
            return
        process = self._process
        op = self._stage.history.invoke(process, "assign", {"keys": keys, "from_beginning": from_beginning})
        try:
            for key in list(self._consumers):
                if key not in keys or from_beginning:
                    await self._consumers.pop(key).close()
            for key in keys:
                if key not in self._consumers:
                    await self._load.make(client, key)
                    topic, partition = place_of(key)
                    consumer = client.consumer(topic, partitions=[partition], request_timeout_s=SEND_TIMEOUT_S)
                    await consumer.start()
                    self._consumers[key] = consumer
        except OttlaError as error:
            self._stage.history.complete(op, "info", op.value, error=f"{error.code}: {error}"[:200])
            await self._crash()  # who knows what is assigned now
            return
        self._stage.history.complete(op, "ok", op.value)

    async def _crash(self) -> None:
        op = self._stage.history.invoke(self._process, "crash", None)
        await self.close()
        self._stage.history.complete(op, "info", None)
        self._process = self._load.new_process()

    # Its client

    def _some_keys(self) -> list[int]:
        active = self._load.keys.active
        keys = self._chance.sample(active, self._chance.randint(1, len(active)))
        if self._chance.random() < 1 / 3:
            keys += list(self._load.keys.next_value)[-8:]
        return sorted(set(keys))

    async def _connected(self) -> Client:
        if self._client is None:
            client = connect(self._stage.servers)
            await client.__aenter__()
            self._client = client
        return self._client

    async def _producing(self) -> Producer:
        if self._producer is None:
            producer = (await self._connected()).producer(**self._load.options_of(self._number))
            await producer.__aenter__()
            self._producer = producer
        return self._producer

    async def close(self) -> None:
        """Let go of everything, waiting for nothing."""
        consumers, self._consumers = self._consumers, {}
        producer, self._producer = self._producer, None
        client, self._client = self._client, None
        with contextlib.suppress(OttlaError, TimeoutError):
            async with asyncio.timeout(5):
                for consumer in consumers.values():
                    await consumer.close()
                if producer is not None:
                    await producer.close()
                if client is not None:
                    await client.close()
