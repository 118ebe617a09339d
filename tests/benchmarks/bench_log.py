"""What the log costs above a bare loop of crc32c and pwrite of the same bytes, in CPU time.

Run by hand: ``python tests/benchmarks/bench_log.py``. Each run writes at most 256 MB into a temporary directory.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ottla.log.checksum import crc32c
from ottla.log.clock import SystemClock
from ottla.log.model import LeaderEpoch, Offset, TopicId, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.records import BatchBuilder
from ottla.log.storage import SystemStorage

TOTAL_BYTES = 128 << 20
APPENDS_MAX = 20_000
RECORD_OVERHEAD_BYTES = 10
EPOCH = LeaderEpoch(1)


def make_batch(size_bytes: int) -> bytes:
    builder = BatchBuilder()
    now_ms = SystemClock().now_ms()
    value = bytes(min(1000, size_bytes - 80))
    for _ in range(max(1, size_bytes // (len(value) + RECORD_OVERHEAD_BYTES))):
        builder.append(None, value, timestamp_ms=now_ms)
    return builder.build()


def open_log(directory: Path) -> PartitionLog:
    return PartitionLog.open(
        SystemStorage(),
        directory,
        topic_partition=TopicPartition("bench", 0),
        topic_id=TopicId("AAAAAAAAAAAAAAAAAAAAAA"),
        clock=SystemClock(),
    )


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def bare(path: Path, data: bytes, count: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    position = 0
    for _ in range(count):
        crc32c(memoryview(data)[21:])
        position += os.pwrite(descriptor, data, position)
    os.close(descriptor)


def lead(log: PartitionLog, data: bytes, count: int) -> None:
    for _ in range(count):
        log.append_as_leader(data, EPOCH)


def follow(leader: PartitionLog, follower: PartitionLog) -> None:
    while data := leader.read(follower.log_end_offset, 1 << 20, leader.log_end_offset):
        follower.append_as_follower(data)


def read_all(log: PartitionLog, step: int) -> None:
    offset, end = log.log_start_offset, log.log_end_offset
    while offset < end:
        log.read(offset, 1 << 20, end)
        offset = Offset(offset + step)


def measure(root: Path, data: bytes, count: int) -> str:
    """One line of the table."""
    bare(root / "warm", data, count)  # the first growth of the page cache is not what is measured
    (root / "warm").unlink()
    floor = cpu_seconds(lambda: bare(root / "bare", data, count)) / count * 1e6
    (root / "bare").unlink()
    leader, follower = open_log(root / "leader"), open_log(root / "follower")
    led = cpu_seconds(lambda: lead(leader, data, count)) / count * 1e6
    followed = cpu_seconds(lambda: follow(leader, follower)) / count * 1e6
    per_read = max(1, (1 << 20) // len(data)) * (leader.log_end_offset // count)
    rate = leader.size_bytes / 1e6 / max(1e-9, cpu_seconds(lambda: read_all(leader, per_read)))
    leader.close()
    follower.close()
    figures = f"{led:>11.1f}{led / floor:>7.2f}{followed:>16.1f}{followed / floor:>7.2f}{rate:>11.0f}"
    return f"{len(data):>8}{floor:>10.1f}{figures}"


def main() -> None:
    figures = f"{'leader us':>11}{'ratio':>7}{'read+follow us':>16}{'ratio':>7}{'read MB/s':>11}"
    print(f"{'batch':>8}{'bare us':>10}{figures}")
    for size in (1 << 10, 16 << 10, 64 << 10, 1 << 20):
        data = make_batch(size)
        with tempfile.TemporaryDirectory() as name:
            print(measure(Path(name), data, min(TOTAL_BYTES // len(data), APPENDS_MAX)))


if __name__ == "__main__":
    main()
