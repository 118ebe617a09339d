"""Opening after a crash: power is cut, or the process killed, at every change a workload makes to the disk."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ottla.log.errors import CorruptLog
from ottla.log.manager import LogManager
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.partition_log import LogConfig, PartitionLog
from ottla.log.records import batches_in
from tests.log.builders import DATA, DIRECTORY, PARTITION, TOPIC_ID, HandClock, batch, end_of, open_log, whole
from tests.simulation.crashing_storage import CrashingFile, CrashingStorage, PowerCut, SeededChance

T = TypeVar("T")
ONE_SEGMENT = LogConfig(segment_bytes=1 << 20, index_interval_bytes=200)
MANY_SEGMENTS = LogConfig(segment_bytes=400, index_interval_bytes=100)


async def inline(call: Callable[[], T]) -> T:
    return call()


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never has to wait."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def manager_of(storage: CrashingStorage) -> LogManager:
    return LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)


class Workload:
    """Appends, syncs and truncates, and notes which contents the disk may hold at this moment."""

    def __init__(self, storage: CrashingStorage, config: LogConfig) -> None:
        self.possible = [b""]  # contents since the last sync that returned
        self.intended = b""  # the content that the append under way is to give
        self.synced_to = Offset(0)
        self._storage = storage
        self._config = config

    def run(self) -> None:
        manager = manager_of(self._storage)
        assert manager.read_clean_shutdown() is None
        log = manager.get_or_create(PARTITION, TOPIC_ID, self._config)
        for step in range(24):
            if step % 7 == 3:
                drive(manager.flush(inline))
                self._note_synced(log)
            elif step in (5, 13, 20):
                self._truncate(log, log.log_end_offset - (2, 7, 3)[step % 3])
            elif step % 5 == 4:
                self._append(log, log.append_as_follower, self._from_leader(log, step))
            else:
                self._lead(log, 1 + step % 3, LeaderEpoch(step // 6))

    def _lead(self, log: PartitionLog, count: int, epoch: LeaderEpoch) -> None:
        data = batch(count, value=bytes(40), base_offset=log.log_end_offset, epoch=epoch)
        self._append(log, lambda data: log.append_as_leader(data, epoch), data)

    def _from_leader(self, log: PartitionLog, step: int) -> bytes:
        first = batch(2, value=bytes(30), base_offset=log.log_end_offset, epoch=step // 6)
        return first + batch(1, value=bytes(150), base_offset=end_of(first), epoch=step // 6)

    def _append(self, log: PartitionLog, append: Callable[[bytes], object], data: bytes) -> None:
        self.intended = whole(log) + data
        append(data)
        self.possible.append(whole(log))

    def _truncate(self, log: PartitionLog, offset: int) -> None:
        self.synced_to = min(self.synced_to, log._segments.batch_start(Offset(offset)))
        log.truncate_to(Offset(offset))
        self.possible.append(whole(log))

    def _note_synced(self, log: PartitionLog) -> None:
        assert log.recovery_point == log.log_end_offset
        self.possible = [whole(log)]
        self.synced_to = log.log_end_offset


def interrupted(change: int, config: LogConfig, seed: int) -> tuple[CrashingStorage, Workload, bool]:
    storage = CrashingStorage(seed)
    workload = Workload(storage, config)
    storage.cut_power_at(change)
    try:
        workload.run()
    except PowerCut:
        return storage, workload, True
    return storage, workload, False


def every_interruption(config: LogConfig, seed: int):
    change = 1
    while True:
        storage, workload, was_cut = interrupted(change, config, seed)
        if not was_cut:
            assert change > 60
            return
        yield change, storage, workload
        change += 1


def is_whole_prefix(content: bytes, possible: list[bytes]) -> bool:
    """Whether ``content`` is the first batches of one of these contents."""
    list(batches_in(content))
    return any(candidate.startswith(content) for candidate in possible)


@pytest.mark.parametrize("seed", range(4))
def test_power_cut_at_every_change(seed: int) -> None:
    shorter = 0
    for change, storage, workload in every_interruption(ONE_SEGMENT, seed):
        manager = manager_of(storage.crash(change))
        assert manager.read_clean_shutdown() is None
        log = manager.get_or_create(PARTITION, TOPIC_ID, ONE_SEGMENT)
        content = whole(log)
        assert log.log_end_offset >= workload.synced_to
        assert is_whole_prefix(content, [*workload.possible, workload.intended])
        shorter += content not in workload.possible
        check_goes_on(manager, log)
    assert shorter > 3


@pytest.mark.parametrize("seed", range(4))
def test_power_cut_while_rolling_and_truncating_segments(seed: int) -> None:
    """A torn segment may have another one behind it: after a power cut both go, from the tear on."""
    shorter = 0
    for change, storage, workload in every_interruption(MANY_SEGMENTS, seed):
        manager = manager_of(storage.crash(change))
        log = manager.get_or_create(PARTITION, TOPIC_ID, MANY_SEGMENTS)
        assert manager.quarantined == []
        assert log.log_end_offset >= workload.synced_to
        shorter += whole(log) not in workload.possible
        check_goes_on(manager, log)
    assert shorter > 3


@pytest.mark.parametrize("anew", [False, True])
def test_power_cut_while_truncating_synced_segments(anew: bool) -> None:
    """All of it was durable, so there is nothing torn: the log opens, as it was or truncated or on the way."""
    for seed in range(10):
        for change in range(1, 30):
            storage = CrashingStorage(seed)
            manager = manager_of(storage)
            log = manager.get_or_create(PARTITION, TOPIC_ID, MANY_SEGMENTS)
            for _ in range(12):
                log.append_as_leader(batch(1, value=bytes(50)), LeaderEpoch(0))
            drive(manager.flush(inline))
            assert log.segment_count == 4
            content = whole(log)
            storage.cut_power_at(change)
            try:
                if anew:
                    log.truncate_fully_and_start_at(Offset(100))
                else:
                    log.truncate_to(Offset(4))
            except PowerCut:
                pass
            log = manager_of(storage.crash(change)).get_or_create(PARTITION, TOPIC_ID, MANY_SEGMENTS)
            assert content.startswith(whole(log))
            assert log.log_end_offset in (100, *range(0 if anew else 4, 13))


def contents(storage: CrashingStorage) -> dict[str, bytes]:
    if not storage.exists(DIRECTORY):
        return {}
    return {n: storage.read_bytes(DIRECTORY / n) for n in storage.listdir(DIRECTORY) if n.endswith(".log")}


@pytest.mark.parametrize("config", [ONE_SEGMENT, MANY_SEGMENTS])
def test_kill_at_every_change_loses_nothing(config: LogConfig) -> None:
    for _, storage, workload in every_interruption(config, 1):
        manager = manager_of(storage.kill())
        log = manager.get_or_create(PARTITION, TOPIC_ID, config)
        content = whole(log)
        last = workload.possible[-1]
        assert content.startswith(last) or last.startswith(content)  # the latter: a truncation under way
        check_goes_on(manager, log)


def check_goes_on(manager: LogManager, log: PartitionLog) -> None:
    """The recovered log works, and opening it once more finds the same."""
    end, epoch = log.log_end_offset, LeaderEpoch(50)
    log.append_as_leader(batch(2), epoch)
    assert log.end_offset_for_epoch(epoch) == (end + 2, epoch)
    drive(manager.flush(inline))
    content, epochs = whole(log), log._epochs.entries
    config = log.config
    manager.close()
    again = manager.get_or_create(PARTITION, TOPIC_ID, config)
    assert (whole(again), again._epochs.entries, again.cut_bytes) == (content, epochs, 0)


def damaged(
    position: int, mask: int = 0xFF, *, cut: int | None = None, segment_bytes: int = 1 << 20
) -> CrashingStorage:
    """Ten batches of 100-odd bytes in a log, one byte changed, or the file cut."""
    storage = CrashingStorage()
    log = open_log(storage, segment_bytes=segment_bytes)
    for _ in range(10):
        log.append_as_leader(batch(1, value=bytes(50)), LeaderEpoch(0))
    name = next(name for name in storage.listdir(DIRECTORY) if name.endswith(".log"))
    storage = storage.kill()
    file = storage.open(DIRECTORY / name)
    content = bytearray(file.read(0, file.size()))
    content[position] ^= mask
    file.truncate(0)
    file.append(content[:cut])
    return storage


SIZE = len(batch(1, value=bytes(50)))


@pytest.mark.parametrize("position", [8, 11, 16, 17, 25, 70, SIZE - 1])
def test_damage_in_the_last_batch_is_a_torn_tail(position: int) -> None:
    log = open_log(damaged(9 * SIZE + position))
    assert (log.log_end_offset, log.cut_bytes) == (9, SIZE)


@pytest.mark.parametrize("cut", [1, 11, 60, 61, SIZE - 1])
def test_a_cut_batch_is_a_torn_tail(cut: int) -> None:
    log = open_log(damaged(0, 0, cut=9 * SIZE + cut))
    assert (log.log_end_offset, log.cut_bytes, log.size_bytes) == (9, cut, 9 * SIZE)


@pytest.mark.parametrize("position", [0, 7, 8, 9, 11, 16, 17, 25, 70, SIZE - 1])
@pytest.mark.parametrize("number", [0, 8])
def test_damage_before_a_good_batch_is_not_cut(position: int, number: int) -> None:
    storage = damaged(number * SIZE + position)
    before = contents(storage)
    with pytest.raises(CorruptLog, match="a good batch follows"):
        open_log(storage)
    assert contents(storage) == before


def test_damage_in_what_had_been_durable_is_not_cut() -> None:
    with pytest.raises(CorruptLog, match="had been durable up to offset 10"):
        open_log(damaged(9 * SIZE + 70), recovery_point=10)
    with pytest.raises(CorruptLog, match="had been durable up to 10"):
        open_log(damaged(0, 0, cut=9 * SIZE), recovery_point=10)
    assert open_log(damaged(0, 0, cut=9 * SIZE), recovery_point=9).log_end_offset == 9


def test_damage_before_another_segment_is_not_cut() -> None:
    with pytest.raises(CorruptLog, match="more segments follow"):
        open_log(damaged(4 * SIZE + 70, segment_bytes=5 * SIZE), segment_bytes=5 * SIZE)


def test_a_missing_segment_is_noticed() -> None:
    storage = damaged(0, 0, segment_bytes=3 * SIZE)
    storage.remove(DIRECTORY / f"{3:020}.log")
    with pytest.raises(CorruptLog, match="next segment starts at 6, where 3 was due"):
        open_log(storage)


def test_damage_after_a_clean_stop_is_not_cut() -> None:
    with pytest.raises(CorruptLog, match="ended cleanly"):
        open_log(damaged(0, 0, cut=9 * SIZE + 5), clean=True)


def test_a_log_that_is_shorter_than_it_was_at_a_clean_stop_does_not_open() -> None:
    """Cut between batches, emptied, or its only file gone: nothing in what is left looks damaged."""
    for cut in (9 * SIZE, 0):
        with pytest.raises(CorruptLog, match="had been durable up to 10"):
            open_log(damaged(0, 0, cut=cut), clean=True, recovery_point=10)
    storage = damaged(0, 0)
    storage.remove(DIRECTORY / f"{0:020}.log")
    for _ in range(2):
        with pytest.raises(CorruptLog, match="had been durable up to 10"):
            open_log(storage, clean=True, recovery_point=10)


def test_a_hole_of_zeros_at_the_end_is_cut() -> None:
    storage = damaged(0, 0)
    file = storage.open(DIRECTORY / f"{0:020}.log")
    file.append(bytes(5000))
    log = open_log(storage)
    assert (log.log_end_offset, log.cut_bytes) == (10, 5000)


@pytest.mark.parametrize("damage", [b"", b"garbage!", bytes(80), b"\x7f" * 16], ids=repr)
def test_a_bad_index_is_written_anew(damage: bytes) -> None:
    storage = CrashingStorage()
    log = open_log(storage, index_interval_bytes=200)
    for _ in range(30):
        log.append_as_leader(batch(1, value=bytes(50)), LeaderEpoch(0))
    log.sync()
    log.close()
    path = DIRECTORY / f"{0:020}.index"
    good = storage.read_bytes(path)
    assert len(good) == 8 * 14
    storage.remove(path)
    if damage:
        storage.open(path, create=True).append(damage)
    log = open_log(storage, index_interval_bytes=200, clean=True)
    assert len(list(batches_in(whole(log)))) == 30
    log.close()
    assert storage.read_bytes(path) == good


class CountingStorage(CrashingStorage):
    """Notes what is read of each segment."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: dict[str, int] = {}

    def open(self, path: Path, *, create: bool = False) -> CrashingFile:
        file = super().open(path, create=create)
        read = file.read

        def counting(position: int, size: int) -> bytes:
            data = read(position, size)
            self.reads[path.name] = self.reads.get(path.name, 0) + len(data)
            return data

        file.read = counting  # type: ignore[method-assign]
        return file


def long_log() -> tuple[CountingStorage, PartitionLog]:
    storage = CountingStorage()
    log = open_log(storage, segment_bytes=100_000, index_interval_bytes=4096)
    for number in range(200):
        producer = (number % 7, 0, number // 7)
        log.append_as_leader(batch(1, value=bytes(5000), producer=producer), LeaderEpoch(number // 50))
    assert log.segment_count == 11
    return storage, log


def read_of_segments(storage: CountingStorage) -> list[int]:
    return [size for name, size in sorted(storage.reads.items()) if name.endswith(".log")]


def test_after_a_clean_stop_only_the_tails_are_looked_at() -> None:
    storage, log = long_log()
    log.settle()
    log.close()
    storage.reads.clear()
    assert open_log(storage, segment_bytes=100_000, index_interval_bytes=4096, clean=True).log_end_offset == 200
    assert max(read_of_segments(storage)) < 10_000
    assert sum(storage.reads.values()) < 11 * 10_000


def test_after_an_unclean_stop_only_what_is_above_the_recovery_point_is_read() -> None:
    storage, log = long_log()
    log.sync()
    log.append_as_leader(batch(1, value=bytes(5000)), LeaderEpoch(9))
    log.close()
    storage.reads.clear()
    again = open_log(storage, segment_bytes=100_000, index_interval_bytes=4096, recovery_point=199)
    assert again.log_end_offset == 201
    *below, last = read_of_segments(storage)
    assert len(below) == 10
    assert max(below) < 10_000
    assert last < 2 * again._segments.active.size_bytes
    assert again.append_as_leader(batch(1, value=bytes(5000), producer=(3, 0, 28)), LeaderEpoch(9)).is_duplicate


def test_an_idle_log_is_not_written_at_a_clean_stop() -> None:
    storage, log = long_log()
    log.settle()
    log.close()
    log = open_log(storage, segment_bytes=100_000, index_interval_bytes=4096, clean=True)
    changes = storage.changes
    log.settle()
    assert storage.changes == changes
    log.append_as_leader(batch(1), LeaderEpoch(9))
    log.settle()
    assert storage.changes > changes + 3


def test_a_torn_epoch_file_is_rebuilt() -> None:
    storage = CrashingStorage()
    log = open_log(storage)
    for epoch in (1, 1, 4):
        log.append_as_leader(batch(1), LeaderEpoch(epoch))
    log.assign_epoch_start(LeaderEpoch(6))
    assert storage.read_bytes(DIRECTORY / "leader-epoch-checkpoint") == b"0\n3\n1 0\n4 2\n6 3\n"
    log.close()
    assert open_log(storage, clean=True).latest_epoch == 6
    storage.open(DIRECTORY / "leader-epoch-checkpoint").truncate(7)
    log = open_log(storage, clean=True)
    assert log._epochs.entries == ((1, 0), (4, 2))
