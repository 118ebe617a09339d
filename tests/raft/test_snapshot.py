"""Snapshot files under power cuts, damage and a full disk, and what a start makes of them together with the log."""

import contextlib
import errno
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ottla.raft.recovery import open_log
from ottla.raft.snapshot import SnapshotDamaged, SnapshotMeta, SnapshotStore, decode_snapshot, encode_snapshot
from ottla.raft.wal import EntryId, WriteAheadLog
from ottla.raft.wal_format import WalDamaged

from .cluster import CLUSTER, SNAPSHOT_DIRECTORY, WAL_DIRECTORY, CrashingStorage, PowerCut, SeededChance


def snapshot(index: int, state: bytes = b"state", term: int = 1, cluster: str = CLUSTER) -> bytes:
    return encode_snapshot(SnapshotMeta(index, term, cluster, 1), state)


def store_on(storage: Any) -> SnapshotStore:
    return SnapshotStore(SNAPSHOT_DIRECTORY, storage, CLUSTER)


def log_of(storage: Any, last: int, *, compacted: int = 0, segment_bytes: int = 100) -> WriteAheadLog:
    """A durable log whose files reach back no further than they must."""
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage, segment_bytes=segment_bytes)
    for index in range(1, last + 1):
        wal.add(b"%d" % index, index, 1)
    wal.setCurrentTerm(7, 3)
    wal.sync_file()
    if compacted:
        wal.compact(compacted)
        wal.sync_file()
    return wal


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.binary(max_size=300), st.integers(0, 2**30))
def test_a_snapshot_is_read_as_it_was_written_and_no_damage_passes(
    index: int, term: int, state: bytes, where: int
) -> None:
    data = snapshot(index, state, term)
    found = decode_snapshot(data, CLUSTER)
    assert (found.id.index, found.id.term, found.state, found.id.size) == (index, term, state, len(data))
    assert found.meta.feature_level == 1
    bad = bytearray(data)
    bad[where % len(data)] ^= 1 << where % 8
    for damaged in (bytes(bad), data[: where % len(data)]):
        with pytest.raises(SnapshotDamaged):
            decode_snapshot(damaged, CLUSTER)


def test_a_snapshot_of_another_cluster_is_refused() -> None:
    with pytest.raises(SnapshotDamaged, match="cluster other"):
        decode_snapshot(snapshot(5, cluster="other"), CLUSTER)


def test_a_snapshot_that_a_start_relies_on_has_a_durable_name() -> None:
    storage = CrashingStorage()
    store_on(storage).save(snapshot(5))
    storage.fail("sync_directory")
    with pytest.raises(OSError, match="Input/output error"):
        store_on(storage).save(snapshot(9))
    storage = storage.kill()  # between the rename and the sync of the directory
    assert store_on(storage).recover().snapshot.id.index == 9
    for seed in range(10):
        storage = storage.crash(seed)
        assert store_on(storage).recover().snapshot.id.index == 9


def test_the_power_may_go_at_every_change_of_a_save() -> None:
    outcomes = set()
    for cut in range(1, 30):
        storage = CrashingStorage(seed=cut, holes=True)
        log_of(storage, 30)
        store_on(storage).save(snapshot(10, b"old" * 400))
        storage.cut_power_at(cut)
        finished = False
        with contextlib.suppress(PowerCut):
            store_on(storage).save(snapshot(20, b"new" * 400))
            finished = True
        found = store_on(storage.crash(SeededChance(cut))).recover()
        assert found.damaged == ()
        assert found.snapshot is not None
        assert found.snapshot.state in (b"old" * 400, b"new" * 400)
        assert not finished or found.snapshot.id.index == 20
        outcomes.add(found.snapshot.id.index)
    assert outcomes == {10, 20}


def test_the_last_two_are_kept_and_half_written_ones_removed() -> None:
    storage = CrashingStorage()
    store = store_on(storage)
    for index in (10, 20, 30):
        store.save(snapshot(index))
    storage.open(SNAPSHOT_DIRECTORY / "x.tmp", create=True).append(b"half")
    assert store_on(storage).recover().snapshot == decode_snapshot(snapshot(30), CLUSTER)
    assert storage.listdir(SNAPSHOT_DIRECTORY) == [f"{index:020}.snapshot" for index in (20, 30)]
    assert store.read(20, 3, 5) == (snapshot(20)[3:8], len(snapshot(20)))
    assert store.read(10, 0, 5) is None


def test_a_full_disk_leaves_the_older_snapshot_and_no_rubbish() -> None:
    storage = CrashingStorage()
    store = store_on(storage)
    store.save(snapshot(10))
    storage.fail("write", error=errno.ENOSPC)
    with pytest.raises(OSError, match="space"):
        store.save(snapshot(20))
    assert storage.listdir(SNAPSHOT_DIRECTORY) == [f"{10:020}.snapshot"]


def damage(storage: Any, index: int) -> None:
    path = SNAPSHOT_DIRECTORY / f"{index:020}.snapshot"
    size = storage.open(path).size()
    storage.open(path).truncate(size - 3)


def test_a_damaged_newest_snapshot_is_refused_unless_the_log_reaches_back_to_an_older_one() -> None:
    storage = CrashingStorage()
    store = store_on(storage)
    store.save(snapshot(10))
    store.save(snapshot(40))
    log_of(storage, 50, compacted=10)
    damage(storage, 40)
    wal, found = open_log(WAL_DIRECTORY, storage, store)
    assert found is not None
    assert (found.id.index, wal.last_index, wal.holds(EntryId(10, 1))) == (10, 50, True)
    wal.compact(40)
    wal.sync_file()
    with pytest.raises(SnapshotDamaged, match=f"OTTLA-SNAPSHOT-DAMAGED: .*{40:020}.*starts at entry"):
        open_log(WAL_DIRECTORY, storage.kill(), store_on(storage.kill()))


def test_a_log_without_its_snapshot_is_refused() -> None:
    storage = CrashingStorage()
    log_of(storage, 50, compacted=30)
    with pytest.raises(WalDamaged, match=r"OTTLA-WAL-DAMAGED: .* starts at entry .* missing"):
        open_log(WAL_DIRECTORY, storage, store_on(storage))


@pytest.mark.parametrize(
    ("index", "term", "kept"),
    [(30, 1, range(31, 51)), (50, 1, ()), (30, 2, ()), (80, 2, ())],
    ids=["in the log", "its last entry", "contradicts the log", "beyond the log"],
)
def test_a_snapshot_that_was_installed_and_the_log_not_yet(index: int, term: int, kept: Any) -> None:
    storage = CrashingStorage()
    store_on(storage).save(snapshot(index, term=term))
    log_of(storage, 50)
    wal, found = open_log(WAL_DIRECTORY, storage, store_on(storage), segment_bytes=100)
    assert found is not None
    assert wal.holds(EntryId(index, term))
    assert [entry[1] for entry in wal[:] if entry[1] > index] == list(kept)
    assert (wal.getCurrentTerm(), wal.getVotedForNodeId()) == (7, 3)
    wal.add(b"next", wal.last_index + 1, 9)
    wal.sync_file()
    again, _ = open_log(WAL_DIRECTORY, storage.kill(), store_on(storage.kill()))
    assert again.entry(wal.last_index)[0] == b"next"
    assert again.getVotedForNodeId() == 3
