"""The producer against brokers that fail: every record once, in order, or an error that says so."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client.batch import Batch
from ottla.client.client import Client, connect
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import (
    BufferFull,
    ConfigError,
    ConnectFailed,
    DeliveryTimeout,
    OttlaError,
    RecordTooLarge,
    RequestFailed,
    TopicNotFound,
)
from ottla.client.protocol import InitProducerIdRequest, MetadataRequest, ProduceRequest
from ottla.client.sender import Sender
from tests.client.fake_broker import FakeCluster

SECONDS_MAX = 10


async def values(cluster: FakeCluster, topic: str = "t", partition: int = 0) -> list[bytes | None]:
    return [record.value for record in cluster.topics[topic].partitions[partition].records()]


async def send_many(producer: Any, count: int, **fields: Any) -> list[Any]:
    futures = []
    for number in range(count):
        futures.append(producer.send_nowait("t", b"%d" % number, **fields))
        if number % 10 == 9:
            await asyncio.sleep(0)
    return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), SECONDS_MAX)


def small(client: Client, **options: Any) -> Any:
    return client.producer(**({"batch_size": 120, "linger_ms": 0} | options))


async def test_a_record_is_acknowledged_with_its_place() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        cluster.create("t", 4)
        async with client.producer() as producer:
            first = await producer.send("t", b"v", key=b"foobar", headers={"h": b"x"}, timestamp_ms=7)
            second = await producer.send("t", b"w", key=b"foobar")
        assert (first.topic, first.offset, first.timestamp_ms) == ("t", 0, 7)
        assert (second.partition, second.offset) == (first.partition, 1)
        record = cluster.topics["t"].partitions[first.partition].records()[0]
        assert (record.key, record.value, record.headers, record.timestamp_ms) == (b"foobar", b"v", (("h", b"x"),), 7)


async def test_leaving_the_block_flushes() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=60_000) as producer:
            future = producer.send_nowait("t", b"v")
        assert future.result().offset == 0
        with pytest.raises(OttlaError):
            producer.send_nowait("t", b"v")


@pytest.mark.parametrize(
    "event",
    [
        "drop",
        "drop_first",
        "late",
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    ],
)
async def test_each_record_is_stored_once_and_in_order_across_a_failure(event: ErrorCode | str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        cluster.script.extend([None, event, None, None, event])
        async with small(client) as producer:
            results = await send_many(producer, 60)
        assert [result.offset for result in results] == list(range(60))
        assert await values(cluster) == [b"%d" % number for number in range(60)]
        assert len(cluster.asked(InitProducerIdRequest)) == 1


@pytest.mark.parametrize("seed", range(6))
async def test_random_failures_and_moving_leaders_store_each_record_once(seed: int) -> None:
    chance = random.Random(seed)
    events: list[ErrorCode | str | None] = [None] * 6
    events += ["drop", "drop_first", "late", ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]
    async with FakeCluster(3) as cluster, connect(cluster.servers) as client:
        cluster.create("t", 3)
        cluster.script.extend(chance.choice(events) for _ in range(25))
        async with small(client) as producer:
            futures = []
            for number in range(150):
                futures.append(producer.send_nowait("t", b"%d" % number, partition=number % 3))
                if number % 25 == 24:
                    cluster.move("t", chance.randrange(3), chance.randrange(1, 4))
                    await asyncio.sleep(0.005)
            await asyncio.wait_for(asyncio.gather(*futures), SECONDS_MAX)
        for partition in range(3):
            expected = [b"%d" % number for number in range(150) if number % 3 == partition]
            assert await values(cluster, partition=partition) == expected


async def test_a_hint_is_followed_without_asking_for_metadata() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0) as producer:
            await producer.send("t", b"a")
            asked = len(cluster.asked(MetadataRequest))
            cluster.move("t", 0, 2)
            assert (await producer.send("t", b"b")).offset == 1
            assert len(cluster.asked(MetadataRequest)) == asked


async def test_without_a_hint_fresh_metadata_tells() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        cluster.hints = False
        async with client.producer(linger_ms=0) as producer:
            await producer.send("t", b"a")
            cluster.move("t", 0, 2)
            assert (await producer.send("t", b"b")).offset == 1


async def test_a_leader_that_says_nothing_is_left_once_another_leads() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0) as producer:
            await producer.send("t", b"a")
            cluster.nodes[1].frozen = True
            sending = asyncio.ensure_future(producer.send("t", b"b"))
            await asyncio.sleep(0)
            cluster.move("t", 0, 2)
            assert (await asyncio.wait_for(sending, SECONDS_MAX)).offset == 1
            cluster.nodes[1].frozen = False


async def test_a_refused_batch_fails_and_what_was_behind_it_goes_on_under_a_new_id() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        cluster.script.extend([None, ErrorCode.INVALID_RECORD])
        async with small(client) as producer:
            results = await send_many(producer, 40)
        failed = [number for number, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed
        assert all(isinstance(results[number], RequestFailed) for number in failed)
        expected = [b"%d" % number for number in range(40) if number not in failed]
        assert await values(cluster) == expected
        assert len(cluster.asked(InitProducerIdRequest)) == 2


async def test_a_record_not_acknowledged_in_time_fails_and_the_next_ones_do_not() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0, delivery_timeout_s=0.3) as producer:
            await producer.send("t", b"a")
            cluster.script.append("mute")
            with pytest.raises(DeliveryTimeout, match="may or may not"):
                await producer.send("t", b"b")
            assert (await producer.send("t", b"c")).offset == 2
        assert await values(cluster) == [b"a", b"b", b"c"]
        assert len(cluster.asked(InitProducerIdRequest)) == 2


@pytest.mark.parametrize("timestamp_ms", [-1, 1 << 63, -(10**20)])
async def test_a_timestamp_that_no_batch_can_hold_fails_its_own_record_only(timestamp_ms: int) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=5) as producer:
            beside = producer.send_nowait("t", b"a")
            with pytest.raises(RequestFailed) as refused:
                await producer.send("t", b"b", timestamp_ms=timestamp_ms)
            assert (await beside).offset == 0
        assert refused.value.code == "OTTLA-INVALID-TIMESTAMP"
        assert await values(cluster) == [b"a"]


async def test_a_record_that_was_refused_to_the_end_says_why() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0, delivery_timeout_s=0.3) as producer:
            cluster.script.extend([ErrorCode.KAFKA_STORAGE_ERROR] * 1_000)
            with pytest.raises(DeliveryTimeout, match="OTTLA-KAFKA-STORAGE-ERROR"):
                await producer.send("t", b"a")
            cluster.script.clear()


async def test_without_a_leader_records_wait_and_then_fail_as_never_sent() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        cluster.move("t", 0, None)
        async with client.producer(linger_ms=0, delivery_timeout_s=0.3) as producer:
            with pytest.raises(DeliveryTimeout, match="never sent"):
                await producer.send("t", b"a")
            sending = asyncio.ensure_future(producer.send("t", b"b"))
            await asyncio.sleep(0)
            cluster.move("t", 0, 1)
            assert (await sending).offset == 0


async def test_the_buffer_is_bounded_and_send_waits_for_room() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0, buffer_bytes=3_000) as producer:
            await producer.send("t", b"first")
            for _ in range(15):  # none of them leaves before this task waits
                producer.send_nowait("t", b"x" * 100)
            with pytest.raises(BufferFull):
                producer.send_nowait("t", b"x" * 100)
            metas = await asyncio.gather(*(producer.send("t", b"y" * 100) for _ in range(100)))
            assert [meta.offset for meta in metas] == sorted(meta.offset for meta in metas)


async def test_a_record_over_the_limit_is_refused_before_it_is_sent() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        cluster.create("tiny", **{"max.message.bytes": "500"})
        async with client.producer() as producer:
            with pytest.raises(RecordTooLarge) as caught:
                await producer.send("t", b"x" * (2 << 20))
            assert (caught.value.size, caught.value.limit) == (2 << 20, 1_048_588)
            with pytest.raises(RecordTooLarge):
                await producer.send("tiny", b"x" * 500)
            await asyncio.gather(*(producer.send("tiny", b"x" * 100) for _ in range(20)))
        assert all(batch.size_bytes <= 500 for batch in cluster.topics["tiny"].partitions[0].batches)


async def test_the_order_of_calls_is_kept_while_the_topic_is_looked_up() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        async with client.producer() as producer:  # made by the first record
            futures = [producer.send_nowait("t", b"%d" % number) for number in range(5)]
            await asyncio.gather(*futures)
        assert await values(cluster) == [b"0", b"1", b"2", b"3", b"4"]


async def test_what_waits_for_metadata_counts_until_it_does_not() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with small(client) as producer:
            futures = [producer.send_nowait("t", bytes(100)) for _ in range(20)]
            assert producer.metrics().buffered_bytes > 2000
            await asyncio.wait_for(asyncio.gather(*futures), SECONDS_MAX)
            assert producer.metrics().buffered_bytes == 0
            with pytest.raises(TopicNotFound):
                await producer.send("u", bytes(100), partition=7)
            assert producer.metrics().buffered_bytes == 0


async def test_a_deleted_topic_fails_its_records() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0) as producer:
            await producer.send("t", b"a")
            del cluster.topics["t"]
            cluster.index += 1
            with pytest.raises(TopicNotFound, match="deleted"):
                await asyncio.wait_for(producer.send("t", b"b"), SECONDS_MAX)


async def test_partitions_that_do_not_exist() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t", 2)
        async with client.producer() as producer:
            with pytest.raises(TopicNotFound, match="0 to 1"):
                await producer.send("t", b"a", partition=2)


@pytest.mark.parametrize(("acks", "offset"), [(0, None), (1, 0), ("all", 0), (-1, 0)])
async def test_acks(acks: int | str, offset: int | None) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(acks=acks) as producer:
            assert (await producer.send("t", b"a")).offset == offset
            await client.admin.list_topics()  # on the same stream: after it, the record has arrived
        assert await values(cluster) == [b"a"]
        (request,) = cluster.asked(ProduceRequest)
        assert isinstance(request, ProduceRequest)
        assert request.acks == {"all": -1}.get(str(acks), acks)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compression(codec: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(compression=codec) as producer:
            await send_many(producer, 20)
        assert len(await values(cluster)) == 20
        assert cluster.topics["t"].partitions[0].batches[0].compression.name.lower() == codec


@pytest.mark.parametrize(
    "options",
    [
        {"acks": 2},
        {"acks": 1, "idempotent": True},
        {"idempotent": "yes"},
        {"compression": "rar"},
        {"compression": 5},
        {"max_in_flight": 6},
        {"max_in_flight": 0},
        {"max_in_flight": "5"},
        {"lingerms": 1},
        {"linger_ms": "5"},
        {"linger_ms": -1},
        {"linger_ms": float("nan")},
        {"batch_size": 1.5},
        {"buffer_bytes": True},
        {"request_timeout_s": None},
        {"request_timeout_s": 1e7},
        {"delivery_timeout_s": 0},
        {"partitioner": 3},
        {"interceptors": [5]},
        {"interceptors": 5},
    ],
    ids=str,
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        connect("127.0.0.1:1").producer(**options)


async def test_nobody_there() -> None:
    with pytest.raises(ConnectFailed) as caught:
        async with connect("127.0.0.1:1"):
            pass
    assert [address for address, _ in caught.value.attempts] == ["127.0.0.1:1"]


async def test_cancellation_is_quick(quickly: "Callable[[Awaitable[object]], Awaitable[object]]") -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        producer = client.producer(linger_ms=0)
        await producer.send("t", b"a")
        cluster.nodes[1].frozen = True
        sending = asyncio.ensure_future(producer.send("t", b"b"))
        await asyncio.sleep(0.02)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await quickly(sending)
        await quickly(producer.close(timeout_s=0))


@pytest.fixture
def quickly() -> Callable[[Awaitable[object]], Awaitable[object]]:
    return lambda awaitable: asyncio.wait_for(awaitable, 3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"value": "text"}, r"value is str, not bytes\. Encode it: value\.encode\(\)"),
        ({"value": 7}, "value is int, not bytes"),
        ({"value": bytearray(b"v")}, "value is bytearray, not bytes"),
        ({"value": b"v", "key": "k"}, r"key is str, not bytes\. Encode it: key\.encode\(\)"),
        ({"value": b"v", "headers": {"h": "x"}}, "header value is str, not bytes"),
        ({"value": b"v", "headers": [(b"h", b"x")]}, "a header's name is bytes, not str"),
    ],
)
async def test_what_is_not_bytes_is_refused_at_once_and_harms_nothing(fields: dict[str, Any], said: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=60_000) as producer:
            kept = producer.send_nowait("t", b"kept")
            with pytest.raises(TypeError, match=said):
                producer.send_nowait("t", **fields)
            with pytest.raises(TypeError, match=said):
                await producer.send("t", **fields)
        assert kept.result().offset == 0
        assert await values(cluster) == [b"kept"]


async def ended(awaitable: Awaitable[object]) -> None:
    await asyncio.wait_for(awaitable, SECONDS_MAX)


@pytest.mark.parametrize(
    ("place", "acks"), [("encoding", "all"), ("encoding", 0), ("request", "all"), ("request", 0), ("answer", "all")]
)
async def test_an_unforeseen_failure_fails_its_batches_and_no_others(
    place: str, acks: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.set())
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(linger_ms=0, acks=acks) as producer:
            await ended(producer.send("t", b"before"))
            with monkeypatch.context() as patch:
                broken = {"encoding": Batch.encoded, "request": Sender._request, "answer": Sender._settle}[place]
                owner = Batch if place == "encoding" else Sender

                def fail(*arguments: object) -> None:
                    raise ZeroDivisionError

                patch.setattr(owner, broken.__name__, fail)
                future = producer.send_nowait("t", b"bad")
                await ended(producer.flush())
                await ended(troubles.wait())
            with pytest.raises(OttlaError, match="ZeroDivisionError") as failed:
                future.result()
            assert failed.value.code == "OTTLA-SEND-FAILED"
            await ended(producer.send("t", b"after"))
            await ended(producer.close())
        assert (await values(cluster))[-1] == b"after"


async def test_a_partitioner_that_raises_fails_its_record_and_no_other() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        cluster.create("t")
        async with client.producer(partitioner=lambda key, count: {b"good": 0}[key]) as producer:
            bad, good = producer.send_nowait("t", b"v", key=b"bad"), producer.send_nowait("t", b"v", key=b"good")
            await ended(producer.flush())
            with pytest.raises(KeyError):
                bad.result()
            assert good.result().offset == 0


@pytest.mark.parametrize("wrong", [1.5, True, "1", -1, 1 << 63])
async def test_a_wrong_time_is_refused_and_harms_no_record_beside_it(wrong: Any) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client, client.producer(linger_ms=50) as producer:
        cluster.create("t")
        good = [producer.send_nowait("t", b"%d" % number) for number in range(2)]
        with pytest.raises(RequestFailed, match=r"timestamp_ms is .*, not milliseconds since 1970") as raised:
            producer.send_nowait("t", b"bad", timestamp_ms=wrong)
        assert raised.value.code == "OTTLA-INVALID-TIMESTAMP"
        good.append(producer.send_nowait("t", b"2", timestamp_ms=7))
        assert [(await future).offset for future in good] == [0, 1, 2]


@pytest.mark.parametrize(("topic", "partition"), [(None, None), (5, 0), ("t", "0"), ("t", 1.0), ("t", True)])
async def test_a_place_of_a_wrong_type_is_refused_at_once(topic: Any, partition: Any) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client, client.producer() as producer:
        cluster.create("t", 2)
        with pytest.raises(TypeError, match=r"(topic|partition) is "):
            await producer.send(topic, b"v", partition=partition)
        assert (await producer.send("t", b"v", partition=1)).partition == 1
