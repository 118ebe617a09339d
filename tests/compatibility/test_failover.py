"""The leader is killed under each client: nothing acknowledged is lost, nothing is there twice, and it goes on."""

import threading

import pytest

from ottla.client import sync

from .conftest import Target, start
from .registry import installed
from .test_records import make_topic, not_offered_is_a_skip
from .worker import Sent, Worker

pytestmark = pytest.mark.processes


def leader_of(target: Target, topic: str) -> int:
    assert target.cluster is not None
    alive = [node.address for node in target.cluster if node.running]
    with sync.connect(alive) as client:
        [found] = [each for each in client.admin.list_topics(current=True) if each.name == topic]
        return int(found.partitions[0].leader or 0)


def kill(target: Target, number: int) -> None:
    """kill -9."""
    assert target.cluster is not None
    target.run(target.cluster.node(number).kill())


def bring_back(target: Target, number: int) -> None:
    """The next case needs three nodes."""
    assert target.cluster is not None
    node = target.cluster.node(number)
    target.run(node.start())
    target.run(node.until_ready())


@not_offered_is_a_skip
def test_producing_goes_on_when_the_leader_dies(
    client: Worker, target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if target.cluster is None:
        pytest.skip("only our own nodes are killed here")
    topic = make_topic(target, partitions=1)
    [known] = [each for each in installed() if each.name == client.name]
    other = start(known, target, tmp_path_factory.mktemp(f"{client.name}-other"))
    client.produce(topic, [Sent(b"first", partition=0)])
    leader = leader_of(target, topic)
    killer = threading.Thread(target=kill, args=(target, leader))
    acknowledged: list[bytes] = [b"first"]
    try:
        for number in range(12):
            if number == 3:
                killer.start()
            batch = [b"%d-%d" % (number, each) for each in range(100)]
            other.produce(topic, [Sent(value, partition=0) for value in batch], idempotent=True)
            acknowledged += batch
        killer.join()
        assert leader_of(target, topic) != leader
        found = [record.value for record in other.consume(topic, len(acknowledged))]
        assert found == acknowledged
    finally:
        killer.join()
        bring_back(target, leader)
        other.close()


@not_offered_is_a_skip
def test_a_group_goes_on_when_its_coordinator_and_leader_die(client: Worker, target: Target) -> None:
    if target.cluster is None:
        pytest.skip("only our own nodes are killed here")
    topic, group = make_topic(target, partitions=1), target.topic("g")
    client.produce(topic, [Sent(b"%d" % number, partition=0) for number in range(50)])
    client.do("join", member="a", group=group, topics=[topic])
    assert len(client.poll("a", 50)) == 50
    client.do("commit", member="a")
    leader = leader_of(target, topic)
    kill(target, leader)
    try:
        client.produce(topic, [Sent(b"more %d" % number, partition=0) for number in range(50)])
        found = [record.value for record in client.poll("a", 50, timeout_s=60.0)]
        assert found == [b"more %d" % number for number in range(50)]
        client.do("commit", member="a")
        assert client.do("committed", member="a", topic=topic) == {"0": 100}
    finally:
        bring_back(target, leader)
        client.do("leave", member="a")
