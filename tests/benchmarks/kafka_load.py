"""Prebuilt batches over Kafka's wire protocol, by a client that does no more than that."""

import asyncio
import struct
from itertools import count

from ottla.client.client import connect
from tests.processes.harness import Cluster

PRODUCE, VERSION = 0, 8
_ERROR_AT_LAST = struct.Struct(">ih")


class _Connection(asyncio.Protocol):
    """Answers come in the requests' order."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[bytes]] = []
        self._data = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 4:
            end = 4 + int.from_bytes(self._data[:4], "big")
            if len(self._data) < end:
                return
            self._waiting.pop(0).set_result(bytes(self._data[4:end]))
            del self._data[:end]

    async def ask(self, head: bytes, batch: bytes) -> bytes:
        assert self.transport is not None
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.transport.write(head)
        self.transport.write(batch)
        return await future


class KafkaLoad:
    """The same as OttlaLoad, at the other door."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._connections: dict[int, _Connection] = {}
        self._leaders: list[int] = []
        self._numbers = count()
        self._topic = b""

    async def open(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        self._topic = name.encode()
        async with connect(self._cluster.servers) as client:
            await client.admin.create_topic(name, partitions=partitions, replication=3, config=configs)
            [topic] = [each for each in await client.admin.list_topics() if each.name == name]
            self._leaders = [partition.leader or 0 for partition in topic.partitions]
            async with client.producer() as producer:  # until every leader has opened its log
                for partition in range(partitions):
                    await producer.send(name, b"x", partition=partition)
        loop = asyncio.get_running_loop()
        for node in self._cluster:
            assert node.kafka_port is not None
            _, protocol = await loop.create_connection(_Connection, "127.0.0.1", node.kafka_port)
            self._connections[node.number] = protocol

    async def send(self, partition: int, batch: bytes) -> None:
        topic = struct.pack(">h", len(self._topic)) + self._topic
        body = struct.pack(">hhii", -1, -1, 30_000, 1) + topic + struct.pack(">iii", 1, partition, len(batch))
        head = struct.pack(">hhih", PRODUCE, VERSION, next(self._numbers) & 0x7FFFFFFF, 5) + b"bench" + body
        connection = self._connections[self._leaders[partition]]
        answer = await connection.ask(struct.pack(">i", len(head) + len(batch)) + head, batch)
        _, error = _ERROR_AT_LAST.unpack_from(answer, 4 + 4 + len(topic) + 4)
        assert not error, f"error {error}"

    async def produce(self, batch: bytes, count: int, in_flight: int) -> None:
        """``count`` batches, round-robin over the partitions."""
        numbers = iter(range(count))

        async def sender() -> None:
            for number in numbers:
                await self.send(number % len(self._leaders), batch)

        await asyncio.gather(*(sender() for _ in range(in_flight)))

    async def close(self) -> None:
        for connection in self._connections.values():
            assert connection.transport is not None
            connection.transport.close()
