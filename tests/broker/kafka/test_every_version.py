"""A real node answers every request in every version that it advertises, whatever is in it, with what kio can read."""

import random
import struct
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from ottla.broker.kafka.versions import SERVED, ApiKey
from ottla.client import sync
from ottla.client.testing import LocalCluster, cluster

from .examples import TOPIC, example
from .kio_bytes import every_version, frame_of, read_response, request_class, split_header
from .node import Raw


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with cluster(kafka=True, group_consumer_heartbeat_interval_ms=100, offsets_topic_num_partitions=1) as running:
        with sync.connect(running.servers) as client:
            client.admin.create_topic(TOPIC, partitions=2)
            with client.producer() as producer:
                producer.send(TOPIC, b"one", partition=0)
        yield running


@pytest.fixture
def raw(servers: LocalCluster) -> Iterator[Raw]:
    with Raw(servers.kafka_servers[0]) as connection:
        yield connection


@pytest.mark.parametrize(("key", "version"), every_version())
def test_it_is_answered(raw: Raw, key: ApiKey, version: int) -> None:
    chance = random.Random(f"{key.name} {version}")
    for _ in range(6):
        entity = example(request_class(key, version), chance)
        if key is ApiKey.PRODUCE and entity.acks == 0:
            continue
        if key is ApiKey.JOIN_GROUP:
            entity = type(entity)(**{f.name: getattr(entity, f.name) for f in fields(entity)} | _lonely(version))
        raw.ask(entity)


def _lonely(version: int) -> dict[str, Any]:
    """A join that is refused at once: one that is not may wait for others."""
    return {"session_timeout": timedelta(milliseconds=1)}


@pytest.mark.parametrize("version", [-1, 5, 99, 32767])
def test_who_asks_for_unknown_versions_is_told_the_known_ones_and_may_go_on(raw: Raw, version: int) -> None:
    raw.send(struct.pack(">hhi", ApiKey.API_VERSIONS, version, 9) + b"\x00\x04test\x00\x00\x00")
    response = raw.receive()
    assert response is not None
    correlation_id, body = split_header(ApiKey.API_VERSIONS, 0, response)
    found = read_response(ApiKey.API_VERSIONS, 0, body)
    assert (correlation_id, found.error_code) == (9, 35)
    assert {(each.api_key, each.min_version, each.max_version) for each in found.api_keys} == {
        (key, served.oldest, served.newest) for key, served in SERVED.items()
    }
    assert raw.ask(request_class(ApiKey.API_VERSIONS, 0)()).error_code == 0


def test_pipelined_requests_are_answered_in_their_order(raw: Raw) -> None:
    chance = random.Random(1)
    asked = [ApiKey.METADATA, ApiKey.FETCH, ApiKey.API_VERSIONS, ApiKey.LIST_GROUPS, ApiKey.METADATA]
    for number, key in enumerate(asked):
        raw.send(frame_of(example(request_class(key, SERVED[key].newest), chance), correlation_id=number))
    for number, key in enumerate(asked):
        response = raw.receive()
        assert response is not None
        correlation_id, body = split_header(key, SERVED[key].newest, response)
        assert correlation_id == number
        read_response(key, SERVED[key].newest, body)


@pytest.mark.parametrize("client_id", [None, "", "ü" * 50])
def test_any_name_of_a_client_will_do(raw: Raw, client_id: str | None) -> None:
    raw.send(frame_of(request_class(ApiKey.METADATA, 1)(topics=()), client_id))
    response = raw.receive()
    assert response is not None


def test_a_broken_request_ends_its_connection_and_no_other(servers: LocalCluster, raw: Raw) -> None:
    with Raw(servers.kafka_servers[0]) as other:
        other.send(struct.pack(">hhih", ApiKey.METADATA, 8, 1, 0) + b"\x7f\xff\xff\xff")
        assert other.receive() is None
    raw.ask(request_class(ApiKey.API_VERSIONS, 0)())


def test_transactions_are_refused_by_name(raw: Raw) -> None:
    init = request_class(ApiKey.INIT_PRODUCER_ID, 4)
    asked = init(transactional_id="t", transaction_timeout=timedelta(seconds=1), producer_id=-1, producer_epoch=-1)
    assert raw.ask(asked).error_code == 42
    find = request_class(ApiKey.FIND_COORDINATOR, 2)
    assert raw.ask(find(key="t", key_type=1)).error_code == 53, "final, for librdkafka too"
    assert raw.ask(find(key="t", key_type=2)).error_code == 42
