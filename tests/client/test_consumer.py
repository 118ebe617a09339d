"""The consumer: every record once and in order, from where it was told, never more in memory than it may."""

import asyncio
import struct
from typing import Any

import pytest

from ottla.client.client import connect
from ottla.client.consumer import Consumer, ConsumerRecord, LogTruncated
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import ConfigError, CorruptBatchError, RequestFailed, TopicNotFound
from ottla.client.protocol import FetchRequest
from ottla.log.checksum import crc32c
from ottla.log.model import LeaderEpoch, Offset, TopicPartition
from ottla.log.records import CRC_START, HEADER_SIZE, BatchBuilder, RecordBatch
from tests.client.fake_broker import FakeCluster, Topic

SECONDS_MAX = 8


def fill(topic: Topic, partition: int, count: int, *, per_batch: int = 5, size: int = 1) -> None:
    """Values are the offsets."""
    state = topic.partitions[partition]
    end = state.end + count
    while state.end < end:
        builder = BatchBuilder()
        for offset in range(state.end, min(end, state.end + per_batch)):
            builder.append(None, (b"%d" % offset).ljust(size), timestamp_ms=1)
        state.append(builder.build())


async def take(consumer: Consumer, count: int) -> list[ConsumerRecord]:
    async def run() -> list[ConsumerRecord]:
        return [await consumer.__anext__() for _ in range(count)]

    return await asyncio.wait_for(run(), SECONDS_MAX)


async def read_all(consumer: Consumer) -> list[ConsumerRecord]:
    async def run() -> list[ConsumerRecord]:
        return [record async for record in consumer.read_to_end()]

    return await asyncio.wait_for(run(), SECONDS_MAX)


def offsets(records: list[ConsumerRecord], partition: int = 0) -> list[int]:
    return [record.offset for record in records if record.partition == partition]


async def test_every_record_of_every_partition_in_order_and_then_the_end() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 3)
        for partition, count in enumerate((12, 0, 30)):
            fill(topic, partition, count)
        async with client.consumer("t") as consumer:
            records = await read_all(consumer)
            assert [offsets(records, number) for number in range(3)] == [list(range(12)), [], list(range(30))]
            assert [consumer.position(number) for number in range(3)] == [12, 0, 30]
            fill(topic, 1, 2)
            cluster.wake()
            assert offsets(await take(consumer, 2), 1) == [0, 1]  # what comes later is read on


async def test_read_to_end_stops_at_the_end_of_its_beginning() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 7)
        seen = []
        async with client.consumer("t") as consumer:
            async for record in consumer.read_to_end():
                seen.append(record)
                if record.offset == 3:
                    fill(topic, 0, 20)
                    cluster.wake()
            assert offsets(seen) == list(range(7))
            assert offsets(await take(consumer, 3)) == [7, 8, 9]


@pytest.mark.parametrize("last", [0, 1, 2])
async def test_who_leaves_a_reading_early_misses_nothing(last: int) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 30, per_batch=10)
        async with client.consumer("t") as consumer:
            assert offsets(await take(consumer, 1)) == [0]  # its batch reaches beyond the end that is named now
            async for record in consumer.read_to_end({0: 4}):
                if record.offset == 1 + last:
                    break
            assert consumer.position(0) == 2 + last
            assert offsets(await take(consumer, 28 - last)) == list(range(2 + last, 30))


async def test_an_end_inside_of_a_batch_is_kept_to_and_read_on_from() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 30, per_batch=10)
        async with client.consumer("t") as consumer:
            assert [record.offset async for record in consumer.read_to_end({0: 14})] == list(range(14))
            assert consumer.position(0) == 14
            assert offsets(await take(consumer, 16)) == list(range(14, 30))


async def test_a_loop_goes_where_it_is_told_from_inside() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 20, per_batch=10)
        seen = []
        async with client.consumer("t") as consumer:
            async for record in consumer:
                seen.append(record.offset)
                assert consumer.position(0) == record.offset + 1
                if seen == [0, 1, 2]:
                    await consumer.seek("t", 0, offset=15)
                elif record.offset == 16:
                    consumer.pause()
                    assert consumer.position(0) == 17
                    consumer.resume()
                elif record.offset == 19:
                    break
            assert seen == [0, 1, 2, 15, 16, 17, 18, 19]
            assert consumer.metrics().records_read == len(seen)
            await consumer.seek("t", 0, offset=3)
            async for record in consumer:
                assert record.offset == 3
                break
            assert offsets(await take(consumer, 2)) == [4, 5]  # one loop goes on where another has got to


async def test_a_start_inside_of_a_batch_skips_what_is_before_it() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 20, per_batch=10)
        async with client.consumer("t", start=13) as consumer:
            assert offsets(await read_all(consumer)) == list(range(13, 20))


async def test_latest_starts_at_the_end() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 20)
        async with client.consumer("t", start="latest") as consumer:
            assert await read_all(consumer) == []
            fill(topic, 0, 1)
            cluster.wake()
            assert offsets(await take(consumer, 1)) == [20]


async def test_seek_goes_back_and_forth_and_drops_what_was_read_ahead() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 50)
        async with client.consumer("t") as consumer:
            await take(consumer, 7)
            await consumer.seek("t", 0, offset=42)
            assert offsets(await take(consumer, 2)) == [42, 43]
            await consumer.seek("t", 0, offset="earliest")
            assert offsets(await take(consumer, 2)) == [0, 1]
            await consumer.seek("t", 0, offset="latest")
            assert consumer.position(0) == 50


async def test_a_paused_partition_is_silent_and_loses_nothing() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 2)
        fill(topic, 0, 40)
        async with client.consumer("t") as consumer:
            assert offsets(await take(consumer, 3)) == [0, 1, 2]
            consumer.pause(0)
            fill(topic, 1, 5)
            cluster.wake()
            assert [record.partition for record in await take(consumer, 5)] == [1] * 5
            consumer.resume(0)
            assert offsets(await take(consumer, 37)) == list(range(3, 40))


async def test_batches_hold_no_more_than_asked_and_no_less_than_one() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 23)
        seen: list[ConsumerRecord] = []
        sizes = []
        async with client.consumer("t") as consumer:
            async for batch in consumer.batches(max_records=10, max_wait=0.05):
                sizes.append(len(batch))
                seen += batch
                if len(seen) == 23:
                    break
        assert max(sizes) == 10
        assert offsets(seen) == list(range(23))


async def test_a_batch_that_is_given_up_while_it_fills_is_read_again() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t", 2), 0, 5)
        async with client.consumer("t") as consumer:
            with pytest.raises(TimeoutError):  # five are here, and six are waited for
                await asyncio.wait_for(anext(consumer.batches(max_records=6, max_wait=8)), 0.3)
            assert consumer.position(0) == 0
            assert offsets(await asyncio.wait_for(anext(consumer.batches(max_records=5)), 8)) == list(range(5))


async def test_what_is_read_ahead_is_bounded() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 4)
        for partition in range(4):
            fill(topic, partition, 60, per_batch=1, size=1_000)
        options = {"prefetch_bytes": 20_000, "partition_bytes": 5_000, "fetch_bytes": 10_000}
        async with client.consumer("t", **options) as consumer:
            await take(consumer, 1)
            for _ in range(20):
                await asyncio.sleep(0.005)
            fetcher = consumer._fetcher
            assert 15_000 < fetcher.read_ahead.buffered_bytes <= 20_000 + 4 * 1_100  # a batch may exceed its room
            assert max(partition.buffered_bytes for partition in fetcher.partitions.values()) <= 2 * 5_000
            assert len(await take(consumer, 239)) == 239
            assert fetcher.read_ahead.buffered_bytes == 0


async def test_a_full_partition_does_not_hold_up_another_and_a_long_poll_not_itself() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 2)
        fill(topic, 0, 30, per_batch=1, size=1_000)
        async with client.consumer("t", max_wait_ms=60_000, partition_bytes=3_000) as consumer:
            assert offsets(await take(consumer, 1)) == [0]
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert consumer._fetcher.partitions[TopicPartition("t", 0)].buffered_bytes <= 2 * 3_000
            assert offsets(await take(consumer, 29)) == list(range(1, 30))


async def test_a_moved_leader_is_followed_and_nothing_is_read_twice() -> None:
    async with FakeCluster(3) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 10)
        async with client.consumer("t") as consumer:
            records = await take(consumer, 10)
            for leader in (2, 3, 1):
                cluster.move("t", 0, leader)
                fill(topic, 0, 5)
                cluster.wake()
                records += await take(consumer, 5)
            await cluster.nodes[1].break_streams()
            fill(topic, 0, 5)
            cluster.wake()
            records += await take(consumer, 5)
        assert offsets(records) == list(range(30))
        asked = [entry for request in cluster.asked(FetchRequest) for entry in request.partitions]  # type: ignore[attr-defined]
        assert {entry.current_leader_epoch for entry in asked} == {0, 1, 2, 3}
        assert 2 in {entry.last_fetched_epoch for entry in asked}


async def test_a_new_partition_is_read_from_its_beginning() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        async with client.consumer("t", start="latest") as consumer:
            grown = cluster.create("other", 1).partitions[0]
            topic.partitions.append(grown)
            fill(topic, 1, 3)
            cluster.index += 1
            await consumer._fetcher._try_refresh()
            consumer._fetcher._schedule()
            assert offsets(await take(consumer, 3), 1) == [0, 1, 2]


def retain(topic: Topic, start: int) -> None:
    state = topic.partitions[0]
    state.start = start
    state.batches = [batch for batch in state.batches if batch.base_offset >= start]


@pytest.mark.parametrize(("reset", "first"), [("earliest", 10), ("latest", 20)])
async def test_an_offset_that_is_gone_is_an_error_or_reset(reset: str, first: int) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 20)
        retain(topic, 10)
        async with client.consumer("t", start=3) as consumer:
            for _ in range(2):  # it does not go away by itself
                with pytest.raises(RequestFailed) as caught:
                    await take(consumer, 1)
                assert caught.value.code == "OTTLA-OFFSET-OUT-OF-RANGE"
            await consumer.seek("t", 0, offset=12)
            assert offsets(await take(consumer, 1)) == [12]
        async with client.consumer("t", start=3, auto_offset_reset=reset) as consumer:
            reading = asyncio.ensure_future(take(consumer, 1))
            while consumer.position(0) in (3, None):
                await asyncio.sleep(0.002)
            fill(topic, 0, 1)
            cluster.wake()
            assert offsets(await reading) == [first]


async def test_a_start_beyond_the_end_waits_for_the_log_to_get_there() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 4)
        async with client.consumer("t", start=6) as consumer:
            assert await read_all(consumer) == []
            fill(topic, 0, 4)
            cluster.wake()
            assert offsets(await take(consumer, 2)) == [6, 7]


async def test_a_truncated_log_is_told_and_can_be_read_on() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 10)
        async with client.consumer("t") as consumer:
            await take(consumer, 10)
            del topic.partitions[0].batches[1:]
            cluster.move("t", 0, 1)
            with pytest.raises(LogTruncated) as caught:
                await take(consumer, 1)
            assert caught.value.offset == 5
            await consumer.seek("t", 0, offset=5)
            fill(topic, 0, 1)
            cluster.wake()
            assert offsets(await take(consumer, 1)) == [5]


@pytest.mark.parametrize("damage", ["bytes", "records"])
async def test_a_damaged_batch_is_named_and_can_be_passed(damage: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 15)
        batches = topic.partitions[0].batches
        data = bytearray(batches[1].buffer)
        if damage == "bytes":
            data[-1] ^= 1
        else:
            builder = BatchBuilder()
            for _ in range(5):
                builder.append(None, b"v", timestamp_ms=1)
            data = bytearray(builder.build())
            data[HEADER_SIZE] += 2  # the first record says that it is longer than it is
            struct.pack_into(">I", data, 17, crc32c(data[CRC_START:]))
            data[:61] = RecordBatch.parse(bytes(data)).stamped_header(Offset(5), LeaderEpoch(0))
        batches[1] = RecordBatch.parse(bytes(data))
        async with client.consumer("t") as consumer:
            assert offsets(await take(consumer, 5)) == [0, 1, 2, 3, 4]
            with pytest.raises(CorruptBatchError, match=r"t-0.*offset 5"):
                await take(consumer, 1)
            await consumer.seek("t", 0, offset=10)
            assert offsets(await take(consumer, 5)) == [10, 11, 12, 13, 14]


async def test_a_deleted_topic_ends_the_reading() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 5)
        async with client.consumer("t") as consumer:
            await take(consumer, 5)
            await client.admin.delete_topic("t")
            with pytest.raises(TopicNotFound, match="deleted"):
                await take(consumer, 1)


async def test_chosen_partitions_only() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t", 3)
        for partition in range(3):
            fill(topic, partition, 4)
        async with client.consumer("t", partitions=[1]) as consumer:
            assert {record.partition for record in await read_all(consumer)} == {1}
            assert consumer.partitions == (1,)
        with pytest.raises(TopicNotFound):
            await client.consumer("t", partitions=[3]).start()
        with pytest.raises(TopicNotFound):
            await client.consumer("nothing").start()


async def test_batches_as_stored() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 15)
        async with client.consumer("t") as consumer:
            found = []
            async for partition, batch in consumer.fetch_batches():
                found.append((partition, batch.base_offset, batch.record_count))
                if len(found) == 3:
                    break
        assert found == [(0, 0, 5), (0, 5, 5), (0, 10, 5)]


@pytest.mark.parametrize(
    "options",
    [
        {"start": "middle"},
        {"start": -1},
        {"start": 1.5},
        {"start": None},
        {"start": True},
        {"auto_offset_reset": "x"},
        {"prefetch": 1},
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        connect("127.0.0.1:1").consumer("t", **options)


def fetches(cluster: FakeCluster, rack: str) -> int:
    return sum(request.rack == rack for request in cluster.requests if isinstance(request, FetchRequest))


async def test_a_follower_near_by_is_read_from_once_the_leader_names_it() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 20)
        cluster.near["b"] = 2
        async with client.consumer("t", rack="b") as consumer:
            assert offsets(await take(consumer, 20)) == list(range(20))
            partition = consumer._fetcher.partitions[TopicPartition("t", 0)]
            assert partition.replica == 2
            fill(topic, 0, 5)
            cluster.wake()
            assert offsets(await take(consumer, 5)) == list(range(20, 25))
            assert partition.replica == 2


@pytest.mark.parametrize("error", [ErrorCode.OFFSET_NOT_AVAILABLE, ErrorCode.OFFSET_OUT_OF_RANGE])
async def test_whatever_is_wrong_with_the_follower_the_leader_is_read_from(error: ErrorCode) -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 20)
        cluster.near["b"], cluster.near_error = 2, error
        async with client.consumer("t", rack="b") as consumer:
            assert offsets(await take(consumer, 20)) == list(range(20))
            assert consumer._fetcher.partitions[TopicPartition("t", 0)].replica is None
            assert fetches(cluster, "b") == 2, "the leader, which names it, and the follower, once"


async def test_a_follower_that_is_gone_is_left_for_the_leader() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        topic = cluster.create("t")
        fill(topic, 0, 20)
        cluster.near["b"] = 2
        async with client.consumer("t", rack="b") as consumer:
            await take(consumer, 20)
            await cluster.nodes[2].stop()
            fill(topic, 0, 5)
            cluster.wake()
            assert offsets(await take(consumer, 5)) == list(range(20, 25))


async def test_without_a_rack_nobody_is_named() -> None:
    async with FakeCluster(2) as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        cluster.near["b"] = 2
        async with client.consumer("t") as consumer:
            await take(consumer, 5)
            assert fetches(cluster, "b") == 0
