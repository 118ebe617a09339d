"""How long a log of a hundred segments takes to open, and what append and read cost beside bare system calls.

Run by hand: ``python -m tests.benchmarks.bench_log_open``. The log has 10 GB of 1 MB batches; they are written as holes
behind their headers, so it takes little room, and after a clean stop no record is read. For the unclean stop, the
last segment is written in full.
"""

import argparse
import gc
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ottla.log.checksum import crc32c
from ottla.log.clock import SystemClock
from ottla.log.config import LogConfig
from ottla.log.model import LeaderEpoch, Offset, TopicId, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.records import HEADER_SIZE, RecordBatch
from ottla.log.segment_names import segment_name
from ottla.log.storage import SystemFile, SystemStorage
from tests.benchmarks.bench_log import make_batch

EPOCH = LeaderEpoch(1)
TOPIC_ID = TopicId("AAAAAAAAAAAAAAAAAAAAAA")
SEGMENT_BYTES = 100 << 20
SEGMENTS = 100


class CountingFile(SystemFile):
    read_bytes = 0

    def read(self, position: int, size: int) -> bytes:
        data = super().read(position, size)
        CountingFile.read_bytes += len(data)
        return data


class HollowFile(CountingFile):
    """Writes a batch's header, and leaves a hole where its records would be."""

    def append_many(self, parts: object) -> None:
        header, records = parts  # type: ignore[misc]
        self.append(header)
        self.truncate(self.size() + len(records))


class CountingStorage(SystemStorage):
    kind: type[SystemFile] = CountingFile

    def open(self, path: Path, *, create: bool = False) -> SystemFile:
        return self.kind(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644))


def open_log(storage: SystemStorage, directory: Path, **options: object) -> PartitionLog:
    return PartitionLog.open(
        storage,
        directory,
        topic_partition=TopicPartition("bench", 0),
        topic_id=TOPIC_ID,
        config=LogConfig(segment_bytes=SEGMENT_BYTES),
        clock=SystemClock(),
        **options,  # type: ignore[arg-type]
    )


def make_log(directory: Path, data: bytes) -> None:
    storage = CountingStorage()
    storage.kind = HollowFile
    log = open_log(storage, directory)
    while log.segment_count < SEGMENTS or log.size_bytes < SEGMENTS * SEGMENT_BYTES - len(data):
        if log.segment_count == SEGMENTS:
            storage.kind = CountingFile
            log._segments.active._file.__class__ = CountingFile
        log.append_as_leader(data, EPOCH)
    log.settle()
    log.close()


def timed_open(directory: Path, **options: object) -> tuple[PartitionLog, float, int]:
    gc.collect()
    CountingFile.read_bytes = 0
    start = time.perf_counter()
    log = open_log(CountingStorage(), directory, **options)
    return log, time.perf_counter() - start, CountingFile.read_bytes


def bench_open(root: Path) -> None:
    data = make_batch(1_000_000)
    directory = root / "bench-0"
    make_log(directory, data)
    log, _, _ = timed_open(directory, clean=True)
    log.close()
    log, seconds, read = timed_open(directory, clean=True)
    figures = f"{log.size_bytes / 1e9:.1f} GB in {log.segment_count} segments"
    print(f"open after a clean stop    {figures}: {seconds * 1000:7.1f} ms, {read} bytes read")
    recovery_point = Offset(log._segments.active.base_offset + 1)
    log.close()
    log, seconds, read = timed_open(directory, recovery_point=recovery_point)
    figures = f"{log._segments.active.size_bytes / 1e6:.0f} MB above the recovery point"
    print(f"open after an unclean stop {figures}: {seconds * 1000:7.1f} ms, {read} bytes read")
    log.close()


def best(call: Callable[[], None], runs: int = 5) -> float:
    times = []
    for _ in range(runs):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def bench_append(root: Path, size: int, total: int) -> None:
    data = make_batch(size)
    count = total // len(data)
    stamped = [RecordBatch.parse(data).stamped_header(Offset(0), EPOCH), memoryview(data)[HEADER_SIZE:]]

    def bare() -> None:
        descriptor = os.open(root / "bare", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        position = 0
        for _ in range(count):
            crc32c(memoryview(data)[21:])
            position += os.pwritev(descriptor, stamped, position)
        os.close(descriptor)

    number = 0

    def ours() -> None:
        nonlocal number
        number += 1
        log = open_log(SystemStorage(), root / f"bench-{number}")
        for _ in range(count):
            log.append_as_leader(data, EPOCH)
        log.close()
        for name in os.listdir(root / f"bench-{number}"):
            os.unlink(root / f"bench-{number}" / name)

    bare()
    floor, cost = best(bare), best(ours)
    rates = f"{count * len(data) / cost / 1e6:6.0f} MB/s, bare {count * len(data) / floor / 1e6:6.0f} MB/s"
    print(f"append of {len(data):>8} bytes: {rates}: {100 * floor / cost:5.1f} %")


def bench_read(root: Path, size: int, total: int) -> None:
    data = make_batch(size)
    log = open_log(SystemStorage(), root / "bench-read")
    for _ in range(total // len(data)):
        log.append_as_leader(data, EPOCH)
    chunk = 1 << 20
    path = root / "bench-read" / segment_name(log._segments.active.base_offset)

    def bare() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        position = 0
        while got := len(os.pread(descriptor, chunk, position)):
            position += got
        os.close(descriptor)

    per_batch = RecordBatch.parse(data).record_count
    start = log._segments.active.base_offset

    def ours() -> None:
        offset, end = start, log.log_end_offset
        while offset < end:
            offset = Offset(offset + len(log.read(offset, chunk, end)) // len(data) * per_batch)

    floor, cost = best(bare), best(ours)
    amount = log._segments.active.size_bytes
    print(
        f"read of {len(data):>8} bytes:   {amount / cost / 1e6:6.0f} MB/s, bare {amount / floor / 1e6:6.0f} MB/s: "
        f"{100 * floor / cost:5.1f} %"
    )
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        bench_open(Path(name))
    for size in (1 << 20, 16 << 10):
        with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
            bench_append(Path(name), size - 1000, 90 << 20)
            bench_read(Path(name), size - 1000, 90 << 20)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
