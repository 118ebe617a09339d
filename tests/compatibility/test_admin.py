"""Topics, configs and offsets, as each client's admin calls see them; and what is refused."""

import time
from collections.abc import Callable

import pytest

from .target import Target
from .test_records import not_offered_is_a_skip
from .worker import ClientFailed, Sent, Worker

pytestmark = pytest.mark.processes


def create(client: Worker, target: Target, partitions: int = 2, replicas: int = 3, **configs: str) -> str:
    topic = target.name()
    client.admin("create_topic", topic=topic, partitions=partitions, replicas=replicas, configs=configs)
    target.until_known(topic)
    return topic


def eventually(holds: Callable[[], bool]) -> None:
    """Any node may be asked, and hears of a change in its own time."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline


@not_offered_is_a_skip
def test_a_topic_is_made_described_grown_and_deleted(client: Worker, target: Target) -> None:
    topic = create(client, target, **{"retention.ms": "123456789"})
    described = client.admin("describe_topic", topic=topic)["partitions"]
    assert [sorted(each["replicas"]) for each in described] == [[1, 2, 3], [1, 2, 3]]
    assert all(each["leader"] in each["isr"] for each in described)
    assert client.admin("configs", topic=topic)["retention.ms"] == "123456789"
    client.admin("grow", topic=topic, partitions=3)
    eventually(lambda: len(client.admin("describe_topic", topic=topic)["partitions"]) == 3)
    client.admin("delete_topic", topic=topic)
    eventually(lambda: topic not in client.admin("topics"))


@not_offered_is_a_skip
def test_a_config_is_changed(client: Worker, target: Target) -> None:
    topic = create(client, target)
    assert client.admin("configs", topic=topic)["cleanup.policy"] == "delete"
    client.admin("set_config", topic=topic, name="max.message.bytes", value="2000000")
    eventually(lambda: client.admin("configs", topic=topic)["max.message.bytes"] == "2000000")


@not_offered_is_a_skip
def test_the_cluster_is_three_brokers_and_a_controller(client: Worker, target: Target) -> None:
    found = client.admin("cluster")
    assert found["brokers"] == [1, 2, 3]
    assert found["controller"] in found["brokers"]


@not_offered_is_a_skip
def test_offsets_are_found_by_time_to_the_record(client: Worker, target: Target) -> None:
    topic = create(client, target, partitions=1)
    times = [1_700_000_000_000, 1_700_000_005_000, 1_700_000_002_000, 1_700_000_009_000]
    client.produce(topic, [Sent(b"x", partition=0, timestamp=time) for time in times], linger_ms=100)
    assert client.admin("offset_at", topic=topic, partition=0, timestamp=-2) == 0
    assert client.admin("offset_at", topic=topic, partition=0, timestamp=-1) == 4
    assert client.admin("offset_at", topic=topic, partition=0, timestamp=1_700_000_004_999) == 1
    assert client.admin("offset_at", topic=topic, partition=0, timestamp=1_700_000_005_001) == 3


@not_offered_is_a_skip
def test_the_record_with_the_largest_time_is_found(client: Worker, target: Target) -> None:
    topic = create(client, target, partitions=1)
    times = [1_700_000_000_000, 1_700_000_009_000, 1_700_000_002_000]
    client.produce(topic, [Sent(b"x", partition=0, timestamp=time) for time in times], linger_ms=100)
    assert client.admin("offset_at", topic=topic, partition=0, timestamp=-3) == 1


@not_offered_is_a_skip
def test_records_below_an_offset_are_deleted(client: Worker, target: Target) -> None:
    topic = create(client, target, partitions=1)
    client.produce(topic, [Sent(b"%d" % number, partition=0) for number in range(10)])
    assert client.admin("trim", topic=topic, partition=0, offset=7) == 7
    assert client.admin("offset_at", topic=topic, partition=0, timestamp=-2) == 7
    assert [record.value for record in client.consume(topic, 3)] == [b"7", b"8", b"9"]


# --- what is refused, with Kafka's codes -----------------------------------------------------------------------------

REFUSED = {
    "exists": 36,
    "partitions": 37,
    "replicas": 38,
    "name": 17,
    "config": 40,
    "unknown": 3,
    "shrink": 37,
    "too large": 10,
    "no key": 87,
}


def refusal(client: Worker, target: Target, what: str) -> None:
    make = {"partitions": 1, "replicas": 3, "configs": {}}
    match what:
        case "exists":
            client.admin("create_topic", topic=create(client, target), **make)
        case "partitions":
            client.admin("create_topic", topic=target.name(), **(make | {"partitions": 0}))
        case "replicas":
            client.admin("create_topic", topic=target.name(), **(make | {"replicas": 9}))
        case "name":
            client.admin("create_topic", topic="no spaces", **make)
        case "config":
            client.admin("create_topic", topic=target.name(), **(make | {"configs": {"retention.ms": "soon"}}))
        case "unknown":
            client.admin("delete_topic", topic=target.name("none"))
        case "shrink":
            client.admin("grow", topic=create(client, target), partitions=1)
        case "too large":
            topic = create(client, target, partitions=1, **{"max.message.bytes": "1000"})
            client.produce(topic, [Sent(bytes(5_000), partition=0)])
        case "no key":
            topic = create(client, target, partitions=1, **{"cleanup.policy": "compact"})
            client.produce(topic, [Sent(b"keyless", partition=0)])


@pytest.mark.parametrize("what", REFUSED)
@not_offered_is_a_skip
def test_a_mistake_is_refused_with_kafkas_code(client: Worker, target: Target, what: str) -> None:
    with pytest.raises(ClientFailed) as failed:
        refusal(client, target, what)
    assert failed.value.code in (REFUSED[what], None), str(failed.value)
