"""The blocking SDK decodes and encodes in the thread of who calls: heartbeats never wait for the user's code."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ottla.client.client import connect as connect_async
from ottla.client.outgoing import OutgoingRecord
from ottla.client.serializers import UndecodableRecord, UnencodableRecord
from ottla.client.sync import connect
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_sync_callbacks import SECONDS_MAX, take_away, until

Offsets = list[int]
Read = Callable[[Any], Iterator[int]]


class Codec:
    """Calls ``before`` with the number that a value is, in the thread that wants it decoded."""

    def __init__(self, before: Callable[[int], None]) -> None:
        self.before = before

    def encode(self, value: bytes) -> bytes:
        self.before(int(value))
        return value

    def decode(self, data: bytes) -> bytes:
        self.before(int(data))
        return data


def one_by_one(consumer: Any) -> Iterator[int]:
    return (record.offset for record in consumer)


def in_batches(consumer: Any) -> Iterator[int]:
    return (record.offset for batch in consumer.batches(max_records=10) for record in batch)


def to_the_end(consumer: Any) -> Iterator[int]:
    return (record.offset for record in consumer.read_to_end())


WAYS = [
    pytest.param({}, one_by_one, id="alone"),
    pytest.param({}, in_batches, id="alone, in batches"),
    pytest.param({}, to_the_end, id="alone, to the end"),
    pytest.param({"group": "g"}, one_by_one, id="in a group"),
    pytest.param({"group": "g"}, in_batches, id="in a group, in batches"),
]


@pytest.mark.parametrize(("grouped", "read"), WAYS)
@pytest.mark.parametrize("how", ["a codec", "an interceptor", "on_error"])
def test_heartbeats_do_not_wait_for_the_users_code(
    fake: FakeCluster, grouped: dict[str, Any], read: Read, how: str
) -> None:
    fill(fake.create("t"), 0, 10)
    me, waited = threading.get_ident(), []

    def wait(record: Any = None) -> Any:
        assert threading.get_ident() == me
        if not waited:
            seen = len(fake.groups.heartbeats)
            until(lambda: len(fake.groups.heartbeats) > seen + 2)
            waited.append(1)
        return record

    def fail(number: int) -> None:
        if number == 0:
            raise ValueError("not this one")

    options: dict[str, Any] = {
        "a codec": {"value": Codec(wait)},
        "an interceptor": {"interceptors": [wait]},
        "on_error": {"value": Codec(fail), "on_error": wait},
    }[how]
    with connect(fake.servers) as client, contextlib.ExitStack() as member:
        if not grouped:
            member.enter_context(client.consumer("t", group="g"))
        with client.consumer("t", **grouped, **options) as consumer:
            assert next(read(consumer)) == (how == "on_error")
        assert waited


@pytest.mark.parametrize(("grouped", "read"), WAYS)
@pytest.mark.parametrize("how", ["a codec", "an interceptor"])
def test_what_fails_is_the_next_until_it_is_sought_past(
    fake: FakeCluster, grouped: dict[str, Any], read: Read, how: str
) -> None:
    fill(fake.create("t"), 0, 10, per_batch=10)

    def fail(number: int) -> None:
        if number == 5:
            raise UndecodableRecord("t", 0, 5, "value", ValueError("it is broken"))

    options: dict[str, Any] = {"value": Codec(fail)}
    if how == "an interceptor":
        options = {"interceptors": [lambda record: fail(record.offset) or record]}
    with connect(fake.servers) as client:
        with client.consumer("t", **grouped, **options) as consumer:
            begun = read(consumer)
            assert [next(begun) for _ in range(5)] == list(range(5))
            for _ in range(3):
                with pytest.raises(UndecodableRecord, match="t-0: the value at offset 5"):
                    next(begun)
                begun = read(consumer)
            if grouped:
                assert consumer.position("t", 0) == 5
                consumer.commit()
                assert fake.groups.offsets["t", 0] == 5
            else:
                assert consumer.position(0) == 5
            consumer.seek("t", 0, 6)
            rest = read(consumer)
            assert [next(rest) for _ in range(4)] == [6, 7, 8, 9]
        if grouped:
            assert fake.groups.offsets["t", 0] == 10


@pytest.mark.parametrize(("grouped", "read"), WAYS)
def test_what_is_skipped_is_passed_and_committed(fake: FakeCluster, grouped: dict[str, Any], read: Read) -> None:
    fill(fake.create("t"), 0, 10, per_batch=5)
    told: Offsets = []

    def fail(number: int) -> None:
        if number in (0, 4, 5):
            raise ValueError("not this one")

    def note(error: UndecodableRecord) -> None:
        told.append(error.offset)
        if grouped:  # of what the handler has seen; not of what comes behind this one
            consumer.commit()
            assert fake.groups.offsets.get(("t", 0), 0) <= error.offset

    with connect(fake.servers) as client:
        with client.consumer("t", value=Codec(fail), on_error=note, **grouped) as consumer:
            records = read(consumer)
            assert [next(records) for _ in range(7)] == [1, 2, 3, 6, 7, 8, 9]
        assert told == [0, 4, 5]
        if grouped:
            assert fake.groups.offsets["t", 0] == 10


@pytest.mark.parametrize("read", [one_by_one, in_batches])
def test_what_is_revoked_while_it_is_decoded_is_for_others(fake: FakeCluster, read: Read) -> None:
    fill(fake.create("t"), 0, 10, per_batch=10)
    shown: Offsets = []
    revoked = threading.Event()

    def lose(number: int) -> None:
        if number == 3 and not revoked.is_set():
            take_away(fake)
            until(lambda: not consumer.assignment)
            revoked.set()

    with connect(fake.servers) as client:
        with client.consumer("t", group="g", value=Codec(lose)) as consumer:

            def read_on() -> None:
                with contextlib.suppress(Exception):
                    shown.extend(read(consumer))

            reader = threading.Thread(target=read_on)
            reader.start()
            assert revoked.wait(SECONDS_MAX)
            consumer.close()
            reader.join(SECONDS_MAX)
            assert not reader.is_alive()
        committed = fake.groups.offsets.get(("t", 0), 0)
    assert shown == list(range(committed)), "it is committed just as far as it was shown"
    assert committed == (3 if read is one_by_one else 0)


@pytest.mark.parametrize(("grouped", "read"), WAYS)
def test_ctrl_c_within_a_codec_passes_over_nothing(fake: FakeCluster, grouped: dict[str, Any], read: Read) -> None:
    fill(fake.create("t"), 0, 10, per_batch=10)
    interrupted: Offsets = []

    def interrupt(number: int) -> None:
        if number == 2 and not interrupted:
            interrupted.append(number)
            raise KeyboardInterrupt

    shown: Offsets = []
    with connect(fake.servers) as client, client.consumer("t", value=Codec(interrupt), **grouped) as consumer:
        with pytest.raises(KeyboardInterrupt):
            shown.extend(read(consumer))
        shown.extend(offset for _, offset in zip(range(10 - len(shown)), read(consumer), strict=False))
    assert shown == list(range(10))


def test_a_producer_encodes_in_the_thread_of_who_sends(fake: FakeCluster) -> None:
    fake.create("t")
    threads: set[str] = set()

    def note(_: int) -> None:
        threads.add(threading.current_thread().name)

    def intercept(record: OutgoingRecord) -> OutgoingRecord:
        threads.add(threading.current_thread().name)
        return record._replace(headers=(("sent", b"%d" % producer.metrics().records_sent),))

    with connect(fake.servers) as client, client.producer(value=Codec(note), interceptors=[intercept]) as producer:
        assert producer.send("t", b"1").offset == 0
        assert producer.send_nowait("t", b"2").result(SECONDS_MAX).offset == 1
        with pytest.raises(UnencodableRecord):
            producer.send("t", b"?")
        with pytest.raises(UnencodableRecord):
            producer.send_nowait("t", b"?").result(SECONDS_MAX)
        assert threads == {threading.current_thread().name}
    assert [record.headers for record in fake.topics["t"].partitions[0].records()] == [
        (("sent", b"0"),),
        (("sent", b"1"),),
    ]


async def test_a_record_that_waits_for_room_is_encoded_once() -> None:
    seen: list[bytes] = []
    async with FakeCluster() as cluster, connect_async(cluster.servers) as client:
        cluster.create("t")

        def note(record: OutgoingRecord) -> OutgoingRecord:
            seen.append(record.value)
            return record

        async with client.producer(interceptors=[note], buffer_bytes=200, linger_ms=0) as producer:
            await asyncio.gather(*(producer.send("t", b"%d" % number * 100) for number in range(5)))
        assert sorted(seen) == [b"%d" % number * 100 for number in range(5)]
