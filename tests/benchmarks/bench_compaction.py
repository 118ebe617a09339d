"""What cleaning a compacted log costs: both passes over 1 KB records, half of which go, in CPU and wall time.

Run by hand: ``python tests/benchmarks/bench_compaction.py``. It writes at most 512 MB into a temporary directory.
"""

import tempfile
import time
from pathlib import Path

from ottla.log.cleaner import Rewriting, Source, note_dirty
from ottla.log.clock import SystemClock
from ottla.log.compaction import CleaningStats, CompactionRules
from ottla.log.compression import Compression
from ottla.log.config import LogConfig
from ottla.log.key_map import KeyMap
from ottla.log.model import LeaderEpoch, Offset, TopicId, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.records import BatchBuilder
from ottla.log.storage import SystemStorage

TOTAL_BYTES = 256 << 20
BATCH_RECORDS = 64
VALUE_BYTES = 1000
MEMORY_BYTES = 128 << 20


def fill(directory: Path, compression: Compression, distinct: int) -> PartitionLog:
    log = PartitionLog.open(
        SystemStorage(),
        directory,
        topic_partition=TopicPartition("bench", 0),
        topic_id=TopicId("AAAAAAAAAAAAAAAAAAAAAA"),
        config=LogConfig(segment_bytes=64 << 20 if compression is Compression.NONE else 1 << 20),
        clock=SystemClock(),
    )
    now_ms, number, written = SystemClock().now_ms(), 0, 0
    while written < TOTAL_BYTES:
        builder = BatchBuilder(compression)
        for _ in range(BATCH_RECORDS):
            value = (b"%016d" % number) * (VALUE_BYTES // 16)
            builder.append(b"customer-%012d" % (number * 7919 % distinct), value, timestamp_ms=now_ms)
            number += 1
        written += builder.size_bytes
        log.append_as_leader(builder.build(), LeaderEpoch(1))
    log.sync()
    return log


def measure(compression: Compression, distinct: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = fill(Path(directory) / "bench-0", compression, distinct)
        sources = [Source.of(segment) for segment in log.segments[:-1]]
        storage, stats, keys = SystemStorage(), CleaningStats(), KeyMap(MEMORY_BYTES, Offset(0))
        cpu, wall = time.process_time(), time.monotonic()
        for _ in note_dirty(storage, sources, keys):
            pass
        noted = time.process_time() - cpu
        rules = CompactionRules(keys, 0, 0)
        for source in sources:
            rewriting = Rewriting(storage, [source], rules, 4096, stats)
            for _ in rewriting.run():
                pass
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        unpacked = stats.read_records * (VALUE_BYTES + 30) / 1e6
        stay = stats.kept_records / stats.read_records
        print(
            f"{compression.name.lower():6} {unpacked:7.0f} MB of records, {stay:4.0%} stay: {unpacked / cpu:6.0f} MB/s"
            f" of CPU ({unpacked / wall:.0f} MB/s by the clock), of which the keys {noted / cpu:.0%};"
            f" {cpu / stats.read_records * 1e6:.2f} us a record"
        )
        log.close()


if __name__ == "__main__":
    count = TOTAL_BYTES // (VALUE_BYTES + 30)
    measure(Compression.NONE, count // 2)
    measure(Compression.NONE, count * 2)
    measure(Compression.LZ4, count // 2)
    measure(Compression.ZSTD, count // 2)
