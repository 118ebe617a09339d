"""Looking into files: everything is shown, and nothing that is wrong goes unnoticed."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log.inspect import NotALog, dump
from ottla.log.model import LeaderEpoch
from ottla.log.storage import SystemStorage
from ottla.log.verify import partitions_below, verify

from ..simulation.crashing_storage import CrashingStorage
from .builders import DATA, DIRECTORY, NOW_MS, batch, open_log

BASE = "00000000000000000000"


def a_log() -> CrashingStorage:
    """Forty batches in several segments, of two epochs, cleanly closed."""
    storage = CrashingStorage()
    log = open_log(storage, segment_bytes=1000, index_interval_bytes=100)
    for number in range(40):
        times = (NOW_MS + number * 10,)
        log.append_as_leader(batch(2, timestamps=times, producer=(5, 0, 2 * number)), LeaderEpoch(number // 20))
    log.sync()
    log.close()
    return storage


def rows(storage: CrashingStorage, name: str, **options: bool) -> list[dict]:
    return list(dump(storage, DIRECTORY / name, **options))


def test_a_segment_is_shown_batch_by_batch_and_record_by_record() -> None:
    storage = a_log()
    first, *others = rows(storage, f"{BASE}.log")
    assert (first["baseOffset"], first["lastOffset"], first["count"], first["position"]) == (0, 1, 2, 0)
    assert (first["producerId"], first["baseSequence"], first["lastSequence"]) == (5, 0, 1)
    assert (first["compresscodec"], first["isvalid"], first["partitionLeaderEpoch"]) == ("none", True, 0)
    assert [row["baseOffset"] for row in others] == list(range(2, 2 * len(others) + 2, 2))
    batch_row, record, *_ = rows(storage, f"{BASE}.log", records=True)
    assert batch_row == first
    assert record == {
        "offset": 0,
        "timestamp": NOW_MS,
        "keySize": 1,
        "valueSize": 5,
        "key": "0",
        "value": "value",
        "headers": [],
    }


def test_indexes_snapshots_and_checkpoints_are_shown() -> None:
    storage = a_log()
    batches = {row["position"]: row for row in rows(storage, f"{BASE}.log")}
    indexed = rows(storage, f"{BASE}.index")
    assert indexed
    assert all(batches[row["position"]]["lastOffset"] == row["offset"] for row in indexed)
    by_offset = {row["lastOffset"]: row for row in batches.values()}
    timed = rows(storage, f"{BASE}.timeindex")
    assert all(by_offset[row["offset"]]["maxTimestamp"] == row["timestamp"] for row in timed)
    assert rows(storage, "leader-epoch-checkpoint") == [
        {"epoch": 0, "startOffset": 0},
        {"epoch": 1, "startOffset": 40},
    ]
    snapshot = max(name for name in storage.listdir(DIRECTORY) if name.endswith(".snapshot"))
    end = int(snapshot.partition(".")[0])
    assert [row["last_offset"] for row in rows(storage, snapshot)] == [end - 9, end - 7, end - 5, end - 3, end - 1]
    assert rows(storage, "partition.metadata")[0] == {"line": "version: 0"}


def test_what_is_no_file_of_a_log_is_refused() -> None:
    with pytest.raises(NotALog):
        rows(a_log(), "cat.jpg")


def test_damage_is_a_row_and_the_last_one() -> None:
    storage = a_log()
    change(storage, DIRECTORY / f"{BASE}.log", 100, cut=True)
    *_, last = rows(storage, f"{BASE}.log")
    assert "problem" in last
    change(storage, DIRECTORY / "leader-epoch-checkpoint", 3, cut=True)
    assert "problem" in rows(storage, "leader-epoch-checkpoint")[-1]


def change(storage: CrashingStorage, path: Path, position: int, *, mask: int = 0xFF, cut: bool = False) -> None:
    data = bytearray(storage.read_bytes(path))
    data[position] ^= mask
    file = storage.open(path)
    file.truncate(0)
    file.append(bytes(data[:position] if cut else data))
    file.close()


def test_a_good_log_is_good() -> None:
    storage = a_log()
    assert list(partitions_below(storage, DATA)) == [DIRECTORY]
    verdict = verify(storage, DIRECTORY)
    assert (verdict.problems, verdict.batches, verdict.records) == ([], 40, 80)
    assert (verdict.start_offset, verdict.end_offset) == (0, 80)
    assert verdict.segments > 2


FILES = [name for name in a_log().listdir(DIRECTORY) if name.endswith((".log", ".index", ".timeindex", ".snapshot"))]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(FILES), st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_is_found(name: str, place: int, mask: int) -> None:
    storage = a_log()
    size = len(storage.read_bytes(DIRECTORY / name))
    if not size:
        return
    position = place % size
    change(storage, DIRECTORY / name, position, mask=mask)
    last_batchs_offset = name == max(n for n in FILES if n.endswith(".log")) and rows_at(storage, name)[-1] <= position
    within_a_batch = name.endswith(".timeindex") and position % 12 == 11 and mask == 1
    # An entry may be for several batches, as Kafka writes them: another offset with which a batch ends is as good.
    within_a_batch |= name.endswith(".index") and position % 8 == 3
    if not last_batchs_offset and not within_a_batch:  # whose offset nothing else vouches for, or that means the same
        assert verify(storage, DIRECTORY).found


def rows_at(storage: CrashingStorage, name: str) -> list[int]:
    return [row["position"] for row in rows(storage, name)]


@pytest.mark.parametrize("name", FILES)
def test_any_cut_is_found(name: str) -> None:
    for cut in range(0, len(a_log().read_bytes(DIRECTORY / name)), 7):
        storage = a_log()
        change(storage, DIRECTORY / name, cut, cut=True)
        list(dump(storage, DIRECTORY / name))
        verdict = verify(storage, DIRECTORY)
        if name.endswith(".log") and cut not in rows_at(a_log(), name):
            assert verdict.found


GOLDEN = Path(__file__).parent / "golden"


def test_what_kafka_wrote_is_shown_and_good() -> None:
    """Files that Kafka's own classes wrote (test_golden)."""
    storage = SystemStorage()
    verdict = verify(storage, GOLDEN)
    assert verdict.problems == []
    assert verdict.batches
    for path in GOLDEN.iterdir():
        assert not any("problem" in row for row in dump(storage, path, records=True)), path
