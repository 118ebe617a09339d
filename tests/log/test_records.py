"""Record batches: against bytes put together by hand, in round trips, and against any bytes at all."""

import struct

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log import record_decoder, record_encoder
from ottla.log.checksum import crc32c
from ottla.log.compression import Compression
from ottla.log.errors import CorruptBatch
from ottla.log.model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from ottla.log.records import HEADER_SIZE, BatchBuilder, Record, RecordBatch, batches_in, stamp, whole_batches_in
from ottla.log.varints import decode_varint, encode_varint
from tests.log.builders import batch

maybe_bytes = st.none() | st.binary(max_size=300) | st.integers(4000, 20000).map(bytes)
records = st.lists(
    st.tuples(
        maybe_bytes,
        maybe_bytes,
        st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=10)), max_size=3).map(tuple),
        st.integers(0, 1 << 45),
    ),
    min_size=1,
    max_size=20,
)


def golden() -> bytes:
    """Two records written out field by field, from the format's description and not by our code."""
    record_0 = bytes.fromhex(
        "00"  # attributes
        "00"  # timestamp delta 0
        "00"  # offset delta 0
        "02 6b"  # key of 1 byte: k
        "04 76 31"  # value of 2 bytes: v1
        "02"  # one header
        "02 68"  # its key: h
        "01"  # its value: null
    )
    record_1 = bytes.fromhex(
        "00"
        "ac 02"  # timestamp delta 150: zig-zag 300 = 0b10_0101100
        "02"  # offset delta 1
        "01"  # null key
        "01"  # null value
        "00"  # no headers
    )
    body = bytes([len(record_0) * 2]) + record_0 + bytes([len(record_1) * 2]) + record_1
    checked = struct.pack(">hiqqqhii", 0, 1, 1000, 1150, 7, 3, 42, 2) + body
    return struct.pack(">qiibI", 5, 4 + 1 + 4 + len(checked), 9, 2, crc32c(checked)) + checked


def test_golden_batch_is_what_we_write() -> None:
    builder = BatchBuilder()
    builder.append(b"k", b"v1", (("h", None),), timestamp_ms=1000)
    builder.append(None, None, timestamp_ms=1150)
    data = builder.build(ProducerId(7), ProducerEpoch(3), 42, Offset(5), LeaderEpoch(9))
    assert data == golden()


def test_golden_batch_is_read() -> None:
    parsed = RecordBatch.parse(golden())
    parsed.verify_crc()
    assert (parsed.base_offset, parsed.last_offset, parsed.next_offset) == (5, 6, 7)
    assert (parsed.leader_epoch, parsed.producer_id, parsed.producer_epoch) == (9, 7, 3)
    assert (parsed.base_sequence, parsed.last_sequence) == (42, 43)
    assert (parsed.base_timestamp, parsed.max_timestamp, parsed.record_count) == (1000, 1150, 2)
    assert list(parsed.records()) == [
        Record(5, 1000, b"k", b"v1", (("h", None),)),
        Record(6, 1150, None, None, ()),
    ]


@given(records, st.sampled_from(Compression), st.integers(0, 1 << 60))
@settings(deadline=None, max_examples=60)
def test_round_trip(content: list[tuple], codec: Compression, base_offset: int) -> None:
    builder = BatchBuilder(codec)
    for key, value, headers, timestamp in content:
        builder.append(key, value, headers, timestamp_ms=timestamp)
    data = builder.build(base_offset=Offset(base_offset))
    parsed = RecordBatch.parse(data)
    parsed.verify_crc()
    assert parsed.compression is codec
    assert (parsed.leader_epoch, parsed.producer_id, parsed.producer_epoch, parsed.base_sequence) == (None,) * 4
    assert parsed.max_timestamp == max(timestamp for *_, timestamp in content)
    assert list(parsed.records()) == [
        Record(base_offset + number, timestamp, key, value, tuple(headers))
        for number, (key, value, headers, timestamp) in enumerate(content)
    ]


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varints(number: int) -> None:
    data = b"\xff" + encode_varint(number) + b"\x00"
    assert decode_varint(data, 1) == (number, len(data) - 1)


def test_more_records_than_precomputed_varints() -> None:
    data = batch(5000, value=b"")
    assert [record.offset for record in RecordBatch.parse(data).records()] == list(range(5000))


def test_stamp_leaves_the_crc_true() -> None:
    data = bytearray(batch(3))
    stamp(data, Offset(1 << 40), LeaderEpoch(12))
    parsed = RecordBatch.parse(data)
    parsed.verify_crc()
    assert (parsed.base_offset, parsed.leader_epoch) == (1 << 40, 12)
    assert bytes(parsed.stamped_header(Offset(1 << 40), LeaderEpoch(12))) == bytes(data[:HEADER_SIZE])


def test_last_sequence_wraps() -> None:
    top = (1 << 31) - 1
    assert RecordBatch.parse(batch(3, producer=(1, 0, top - 1))).last_sequence == 0
    assert RecordBatch.parse(batch(2, producer=(1, 0, top - 1))).last_sequence == top


def test_log_append_time_is_every_records_time() -> None:
    data = bytearray(batch(3, timestamps=(5, 9, 7)))
    struct.pack_into(">h", data, 21, 0x08)
    assert [record.timestamp_ms for record in RecordBatch.parse(data).records()] == [9, 9, 9]


def test_batches_in_is_strict_and_whole_batches_in_is_not() -> None:
    first, second = batch(1), batch(2)
    data = first + second
    assert [b.record_count for b in batches_in(data)] == [1, 2]
    for cut in range(len(first), len(data)):
        assert [b.record_count for b in whole_batches_in(data[:cut])] == [1]
        if cut > len(first):
            with pytest.raises(CorruptBatch):
                list(batches_in(data[:cut]))


def test_every_flipped_bit_is_noticed() -> None:
    data = batch(2)
    for position in range(16, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        parsed = RecordBatch.parse(damaged)
        if position == 16:
            assert parsed.magic != 2
        else:
            with pytest.raises(CorruptBatch):
                parsed.verify_crc()


def consume(data: bytes) -> None:
    """All of what a reader does with bytes: CorruptBatch is the only thing that may come of it."""
    try:
        for parsed in batches_in(data):
            assert HEADER_SIZE <= parsed.size_bytes <= len(data)
            for _ in parsed.records(1 << 16):
                pass
    except CorruptBatch:
        pass


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    consume(data)


@given(st.sampled_from(Compression), st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), max_size=6))
@settings(deadline=None, max_examples=300)
def test_any_damage(codec: Compression, damage: list[tuple[int, int]]) -> None:
    data = bytearray(batch(4, compression=codec, value=b"abc" * 30))
    for position, mask in damage:
        data[position % len(data)] ^= mask
    consume(bytes(data))


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.SNAPPY, Compression.LZ4, Compression.ZSTD])
def test_a_bomb_is_refused(codec: Compression) -> None:
    data = batch(1, value=bytes(5_000_000), compression=codec)
    assert len(data) < 400_000
    with pytest.raises(CorruptBatch, match="more than 1000000 bytes"):
        list(RecordBatch.parse(data).records(max_bytes=1_000_000))


@pytest.mark.parametrize(
    "body",
    [
        "0e 00 00 00 01 01 00 00",  # one byte more than the length says
        "0d 00 00 00 01 01 00",  # a negative length
        "0c 00 00 02 01 01 00",  # an offset delta above the last one
        "0c 00 00 00 03 01 00",  # a key length of -2
        "0c 00 00 00 01 40 00",  # a value longer than the record
        "0e 00 00 00 01 01 02 01",  # a header with a null key
        "14 00 00 00 01 01 02 04 c3 28 01",  # a header key that is not UTF-8
        "0c 00 00 00 01 01 00 ff",  # bytes after the records
    ],
)
def test_bad_records_are_named(body: str) -> None:
    checked = struct.pack(">hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + bytes.fromhex(body)
    data = struct.pack(">qiibI", 0, 9 + len(checked), 0, 2, crc32c(checked)) + checked
    parsed = RecordBatch.parse(data)
    parsed.verify_crc()
    with pytest.raises(CorruptBatch):
        list(parsed.records())


@st.composite
def alike_mostly(draw: st.DrawFn) -> list[tuple]:
    """Runs of records of one layout, with others between them: what columns are made for, and what they must refuse."""
    content: list[tuple] = []
    time = 1_000_000
    for _ in range(draw(st.integers(1, 4))):
        key, value = (draw(st.sampled_from([None, 0, 3, 70])) for _ in range(2))
        step = draw(st.sampled_from([0, 0, 1, 90, -5]))
        headers = draw(st.sampled_from([(), (), (("h", b"v"),)]))
        for number in range(draw(st.integers(1, 90))):
            time += step
            filling = b"%d" % number
            content.append(
                (
                    None if key is None else filling.ljust(key)[:key],
                    None if value is None else filling.ljust(value)[:value],
                    headers,
                    time,
                )
            )
    return content


def built(content: list[tuple]) -> bytes:
    builder = BatchBuilder()
    for key, value, headers, timestamp in content:
        builder.append(key, value, headers, timestamp_ms=timestamp)
    return builder.build(base_offset=Offset(7))


@given(alike_mostly())
@settings(deadline=None, max_examples=60)
def test_columns_are_written_and_read_as_single_records_are(content: list[tuple]) -> None:
    data = built(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_encoder, "_in_columns", lambda *_: None)
        assert built(content) == data
    assert list(RecordBatch.parse(data).records()) == [
        Record(7 + number, timestamp, key, value, headers)
        for number, (key, value, headers, timestamp) in enumerate(content)
    ]


@pytest.mark.parametrize("step", [0, 1, 90, -5])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200, 8193])
@pytest.mark.parametrize("key", [None, b"", b"12345678"])
def test_records_that_are_alike(count: int, step: int, key: bytes | None) -> None:
    content = [(key, b"value", (), 1_000_000 + step * number) for number in range(count)]
    data = built(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_encoder, "_in_columns", lambda *_: None)
        assert built(content) == data
    assert list(RecordBatch.parse(data).records()) == [
        Record(7 + number, timestamp, key, b"value", ()) for number, (_, _, _, timestamp) in enumerate(content)
    ]


def read(data: bytes) -> list[Record] | str:
    try:
        return list(RecordBatch.parse(data).records())
    except CorruptBatch:
        return "corrupt"


def read_one_by_one(data: bytes) -> list[Record] | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_decoder, "RUN_MIN", 1 << 40)
        return read(data)


@pytest.mark.parametrize("key", [None, b"k"])
@pytest.mark.parametrize("flip", [0x01, 0x02, 0x10, 0x80, 0xFF])
def test_any_changed_byte_is_seen_by_columns_as_by_single_records(flip: int, key: bytes | None) -> None:
    data = built([(key, b"v", (), 1_000_000 + number // 8) for number in range(80)])
    for position in [*range(HEADER_SIZE, HEADER_SIZE + 60), *range(len(data) - 150, len(data))]:
        damaged = bytearray(data)
        damaged[position] ^= flip
        assert read(bytes(damaged)) == read_one_by_one(bytes(damaged)), position


@given(alike_mostly(), st.data())
@settings(deadline=None, max_examples=100)
def test_changed_bytes_anywhere_are_seen_by_columns_as_by_single_records(
    content: list[tuple], data: st.DataObject
) -> None:
    damaged = bytearray(built(content))
    for _ in range(data.draw(st.integers(1, 2))):
        damaged[data.draw(st.integers(HEADER_SIZE, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert read(bytes(damaged)) == read_one_by_one(bytes(damaged))
