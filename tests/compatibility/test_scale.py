"""A topic of a thousand partitions under each client."""

import pytest

from .target import Target
from .test_records import not_offered_is_a_skip
from .worker import Sent, Worker

pytestmark = [pytest.mark.processes, pytest.mark.slow]
PARTITIONS = 1_000


class Wide:
    """The topic, and how many records it has."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.written = 0


@pytest.fixture(scope="module")
def wide(target: Target) -> Wide:
    return Wide(target.topic(partitions=PARTITIONS, replicas=1))


@not_offered_is_a_skip
def test_a_thousand_partitions_are_described(client: Worker, wide: Wide) -> None:
    described = client.admin("describe_topic", topic=wide.topic)["partitions"]
    assert len(described) == PARTITIONS
    assert {each["leader"] for each in described} == {1, 2, 3}


@not_offered_is_a_skip
def test_a_thousand_partitions_are_written_and_read(client: Worker, wide: Wide) -> None:
    mine = client.name.encode()
    numbers = range(0, PARTITIONS, 50 if client.name == "kcat" else 1)  # kcat is started once for each
    places = client.produce(wide.topic, [Sent(mine, partition=number) for number in numbers])
    wide.written += len(places)
    assert [number for number, _ in places] == list(numbers)
    found = client.consume(wide.topic, wide.written)
    assert {record.partition for record in found if record.value == mine} == set(numbers)
