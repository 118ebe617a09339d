"""A small Kafka client on the simulated network: it finds leaders, writes one value at a time, and reads everything."""

import asyncio
import struct
from datetime import timedelta
from typing import Any

from ottla.broker.kafka.versions import ApiKey
from ottla.log.records import BatchBuilder, batches_in
from tests.broker.kafka.kio_bytes import frame_of, on_the_wire, read_response, request_class, split_header

TRY_S = 5.0
RETRY_S = 0.1


class Lost(Exception):
    """The other side has hung up, or does not answer."""


class Link:
    """One connection, one request in hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, entity: Any) -> Any:
        key, version = ApiKey(entity.__api_key__), entity.__version__
        try:
            async with asyncio.timeout(TRY_S):
                self._writer.write(on_the_wire(frame_of(entity)))
                size = struct.unpack(">i", await self._reader.readexactly(4))[0]
                _, body = split_header(key, version, await self._reader.readexactly(size))
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise Lost(repr(error)) from error
        return read_response(key, version, body)

    def close(self) -> None:
        self._writer.close()


class KafkaClient:
    """Tries every server until one answers; keeps one link to each broker."""

    def __init__(self, servers: list[tuple[str, int]], topic: str) -> None:
        self._servers = servers
        self._topic = topic
        self._links: dict[tuple[str, int], Link] = {}
        self._turn = 0

    async def link(self, address: tuple[str, int]) -> Link:
        if address not in self._links:
            try:
                async with asyncio.timeout(TRY_S):
                    self._links[address] = Link(*await asyncio.open_connection(*address))
            except (OSError, TimeoutError) as error:
                raise Lost(repr(error)) from error
        return self._links[address]

    def drop(self, address: tuple[str, int]) -> None:
        link = self._links.pop(address, None)
        if link is not None:
            link.close()

    async def _at(self, address: tuple[str, int], entity: Any) -> Any:
        try:
            return await (await self.link(address)).ask(entity)
        except Lost:
            self.drop(address)
            raise

    async def leader(self) -> tuple[str, int]:
        """Where partition 0 is led. Raises Lost."""
        self._turn += 1
        address = self._servers[self._turn % len(self._servers)]
        schema = request_class(ApiKey.METADATA, 4)
        [topic_schema] = [f.type for f in schema.__dataclass_fields__.values() if f.name == "topics"]
        named = _element(topic_schema)(name=self._topic)
        found = await self._at(address, schema(topics=(named,), allow_auto_topic_creation=False))
        [topic] = found.topics
        leaders = [partition.leader_id for partition in topic.partitions if partition.partition_index == 0]
        where = {broker.node_id: (broker.host, broker.port) for broker in found.brokers}
        if not leaders or leaders[0] not in where:
            raise Lost("no leader")
        return where[leaders[0]]

    async def write(self, value: bytes, now_ms: int) -> int:
        """Acknowledged by all in-sync replicas; its offset. Raises Lost where that is not known."""
        builder = BatchBuilder()
        builder.append(None, value, timestamp_ms=now_ms)
        batch = builder.build()
        schema = request_class(ApiKey.PRODUCE, 9)
        topic_class = _element(schema.__dataclass_fields__["topic_data"].type)
        partition_class = _element(topic_class.__dataclass_fields__["partition_data"].type)
        produce = schema(
            transactional_id=None,
            acks=-1,
            timeout=timedelta(seconds=TRY_S),
            topic_data=(topic_class(name=self._topic, partition_data=(partition_class(index=0, records=batch),)),),
        )
        answer = await self._at(await self.leader(), produce)
        [result] = answer.responses[0].partition_responses
        if result.error_code:
            raise Lost(f"error {result.error_code}")
        return int(result.base_offset)

    async def read_all(self, end: int) -> dict[int, bytes]:
        """Values by offset, up to ``end``. Raises Lost."""
        schema = request_class(ApiKey.FETCH, 11)
        topic_class = _element(schema.__dataclass_fields__["topics"].type)
        partition_class = _element(topic_class.__dataclass_fields__["partitions"].type)
        address, found, offset = await self.leader(), dict[int, bytes](), 0
        while offset < end:
            partition = partition_class(
                partition=0,
                current_leader_epoch=-1,
                fetch_offset=offset,
                log_start_offset=-1,
                partition_max_bytes=1 << 20,
            )
            fetch = schema(
                replica_id=-1,
                max_wait=timedelta(milliseconds=500),
                min_bytes=1,
                max_bytes=1 << 20,
                isolation_level=1,
                session_id=0,
                session_epoch=-1,
                topics=(topic_class(topic=self._topic, partitions=(partition,)),),
                forgotten_topics_data=(),
                rack_id="",
            )
            [result] = (await self._at(address, fetch)).responses[0].partitions
            if result.error_code or not result.records:
                raise Lost(f"error {result.error_code} at {offset} of {end}")
            for batch in batches_in(bytes(result.records)):
                found.update({record.offset: record.value or b"" for record in batch.records()})
                offset = batch.next_offset
        return found


def _element(annotation: Any) -> Any:
    """The class inside of an array's type."""
    inner = [each for option in (annotation, *annotation.__args__) for each in getattr(option, "__args__", (option,))]
    return next(each for each in inner if hasattr(each, "__dataclass_fields__"))
