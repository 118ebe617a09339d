"""Topics that are made, written, read, deleted and made again under the same name: a new one has nothing of the old.

Each life of a topic is a key of its own in the history and its values are used once, so what is left of an earlier
life is a value that nobody sent to this key.
"""

import asyncio
import contextlib
from typing import ClassVar

from ottla.client.client import Client, connect
from ottla.client.consumer import Consumer
from ottla.client.errors import OttlaError
from ottla.client.producer import Producer

from ..history import Op
from ..stage import Stage, chance

RECORDS_MAX = 8
VALUES_PER_LIFE = 1000
SEND_TIMEOUT_S = 10.0
READ_S = 0.5
READS_MAX = 200
RETRY_S = 0.2
CLOSE_S = 5.0


class RemakeWorkload:
    """One process and one topic name for each client."""

    name = "remake"
    expected_f = ("send", "poll", "assign")
    facts: ClassVar[dict[str, object]] = {}
    topic_config: ClassVar[dict[str, object]] = {}

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._stopping = False
        self._lives = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [self._stage.spawn(self._run(number)) for number in range(1, self._stage.clients + 1)]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def verify(self) -> None:
        """Nothing: each life was read to its end before it ended."""

    async def _run(self, process: int) -> None:
        dice, names = chance(self._stage, f"remake {process}"), 0
        pause_s = self._stage.clients / self._stage.rate
        while not self._stopping:
            client = connect(self._stage.servers)
            try:
                await client.__aenter__()
                async with client.producer(delivery_timeout_s=SEND_TIMEOUT_S, linger_ms=1) as producer:
                    while not self._stopping:
                        topic, records = f"remake-{process}-{names}", dice.randint(1, RECORDS_MAX)
                        await self._live(client, producer, process, topic, records)
                        await asyncio.sleep(dice.uniform(0, 2 * pause_s))
            except OttlaError:
                names += 1  # who knows what of it is still to happen
                await asyncio.sleep(RETRY_S)
            finally:
                with contextlib.suppress(OttlaError, TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await client.close()

    async def _live(self, client: Client, producer: Producer, process: int, topic: str, records: int) -> None:
        """One life. Raises OttlaError where the name cannot be used any more."""
        key, self._lives = self._lives, self._lives + 1
        await client.admin.create_topic(topic, partitions=1, replication=3, config=self.topic_config)
        sent = [await self._send(producer, process, topic, key, number) for number in range(records)]
        await self._read(client, process, topic, key, {value for value in sent if value is not None})
        await client.admin.delete_topic(topic)

    async def _send(self, producer: Producer, process: int, topic: str, key: int, number: int) -> int | None:
        value = key * VALUES_PER_LIFE + number
        op = self._stage.history.invoke(process, "send", [["send", key, value]])
        try:
            record = await producer.send(topic, value=b"%d" % value, partition=0)
        except OttlaError as error:
            self._fail(op, error)
            return None
        self._stage.history.complete(op, "ok", [["send", key, [record.offset, value]]])
        return value

    async def _read(self, client: Client, process: int, topic: str, key: int, sent: set[int]) -> None:
        """From the beginning until everything acknowledged has come."""
        op = self._stage.history.invoke(process, "assign", {"keys": [key], "from_beginning": True})
        self._stage.history.complete(op, "ok", op.value)
        async with client.consumer(topic, partitions=[0], request_timeout_s=SEND_TIMEOUT_S) as consumer:
            for _ in range(READS_MAX):
                sent -= await self._poll(consumer, process, key)
                if not sent:
                    return

    async def _poll(self, consumer: Consumer, process: int, key: int) -> set[int]:
        op = self._stage.history.invoke(process, "poll", [["poll"]])
        got: list[list[int]] = []
        try:
            while True:
                record = await asyncio.wait_for(anext(consumer), READ_S)
                got.append([record.offset, int(record.value or b"-1")])
        except TimeoutError:
            self._stage.history.complete(op, "ok", [["poll", [[key, got]] if got else []]])
        except OttlaError as error:
            self._fail(op, error)
            raise
        return {value for _, value in got}

    def _fail(self, op: Op, error: OttlaError) -> None:
        self._stage.history.complete(op, "info", op.value, error=f"{error.code}: {error}"[:200])


class RemakeFlushWorkload(RemakeWorkload):
    """Each life gives its word that what it acknowledges is durable."""

    name = "remake-flush"
    topic_config: ClassVar[dict[str, object]] = {"flush": "ack"}
