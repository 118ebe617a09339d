"""The write-ahead log under torn writes, power cuts, damage and a full disk."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log.storage import SystemStorage
from ottla.raft.commands import AllocateProducerIds, Command, encode_command
from ottla.raft.group_commit import GroupCommit
from ottla.raft.wal import WalFull, WriteAheadLog
from ottla.raft.wal_dump import dump_wal
from ottla.raft.wal_format import (
    FILE_HEADER,
    Append,
    HardState,
    Reset,
    Start,
    Truncate,
    WalDamaged,
    decode_record,
    encode_file_header,
    encode_record,
)

from .cluster import WAL_DIRECTORY, CrashingStorage, PowerCut, SeededChance

FILE = WAL_DIRECTORY / f"{1:020}.wal"
State = tuple[tuple[tuple[bytes, int, int], ...], int, int | None]

records = st.one_of(
    st.builds(Append, st.integers(1, 2**62), st.integers(0, 2**62), st.binary(min_size=1, max_size=300)),
    st.builds(Truncate, st.integers(1, 2**62)),
    st.builds(HardState, st.integers(0, 2**62), st.none() | st.integers(1, 2**31)),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(min_size=1, max_size=700)),
        st.tuples(st.just("truncate"), st.floats(0, 1)),
        st.tuples(st.just("vote"), st.none() | st.integers(1, 7)),
        st.tuples(st.just("sync"), st.none()),
    ),
    max_size=25,
)


def fresh(seed: int = 0, holes: bool = False) -> Any:
    return CrashingStorage(seed=seed, holes=holes)


def state_of(wal: WriteAheadLog) -> State:
    return tuple(wal[:]), wal.getCurrentTerm(), wal.getVotedForNodeId()


def take(wal: WriteAheadLog, step: tuple[str, Any], number: int) -> None:
    match step:
        case "add", command:
            wal.add(command, wal.last_index + 1, number)
        case "truncate", share:
            wal.deleteEntriesFrom(int(share * len(wal)))
        case "vote", voted_for:
            wal.setCurrentTerm(number, voted_for)
        case _:
            position = wal.position
            wal.sync_file()
            wal.mark_synced(position)


@given(records, st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_record_is_read_back_only_where_it_was_written(record: Any, position: int, synced: int) -> None:
    data = encode_record(record, 16, synced)
    placed = decode_record(b"h" * 16 + data, 16)
    assert placed is not None
    assert placed == (record, 16 + len(data), synced)
    assert decode_record(b"h" * 17 + data, 17) is None


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for position in range(len(data)):
        decode_record(data, position)


@given(steps, st.integers(0, 2**30), st.booleans())
@settings(deadline=None)
def test_after_a_power_cut_the_log_is_a_past_state_no_older_than_the_last_sync(
    history: list[tuple[str, Any]], seed: int, holes: bool
) -> None:
    storage = fresh(seed, holes)
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    past = [state_of(wal)]
    for number, step in enumerate(history):
        take(wal, step, number)
        past = [state_of(wal)] if step[0] == "sync" else [*past, state_of(wal)]
    recovered = WriteAheadLog.open(WAL_DIRECTORY, storage.crash(SeededChance(seed)))
    assert state_of(recovered) in past
    assert recovered.synced_index == recovered.last_index
    recovered.add(b"x", recovered.last_index + 1, 99)
    assert state_of(recovered)[0][-1][0] == b"x"


@given(steps)
@settings(deadline=None)
def test_a_killed_process_finds_everything_it_wrote(history: list[tuple[str, Any]]) -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    for number, step in enumerate(history):
        take(wal, step, number)
    assert state_of(WriteAheadLog.open(WAL_DIRECTORY, storage.kill())) == state_of(wal)


HISTORY = [
    ("vote", 1),
    ("add", b"a"),
    ("add", b"b" * 600),
    ("sync", None),
    ("truncate", 0.5),
    ("add", b"c"),
    ("sync", None),
]


def test_the_power_may_go_at_every_change() -> None:
    for cut in range(1, 40):
        storage = fresh(cut, holes=True)
        storage.cut_power_at(cut)
        past: list[State] = [((), 0, None)]
        try:
            wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
            for number, step in enumerate(HISTORY):
                take(wal, step, number)
                past = [state_of(wal)] if step[0] == "sync" else [*past, state_of(wal)]
        except PowerCut:
            # The step under way may have happened too, and a sync may have finished all but its answer.
            past += [(((b"a", 1, 1), (b"b" * 600, 2, 2)), 0, 1), (((b"a", 1, 1), (b"c", 2, 5)), 0, 1)]
            past += [((), 0, 1), (((b"a", 1, 1),), 0, 1)]
        wal = WriteAheadLog.open(WAL_DIRECTORY, storage.crash(SeededChance(cut)))
        assert state_of(wal) in past, cut


def written() -> tuple[bytes, int, State]:
    """A file of two synced groups, where the second starts, and the state it holds."""
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    for number, step in enumerate([("vote", 1), ("add", b"a"), ("add", b"bb"), ("sync", None)]):
        take(wal, step, number)
    middle = wal.position
    for number, step in enumerate([("add", b"ccc"), ("sync", None)]):
        take(wal, step, number + 10)
    return storage.read_bytes(FILE), middle, state_of(wal)


def with_content(data: bytes) -> Any:
    storage = fresh()
    storage.mkdir(WAL_DIRECTORY)
    storage.open(FILE, create=True).append(data)
    return storage


def test_damage_to_what_had_been_durable_refuses_to_start_and_says_where() -> None:
    data, middle, _ = written()
    for position in range(middle):
        bad = bytearray(data)
        bad[position] ^= 0x40
        with pytest.raises(WalDamaged, match=r"OTTLA-WAL-DAMAGED: .* at byte [0-9]+") as refused:
            WriteAheadLog.open(WAL_DIRECTORY, with_content(bytes(bad)))
        assert str(FILE) in str(refused.value)


def test_a_file_cut_anywhere_gives_the_records_before_the_cut() -> None:
    data, middle, (entries, *_) = written()
    for size in range(len(data)):
        wal = WriteAheadLog.open(WAL_DIRECTORY, with_content(data[:size]))
        assert tuple(wal[:]) == entries[: len(wal)]
        assert (len(wal) == 2) if size >= middle else (len(wal) < 2 or size == middle)


@pytest.mark.parametrize("size", [None, 0, 5])
def test_a_log_that_is_gone_is_not_made_anew(size: int | None) -> None:
    # An empty log would vote again in terms it has voted in.
    storage = fresh()
    WriteAheadLog.open(WAL_DIRECTORY, storage).close()
    if size is None:
        storage.remove_tree(WAL_DIRECTORY)
    else:
        storage.open(FILE).truncate(size)
    with pytest.raises(WalDamaged, match="OTTLA-WAL-DAMAGED"):
        WriteAheadLog.open(WAL_DIRECTORY, storage.kill())


def test_zeros_after_the_last_record_are_a_torn_tail() -> None:
    data, _, (entries, *_) = written()
    assert tuple(WriteAheadLog.open(WAL_DIRECTORY, with_content(data + bytes(4096)))[:]) == entries


def test_a_hole_in_the_unsynced_tail_is_no_damage() -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    wal.add(b"a", 1, 1)
    hole = wal.position
    wal.add(b"b" * 50, 2, 1)
    wal.add(b"c", 3, 1)
    data = bytearray(storage.read_bytes(FILE))
    data[hole : hole + 20] = bytes(20)  # this page was lost, the next one was not
    assert [entry[0] for entry in WriteAheadLog.open(WAL_DIRECTORY, with_content(bytes(data)))[:]] == [b"a"]


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_a_full_disk_undoes_the_write(kept: int) -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    wal.setCurrentTerm(1, 1)
    wal.add(b"a", 1, 1)
    before = state_of(wal), wal.position
    storage.fail("write", error=errno.ENOSPC, keep=kept)
    with pytest.raises(WalFull):
        wal.add(b"b" * 100, 2, 1)
    storage.fail("write", error=errno.ENOSPC, keep=kept)
    with pytest.raises(WalFull):
        wal.setCurrentTerm(2, 2)
    assert (state_of(wal), wal.position) == before
    wal.add(b"c", 2, 1)
    assert state_of(WriteAheadLog.open(WAL_DIRECTORY, storage.kill())) == state_of(wal)


def test_a_failed_write_is_not_taken_for_a_full_disk() -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    storage.fail("write", error=errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        wal.add(b"a", 1, 1)


def test_synced_index_follows_the_sync_and_not_the_write() -> None:
    wal = WriteAheadLog.open(WAL_DIRECTORY, fresh())
    wal.add(b"a", 1, 1)
    position = wal.position
    wal.add(b"b", 2, 1)
    assert wal.synced_index == 0
    wal.sync_file()
    wal.mark_synced(position)
    assert (wal.synced_index, wal.end_of(1), wal.hard_state_synced) == (1, position, True)
    wal.deleteEntriesFrom(1)
    wal.add(b"B", 2, 2)
    assert wal.synced_index == 1  # the old entry 2 does not vouch for the new one


def test_a_batch_has_at_least_one_entry_and_otherwise_fits() -> None:
    wal = WriteAheadLog.open(WAL_DIRECTORY, fresh())
    for index in range(1, 6):
        wal.add(b"x" * 100, index, 1)
    size = wal.end_of(2) - wal.end_of(1)
    assert [entry[1] for entry in wal.batch(2, 1)] == [2]
    assert [entry[1] for entry in wal.batch(1, 2 * size)] == [1, 2]
    assert [entry[1] for entry in wal.batch(2, 2 * size + 1)] == [2, 3]
    assert [entry[1] for entry in wal.batch(4, 1 << 20)] == [4, 5]
    assert wal.batch(6, 1 << 20) == []
    assert FILE_HEADER.size == 16


async def test_one_sync_at_a_time_and_a_write_during_it_waits_for_the_next() -> None:
    wal = WriteAheadLog.open(WAL_DIRECTORY, fresh())
    begun: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
    synced = asyncio.Event()

    async def slowly(function: Callable[[], Any]) -> Any:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begun.put_nowait(gate)
        await gate
        return function()

    task = asyncio.create_task(GroupCommit(wal, slowly, synced.set).run())
    wal.add(b"a", 1, 1)
    gate = await begun.get()
    wal.add(b"b", 2, 1)
    assert begun.empty()
    gate.set_result(None)
    await synced.wait()
    assert wal.synced_index == 1
    (await begun.get()).set_result(None)
    synced.clear()
    await synced.wait()
    assert wal.synced_index == 2
    task.cancel()


async def test_a_failed_sync_ends_group_commit() -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)

    async def in_place(function: Callable[[], Any]) -> Any:
        return function()

    storage.fail("sync")
    wal.add(b"a", 1, 1)
    with pytest.raises(OSError, match="Input/output"):
        await GroupCommit(wal, in_place, lambda: None).run()
    assert wal.synced_index == 0


def test_an_entry_out_of_place_is_damage(tmp_path: Path) -> None:
    header = written()[0][: FILE_HEADER.size]
    data = header + encode_record(Append(2, 1, b"x"), FILE_HEADER.size, 0)
    with pytest.raises(WalDamaged, match="entry 2"):
        WriteAheadLog.open(WAL_DIRECTORY, with_content(data))


def test_what_a_failed_sync_left_in_the_cache_is_written_again_by_the_next_run() -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    wal.add(b"x", 1, 1)
    storage.fail("sync", name_contains="wal")
    with pytest.raises(OSError, match="Input/output error"):
        wal.sync_file()
    storage = storage.kill()  # the process ends; the cache stays, and calls itself clean
    again = WriteAheadLog.open(WAL_DIRECTORY, storage)
    assert again.synced_index == 1
    assert WriteAheadLog.open(WAL_DIRECTORY, storage.crash(1)).last_index == 1


def test_a_full_disk_does_not_keep_a_log_from_being_opened() -> None:
    storage = fresh()
    wal = WriteAheadLog.open(WAL_DIRECTORY, storage)
    wal.add(b"x", 1, 1)
    wal.sync_file()
    storage = storage.kill()
    storage.capacity = storage.used_bytes() + 10
    assert WriteAheadLog.open(WAL_DIRECTORY, storage).last_index == 1
    assert [name for name in storage.listdir(WAL_DIRECTORY) if name.endswith(".tmp")] == []


def test_a_file_is_shown_record_by_record(tmp_path: Path) -> None:
    storage = SystemStorage()
    path = tmp_path / "1.wal"
    file = encode_file_header()
    for record in (
        Start(0, 0),
        HardState(3, 2),
        Append(1, 3, encode_command(Command(5, None, AllocateProducerIds(7)))),
        Append(2, 3, b"\1"),
        Truncate(2),
        Reset(9, 4),
    ):
        file += encode_record(record, len(file), 0)
    path.write_bytes(file)
    rows = list(dump_wal(storage, path))
    assert [row["record"] for row in rows] == ["start", "vote", "append", "append", "truncate", "reset"]
    assert rows[2]["command"]["body"] == {"type": "AllocateProducerIds/1", "count": 7}
    assert rows[3]["command"] == "01"
    assert rows[-1]["end"] == len(file)
    path.write_bytes(file[:-1] + b"x" + file)
    assert len(list(dump_wal(storage, path))) >= 5
    path.write_bytes(b"no log at all")
    assert "problem" in next(dump_wal(storage, path))
