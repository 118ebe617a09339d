"""The leader is killed under each client: nothing acknowledged is lost, nothing is there twice, and it goes on."""

import threading

import pytest

from .conftest import start
from .target import Target
from .test_records import not_offered_is_a_skip
from .worker import Sent, Worker

pytestmark = pytest.mark.processes


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
    topic, group = target.topic(partitions=1), target.name("g")
    client.produce(topic, [Sent(b"%d" % number, partition=0) for number in range(50)])
    client.do("join", member="a", group=group, topics=[topic])
    assert len(client.poll("a", 50)) == 50
    client.do("commit", member="a")
    leader = target.leader(topic)
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
