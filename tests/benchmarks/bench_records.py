"""How fast records become batches and batches records. Run by hand: ``python tests/benchmarks/bench_records.py``; with
aiokafka installed, its codec takes turns with ours.

Compare ratios within one run; absolute figures belong to a machine and a moment.
"""

import time
from collections.abc import Callable
from functools import partial

from ottla.log.checksum import crc32c
from ottla.log.compression import Compression
from ottla.log.records import HEADER_SIZE, BatchBuilder, Header, RecordBatch

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


def beside_aiokafka() -> None:
    """The same records through aiokafka's codec, in C, in turns with ours."""
    try:
        from aiokafka.record._crecords.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
    except ImportError:
        print("\naiokafka is not installed: its codec is left out. pip install '.[bench]' brings it.")
        return

    def encode_theirs(value: bytes, key: bytes | None) -> bytes:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 24)
        append = builder.append
        for offset in range(RECORDS):
            append(offset, 1_700_000_000_000, key, value, [])
        return bytes(builder.build())

    def decode_theirs(data: bytes) -> int:
        batch = DefaultRecordBatch(bytearray(data))
        assert batch.validate_crc()
        return sum(1 for _ in batch)

    heads = "".join(f"{what + ' M/s':>12}{'theirs':>10}{'ratio':>8}" for what in ("encode", "decode"))
    print(f"\n{'beside aiokafka, in C':28}{heads}")
    for name, value, key in (
        ("100 B", bytes(100), None),
        ("1 KB", bytes(1000), None),
        ("100 B, key", bytes(100), b"key-0001"),
    ):
        data = encode(value, key, (), Compression.NONE)
        assert data[HEADER_SIZE:] == encode_theirs(value, key)[HEADER_SIZE:]
        columns = []
        for ours, theirs in (
            (partial(encode, value, key, (), Compression.NONE), partial(encode_theirs, value, key)),
            (partial(decode, data), partial(decode_theirs, data)),
        ):
            us, them = in_turns(ours, theirs)
            columns.append(f"{us:12.2f}{them:10.2f}{us / them:8.2f}")
        print(f"{name:28}{''.join(columns)}")


def in_turns(*calls: Callable[[], object]) -> list[float]:
    """Millions of records a CPU second of each, the best of runs that take turns."""
    best = [float("inf")] * len(calls)
    for _ in range(3 * REPEATS):
        for number, call in enumerate(calls):
            start = time.process_time()
            for _ in range(ROUNDS):
                call()
            best[number] = min(best[number], time.process_time() - start)
    return [ROUNDS * RECORDS / seconds / 1e6 for seconds in best]


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
    beside_aiokafka()


if __name__ == "__main__":
    main()
