"""How fast records become batches and batches records. Run by hand: ``python tests/benchmarks/bench_records.py``.

Compare ratios within one run; absolute figures belong to a machine and a moment.
"""

import time
from collections.abc import Callable

from ottla.log.checksum import crc32c
from ottla.log.compression import Compression
from ottla.log.records import BatchBuilder, Header, RecordBatch

RECORDS = 1000
ROUNDS = 40
REPEATS = 5


def encode(value: bytes, key: bytes | None, headers: tuple[Header, ...], codec: Compression) -> bytes:
    builder = BatchBuilder(codec)
    append = builder.append
    for _ in range(RECORDS):
        append(key, value, headers, timestamp_ms=1_700_000_000_000)
    return builder.build()


def decode(data: bytes) -> int:
    batch = RecordBatch.parse(data)
    batch.verify_crc()
    return sum(1 for _ in batch.records())


def rate(call: Callable[[], object]) -> float:
    """Calls a second, the best of a few runs."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(ROUNDS):
            call()
        best = min(best, time.perf_counter() - start)
    return ROUNDS / best


def show(name: str, value: bytes, key: bytes | None, headers: tuple[Header, ...], codec: Compression) -> None:
    data = encode(value, key, headers, codec)
    encoded = rate(lambda: encode(value, key, headers, codec)) * RECORDS / 1e6
    decoded = rate(lambda: decode(data)) * RECORDS / 1e6
    bare = rate(lambda: crc32c(data)) * RECORDS / 1e6
    print(f"{name:28}{len(data):>10}{encoded:>12.2f}{decoded:>12.2f}{bare / encoded:>16.0f}{bare / decoded:>16.0f}")


def main() -> None:
    columns = f"{'bytes':>10}{'encode M/s':>12}{'decode M/s':>12}{'crc32c/encode':>16}{'crc32c/decode':>16}"
    print(f"{'1000 records':28}{columns}")
    headers: tuple[Header, ...] = (("trace", b"0123456789abcdef"),)
    show("100 B", bytes(100), None, (), Compression.NONE)
    show("1 KB", bytes(1000), None, (), Compression.NONE)
    show("100 B, key", bytes(100), b"key-0001", (), Compression.NONE)
    show("100 B, key and header", bytes(100), b"key-0001", headers, Compression.NONE)
    for codec in list(Compression)[1:]:
        show(f"100 B, {codec.name.lower()}", b"some text that repeats " * 4, None, (), codec)


if __name__ == "__main__":
    main()
