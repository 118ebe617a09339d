"""confluent-kafka (librdkafka)."""

import sys
import time
from pathlib import Path
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

sys.path.insert(0, str(Path(__file__).parent))
from python_worker import Failed, Unsupported, decode, record, serve

WAIT_S = 30.0
ASSIGNORS = {"range": "range", "roundrobin": "roundrobin", "cooperative-sticky": "cooperative-sticky"}


def failed(error: Any) -> Failed:
    return Failed(error.code(), error.name(), error.str())


def check(call: Any) -> Any:
    try:
        return call()
    except ck.KafkaException as exception:
        raise failed(exception.args[0]) from exception


class Client:
    def hello(self, servers: str) -> Any:
        self.servers = servers
        self.members: dict[str, ck.Consumer] = {}
        self.producers: dict[str | None, ck.Producer] = {}
        self.kafka = AdminClient({"bootstrap.servers": servers})
        return {"client": "confluent-kafka", "version": f"{ck.__version__} (librdkafka {ck.libversion()[0]})"}

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
        settings = {
            "bootstrap.servers": self.servers,
            "compression.type": codec,
            "acks": acks,
            "enable.idempotence": idempotent and acks == "all",
            "linger.ms": linger_ms,
            "message.timeout.ms": 60_000,
            "message.max.bytes": 20_000_000,
        }
        producer = self.producers.get(keep) or ck.Producer(settings)
        if keep is not None:
            self.producers[keep] = producer
        reports: list[Any] = [None] * len(records)

        def delivered(index: int) -> Any:
            def report(error: Any, message: Any) -> None:
                reports[index] = error or [
                    message.partition(),
                    message.offset() if message.offset() is not None else -1,
                ]

            return report

        for index, each in enumerate(records):
            producer.produce(
                topic,
                value=decode(each["value"]),
                key=decode(each["key"]),
                headers=[(name, decode(value)) for name, value in each["headers"]],
                partition=-1 if each["partition"] is None else each["partition"],
                timestamp=each["timestamp"] or 0,
                on_delivery=delivered(index),
            )
            producer.poll(0)
        producer.flush(60)
        for report in reports:
            if not isinstance(report, list):
                raise failed(report) if report is not None else Failed(None, "TIMED_OUT", "no report")
        return reports

    def consume(self, topic: str, count: int, timeout_s: float, isolation: str = "read_uncommitted") -> Any:
        settings = {
            "bootstrap.servers": self.servers,
            "group.id": "unused",
            "enable.auto.commit": False,
            "isolation.level": isolation,
        }
        consumer = ck.Consumer({**settings, "auto.offset.reset": "earliest"})
        try:
            partitions = consumer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions
            consumer.assign([ck.TopicPartition(topic, number, ck.OFFSET_BEGINNING) for number in partitions])
            return self._read(consumer, count, timeout_s)
        finally:
            consumer.close()

    def _read(self, consumer: ck.Consumer, count: int, timeout_s: float) -> list[Any]:
        found: list[Any] = []
        deadline = time.monotonic() + timeout_s
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error():
                if message.error().retriable() or message.error().code() < 0:
                    continue
                raise failed(message.error())
            found.append(
                record(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.key(),
                    message.value(),
                    message.headers(),
                    message.timestamp()[1],
                )
            )
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
        settings: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": auto_commit,
        }
        if protocol == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            settings |= {
                "partition.assignment.strategy": assignor,
                "session.timeout.ms": session_ms,
                "heartbeat.interval.ms": session_ms // 5,
                "topic.metadata.refresh.interval.ms": 1_000,
            }
        if instance is not None:
            settings["group.instance.id"] = instance
        consumer = self.members[member] = ck.Consumer(settings)
        consumer.subscribe(topics if pattern is None else [f"^{pattern}"])
        return {}

    def poll(self, member: str, count: int, timeout_s: float) -> Any:
        return self._read(self.members[member], count, timeout_s)

    def assignment(self, member: str) -> Any:
        return [[each.topic, each.partition] for each in self.members[member].assignment()]

    def commit(self, member: str) -> Any:
        check(lambda: self.members[member].commit(asynchronous=False))
        return {}

    def committed(self, member: str, topic: str) -> Any:
        consumer = self.members[member]
        partitions = consumer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions
        found = consumer.committed([ck.TopicPartition(topic, number) for number in partitions], timeout=WAIT_S)
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def leave(self, member: str, silent: bool = False) -> Any:
        if silent:
            raise Unsupported("a consumer of librdkafka always leaves")
        self.members.pop(member).close()
        return {}

    # --- admin -------------------------------------------------------------------------------------------------------

    def _one(self, futures: dict[Any, Any]) -> Any:
        [future] = futures.values()
        return check(lambda: future.result(WAIT_S))

    def admin_create_topic(self, topic: str, partitions: int, replicas: int, configs: dict[str, str]) -> Any:
        self._one(self.kafka.create_topics([NewTopic(topic, partitions, replicas, config=configs)]))
        return {}

    def admin_topics(self) -> Any:
        return list(self.kafka.list_topics(timeout=WAIT_S).topics)

    def admin_delete_topic(self, topic: str) -> Any:
        self._one(self.kafka.delete_topics([topic]))
        return {}

    def admin_grow(self, topic: str, partitions: int) -> Any:
        self._one(self.kafka.create_partitions([NewPartitions(topic, partitions)]))
        return {}

    def admin_describe_topic(self, topic: str) -> Any:
        described = self._one(self.kafka.describe_topics(ck.TopicCollection([topic])))
        return {
            "partitions": [
                {"leader": p.leader.id, "replicas": [n.id for n in p.replicas], "isr": [n.id for n in p.isr]}
                for p in described.partitions
            ]
        }

    def admin_configs(self, topic: str) -> Any:
        found = self._one(self.kafka.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        return {name: entry.value for name, entry in found.items()}

    def admin_set_config(self, topic: str, name: str, value: str) -> Any:
        change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
        self._one(self.kafka.incremental_alter_configs([resource]))
        return {}

    def admin_trim(self, topic: str, partition: int, offset: int) -> Any:
        return self._one(self.kafka.delete_records([ck.TopicPartition(topic, partition, offset)])).low_watermark

    def admin_groups(self) -> Any:
        return [each.group_id for each in check(lambda: self.kafka.list_consumer_groups().result(WAIT_S)).valid]

    def admin_describe_group(self, group: str) -> Any:
        found = self._one(self.kafka.describe_consumer_groups([group]))
        return {"state": found.state.name.lower(), "members": len(found.members)}

    def admin_offsets(self, group: str, topic: str) -> Any:
        found = self._one(self.kafka.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(group)]))
        return {each.partition: each.offset for each in found.topic_partitions if each.topic == topic}

    def admin_delete_group(self, group: str) -> Any:
        self._one(self.kafka.delete_consumer_groups([group]))
        return {}

    def admin_cluster(self) -> Any:
        found = check(lambda: self.kafka.describe_cluster().result(WAIT_S))
        return {"brokers": sorted(node.id for node in found.nodes), "controller": found.controller.id}

    def admin_offset_at(self, topic: str, partition: int, timestamp: int) -> Any:
        spec = {-1: OffsetSpec.latest(), -2: OffsetSpec.earliest(), -3: OffsetSpec.max_timestamp()}.get(timestamp)
        where = ck.TopicPartition(topic, partition)
        return self._one(self.kafka.list_offsets({where: spec or OffsetSpec.for_timestamp(timestamp)})).offset


serve(Client())
