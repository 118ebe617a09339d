"""kafka-python."""

import sys
import time
from pathlib import Path
from typing import Any

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import BrokerResponseError, KafkaError

sys.path.insert(0, str(Path(__file__).parent))
from python_worker import Failed, Unsupported, decode, record, serve


def check(call: Any) -> Any:
    try:
        return call()
    except BrokerResponseError as error:
        raise Failed(error.errno, type(error).__name__, str(error)) from error
    except KafkaError as error:
        raise Failed(None, type(error).__name__, str(error)) from error


class Client:
    def hello(self, servers: str) -> Any:
        self.servers = servers.split(",")
        self.members: dict[str, KafkaConsumer] = {}
        self.producers: dict[str | None, KafkaProducer] = {}
        self._admin: KafkaAdminClient | None = None
        return {"client": "kafka-python", "version": kafka.__version__}

    @property
    def kafka(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self.servers)
        return self._admin

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
        producer = self.producers.get(keep) or self._producer(codec, acks, idempotent, linger_ms)
        if keep is not None:
            self.producers[keep] = producer
        try:
            futures = [
                producer.send(
                    topic,
                    value=decode(each["value"]),
                    key=decode(each["key"]),
                    headers=[(name, decode(value)) for name, value in each["headers"]],
                    partition=each["partition"],
                    timestamp_ms=each["timestamp"],
                )
                for each in records
            ]
            producer.flush(60)
            metas = [check(lambda future=future: future.get(60)) for future in futures]
            return [[meta.partition, meta.offset] for meta in metas]
        finally:
            if keep is None:
                producer.close()

    def _producer(self, codec: str, acks: str, idempotent: bool, linger_ms: int) -> KafkaProducer:
        return KafkaProducer(
            bootstrap_servers=self.servers,
            compression_type=None if codec == "none" else codec,
            acks="all" if acks == "all" else int(acks),
            enable_idempotence=idempotent and acks == "all",
            linger_ms=linger_ms,
            max_request_size=20_000_000,
        )

    def consume(self, topic: str, count: int, timeout_s: float, isolation: str = "read_uncommitted") -> Any:
        consumer = KafkaConsumer(bootstrap_servers=self.servers, enable_auto_commit=False, isolation_level=isolation)
        try:
            where = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(where)
            consumer.seek_to_beginning(*where)
            return self._read(consumer, count, timeout_s)
        finally:
            consumer.close()

    def _read(self, consumer: KafkaConsumer, count: int, timeout_s: float) -> list[Any]:
        found: list[Any] = []
        deadline = time.monotonic() + timeout_s
        while len(found) < count and time.monotonic() < deadline:
            room = count - len(found)
            for some in check(lambda room=room: consumer.poll(timeout_ms=200, max_records=room)).values():
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
        from kafka.coordinator.assignors.range import RangePartitionAssignor
        from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

        chosen = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
        if protocol != "classic" or assignor not in chosen:
            raise Unsupported(f"{protocol} with {assignor}")
        settings = {} if instance is None else {"group_instance_id": instance}
        consumer = self.members[member] = KafkaConsumer(
            *(topics if pattern is None else ()),
            bootstrap_servers=self.servers,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=auto_commit,
            metadata_max_age_ms=1_000,
            partition_assignment_strategy=[chosen[assignor]],
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 5,
            **settings,
        )
        if pattern is not None:
            consumer.subscribe(pattern=pattern)
        return {}

    def poll(self, member: str, count: int, timeout_s: float) -> Any:
        return self._read(self.members[member], count, timeout_s)

    def assignment(self, member: str) -> Any:
        return [[each.topic, each.partition] for each in self.members[member].assignment()]

    def commit(self, member: str) -> Any:
        check(lambda: self.members[member].commit())
        return {}

    def committed(self, member: str, topic: str) -> Any:
        consumer = self.members[member]
        found = {n: consumer.committed(TopicPartition(topic, n)) for n in consumer.partitions_for_topic(topic) or ()}
        return {number: offset for number, offset in found.items() if offset is not None}

    def leave(self, member: str, silent: bool = False) -> Any:
        if silent:
            raise Unsupported("its consumers leave when they close")
        self.members.pop(member).close()
        return {}

    # --- admin -------------------------------------------------------------------------------------------------------

    def admin_create_topic(self, topic: str, partitions: int, replicas: int, configs: dict[str, str]) -> Any:
        check(lambda: self.kafka.create_topics([NewTopic(topic, partitions, replicas, topic_configs=configs)]))
        return {}

    def admin_topics(self) -> Any:
        return [each["name"] if isinstance(each, dict) else each for each in self.kafka.list_topics()]

    def admin_delete_topic(self, topic: str) -> Any:
        check(lambda: self.kafka.delete_topics([topic]))
        return {}

    def admin_grow(self, topic: str, partitions: int) -> Any:
        check(lambda: self.kafka.create_partitions({topic: NewPartitions(partitions)}))
        return {}

    def admin_describe_topic(self, topic: str) -> Any:
        [found] = check(lambda: self.kafka.describe_topics([topic]))
        if found["error_code"]:
            raise Failed(found["error_code"], "TopicError", "")
        partitions = sorted(found["partitions"], key=lambda each: each["partition_index"])
        return {
            "partitions": [
                {"leader": p["leader_id"], "replicas": list(p["replica_nodes"]), "isr": list(p["isr_nodes"])}
                for p in partitions
            ]
        }

    def admin_configs(self, topic: str) -> Any:
        found = check(
            lambda: self.kafka.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        )
        [values] = (found["topic"] if "topic" in found else found[next(iter(found))]).values()
        return {name: each["value"] if isinstance(each, dict) else each for name, each in values.items()}

    def admin_set_config(self, topic: str, name: str, value: str) -> Any:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
        check(lambda: self.kafka.alter_configs([resource]))
        return {}

    def admin_trim(self, topic: str, partition: int, offset: int) -> Any:
        found = check(lambda: self.kafka.delete_records({TopicPartition(topic, partition): offset}))
        [result] = found.values()
        return result["low_watermark"]

    def admin_groups(self) -> Any:
        return [each["group_id"] for each in check(lambda: self.kafka.list_groups())]

    def admin_describe_group(self, group: str) -> Any:
        found = check(lambda: self.kafka.describe_groups([group]))[group]
        return {"state": found["group_state"].lower(), "members": len(found["members"])}

    def admin_offsets(self, group: str, topic: str) -> Any:
        found = check(lambda: self.kafka.list_group_offsets([group]))[group]
        return {where.partition: each.offset for where, each in found.items() if where.topic == topic}

    def admin_delete_group(self, group: str) -> Any:
        check(lambda: self.kafka.delete_groups([group]))
        return {}

    def admin_cluster(self) -> Any:
        found = check(lambda: self.kafka.describe_cluster())
        return {
            "brokers": sorted(each.get("broker_id", each.get("node_id")) for each in found["brokers"]),
            "controller": found["controller_id"],
        }

    def admin_offset_at(self, topic: str, partition: int, timestamp: int) -> Any:
        where = TopicPartition(topic, partition)
        return check(lambda: self.kafka.list_partition_offsets({where: timestamp}))[where].offset


serve(Client())
