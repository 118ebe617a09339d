"""Where the port is, and where clients are sent."""

import asyncio
import contextlib
import socket
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from ottla.broker.config import load_settings
from ottla.broker.http.streams import InflightBudget
from ottla.broker.kafka.listener import KafkaListener, KafkaPortTaken, open_kafka
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.metrics import Metrics
from ottla.client import sync
from ottla.client.testing import LocalCluster, cluster
from ottla.log.model import ProducerEpoch, ProducerId
from ottla.log.records import BatchBuilder

from .kio_bytes import request_class
from .node import Raw


async def opened(**flags: Any) -> KafkaListener | None:
    return await open_kafka(load_settings({"insecure": True, **flags}), Metrics(), InflightBudget(1))


async def test_a_door_that_is_off_is_none() -> None:
    assert await opened(kafka="off") is None


async def test_a_port_that_is_taken_is_told_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(KafkaPortTaken, match="--kafka HOST:PORT") as refused:
            await opened(kafka=address)
    assert refused.value.code == "OTTLA-PORT-IN-USE"


async def test_nobody_is_let_in_before_the_node_is_ready() -> None:
    listener = await opened(kafka="127.0.0.1:0")
    assert listener is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    await listener.door.close()


async def test_a_port_that_another_node_has_taken_is_told_though_that_one_is_not_ready_either() -> None:
    listener = await opened(kafka="127.0.0.1:0")
    assert listener is not None
    with pytest.raises(KafkaPortTaken):
        await opened(kafka=f"127.0.0.1:{listener.port}")
    await listener.door.close()


@pytest.mark.parametrize(
    ("flags", "warned"), [({"kafka_advertise": "127.0.0.1"}, True), ({"kafka_advertise": "k"}, False), ({}, False)]
)
async def test_who_would_send_remote_clients_to_themselves_is_warned(flags: dict[str, str], warned: bool) -> None:
    with capture_logs() as logs:
        listener = await opened(kafka="0.0.0.0:0", **flags)
    assert listener is not None
    assert any(line["event"] == "kafka.advertised.loopback" for line in logs) == warned
    await listener.door.close()


@pytest.fixture(scope="module")
def three() -> Any:
    with cluster(nodes=3, kafka=True) as running:
        with sync.connect(running.servers) as client:
            client.admin.create_topic("t", partitions=1, replication=3)
            with client.producer() as producer:
                producer.send("t", b"first", partition=0)
        yield running


def leader_and_other(three: LocalCluster) -> tuple[int, int]:
    with sync.connect(three.servers) as client:
        [topic] = [each for each in client.admin.list_topics() if each.name == "t"]
    leader = int(topic.partitions[0].leader or 0)
    return leader, next(number for number in (1, 2, 3) if number != leader)


def produce(version: int, **changes: Any) -> Any:
    builder = BatchBuilder()
    builder.append(None, b"x", timestamp_ms=1)
    schema = request_class(ApiKey.PRODUCE, version)
    topic = schema.__dataclass_fields__["topic_data"].type.__args__[0]
    partition = topic.__dataclass_fields__["partition_data"].type.__args__[0]
    data = partition(index=0, records=changes.pop("records", builder.build()))
    given = {"transactional_id": None, "acks": -1, "timeout": timedelta(seconds=5)} | changes
    return schema(**given, topic_data=(topic(name="t", partition_data=(data,)),))


def test_who_asks_the_wrong_node_is_told_the_right_one(three: LocalCluster) -> None:
    leader, other = leader_and_other(three)
    with Raw(three.kafka_servers[other - 1]) as connection:
        answer = connection.ask(produce(10))
        [result] = answer.responses[0].partition_responses
        assert (result.error_code, result.current_leader.leader_id) == (6, leader)
        assert [(n.node_id, f"{n.host}:{n.port}") for n in answer.node_endpoints] == [
            (leader, three.kafka_servers[leader - 1])
        ]
    with Raw(three.kafka_servers[leader - 1]) as connection:
        [result] = connection.ask(produce(10)).responses[0].partition_responses
        assert result.error_code == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"records": b""}, 87),
        ({"records": None}, 87),
        ({"records": bytes(70)}, 2),
        ({"acks": 7}, 21),
        ({"transactional_id": "t"}, 42),
    ],
)
def test_a_bad_batch_is_refused_with_kafkas_code_and_the_connection_goes_on(
    three: LocalCluster, change: dict[str, Any], code: int
) -> None:
    leader, _ = leader_and_other(three)
    with Raw(three.kafka_servers[leader - 1]) as connection:
        [result] = connection.ask(produce(8, **change)).responses[0].partition_responses
        assert result.error_code == code
        assert result.error_message
        [result] = connection.ask(produce(8)).responses[0].partition_responses
        assert result.error_code == 0


def test_a_producer_that_nobody_knows_any_more_goes_on_where_it_is(three: LocalCluster) -> None:
    """Most clients cannot begin again (decision 18)."""
    leader, _ = leader_and_other(three)
    with Raw(three.kafka_servers[leader - 1]) as connection:
        for sequence, code in ((20, 0), (21, 0), (20, 0), (23, 45)):
            builder = BatchBuilder()
            builder.append(None, b"%d" % sequence, timestamp_ms=1)
            batch = builder.build(ProducerId(987_654), ProducerEpoch(0), sequence)
            [result] = connection.ask(produce(8, records=batch)).responses[0].partition_responses
            assert result.error_code == code


@pytest.mark.parametrize("name", ["", None])
def test_metadata_by_id_is_found_whatever_stands_for_the_name(three: LocalCluster, name: str | None) -> None:
    """The Java client, which subscribed to a pattern, asks by id with an empty name."""
    schema = request_class(ApiKey.METADATA, 12)
    topic = schema.__dataclass_fields__["topics"].type.__args__[0].__args__[0]

    def ask(connection: Raw, **asked: Any) -> Any:
        [found] = connection.ask(
            schema(
                topics=(topic(**asked),),
                allow_auto_topic_creation=False,
                include_topic_authorized_operations=False,
            )
        ).topics
        return found

    with Raw(three.kafka_servers[0]) as connection:
        by_name = ask(connection, topic_id=None, name="t")
        by_id = ask(connection, topic_id=by_name.topic_id, name=name)
        assert (by_id.error_code, by_id.name, by_id.topic_id) == (0, "t", by_name.topic_id)
        assert ask(connection, topic_id=UUID(int=7), name=name).error_code == 100


def test_zstd_needs_a_version_of_produce_that_knows_it(three: LocalCluster) -> None:
    from ottla.log.compression import Compression

    builder = BatchBuilder(Compression.ZSTD)
    builder.append(None, b"x" * 100, timestamp_ms=1)
    leader, _ = leader_and_other(three)
    with Raw(three.kafka_servers[leader - 1]) as connection:
        batch = builder.build()
        for version, code in ((6, 76), (7, 0)):
            [result] = connection.ask(produce(version, records=batch)).responses[0].partition_responses
            assert result.error_code == code


def test_http_at_this_door_is_told_where_to_go(three: LocalCluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{three.kafka_servers[0]}/metrics", timeout=10)
    assert refused.value.code == 400
    assert b"OTTLA-WRONG-PORT" in refused.value.read()


def test_a_node_without_the_door_leads_what_kafka_clients_cannot_see() -> None:
    with cluster(kafka=False) as running, sync.connect(running.servers) as client:
        [node] = client.admin.describe_cluster().nodes
        assert node.endpoint.kafka_port is None
