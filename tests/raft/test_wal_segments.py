"""The log in several files: rolled, compacted and reset, with the power going at every change."""

import errno
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ottla.raft.wal import EntryId, WalFull, WriteAheadLog
from ottla.raft.wal_format import WalDamaged

from .cluster import WAL_DIRECTORY, CrashingStorage, PowerCut, SeededChance

SEGMENT = 120


class Model:
    """A log, the snapshot it leans on, and every state a power cut may bring back."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.snapshot: EntryId | None = None  # durable
        self.wal = WriteAheadLog.open(WAL_DIRECTORY, storage, segment_bytes=SEGMENT)
        self.past = [self.state()]

    def state(self) -> tuple[Any, ...]:
        return state_of(self.wal)

    def take(self, kind: str, share: float, term: int) -> None:
        wal = self.wal
        low = self.snapshot.index if self.snapshot is not None else 0
        match kind:
            case "add":
                wal.add(b"x" * int(share * 60 + 1), wal.last_index + 1, term)
            case "truncate":
                if wal.last_index > low:  # never below what was committed
                    wal.deleteEntriesFrom(low + int(share * (wal.last_index - low)))
            case "vote":
                wal.setCurrentTerm(term, int(share * 5) + 1)
            case "sync":
                position = wal.position
                wal.sync_file()
                wal.mark_synced(position)
                self.past = []
            case "compact":
                self.snapshot = wal.last if wal.last_index else None
                wal.compact(low + int(share * (wal.last_index - low)))
            case "reset":
                self.snapshot = EntryId(wal.last_index + int(share * 9), term + 1000)
                wal.reset(self.snapshot)
        self.past.append(self.state())

    def check(self, storage: Any, snapshot: EntryId | None, extra: Any = ()) -> WriteAheadLog:
        """What is recovered is a past state, as far as the snapshot does not have it."""
        wal = WriteAheadLog.open(WAL_DIRECTORY, storage, snapshot, segment_bytes=SEGMENT)
        found = state_of(wal)
        allowed = [*self.past, *extra]
        assert any(same(found, state, snapshot) for state in allowed), (found, allowed, snapshot)
        assert wal.synced_index == wal.last_index
        assert [name for name in storage.listdir(WAL_DIRECTORY) if name.endswith(".tmp")] == []
        return wal


def state_of(wal: WriteAheadLog) -> tuple[Any, ...]:
    base = EntryId(wal.base_index, wal.term_at(wal.base_index))
    return {entry[1]: entry for entry in wal[:]}, base, wal.getCurrentTerm(), wal.getVotedForNodeId()


def same(found: Any, state: Any, snapshot: EntryId | None) -> bool:
    """Equal but for entries that the snapshot has: they may be there or not, and a log that does not hold the
    snapshot's last entry starts anew after it."""
    if found[2:] != state[2:]:
        return False
    if snapshot is None:
        return bool(found[:2] == state[:2])
    entries, base = state[0], state[1]
    entry = entries.get(snapshot.index)
    holds = base == snapshot or (entry is not None and entry[2] == snapshot.term)
    tail = {index: entry for index, entry in entries.items() if index > snapshot.index} if holds else {}
    return {i: e for i, e in found[0].items() if i > snapshot.index} == tail


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "add", "truncate", "vote", "sync", "sync", "compact", "reset"]),
        st.floats(0, 0.99),
    ),
    max_size=40,
)


@given(steps, st.integers(0, 2**30), st.booleans(), st.none() | st.integers(1, 60))
@settings(deadline=None, max_examples=200)
def test_after_a_power_cut_the_log_is_a_past_state(history: Any, seed: int, holes: bool, cut: int | None) -> None:
    live_and_lose_power(history, seed, holes, cut)


HISTORY = [
    *[("vote", 0.2), ("add", 0.9), ("add", 0.9), ("add", 0.9), ("sync", 0), ("add", 0.9), ("add", 0.9), ("sync", 0)],
    *[("truncate", 0.5), ("add", 0.9), ("add", 0.9), ("vote", 0.6), ("add", 0.9), ("sync", 0), ("compact", 0.9)],
    *[("add", 0.9), ("sync", 0), ("add", 0.5), ("reset", 0.5), ("add", 0.9), ("sync", 0), ("add", 0.9), ("compact", 0)],
    *[("truncate", 0), ("add", 0.9), ("add", 0.9), ("add", 0.9), ("sync", 0), ("compact", 0.99), ("sync", 0)],
]


def test_the_power_may_go_at_every_change() -> None:
    for cut in range(1, 90):
        live_and_lose_power(HISTORY, cut, True, cut)


def live_and_lose_power(history: Any, seed: int, holes: bool, cut: int | None) -> None:
    storage = CrashingStorage(seed=seed, holes=holes)
    twin = Model(CrashingStorage())  # knows what a step that was cut short may have done
    try:
        storage.cut_power_at(cut)
        model = Model(storage)
    except PowerCut:
        assert WriteAheadLog.open(WAL_DIRECTORY, storage.crash(seed)).last_index == 0
        return
    extra: list[Any] = []
    for term, (kind, share) in enumerate(history, 1):
        before = list(model.past)
        twin.take(kind, share, term)
        try:
            model.take(kind, share, term)
        except PowerCut:
            extra = [*before, twin.state()]
            break
    wal = model.check(recovered := storage.crash(SeededChance(seed)), model.snapshot, extra)
    last = wal.last_index
    wal.add(b"y", last + 1, 10_000)
    wal.sync_file()
    again = WriteAheadLog.open(WAL_DIRECTORY, recovered.kill(), model.snapshot, segment_bytes=SEGMENT)
    assert again.entry(last + 1)[0] == b"y"


def test_files_are_rolled_and_go_as_a_whole_once_a_snapshot_has_them() -> None:
    storage = CrashingStorage()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage, segment_bytes=SEGMENT)
    wal.setCurrentTerm(3, 2)
    for index in range(1, 21):
        wal.add(b"x" * 30, index, 1)
    assert storage.listdir(WAL_DIRECTORY)[0] == f"{1:020}.wal"
    assert all(name.endswith(".tmp") for name in storage.listdir(WAL_DIRECTORY)[1:]), "named before it is durable"
    wal.sync_file()
    names = storage.listdir(WAL_DIRECTORY)
    assert len(names) > 5
    wal.compact(12)
    wal.sync_file()
    left = [int(name.removesuffix(".wal")) for name in storage.listdir(WAL_DIRECTORY)]
    assert len(left) < len(names)
    assert left[0] <= 13 < left[1]
    assert (wal.base_index, wal.last_index, wal.entry(13)[1], wal.term_at(12)) == (12, 20, 13, 1)
    again = WriteAheadLog.open(WAL_DIRECTORY, storage.kill(), EntryId(15, 1))
    assert (again.last_index, again.getCurrentTerm(), again.getVotedForNodeId()) == (20, 3, 2)


def many_files() -> Any:
    storage = CrashingStorage()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage, segment_bytes=SEGMENT)
    for index in range(1, 12):
        wal.add(b"x" * 30, index, 1)
    wal.sync_file()
    return storage


@pytest.mark.parametrize("cut", [0, 5, 40])
def test_only_the_last_file_may_have_a_torn_tail(cut: int) -> None:
    names = many_files().listdir(WAL_DIRECTORY)
    for name in names[:-1]:
        storage = many_files()
        path = WAL_DIRECTORY / name
        storage.open(path).truncate(cut or storage.open(path).size() - 1)
        with pytest.raises(WalDamaged, match=r"at byte|header") as refused:
            WriteAheadLog.open(WAL_DIRECTORY, storage)
        assert name in str(refused.value)
    storage = many_files()
    path = WAL_DIRECTORY / names[-1]
    storage.open(path).truncate(storage.open(path).size() - 1)
    assert WriteAheadLog.open(WAL_DIRECTORY, storage).last_index == 10


def test_a_file_missing_in_the_middle_or_at_the_start_is_damage() -> None:
    names = many_files().listdir(WAL_DIRECTORY)
    for position, problem in ((1, "it follows entry"), (0, "starts at entry")):
        storage = many_files()
        storage.remove(WAL_DIRECTORY / names[position])
        with pytest.raises(WalDamaged, match=problem):
            WriteAheadLog.open(WAL_DIRECTORY, storage)


def test_a_file_that_is_added_during_a_sync_does_not_stand_for_those_before_it() -> None:
    storage = CrashingStorage()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage, segment_bytes=SEGMENT)
    wal.setCurrentTerm(4, 2)
    wal.add(b"x", 1, 1)
    file = wal._files.current.file
    sync = file.sync

    def sync_while_the_loop_goes_on() -> None:
        file.sync = sync  # type: ignore[method-assign]
        sync()
        wal.compact(1)

    file.sync = sync_while_the_loop_goes_on  # type: ignore[method-assign]
    wal.sync_file()
    again = WriteAheadLog.open(WAL_DIRECTORY, storage.crash(1), EntryId(1, 1))
    assert (again.last_index, again.getVotedForNodeId()) == (1, 2)


def test_a_full_disk_keeps_the_present_file_in_use() -> None:
    storage = CrashingStorage()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage, segment_bytes=SEGMENT)
    for index in range(1, 5):
        wal.add(b"x" * 30, index, 1)
        storage.fail("create", error=errno.ENOSPC)
    wal.sync_file()
    assert storage.listdir(WAL_DIRECTORY) == [f"{1:020}.wal"]
    assert WriteAheadLog.open(WAL_DIRECTORY, storage.kill()).last_index == 4


def test_a_reset_that_finds_no_room_changes_nothing() -> None:
    storage = many_files()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    before = state_of(wal), wal.position
    storage.fail("write", error=errno.ENOSPC)
    with pytest.raises(WalFull):
        wal.reset(EntryId(50, 3))
    assert (state_of(wal), wal.position) == before
    wal.reset(EntryId(50, 3))
    wal.sync_file()
    assert len(storage.listdir(WAL_DIRECTORY)) == 1
    assert WriteAheadLog.open(WAL_DIRECTORY, storage.kill(), EntryId(50, 3)).last == EntryId(50, 3)


def test_a_log_that_was_cut_behind_its_oldest_file_knows_the_term_of_its_base() -> None:
    # Entries 5 to 7 are replaced from 4 on, in a file that begins after 4; then the files before it go.
    storage = CrashingStorage()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    for index in range(1, 5):
        wal.add(b"x", index, 1)
    wal.compact(1)  # rolls
    for index in range(5, 8):
        wal.add(b"x", index, 1)
    wal.deleteEntriesFrom(3)
    for index in range(4, 8):
        wal.add(b"y", index, 2)
    wal.sync_file()
    wal.mark_synced(wal.position)
    wal.compact(6)
    wal.sync_file()
    assert len(storage.listdir(WAL_DIRECTORY)) < 3
    # The newest snapshot was damaged, and the one before it is of entry 5: no more goes than it has.
    again = WriteAheadLog.open(WAL_DIRECTORY, storage.kill(), EntryId(5, 2))
    assert (again.base_index, again.term_at(again.base_index)) == (4, 2)
    assert [entry[1:] for entry in again[:]] == [(5, 2), (6, 2), (7, 2)]
