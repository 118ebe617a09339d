"""The leader is killed under each client: nothing acknowledged is lost, nothing is there twice, and it goes on."""

import threading
import time

import pytest

from ottla.broker.kafka.versions import ApiKey
from tests.broker.kafka.kio_bytes import request_class
from tests.broker.kafka.node import Raw

from .conftest import start
from .target import Target
from .test_records import not_offered_is_a_skip
from .worker import Sent, Worker

pytestmark = pytest.mark.processes
TRIES = 300


def coordinator_of(group: str, target: Target) -> int:
    """Where a group's members are sent to, once it is known."""
    find = request_class(ApiKey.FIND_COORDINATOR, 1)(key=group, key_type=0)
    for _ in range(TRIES):
        with Raw(target.servers.split(",")[0]) as connection:
            found = connection.ask(find)
        if not found.error_code:
            return int(found.node_id)
        time.sleep(0.1)
    raise AssertionError(f"{group} has no coordinator")


def topic_led_by(number: int, target: Target) -> str:
    """New topics have their leaders in turn, or by chance."""
    for _ in range(TRIES):
        topic = target.topic(partitions=1)
        if target.leader(topic) == number:
            return topic
    raise AssertionError(f"{number} leads nothing")


@not_offered_is_a_skip
def test_producing_goes_on_when_the_leader_dies(
    client: Worker, target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    topic = target.topic(partitions=1)
    other = start(client.name, target, tmp_path_factory.mktemp(f"{client.name}-other"))
    client.produce(topic, [Sent(b"first", partition=0)])
    leader = target.leader(topic)
    killer = threading.Thread(target=target.kill, args=(leader,))
    acknowledged: list[bytes] = [b"first"]
    try:
        for number in range(12):
            if number == 3:
                killer.start()
            batch = [b"%d-%d" % (number, each) for each in range(100)]
            other.produce(topic, [Sent(value, partition=0) for value in batch], idempotent=True)
            acknowledged += batch
        killer.join()
        assert target.leader(topic) != leader
        found = [record.value for record in other.consume(topic, len(acknowledged))]
        assert found == acknowledged
    finally:
        killer.join()
        target.bring_back(leader)
        other.close()


@pytest.mark.slow
@not_offered_is_a_skip
def test_a_group_goes_on_when_its_coordinator_and_leader_die(client: Worker, target: Target) -> None:
    group = target.name("g")
    leader = coordinator_of(group, target)
    topic = topic_led_by(leader, target)
    client.produce(topic, [Sent(b"%d" % number, partition=0) for number in range(50)])
    client.do("join", member="a", group=group, topics=[topic])
    assert len(client.poll("a", 50)) == 50
    client.do("commit", member="a")
    target.kill(leader)
    try:
        client.produce(topic, [Sent(b"more %d" % number, partition=0) for number in range(50)])
        found = [record.value for record in client.poll("a", 50, timeout_s=60.0)]
        assert found == [b"more %d" % number for number in range(50)]
        client.do("commit", member="a")
        assert client.do("committed", member="a", topic=topic) == {"0": 100}
    finally:
        target.bring_back(leader)
        client.do("leave", member="a")
