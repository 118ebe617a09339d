"""What a record costs in the SDK itself, with no network: ``python -m tests.benchmarks.bench_sdk [records]``.

Accumulate: send_nowait's way through partitioner and accumulator. Encode: batches with CRC, in the order drained.
"""

import asyncio
import sys
import time

from ottla.client.accumulator import Accumulator
from ottla.client.batch import Limits
from ottla.client.partitioner import partition_for_key
from ottla.log.model import ProducerEpoch, ProducerId, ProducerIdAndEpoch, TopicId, TopicIdPartition

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


def main() -> None:
    """Print both, with and without keys."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    for name, keys in (("no key", None), ("8-byte keys", [b"%08d" % number for number in range(1_000)])):
        accumulate, encode = asyncio.run(run(count, keys))
        print(f"{name:12} accumulate {accumulate:10,.0f} records/s   encode {encode:12,.0f} records/s")


if __name__ == "__main__":
    main()
