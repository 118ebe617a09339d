"""aiokafka."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, KafkaError, for_code

sys.path.insert(0, str(Path(__file__).parent))
from python_worker import Failed, Unsupported, decode, record, serve


def raise_for(code: int, message: str = "") -> None:
    if code:
        raise Failed(code, for_code(code).__name__, message)


class Client:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.members: dict[str, AIOKafkaConsumer] = {}
        self.producers: dict[str | None, AIOKafkaProducer] = {}
        self._admin: AIOKafkaAdminClient | None = None

    def run(self, work: Any) -> Any:
        try:
            return self.loop.run_until_complete(work)
        except BrokerResponseError as error:
            code = None if error.errno == -1 else error.errno  # what it does not know it calls unknown
            raise Failed(code, type(error).__name__, str(error)) from error
        except KafkaError as error:
            raise Failed(None, type(error).__name__, str(error)) from error

    def hello(self, servers: str) -> Any:
        self.servers = servers
        return {"client": "aiokafka", "version": aiokafka.__version__}

    def produce(
        self,
        topic: str,
        records: list[dict[str, Any]],
        codec: str = "none",
        acks: str = "all",
        idempotent: bool = True,
        linger_ms: int = 5,
        keep: str | None = None,
    ) -> Any:
        return self.run(self._produce(topic, records, keep, codec, acks, idempotent, linger_ms))

    async def _producer(self, codec: str, acks: str, idempotent: bool, linger_ms: int) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.servers,
            compression_type=None if codec == "none" else codec,
            acks="all" if acks == "all" else int(acks),
            enable_idempotence=idempotent and acks == "all",
            linger_ms=linger_ms,
            max_request_size=20_000_000,
        )
        await producer.start()
        return producer

    async def _produce(self, topic: str, records: list[dict[str, Any]], keep: str | None, *how: Any) -> Any:
        producer = self.producers.get(keep) or await self._producer(*how)
        if keep is not None:
            self.producers[keep] = producer
        try:
            futures = [
                await producer.send(
                    topic,
                    value=decode(each["value"]),
                    key=decode(each["key"]),
                    headers=[(name, decode(value)) for name, value in each["headers"]],
                    partition=each["partition"],
                    timestamp_ms=each["timestamp"],
                )
                for each in records
            ]
            metas = await asyncio.wait_for(asyncio.gather(*futures), 60)
            return [[-1, -1] if meta is None else [meta.partition, meta.offset] for meta in metas]
        finally:
            if keep is None:
                await producer.stop()

    def consume(self, topic: str, count: int, timeout_s: float, isolation: str = "read_uncommitted") -> Any:
        return self.run(self._consume(topic, count, timeout_s, isolation))

    async def _consume(self, topic: str, count: int, timeout_s: float, isolation: str) -> Any:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.servers, auto_offset_reset="earliest", isolation_level=isolation
        )
        await consumer.start()
        try:
            return await self._read(consumer, count, timeout_s)
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, count: int, timeout_s: float) -> list[Any]:
        found: list[Any] = []
        deadline = time.monotonic() + timeout_s
        while len(found) < count and time.monotonic() < deadline:
            got = await consumer.getmany(timeout_ms=200, max_records=count - len(found))
            for some in got.values():
                found += (record(m.topic, m.partition, m.offset, m.key, m.value, m.headers, m.timestamp) for m in some)
        return found

    # --- groups ------------------------------------------------------------------------------------------------------

    def join(
        self,
        member: str,
        group: str,
        topics: list[str],
        assignor: str = "range",
        protocol: str = "classic",
        instance: str | None = None,
        session_ms: int = 10_000,
        auto_commit: bool = False,
        pattern: str | None = None,
        later: bool = False,
    ) -> Any:
        from aiokafka.coordinator.assignors.range import RangePartitionAssignor
        from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

        chosen = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
        if protocol != "classic" or assignor not in chosen:
            raise Unsupported(f"{protocol} with {assignor}")

        async def start() -> None:
            consumer = self.members[member] = AIOKafkaConsumer(
                *(topics if pattern is None else ()),
                bootstrap_servers=self.servers,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=auto_commit,
                partition_assignment_strategy=[chosen[assignor]],
                group_instance_id=instance,
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=session_ms // 5,
                metadata_max_age_ms=1_000,
            )
            if pattern is not None:
                consumer.subscribe(pattern=pattern)
            await consumer.start()

        self.run(start())
        return {}

    def poll(self, member: str, count: int, timeout_s: float) -> Any:
        return self.run(self._read(self.members[member], count, timeout_s))

    def assignment(self, member: str) -> Any:
        return [[each.topic, each.partition] for each in self.members[member].assignment()]

    def commit(self, member: str) -> Any:
        self.run(self.members[member].commit())
        return {}

    def committed(self, member: str, topic: str) -> Any:
        consumer = self.members[member]

        async def ask() -> Any:
            numbers = consumer.partitions_for_topic(topic) or ()
            found = {number: await consumer.committed(TopicPartition(topic, number)) for number in numbers}
            return {number: offset for number, offset in found.items() if offset is not None}

        return self.run(ask())

    def leave(self, member: str, silent: bool = False) -> Any:
        if silent:
            raise Unsupported("its consumers leave when they stop")
        self.run(self.members.pop(member).stop())
        return {}

    # --- admin -------------------------------------------------------------------------------------------------------

    @property
    def kafka(self) -> AIOKafkaAdminClient:
        async def start() -> AIOKafkaAdminClient:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
            await admin.start()
            return admin

        if self._admin is None:
            self._admin = self.run(start())
        return self._admin

    def admin_create_topic(self, topic: str, partitions: int, replicas: int, configs: dict[str, str]) -> Any:
        new = NewTopic(topic, partitions, replicas, topic_configs=configs)
        [(_, code, message)] = self.run(self.kafka.create_topics([new])).topic_errors
        raise_for(code, message or "")
        return {}

    def admin_topics(self) -> Any:
        return self.run(self.kafka.list_topics())

    def admin_delete_topic(self, topic: str) -> Any:
        [(_, code)] = self.run(self.kafka.delete_topics([topic])).topic_error_codes
        raise_for(code)
        return {}

    def admin_grow(self, topic: str, partitions: int) -> Any:
        [(_, code, message)] = self.run(self.kafka.create_partitions({topic: NewPartitions(partitions)})).topic_errors
        raise_for(code, message or "")
        return {}

    def admin_describe_topic(self, topic: str) -> Any:
        [found] = self.run(self.kafka.describe_topics([topic]))
        raise_for(found["error_code"])
        partitions = sorted(found["partitions"], key=lambda each: each["partition"])
        return {"partitions": [{"leader": p["leader"], "replicas": p["replicas"], "isr": p["isr"]} for p in partitions]}

    def admin_configs(self, topic: str) -> Any:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [response] = self.run(self.kafka.describe_configs([resource]))
        [found] = response.resources
        raise_for(found[0], found[1] or "")
        return {entry[0]: entry[1] for entry in found[4]}

    def admin_set_config(self, topic: str, name: str, value: str) -> Any:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
        [response] = self.run(self.kafka.alter_configs([resource]))
        [found] = response.resources
        raise_for(found[0], found[1] or "")
        return {}

    def admin_trim(self, topic: str, partition: int, offset: int) -> Any:
        where = TopicPartition(topic, partition)
        return self.run(self.kafka.delete_records({where: RecordsToDelete(before_offset=offset)}))[where]

    def admin_groups(self) -> Any:
        return [name for name, _ in self.run(self.kafka.list_consumer_groups())]

    def admin_describe_group(self, group: str) -> Any:
        [response] = self.run(self.kafka.describe_consumer_groups([group]))
        [found] = response.groups
        raise_for(found[0])
        return {"state": found[2].lower(), "members": len(found[5])}

    def admin_offsets(self, group: str, topic: str) -> Any:
        found = self.run(self.kafka.list_consumer_group_offsets(group))
        return {where.partition: each.offset for where, each in found.items() if where.topic == topic}

    def admin_cluster(self) -> Any:
        found = self.run(self.kafka.describe_cluster())
        return {"brokers": sorted(each["node_id"] for each in found["brokers"]), "controller": found["controller_id"]}

    def admin_offset_at(self, topic: str, partition: int, timestamp: int) -> Any:
        async def ask() -> int:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.servers)
            await consumer.start()
            where = TopicPartition(topic, partition)
            try:
                if timestamp == -1:
                    return (await consumer.end_offsets([where]))[where]
                if timestamp == -2:
                    return (await consumer.beginning_offsets([where]))[where]
                found = (await consumer.offsets_for_times({where: timestamp}))[where]
                return -1 if found is None else found.offset
            finally:
                await consumer.stop()

        if timestamp == -3:
            raise Unsupported("no look-up of the largest time")
        return self.run(ask())


serve(Client())
