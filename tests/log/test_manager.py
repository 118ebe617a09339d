"""LogManager: directories, checkpoints, the clean-shutdown marker, flushing and the free-space reserve."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ottla.log.checkpoint import OffsetCheckpoint
from ottla.log.checksum import crc32c
from ottla.log.errors import (
    CorruptCheckpoint,
    InconsistentTopicId,
    StorageFailed,
    StorageFull,
    UnknownProducerId,
)
from ottla.log.manager import LogManager
from ottla.log.model import BrokerEpoch, LeaderEpoch, Offset, TopicPartition
from tests.log.builders import DATA, OTHER_TOPIC_ID, PARTITION, TOPIC_ID, HandClock, batch, whole
from tests.simulation.crashing_storage import CrashingStorage, SeededChance

E0 = LeaderEpoch(0)
T = TypeVar("T")


async def inline(call: Callable[[], T]) -> T:
    return call()


@pytest.fixture
def storage() -> CrashingStorage:
    return CrashingStorage()


def manager_of(storage: CrashingStorage, clock: HandClock | None = None, **limits: int) -> LogManager:
    return LogManager(storage, DATA, clock or HandClock(), SeededChance(), **{"reserve_bytes": 0, **limits})


def test_one_log_per_partition(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    assert manager.get_or_create(PARTITION, TOPIC_ID) is log is manager.get(PARTITION)
    assert manager.get(TopicPartition("orders", 1)) is None
    with pytest.raises(InconsistentTopicId):
        manager.get_or_create(PARTITION, OTHER_TOPIC_ID)


def test_strays_are_set_aside_and_kept(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    log.append_as_leader(batch(3), E0)
    other = TopicPartition("a-b.c", 12)
    manager.get_or_create(other, OTHER_TOPIC_ID)
    assert manager.on_disk() == {PARTITION: TOPIC_ID, other: OTHER_TOPIC_ID}
    assert manager.set_aside_strays({PARTITION: TOPIC_ID, other: OTHER_TOPIC_ID}) == []
    content = whole(log)
    [stray] = manager.set_aside_strays({PARTITION: OTHER_TOPIC_ID, other: OTHER_TOPIC_ID})
    assert stray.name == f"orders-0.{TOPIC_ID}-stray"
    assert storage.read_bytes(stray / f"{0:020}.log") == content
    assert manager.get(PARTITION) is None
    assert manager.get_or_create(PARTITION, OTHER_TOPIC_ID).log_end_offset == 0
    again = manager.remove(PARTITION)
    assert again is not None
    assert again.name == f"orders-0.{OTHER_TOPIC_ID}-stray"
    assert manager.remove(PARTITION) is None
    manager.get_or_create(PARTITION, TOPIC_ID)
    twice = manager.remove(PARTITION)
    assert twice is not None
    assert twice.name == f"orders-0.{TOPIC_ID}.2-stray"
    assert manager.on_disk() == {other: OTHER_TOPIC_ID}


def test_a_stray_of_the_longest_name(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    long = TopicPartition("t" * 249, 0)
    manager.get_or_create(long, TOPIC_ID)
    stray = manager.remove(long)
    assert stray is not None
    assert len(stray.name) == 255
    assert stray.name.endswith("-stray")


def test_a_new_topic_of_an_old_name_does_not_inherit_its_checkpoints(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    log.append_as_leader(batch(9), E0)
    asyncio.run(manager.flush(inline))
    manager.checkpoint_high_watermarks({PARTITION: Offset(9)})
    manager = manager_of(storage.kill())
    assert manager.high_watermark(PARTITION) == 9
    manager.set_aside_strays({})
    assert manager.high_watermark(PARTITION) == 0
    manager.get_or_create(PARTITION, OTHER_TOPIC_ID).append_as_leader(batch(1), E0)
    reopened = manager_of(manager._storage.kill()).get_or_create(PARTITION, OTHER_TOPIC_ID)  # type: ignore[attr-defined]
    assert reopened.log_end_offset == 1


def test_a_directory_that_is_gone_starts_anew(storage: CrashingStorage) -> None:
    """An operator removed it to have the replica refetched. The quorum must hear of it before the log is believed."""
    manager = manager_of(storage)
    manager.get_or_create(PARTITION, TOPIC_ID).append_as_leader(batch(9), E0)
    asyncio.run(manager.flush(inline))
    storage = storage.kill()
    storage.remove_tree(DATA / str(PARTITION))
    for _ in range(2):
        manager = manager_of(storage)
        manager.get_or_create(PARTITION, TOPIC_ID).append_as_leader(batch(1), E0)
        assert [lost.topic_partition for lost in manager.quarantined] == [PARTITION]
        asyncio.run(manager.flush(inline))
        storage = storage.kill()
    manager = manager_of(storage)
    manager.get_or_create(PARTITION, TOPIC_ID).append_as_leader(batch(1), E0)
    manager.damage_reported()
    asyncio.run(manager.flush(inline))
    manager = manager_of(storage.kill())
    assert manager.get_or_create(PARTITION, TOPIC_ID).log_end_offset == 1
    assert manager.quarantined == []


@pytest.mark.parametrize("synced", [True, False])
def test_a_damaged_log_is_reported_until_the_quorum_knows(synced: bool) -> None:
    storage = CrashingStorage()
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    for _ in range(9):
        log.append_as_leader(batch(1), E0)
    if synced:
        asyncio.run(manager.flush(inline))
    storage.open(log.directory / f"{0:020}.log").truncate(0)
    storage.open(log.directory / f"{0:020}.log").append(bytes(100) + batch(1, base_offset=7, epoch=0))
    for _ in range(3):
        storage = storage.kill()
        manager = manager_of(storage)
        manager.power_was_lost = False
        log = manager.get_or_create(PARTITION, TOPIC_ID)
        assert [lost.topic_partition for lost in manager.quarantined] == [PARTITION]
        assert log.log_end_offset == 0
        asyncio.run(manager.flush(inline))
    manager.damage_reported()
    storage = storage.kill()
    manager = manager_of(storage)
    assert manager.get_or_create(PARTITION, TOPIC_ID).log_end_offset == 0
    assert manager.quarantined == []


def test_a_clean_stop_is_said_once(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    assert manager.read_clean_shutdown() is None
    manager.get_or_create(PARTITION, TOPIC_ID).append_as_leader(batch(4), E0)
    manager.write_clean_shutdown(BrokerEpoch(77))
    assert storage.read_bytes(DATA / ".kafka_cleanshutdown") == b'{"version":0,"brokerEpoch":77}'
    storage = storage.crash(5)
    storage_after = storage
    manager = manager_of(storage)
    assert manager.read_clean_shutdown() == 77
    assert manager.get_or_create(PARTITION, TOPIC_ID).log_end_offset == 4
    assert manager_of(storage_after.crash(6)).read_clean_shutdown() is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version":1,"brokerEpoch":77}', b'{"version":0,"brokerEpoch":"x"}'])
def test_a_marker_that_says_nothing(storage: CrashingStorage, content: bytes) -> None:
    storage.mkdir(DATA)
    storage.open(DATA / ".kafka_cleanshutdown", create=True).append(content)
    assert manager_of(storage).read_clean_shutdown() is None
    assert not storage.exists(DATA / ".kafka_cleanshutdown")


def test_a_failed_directory_never_stops_cleanly(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    manager.get_or_create(PARTITION, TOPIC_ID).append_as_leader(batch(1), E0)
    storage.fail("sync", name_contains=".log")
    asyncio.run(manager.flush(inline))
    assert isinstance(manager.failed, StorageFailed)
    with pytest.raises(StorageFailed):
        manager.write_clean_shutdown(BrokerEpoch(1))
    assert not storage.exists(DATA / ".kafka_cleanshutdown")
    with pytest.raises(StorageFailed):
        manager.get_or_create(TopicPartition("other", 0), TOPIC_ID).append_as_leader(batch(1), E0)


def test_offset_checkpoint(storage: CrashingStorage) -> None:
    storage.mkdir(DATA)
    checkpoint = OffsetCheckpoint(storage, DATA / "points")
    assert checkpoint.read() == {}
    offsets = {TopicPartition("b", 1): Offset(7), TopicPartition("a", 0): Offset(0)}
    checkpoint.write(lambda: offsets)
    text = storage.read_bytes(DATA / "points")
    assert text == b"0\n3\n. 0 %d\na 0 0\nb 1 7\n" % crc32c(b"a 0 0\nb 1 7\n")
    assert checkpoint.read() == offsets
    for cut in range(len(text)):
        storage.open(DATA / "points").truncate(cut)
        with pytest.raises(CorruptCheckpoint, match="points"):
            checkpoint.read()
        checkpoint.write(lambda: offsets)
    for operation in ("write", "sync", "replace"):
        storage.fail(operation, error=errno.ENOSPC)
        with pytest.raises(OSError, match="No space"):
            checkpoint.write(dict)
        assert checkpoint.read() == offsets


def test_a_checkpoint_is_the_old_or_the_new() -> None:
    for change in range(1, 8):
        storage = CrashingStorage(change)
        storage.mkdir(DATA)
        storage.sync_directory(DATA.parent)
        OffsetCheckpoint(storage, DATA / "points").write(lambda: {PARTITION: Offset(1)})
        storage.cut_power_at(change)
        returned = False
        try:
            OffsetCheckpoint(storage, DATA / "points").write(lambda: {PARTITION: Offset(2)})
            returned = True
        except BaseException:
            pass
        found = OffsetCheckpoint(storage.crash(change), DATA / "points").read()[PARTITION]
        assert found == 2 if returned else found in (1, 2)


def test_the_reserve(storage: CrashingStorage) -> None:
    clock = HandClock()
    storage.capacity = 10_000_000
    manager = manager_of(storage, clock, reserve_bytes=9_990_000)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    data = batch(1, value=bytes(200))
    while storage.free_bytes(DATA) - len(data) - 20 > 9_990_000:  # 20: the epoch file of the first append
        log.append_as_leader(data, E0)
    assert log.log_end_offset > 20
    with pytest.raises(StorageFull, match="free some space"):
        log.append_as_leader(data, E0)
    assert storage.free_bytes(DATA) >= 9_990_000
    storage.capacity += 1000
    log.append_as_leader(batch(1, value=bytes(200)), E0)
    clock.seconds += 2
    storage.capacity -= 1000
    with pytest.raises(StorageFull):
        log.append_as_leader(batch(1, value=bytes(200)), E0)


async def test_the_flusher_syncs_and_checkpoints(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    synced = asyncio.Event()

    async def executor(call: Callable[[], T]) -> T:
        result = call()
        if storage.exists(DATA / "recovery-point-offset-checkpoint"):
            synced.set()
        return result

    log = manager.get_or_create(PARTITION, TOPIC_ID)
    log.append_as_leader(batch(3), E0)
    flusher = asyncio.create_task(manager.run_flusher(executor))
    manager.look_now()
    await synced.wait()
    flusher.cancel()
    assert (log.recovery_point, log.unsynced_bytes) == (3, 0)
    assert storage.read_bytes(DATA / "recovery-point-offset-checkpoint") == b"0\n2\n. 0 %d\norders 0 3\n" % crc32c(
        b"orders 0 3\n"
    )


async def test_a_log_set_aside_before_its_turn_to_be_synced_is_no_failure(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    manager.get_or_create(PARTITION, TOPIC_ID).append_as_leader(batch(3), E0)

    async def executor(call: Callable[[], T]) -> T:
        manager.remove(PARTITION)
        return call()

    await manager.flush(executor)
    assert manager.failed is None
    assert manager.unsynced_bytes == 0


async def test_a_log_set_aside_while_it_is_synced_is_no_failure(
    storage: CrashingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic is deleted on the loop while an executor syncs its directory, which then has another name."""
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    log.append_as_leader(batch(3), E0)
    sync_directory = storage.sync_directory

    def overtaken(path: Path) -> None:
        if path == log.directory:
            monkeypatch.undo()
            manager.remove(PARTITION)
        sync_directory(path)

    monkeypatch.setattr(storage, "sync_directory", overtaken)
    await manager.flush(inline)
    assert not storage.exists(log.directory)
    assert manager.failed is None
    other = manager.get_or_create(PARTITION, OTHER_TOPIC_ID)
    assert other.append_as_leader(batch(1), E0).base_offset == 0


async def test_produces_wait_for_room(storage: CrashingStorage) -> None:
    manager = manager_of(storage, unsynced_bytes_max=1000)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    await manager.wait_for_room()
    log.append_as_leader(batch(1, value=bytes(2000)), E0)
    waiting = asyncio.create_task(manager.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await manager.flush(inline)
    await waiting
    assert manager.unsynced_bytes == 0
    log.append_as_leader(batch(1, value=bytes(2000)), E0)
    storage.fail("sync")
    waiting = asyncio.create_task(manager.wait_for_room())
    await asyncio.sleep(0)
    await manager.flush(inline)
    with pytest.raises(StorageFailed):
        await waiting


async def test_a_large_log_wakes_the_flusher(storage: CrashingStorage) -> None:
    manager = manager_of(storage)
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    for _ in range(17):
        assert not manager._flusher.wanted.is_set()
        log.append_as_leader(batch(1, value=bytes(1_000_000)), E0)
    assert manager._flusher.wanted.is_set()


def test_logs_forget_producers_after_the_managers_time(storage: CrashingStorage) -> None:
    clock = HandClock()
    log = manager_of(storage, clock, producer_expiration_ms=1_000).get_or_create(PARTITION, TOPIC_ID)
    log.append_as_leader(batch(1, producer=(1, 0, 0)), E0)
    clock.seconds += 1.1
    log.append_as_leader(batch(1, producer=(2, 0, 0)), E0)
    with pytest.raises(UnknownProducerId):
        log.append_as_leader(batch(1, producer=(1, 0, 1)), E0)
