"""Any bytes are a request or a closed connection: never a crash, a hang, or memory without bound.

``python -m tests.broker.kafka.test_fuzz 1000000`` goes on for longer, from another seed.
"""

import contextlib
import random
import resource
import struct
import sys
import time

import pytest

from ottla.broker.kafka.entities import decode
from ottla.broker.kafka.fetch_request import decode_fetch
from ottla.broker.kafka.frames import FrameReader
from ottla.broker.kafka.header import read_header
from ottla.broker.kafka.produce import decode_produce
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.wire import Malformed
from ottla.client.testing import cluster

from .examples import example
from .kio_bytes import every_version, frame_of, on_the_wire, request_class
from .node import Raw

INPUTS = 100_000
MEMORY_MAX = 256 << 20
EDGES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff\x0f", b"\x00", b"\xff" * 10)


def corpus(chance: random.Random) -> list[bytes]:
    """Whole requests of every kind."""
    return [frame_of(example(request_class(*each), chance)) for each in every_version() for _ in range(3)]


def spoilt(frame: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, cut, doubled or replaced by what lies at the edge of a length."""
    data = bytearray(frame)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(8, max(9, len(data))) if chance.random() < 0.9 else chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 30)]
            case 3:
                edge = chance.choice(EDGES)
                data[at : at + len(edge)] = edge
            case _:
                data = data[:at]
    return bytes(data)


def swallow(frame: bytes) -> None:
    """What a connection does with a frame before a handler sees it."""
    view = memoryview(frame)
    try:
        header = read_header(view)
        if header.key is ApiKey.PRODUCE:
            decode_produce(view, header.body_at, header.version)
        elif header.key is ApiKey.FETCH:
            decode_fetch(view, header.body_at, header.version, {})
        elif header.served:
            decode(header.key, header.version, view[header.body_at :])
    except Malformed:
        pass


def fuzz(count: int, seed: int) -> None:
    chance = random.Random(seed)
    whole = corpus(chance)
    for number in range(count):
        if number % 10:
            swallow(spoilt(chance.choice(whole), chance))
        else:
            key, version = chance.choice(every_version())
            swallow(struct.pack(">hhi", key, version, 1) + chance.randbytes(chance.randrange(200)))


def test_a_hundred_thousand_inputs_are_requests_or_malformed() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fuzz(INPUTS, seed=7)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY_MAX


def test_streams_of_anything_are_cut_into_requests_or_malformed() -> None:
    chance = random.Random(3)
    shared = bytearray(1 << 12)
    for _ in range(2_000):
        reader = FrameReader(shared, 1 << 20)
        data = b"".join(
            on_the_wire(chance.randbytes(chance.randrange(10, 300))) if chance.random() < 0.9 else chance.randbytes(7)
            for _ in range(5)
        )
        try:
            while data:
                buffer = reader.buffer()
                size = min(len(buffer), len(data), chance.randrange(1, 200))
                buffer[:size] = data[:size]
                reader.received(size)
                data = data[size:]
        except Malformed:
            continue


def test_a_node_lives_through_it_and_serves_on(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(11)
    whole = [frame for frame in corpus(chance) if struct.unpack_from(">h", frame)[0] != ApiKey.JOIN_GROUP]
    with cluster(kafka=True, offsets_topic_num_partitions=1) as running:
        for _ in range(400):
            with Raw(running.kafka_servers[0]) as connection, contextlib.suppress(ConnectionError):
                for _ in range(chance.choice((1, 3))):
                    connection.send(spoilt(chance.choice(whole), chance))
        with Raw(running.kafka_servers[0]) as connection:
            answer = connection.ask(request_class(ApiKey.METADATA, 4)(topics=(), allow_auto_topic_creation=False))
            assert [broker.node_id for broker in answer.brokers] == [1]
    assert not [record for record in caplog.records if "request.failed" in record.getMessage()]


@pytest.mark.parametrize("key", [ApiKey.METADATA, ApiKey.FETCH, ApiKey.PRODUCE, ApiKey.OFFSET_COMMIT])
def test_many_elements_are_refused_before_they_take_long(key: ApiKey) -> None:
    """A million topics of one byte each: no request of a person, and seconds of everybody's time."""
    flexible = {ApiKey.METADATA: 12, ApiKey.FETCH: 12, ApiKey.PRODUCE: 11, ApiKey.OFFSET_COMMIT: 9}[key]
    before = {
        ApiKey.METADATA: b"",
        ApiKey.FETCH: bytes(25),
        ApiKey.PRODUCE: bytes(7),
        ApiKey.OFFSET_COMMIT: b"\x01" * 7,
    }
    body = before[key] + b"\xc1\x84\x3d" + bytes(1_000_000)
    read = {
        ApiKey.PRODUCE: lambda frame: decode_produce(frame, 0, flexible),
        ApiKey.FETCH: lambda frame: decode_fetch(frame, 0, flexible, {}),
    }.get(key, lambda frame: decode(key, flexible, frame))
    with pytest.raises(Malformed, match="elements"):
        read(memoryview(body))


if __name__ == "__main__":
    started = time.monotonic()
    count = int(sys.argv[1])
    fuzz(count, seed=time.time_ns())
    print(f"{count} inputs in {time.monotonic() - started:.1f} s")
