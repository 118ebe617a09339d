"""Records written by each client, the SDK and curl are the same bytes to every other, with every codec."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from ottla.client import sync

from .conftest import note, start
from .registry import installed
from .target import OurTarget, Target
from .test_records import CODECS, various
from .worker import ClientFailed, Got, NotOffered, Sent, Worker, encode

pytestmark = [pytest.mark.processes, pytest.mark.slow]

Places = list[tuple[int, int]]


class Party(Protocol):
    """Who writes and reads."""

    name: str

    def writable(self, records: list[Sent]) -> list[Sent]: ...
    def produce(self, topic: str, records: list[Sent], **options: Any) -> Places: ...
    def consume(self, topic: str, count: int) -> list[Got]: ...
    def sees(self, read: Got, written: Sent) -> bool: ...


class _Ours:
    def __init__(self, target: OurTarget) -> None:
        self._servers = target.cluster.servers

    def writable(self, records: list[Sent]) -> list[Sent]:
        return records

    def sees(self, read: Got, written: Sent) -> bool:
        expected = written if written.timestamp is not None else written._replace(timestamp=read.timestamp)
        return read.content == expected


class Sdk(_Ours):
    """Our own client."""

    name = "the SDK"

    def produce(self, topic: str, records: list[Sent], codec: str) -> Places:
        with sync.connect(self._servers) as sdk, sdk.producer(compression=codec) as producer:
            sent = [
                producer.send_nowait(
                    topic,
                    each.value,
                    key=each.key,
                    headers=list(each.headers),
                    partition=each.partition,
                    timestamp_ms=each.timestamp,
                )
                for each in records
            ]
            return [(place.partition, place.offset) for place in (each.result() for each in sent)]

    def consume(self, topic: str, count: int) -> list[Got]:
        found = []
        with sync.connect(self._servers) as sdk, sdk.consumer(topic, start="earliest") as consumer:
            for r in consumer:
                headers = tuple((name, value or b"") for name, value in r.headers)
                found.append(Got(topic, r.partition, r.offset, r.key, r.value, headers, r.timestamp_ms))
                if len(found) == count:
                    return found
        raise AssertionError("the consumer ended")


class Curl(_Ours):
    """HTTP, a record at a time, without a codec."""

    name = "curl"

    def produce(self, topic: str, records: list[Sent], codec: str) -> Places:
        if codec != "none":
            raise NotOffered("the node writes it as it comes")
        return [self._post(topic, each) for each in records]

    def _post(self, topic: str, record: Sent) -> tuple[int, int]:
        body = {
            "partition_id": record.partition,
            "timestamp": record.timestamp,
            "key": {"type": "BINARY", "data": encode(record.key)},
            "value": {"type": "BINARY", "data": encode(record.value)},
            "headers": [{"name": name, "value": encode(value)} for name, value in record.headers],
        }
        url = f"http://{self._servers[0]}/v3/clusters/-/topics/{topic}/records"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            said = json.load(response)
        return said["partition_id"], said["offset"]

    def consume(self, topic: str, count: int) -> list[Got]:
        url = f"http://{self._servers[1]}/v1/topics/{topic}/records?from=start&limit={count}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return [
                Got(
                    topic,
                    each["partition"],
                    each["offset"],
                    _data(each["key"]),
                    _data(each["value"]),
                    tuple((header["name"], _data(header["value"]) or b"") for header in each["headers"]),
                    each["timestamp"],
                )
                for each in json.load(response)
            ]


def _data(told: dict[str, Any] | None) -> bytes | None:
    if told is None:
        return None
    if told["type"] == "BINARY":
        return base64.b64decode(told["data"])
    return told["data"].encode() if told["type"] == "STRING" else json.dumps(told["data"]).encode()


@pytest.fixture(scope="module")
def parties(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Party]]:
    workers: list[Worker] = []
    try:
        for known in installed():
            workers.append(start(known.name, target, tmp_path_factory.mktemp(f"cross-{known.name}")))
        ours: list[Party] = [Sdk(target), Curl(target)] if isinstance(target, OurTarget) else []
        yield [*workers, *ours]
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.xdist_group("cross")
@pytest.mark.parametrize("codec", CODECS)
def test_what_one_writes_every_other_reads(parties: list[Party], target: Target, codec: str) -> None:
    topic = target.topic(partitions=2)
    written: dict[tuple[int, int], tuple[str, Sent]] = {}
    for party in parties:
        records = party.writable(various())
        try:
            places = party.produce(topic, records, codec=codec)
        except NotOffered:
            continue
        written.update(zip(places, ((party.name, record) for record in records), strict=True))
    assert len(written) > 100
    wrong = [problem for reader in parties for problem in _read(reader, topic, written, codec)]
    assert wrong == []


def _read(reader: Party, topic: str, written: dict[tuple[int, int], tuple[str, Sent]], codec: str) -> list[str]:
    """What is wrong with what the reader finds."""
    wrong: dict[str, str] = {}
    writers = {name for name, _ in written.values()}
    try:
        found = {(r.partition, r.offset): r for r in reader.consume(topic, len(written))}
    except ClientFailed as failed:
        wrong = dict.fromkeys(writers, f"{reader.name} reads {topic}: {failed}")
    else:
        for place, (writer, record) in written.items():
            if place not in found:
                wrong[writer] = f"{reader.name} finds no {place} of {writer}"
            elif not reader.sees(found[place], record):
                wrong[writer] = f"{reader.name} finds {found[place]!r:.300} for {record!r:.300} of {writer}"
    for writer in writers:
        outcome = "failed" if writer in wrong else "passed"
        note(case="cross", writer=writer, reader=reader.name, codec=codec, outcome=outcome)
    return list(wrong.values())
