"""A producer that was silent for longer than the brokers remember it goes on, and nothing is lost or there twice."""

import time
from collections.abc import Iterator

import pytest

from .conftest import KAFKA, start
from .target import SOON_FORGOTTEN_MS, Target, running
from .test_records import not_offered_is_a_skip
from .worker import NotOffered, Sent, Worker

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running(tmp_path_factory.mktemp("forgetful"), KAFKA, forgetful=True) as target:
        yield target


@not_offered_is_a_skip
def test_a_forgotten_producer_goes_on(
    client: Worker, forgetful: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    topic = forgetful.topic(partitions=1)
    other = start(client.name, forgetful, tmp_path_factory.mktemp(client.name))
    try:
        other.produce(topic, values(0, 20), idempotent=True, keep="one")
        known = producers(other, topic)
        time.sleep(3 * SOON_FORGOTTEN_MS / 1000)  # it is silence that is tried
        other.produce(topic, values(20, 30), idempotent=True)  # our partitions look when there is something new
        assert not known & producers(other, topic)
        other.produce(topic, values(30, 50), idempotent=True, keep="one")
        assert [record.value for record in other.consume(topic, 50)] == [each.value for each in values(0, 50)]
    finally:
        other.close()


def values(start: int, end: int) -> list[Sent]:
    return [Sent(b"%d" % number, partition=0) for number in range(start, end)]


def producers(client: Worker, topic: str) -> set[int]:
    """That the leader knows, where the client can ask."""
    try:
        return set(client.admin("producers", topic=topic, partition=0))
    except NotOffered:
        return set()
