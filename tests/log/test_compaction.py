"""Which records compaction keeps, against a dict of last values."""

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from ottla.log.batch_format import DELETE_HORIZON_BIT, HEADER_SIZE
from ottla.log.compaction import CleaningStats, CompactionRules, cleaned, note_keys
from ottla.log.compression import Compression
from ottla.log.errors import CorruptBatch
from ottla.log.key_map import BYTES_PER_KEY, KeyMap
from ottla.log.model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from ottla.log.record_spans import record_spans
from ottla.log.records import BatchBuilder, Record, RecordBatch
from tests.log.builders import NOW_MS

Pair = tuple[bytes | None, bytes | None]
ROOM = 1 << 20

keys = st.one_of(st.sampled_from([b"", b"a", b"b", b"k" * 15, b"k" * 16, b"k" * 17, b"k" * 200]), st.none())
values = st.one_of(st.none(), st.binary(max_size=200))
pairs = st.lists(st.tuples(keys, values), min_size=1, max_size=12)


def make(
    records: Sequence[Pair],
    base_offset: int = 0,
    *,
    compression: Compression = Compression.NONE,
    sequence: int | None = None,
    producer: int = 7,
    time_ms: int = NOW_MS,
) -> RecordBatch:
    builder = BatchBuilder(compression)
    for number, (key, value) in enumerate(records):
        headers = (("h", b"%d" % number),) if number % 3 == 0 else ()
        builder.append(key, value, headers, timestamp_ms=time_ms + 1000 * (number % 5))
    producer_id = None if sequence is None else ProducerId(producer)
    epoch = None if sequence is None else ProducerEpoch(0)
    return RecordBatch.parse(builder.build(producer_id, epoch, sequence, Offset(base_offset), LeaderEpoch(3)))


def clean(
    batches: Sequence[RecordBatch], *, now_ms: int = NOW_MS, memory: int = ROOM, last: dict[int, int] | None = None
) -> list[RecordBatch]:
    """One pass over everything."""
    noted = KeyMap(memory, Offset(0))
    for batch in batches:
        if not note_keys(batch, noted):
            break
    rules = CompactionRules(noted, now_ms, 5000, {ProducerId(k): Offset(v) for k, v in (last or {}).items()})
    kept = [cleaned(batch, rules, CleaningStats()) for batch in batches]
    return [RecordBatch.parse(data) for data in kept if data]


def records_of(batches: Sequence[RecordBatch]) -> list[Record]:
    return [record for batch in batches for record in batch.records()]


def in_batches(chunks: Sequence[Sequence[Pair]], compressions: Sequence[Compression]) -> list[RecordBatch]:
    batches: list[RecordBatch] = []
    for number, chunk in enumerate(chunks):
        offset = batches[-1].next_offset if batches else 0
        batches.append(make(chunk, offset, compression=compressions[number % len(compressions)]))
    return batches


@given(st.lists(pairs, min_size=1, max_size=6), st.lists(st.sampled_from(list(Compression)), min_size=1, max_size=3))
def test_the_newest_record_of_each_key_stays_as_it_was(
    chunks: list[list[Pair]], compressions: list[Compression]
) -> None:
    before = in_batches(chunks, compressions)
    after = clean(before)
    newest = {record.key: record for record in records_of(before) if record.key is not None}
    assert records_of(after) == sorted(newest.values()), "offsets, times, values and headers are as before"
    for batch in after:
        batch.verify_crc()
        original = next(b for b in before if b.base_offset == batch.base_offset)
        assert (batch.last_offset, batch.leader_epoch) == (original.last_offset, original.leader_epoch)
        assert batch.compression is original.compression
        assert batch.max_timestamp == max(record.timestamp_ms for record in batch.records())


@given(st.lists(pairs, min_size=1, max_size=6))
def test_cleaning_twice_changes_nothing_more(chunks: list[list[Pair]]) -> None:
    once = clean(in_batches(chunks, [Compression.NONE, Compression.LZ4]))
    assert [bytes(batch.buffer) for batch in clean(once)] == [bytes(batch.buffer) for batch in once]


@given(st.lists(pairs, min_size=1, max_size=8), st.integers(1, 4))
def test_passes_with_a_small_map_end_where_one_with_a_large_map_does(chunks: list[list[Pair]], room: int) -> None:
    batches = in_batches(chunks, [Compression.NONE])
    end, start = batches[-1].next_offset, Offset(0)
    current = batches
    while start < end:
        noted = KeyMap(room * BYTES_PER_KEY, start)
        for batch in current:
            if batch.next_offset > start and not note_keys(batch, noted):
                break
        else:
            noted.end = end
        assert noted.end > start, "every pass gets on"
        rules = CompactionRules(noted, NOW_MS, 5000)
        kept = [cleaned(batch, rules, CleaningStats()) for batch in current]
        current = [RecordBatch.parse(data) for data in kept if data]
        start = noted.end
    assert records_of(current) == records_of(clean(batches))


def test_a_batch_of_which_nothing_goes_is_the_same_bytes() -> None:
    batch = make([(b"a", b"1"), (b"b", b"2")])
    noted = KeyMap(ROOM, Offset(0))
    note_keys(batch, noted)
    assert cleaned(batch, CompactionRules(noted, NOW_MS, 0), CleaningStats()) is batch.buffer


def test_records_from_the_end_of_the_map_on_stay() -> None:
    first, second = make([(b"a", b"1")]), make([(b"a", b"2"), (None, b"x")], 1)
    noted = KeyMap(ROOM, Offset(0))
    note_keys(first, noted)
    rules = CompactionRules(noted, NOW_MS, 0)
    assert cleaned(second, rules, CleaningStats()) is second.buffer


def test_a_tombstone_stays_until_its_horizon_has_passed() -> None:
    before = [make([(b"a", b"1"), (b"b", b"2")]), make([(b"a", None), (b"c", b"3")], 2)]
    first = clean(before, now_ms=NOW_MS)
    assert [(r.key, r.value) for r in records_of(first)] == [(b"b", b"2"), (b"a", None), (b"c", b"3")]
    assert first[0].delete_horizon_ms is None
    assert first[1].delete_horizon_ms == NOW_MS + 5000
    assert first[1].attributes & DELETE_HORIZON_BIT
    assert [r.timestamp_ms for r in records_of(first[1:])] == [r.timestamp_ms for r in records_of(before[1:])]
    later = clean(first, now_ms=NOW_MS + 4999)
    assert [bytes(b.buffer) for b in later] == [bytes(b.buffer) for b in first], "not before, and never put off"
    last = clean(first, now_ms=NOW_MS + 5000)
    assert [(r.key, r.value) for r in records_of(last)] == [(b"b", b"2"), (b"c", b"3")]
    assert [r.timestamp_ms for r in records_of(last)][1] == NOW_MS + 1000


@pytest.mark.parametrize("compression", list(Compression))
def test_the_last_batch_of_a_producer_stays_as_a_header(compression: Compression) -> None:
    first = make([(b"a", b"1"), (b"a", b"2")], 0, sequence=0, compression=compression)
    second = make([(b"a", b"3")], 2, sequence=0, producer=8)
    newest = make([(b"a", b"4")], 3)
    kept = clean([first, second, newest], last={7: 1, 8: 9})
    assert [batch.base_offset for batch in kept] == [0, 3], "producer 8 has a later batch elsewhere"
    empty = kept[0]
    assert (empty.record_count, empty.size_bytes, list(empty.records())) == (0, HEADER_SIZE, [])
    assert (empty.base_sequence, empty.last_sequence, empty.last_offset, empty.max_timestamp) == (
        0,
        1,
        1,
        NOW_MS + 1000,
    )
    empty.verify_crc()
    assert [bytes(b.buffer) for b in clean(kept, last={7: 1})] == [bytes(b.buffer) for b in kept]


def test_control_batches_stay() -> None:
    batch = make([(b"\0\0\0\1", b"\0\0\0\0\0\0")], sequence=0)
    batch.attributes |= 0x30
    newer = make([(b"\0\0\0\1", b"x")], 1)
    noted = KeyMap(ROOM, Offset(0))
    assert note_keys(batch, noted)
    assert not len(noted), "a marker's key is no key"
    note_keys(newer, noted)
    assert cleaned(batch, CompactionRules(noted, NOW_MS, 0), CleaningStats()) is batch.buffer


@given(pairs, st.data())
def test_spans_of_damaged_records_are_refused_or_lie_inside(records: list[Pair], data: st.DataObject) -> None:
    content = bytearray(bytes(make(records).buffer)[HEADER_SIZE:])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        spans = record_spans(bytes(content), 0, len(records))
    except CorruptBatch:
        return
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1].end == len(content)
