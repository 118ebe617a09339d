"""Snapshots of the producers: the bytes, what comes back, and that damage costs time and no batch."""

import pytest
from hypothesis import given, strategies as st

from ottla.log.errors import OutOfOrderSequence
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.producer_snapshot import ProducerSnapshots, SnapshotEntry, decode_snapshot, encode_snapshot
from tests.log.builders import DIRECTORY, batch, open_log
from tests.simulation.crashing_storage import CrashingStorage

E0 = LeaderEpoch(0)
entries = st.builds(
    SnapshotEntry,
    *(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (64, 16, 32, 64, 32, 64, 32, 64)),
)


@given(st.lists(entries, max_size=20))
def test_snapshots_go_round(some: list[SnapshotEntry]) -> None:
    assert decode_snapshot(encode_snapshot(some)) == some


@given(st.lists(entries, max_size=3), st.integers(0, 500), st.integers(1, 255))
def test_damage_is_noticed(some: list[SnapshotEntry], position: int, mask: int) -> None:
    data = bytearray(encode_snapshot(some))
    data[position % len(data)] ^= mask
    with pytest.raises(ValueError, match=r"version|CRC|entries"):
        decode_snapshot(data)
    for cut in range(len(data)):
        with pytest.raises(ValueError, match=r"."):
            decode_snapshot(data[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_snapshot(data)


def filled(storage: CrashingStorage) -> PartitionLog:
    """Seven batches of producer 1, in segments of three."""
    log = open_log(storage, segment_bytes=3 * len(batch(1, producer=(1, 0, 0))))
    for number in range(7):
        log.append_as_leader(batch(1, producer=(1, 0, number)), E0)
    return log


def check_five_are_known(log: PartitionLog) -> None:
    for number in range(2, 7):
        result = log.append_as_leader(batch(1, producer=(1, 0, number)), E0)
        assert (result.is_duplicate, result.base_offset) == (True, number)
    with pytest.raises(OutOfOrderSequence):
        log.append_as_leader(batch(1, producer=(1, 0, 1)), E0)
    assert not log.append_as_leader(batch(1, producer=(1, 0, 7)), E0).is_duplicate


@pytest.mark.parametrize("stop", ["clean", "kill", "kill unsynced"])
@pytest.mark.parametrize("snapshots", ["there", "damaged", "gone"])
def test_all_five_batches_are_known_after_a_restart(stop: str, snapshots: str) -> None:
    storage = CrashingStorage()
    log = filled(storage)
    if stop == "clean":
        log.settle()
        log.close()
    elif stop == "kill":
        log.sync()
    recovery_point = log.recovery_point
    storage = storage.kill()
    found = [name for name in storage.listdir(DIRECTORY) if name.endswith(".snapshot")]
    expected = [0, 2, 3][["kill unsynced", "kill", "clean"].index(stop)]
    assert len(found) == expected  # at both rolls, and at the end
    for name in found:
        if snapshots == "gone":
            storage.remove(DIRECTORY / name)
        elif snapshots == "damaged":
            storage.open(DIRECTORY / name).truncate(20)
    log = open_log(storage, recovery_point=recovery_point, clean=stop == "clean")
    check_five_are_known(log)


def test_snapshots_of_what_was_cut_off_are_gone() -> None:
    storage = CrashingStorage()
    log = filled(storage)
    log.sync()
    log.truncate_to(Offset(4))
    assert [name for name in storage.listdir(DIRECTORY) if name.endswith(".snapshot")] == [f"{3:020}.snapshot"]
    for number in (0, 1, 2, 3):
        assert log.append_as_leader(batch(1, producer=(1, 0, number)), E0).is_duplicate
    assert not log.append_as_leader(batch(1, producer=(1, 0, 4)), E0).is_duplicate


def test_a_snapshot_that_is_overtaken_by_a_truncation_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = CrashingStorage()
    storage.mkdir(DIRECTORY)
    snapshots = ProducerSnapshots(storage, DIRECTORY)
    snapshots.take(Offset(9), [])
    opened = storage.open

    def overtaken(*args: object, **kwargs: object) -> object:
        snapshots.drop_above(Offset(5))
        return opened(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "open", overtaken)
    snapshots.write()
    assert storage.listdir(DIRECTORY) == []
    assert snapshots.newest(Offset(100)) is None


def test_snapshots_are_kept_at_segments_only() -> None:
    storage = CrashingStorage()
    for _ in range(3):
        log = open_log(storage, clean=True)
        log.append_as_leader(batch(1, producer=(1, 0, log.log_end_offset)), E0)
        log.settle()
        log.close()
    found = [name for name in storage.listdir(DIRECTORY) if name.endswith(".snapshot")]
    assert found == [f"{2:020}.snapshot", f"{3:020}.snapshot"]
