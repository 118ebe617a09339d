"""A cleaning that is interrupted at every change it makes to the disk: the log is whole, and nothing newest is lost."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from ottla.log.config import LogConfig
from ottla.log.manager import LogManager
from ottla.log.model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from ottla.log.partition_log import PartitionLog
from ottla.log.records import BatchBuilder, Record
from tests.log.builders import NOW_MS, PARTITION, TOPIC_ID, whole
from tests.log.upkeep import drive, housekeeper_of, inline, manager_of, records_of
from tests.simulation.crashing_storage import CrashingStorage, PowerCut

T = TypeVar("T")
EPOCH = LeaderEpoch(1)
CONFIG = LogConfig(
    segment_bytes=600,
    index_interval_bytes=100,
    cleanup_policy=frozenset({"compact"}),
    min_cleanable_dirty_ratio=0.01,
    file_delete_delay_ms=0,
)


def keyed(*pairs: tuple[str, str], sequence: int | None = None) -> bytes:
    builder = BatchBuilder()
    for key, value in pairs:
        builder.append(key.encode(), value.encode() * 20, timestamp_ms=NOW_MS)
    return builder.build(*(() if sequence is None else (ProducerId(5), ProducerEpoch(0), sequence)))


def filled(storage: CrashingStorage, *, flush: bool = True, twice: bool = False) -> tuple[LogManager, PartitionLog]:
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID, CONFIG)
    for number in range(28 if twice else 14):
        if number == 14:  # small segments now, of which the next cleaning makes larger ones
            drive(manager.flush(inline))
            clean(manager, storage, log.log_end_offset)
        log.append_as_leader(keyed((f"k{number % 3}", f"{number}"), (f"only{number // 5}", "x")), EPOCH)
        if number == 2:
            log.append_as_leader(keyed(("k0", "idempotent"), sequence=0), EPOCH)
    if flush:
        drive(manager.flush(inline))
    return manager, log


def clean(manager: LogManager, storage: CrashingStorage, end: Offset) -> None:
    drive(housekeeper_of(manager, storage, lambda log: end).clean())


async def in_turn(call: Callable[[], T]) -> T:
    """As an executor: others run before it does."""
    await asyncio.sleep(0)
    return call()


def newest(log: PartitionLog) -> dict[bytes | None, Record]:
    return {record.key: record for record in records_of(whole(log))}


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_cleaning_interrupted_anywhere(power: bool, seed: int) -> None:
    interrupted = 0
    for change in range(1, 400):
        storage = CrashingStorage(seed)
        manager, log = filled(storage, twice=True)
        before, end = newest(log), log.log_end_offset
        storage.cut_power_at(change)
        try:
            clean(manager, storage, end)
        except PowerCut:
            interrupted += 1
        else:
            break
        storage = storage.crash(seed + change) if power else storage.kill()
        manager = manager_of(storage)
        log = manager.get_or_create(PARTITION, TOPIC_ID, CONFIG)
        assert not manager.quarantined
        assert (newest(log), log.log_end_offset) == (before, end), f"cut at change {change}"
        leftovers = [
            name for name in storage.listdir(log.directory) if name.endswith((".cleaned", ".swap", ".deleted"))
        ]
        assert leftovers == []
        clean(manager, storage, end)
        assert newest(log) == before
        assert log.append_as_leader(keyed(("k0", "idempotent"), sequence=0), EPOCH).is_duplicate
    assert interrupted > 20


def test_what_a_cleaning_leaves() -> None:
    storage = CrashingStorage()
    manager, log = filled(storage)
    before, size = newest(log), log.size_bytes
    active = log.segments[-1].base_offset
    clean(manager, storage, log.log_end_offset)
    kept = records_of(whole(log))
    below = [record for record in kept if record.offset < active]
    assert len({record.key for record in below}) == len(below), "each key once below the active segment"
    assert newest(log) == before
    assert log.size_bytes < size
    assert log.first_dirty_offset == active
    clean(manager, storage, log.log_end_offset)
    assert records_of(whole(log)) == kept, "not dirty any more"
    for offset in range(log.log_end_offset):
        data = log.read(Offset(offset), 1, log.log_end_offset)
        assert data, "a reader in a gap gets what follows"


def test_a_truncation_while_a_swap_is_prepared_forgets_the_cleaned_segment() -> None:
    storage = CrashingStorage()
    manager, log = filled(storage)
    third = log.segments[2].base_offset
    keeper = housekeeper_of(manager, storage, lambda log: log.log_end_offset, run_blocking=in_turn)
    work = keeper.clean()
    while log._swap.segment is None:
        work.send(None)
    log.truncate_to(Offset(third))
    content = whole(log)
    drive(work)
    assert log._swap.segment is None
    assert whole(log) == content
    assert log.log_end_offset == third
    again = manager_of(storage.kill()).get_or_create(PARTITION, TOPIC_ID, CONFIG)
    assert whole(again) == content


def test_nothing_above_the_high_watermark_or_not_yet_durable_is_cleaned() -> None:
    storage = CrashingStorage()
    manager, log = filled(storage)
    content = whole(log)
    clean(manager, storage, Offset(3))
    assert whole(log) == content
    storage = CrashingStorage()
    manager, log = filled(storage, flush=False)
    clean(manager, storage, log.log_end_offset)
    assert whole(log) == content, "a power cut would take the newest record and leave no older one"


def test_damaged_records_leave_a_log_uncleaned_and_say_so() -> None:
    storage = CrashingStorage()
    manager, log = filled(storage)
    path = log.segments[0].path
    node = storage._find(path)
    node.current[120] ^= 1  # type: ignore[union-attr, index, operator]
    keeper = housekeeper_of(manager, storage, lambda log: log.log_end_offset)
    content = whole(log)
    drive(keeper.clean())
    assert whole(log) == content
    assert {name: value for name, _, value in keeper.gauges()}["ottla_log_uncleanable"] == 1
    drive(keeper.clean())


def test_a_full_disk_stops_a_cleaning_and_nothing_else() -> None:
    storage = CrashingStorage()
    manager, log = filled(storage)
    content = whole(log)
    storage.capacity = storage.used_bytes() + 300
    clean(manager, storage, log.log_end_offset)
    assert whole(log) == content
    assert manager.failed is None
    storage.capacity = None
    clean(manager, storage, log.log_end_offset)
    assert log.size_bytes < len(content)
