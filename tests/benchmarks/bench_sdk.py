"""What a record costs in the SDK: ``python -m tests.benchmarks.bench_sdk [records]``.

Accumulate: send_nowait through partitioner and accumulator, without network. Encode: batches with CRC, in the order
drained. Then produce (acks=all, a future per record) and consume (every record decoded) against one node in a process
of its own. Beside other clients: bench_clients.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from ottla.client import sync
from ottla.client.accumulator import Accumulator
from ottla.client.batch import Limits
from ottla.client.client import Client, connect
from ottla.client.errors import BufferFull
from ottla.client.partitioner import partition_for_key
from ottla.log.model import ProducerEpoch, ProducerId, ProducerIdAndEpoch, TopicId, TopicIdPartition
from tests.processes.harness import Cluster

PARTITIONS = 6
VALUE = b"x" * 100


async def run(count: int, keys: list[bytes] | None) -> tuple[float, float]:
    """Records a second of accumulation and of encoding."""
    limits = Limits(
        batch_bytes=64 << 10,
        buffer_bytes=1 << 40,
        linger_s=0.0,
        delivery_timeout_s=1e9,
        in_flight_max=5,
        idempotent=True,
    )
    accumulator: Accumulator[asyncio.Future[object]] = Accumulator(limits)
    accumulator.identity = ProducerIdAndEpoch(ProducerId(1), ProducerEpoch(0))
    targets = [TopicIdPartition(TopicId("t"), number) for number in range(PARTITIONS)]
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for number in range(count):
        key = None if keys is None else keys[number % len(keys)]
        target = targets[number % PARTITIONS if key is None else partition_for_key(key, PARTITIONS)]
        waiter: asyncio.Future[object] = loop.create_future()
        accumulator.append(target, key, VALUE, (), 1, waiter, size=108, now_s=0.0, batch_bytes_max=1 << 20)
    accumulated = time.perf_counter()
    while batches := accumulator.drain(0.0, 4 << 20, lambda _: True):
        for batch in batches:
            batch.encoded()
            accumulator.succeeded(batch)
    encoded = time.perf_counter()
    return count / (accumulated - started), count / (encoded - accumulated)


async def produce(client: Client, topic: str, size: int, count: int) -> float:
    """Records a second, all acknowledged."""
    value = bytes(size)
    await client.admin.create_topic(topic, partitions=PARTITIONS)
    async with client.producer() as producer:
        started = time.perf_counter()
        future = None
        for number in range(count):
            while True:
                try:
                    future = producer.send_nowait(topic, value)
                    break
                except BufferFull:
                    assert future is not None
                    await asyncio.sleep(0.001)
            if number % 200 == 0:
                await asyncio.sleep(0)
        await producer.flush()
        assert future is not None
        future.result()
        return count / (time.perf_counter() - started)


async def consume(client: Client, topic: str, count: int, **options: str) -> float:
    """Records a second, handed out one by one."""
    async with client.consumer(topic, **options) as consumer:
        await anext(consumer)
        started = time.perf_counter()
        left = count - 1
        async for _ in consumer:
            left -= 1
            if not left:
                break
        return (count - 1) / (time.perf_counter() - started)


def consume_blocking(servers: list[str], topic: str, count: int) -> float:
    """The same through the blocking mirror."""
    with sync.connect(servers) as client, client.consumer(topic) as consumer:
        next(consumer)
        started = time.perf_counter()
        for _ in range(count - 1):
            next(consumer)
        return (count - 1) / (time.perf_counter() - started)


def show(what: str, size: int, rate: float) -> None:
    print(f"{what:24}{size:6} B {rate:12,.0f} records/s {rate * size / 1e6:8.1f} MB/s", flush=True)


async def on_a_node(count: int) -> None:
    """Against one `ottla start`."""
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(Path(directory), 1) as cluster, connect(cluster.servers) as client:
            for size, records in ((100, count), (1_000, count // 4)):
                topic = f"t{size}"
                show("produce", size, await produce(client, topic, size, records))
                show("consume", size, await consume(client, topic, records))
                show("consume in a group", size, await consume(client, topic, records, group="g"))
                blocking = await asyncio.to_thread(consume_blocking, cluster.servers, topic, records)
                show("consume blocking", size, blocking)


def main() -> None:
    """Print all of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    for name, keys in (("no key", None), ("8-byte keys", [b"%08d" % number for number in range(1_000)])):
        accumulate, encode = asyncio.run(run(count, keys))
        print(f"{name:12} accumulate {accumulate:10,.0f} records/s   encode {encode:12,.0f} records/s")
    try:
        import uvloop
    except ImportError:
        asyncio.run(on_a_node(count))
    else:
        uvloop.run(on_a_node(count))


if __name__ == "__main__":
    main()
