"""The time index: what is in it, what it finds, and that what is wrong in it hides no record."""

import struct

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log.index import OffsetIndex
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.records import batches_in
from ottla.log.segment import Segment
from ottla.log.time_index import TimedOffset, TimeIndex
from tests.log.builders import DATA, DIRECTORY, NOW_MS, batch, open_log, whole
from tests.simulation.crashing_storage import CrashingStorage

E0 = LeaderEpoch(0)


def log_of(times: list[int], storage: CrashingStorage, segment_bytes: int = 1 << 20) -> PartitionLog:
    log = open_log(storage, segment_bytes=segment_bytes, index_interval_bytes=200)
    for time in times:
        log.append_as_leader(batch(2, timestamps=(time,)), E0)
    return log


def only_segment(log: PartitionLog) -> Segment:
    [segment] = log._segments
    return segment


def expected(log: PartitionLog, timestamp: int) -> Offset | None:
    found = (one.base_offset for one in batches_in(whole(log)) if one.max_timestamp >= timestamp)
    return next(found, None)


def found(segment: Segment, timestamp: int) -> Offset | None:
    scanned = segment.find_time(timestamp)
    return None if scanned is None else scanned.batch.base_offset


times = st.lists(st.integers(0, 30).map(lambda n: NOW_MS - 20 + n) | st.just(-1), min_size=1, max_size=40)


@given(times, st.integers(0, 80), st.sampled_from(["as it is", "kill", "clean"]))
@settings(max_examples=80)
def test_every_time_is_found(stamps: list[int], cut: int, how: str) -> None:
    storage = CrashingStorage()
    log = log_of(stamps, storage)
    if cut < log.log_end_offset:
        log.truncate_to(Offset(cut))
    if how == "kill":
        log = open_log(storage.kill(), index_interval_bytes=200)
    elif how == "clean":
        log.sync()
        log.close()
        log = open_log(storage, index_interval_bytes=200, clean=True)
    segment = only_segment(log)
    stored = list(batches_in(whole(log)))
    largest = max((one.max_timestamp for one in stored if one.max_timestamp >= 0), default=None)
    assert segment.largest_timestamp_ms == largest
    if largest is not None:
        first = next(one for one in stored if one.max_timestamp == largest)
        assert segment.largest_timestamp_offset == first.last_offset
    for timestamp in range(NOW_MS - 22, NOW_MS + 12):
        assert found(segment, timestamp) == expected(log, timestamp)


def test_the_file_is_kafkas() -> None:
    storage = CrashingStorage()
    log = log_of([NOW_MS + n for n in (0, 1, 2, 1, 1, 5, 5, 5, 4, 9)], storage)
    log.close()
    size = len(batch(2))
    assert 100 > size > 67  # every fourth batch gets an entry
    entries = [(NOW_MS + 2, 5), (NOW_MS + 5, 11), (NOW_MS + 9, 19)]
    data = storage.read_bytes(DIRECTORY / f"{0:020}.timeindex")
    assert data == b"".join(struct.pack(">qi", *entry) for entry in entries)


def test_a_rolled_segment_ends_with_its_largest_time() -> None:
    storage = CrashingStorage()
    log = log_of([NOW_MS, NOW_MS + 7, NOW_MS, NOW_MS + 3], storage, segment_bytes=2 * len(batch(2)))
    assert storage.read_bytes(DIRECTORY / f"{0:020}.timeindex") == struct.pack(">qi", NOW_MS + 7, 3)
    log.close()
    assert storage.read_bytes(DIRECTORY / f"{4:020}.timeindex") == struct.pack(">qi", NOW_MS + 3, 3)


@given(st.binary(max_size=60), st.binary(max_size=40), times)
@settings(max_examples=100)
def test_any_bytes_in_the_indexes_hide_no_record(time_index: bytes, index: bytes, stamps: list[int]) -> None:
    log = log_of(stamps, CrashingStorage())
    segment = only_segment(log)
    storage: CrashingStorage = segment._storage  # type: ignore[assignment]
    for file, data in ((segment.time_index, time_index), (segment.index, index)):
        storage.remove(file.path)
        storage.open(file.path, create=True).append(data)
    segment.index = OffsetIndex(storage, segment.index.path, Offset(0))
    segment._starts.clear()
    content = list(batches_in(whole(log)))
    assert len(content) == len(stamps)
    for offset in range(log.log_end_offset):
        data = log.read(Offset(offset), 1, log.log_end_offset)
        assert next(batches_in(data)).base_offset == offset - offset % 2
    segment.time_index = TimeIndex(storage, segment.time_index.path, Offset(0))
    for timestamp in range(NOW_MS - 22, NOW_MS + 12):
        assert found(segment, timestamp) == expected(log, timestamp)


def test_a_search_of_many_entries_reads_little_and_keeps_little() -> None:
    storage = CrashingStorage()
    storage.mkdir(DATA)
    index = TimeIndex(storage, DATA / "x.timeindex", Offset(100))
    for number in range(5000):
        index.append_if_later(TimedOffset(1000 + 2 * number, Offset(100 + number)))
        if index.file.wants_flush:
            index.flush()
    assert len(index.file._unwritten) < 512
    for number in range(5000):
        assert index.lookup(1000 + 2 * number) == (1000 + 2 * number, 100 + number)
        assert index.lookup(1001 + 2 * number) == (1000 + 2 * number, 100 + number)
    assert index.lookup(999) is None
    index.truncate_to(Offset(100 + 2500))
    assert index.last == (1000 + 2 * 2499, 2599)
    index.append_if_later(TimedOffset(9000, Offset(2700)))
    index.flush()
    assert len(storage.read_bytes(index.path)) == 12 * 2501
    assert TimeIndex(storage, index.path, Offset(100)).last == (9000, 2700)


@pytest.mark.parametrize("operation", ["write", "create"])
def test_a_full_disk_loses_no_entry(operation: str) -> None:
    storage = CrashingStorage()
    log = log_of([NOW_MS + n for n in range(12)], storage)
    segment = only_segment(log)
    storage.fail(operation, name_contains="index", error=28)
    segment.try_to_seal()
    segment.seal()
    entries = segment.time_index.entries
    again = TimeIndex(storage, segment.time_index.path, Offset(0))
    assert again.entries == entries
    assert entries[-1] == (NOW_MS + 11, 23)
