"""Several directories of logs: where partitions go, and what a directory that fails, is lost or is another's means."""

import asyncio
import itertools
from pathlib import Path

import pytest

from ottla.log.directories import LogDirectories, parse_paths
from ottla.log.directory import DataDirectory
from ottla.log.directory_identity import ForeignDirectory, Owner
from ottla.log.errors import StorageFailed
from ottla.log.model import BrokerEpoch, LeaderEpoch, Offset, TopicId, TopicPartition

from ..simulation.crashing_storage import CrashingStorage, SeededChance
from .builders import TOPIC_ID, HandClock, batch

DATA, ONE, TWO = Path("/data"), Path("/one"), Path("/two")
OWNER = Owner("cluster-id", 1)
E0 = LeaderEpoch(0)
TIMES = itertools.count()


def name(number: int) -> TopicPartition:
    return TopicPartition("orders", number)


def opened(storage: CrashingStorage, *paths: Path, owner: Owner = OWNER) -> LogDirectories:
    storage.mkdir(DATA)
    storage.sync_directory(Path("/"))
    clock = HandClock()
    clock.seconds = next(TIMES)
    return LogDirectories.open(storage, DATA, paths or (ONE, TWO), owner, clock, SeededChance(1))


async def in_place(call):  # type: ignore[no-untyped-def]
    await asyncio.sleep(0)
    return call()


def filled(storage: CrashingStorage, count: int = 4) -> LogDirectories:
    """Four partitions with a record each, cleanly closed; of a node that has registered."""
    directories = opened(storage)
    directories.damage_reported()
    for number in range(count):
        directories.get_or_create(name(number), TOPIC_ID).append_as_leader(batch(1), E0)
    directories.write_clean_shutdown(BrokerEpoch(7))
    return directories


def held(storage: CrashingStorage, path: Path) -> list[str]:
    return [entry for entry in storage.listdir(path) if entry.startswith("orders-")]


def test_partitions_go_where_the_fewest_are_and_are_found_again() -> None:
    storage = CrashingStorage()
    filled(storage)
    assert held(storage, ONE) == ["orders-0", "orders-2"]
    assert held(storage, TWO) == ["orders-1", "orders-3"]
    again = opened(storage)
    assert again.read_clean_shutdown() == 7
    assert [again.get_or_create(name(n), TOPIC_ID).log_end_offset for n in range(4)] == [1] * 4
    assert held(storage, ONE) == ["orders-0", "orders-2"]


def test_another_order_and_another_directory_change_nothing_for_what_is_there() -> None:
    storage = CrashingStorage()
    filled(storage)
    again = opened(storage, Path("/three"), TWO, ONE)
    again.damage_reported()
    assert [again.get_or_create(name(n), TOPIC_ID).log_end_offset for n in range(4)] == [1] * 4
    again.get_or_create(name(9), TOPIC_ID)
    assert held(storage, Path("/three")) == ["orders-9"]
    assert again.lost == []


async def test_a_failed_sync_fails_one_directory_and_the_other_goes_on() -> None:
    storage, failed = CrashingStorage(), []
    directories = opened(storage)
    directories.damage_reported()
    directories.on_failed = failed.append
    logs = [directories.get_or_create(name(n), TOPIC_ID) for n in range(2)]
    for log in logs:
        log.append_as_leader(batch(1), E0)
    storage.fail("sync", name_contains="/one/")
    flusher = asyncio.create_task(directories.run_flusher(in_place))
    while not failed:
        directories.look_now()
        await asyncio.sleep(0)
    assert [manager.path for manager in failed] == [ONE]
    assert directories.failed is None
    assert [log.directory.parent for log in directories.logs()] == [TWO]
    logs[1].append_as_leader(batch(1), E0)
    with pytest.raises(StorageFailed):
        logs[0].append_as_leader(batch(1), E0)
    with pytest.raises(StorageFailed):
        directories.get_or_create(name(0), TOPIC_ID)
    assert directories.get_or_create(name(8), TOPIC_ID).directory.parent == TWO
    storage.fail("sync", name_contains="/two/")
    await asyncio.gather(flusher, _look(directories))
    assert isinstance(directories.failed, StorageFailed)


async def _look(directories: LogDirectories) -> None:
    for _ in range(100):
        directories.look_now()
        await asyncio.sleep(0)


def test_what_may_be_in_a_directory_that_cannot_be_opened_is_out_of_service_and_not_made_anew() -> None:
    storage = CrashingStorage()
    filled(storage)
    storage.break_below(ONE)
    again = opened(storage)
    assert list(again.broken) == [ONE]
    assert again.read_clean_shutdown() is None
    for number in (0, 2):
        with pytest.raises(StorageFailed, match="/one"):
            again.get_or_create(name(number), TOPIC_ID)
    assert again.get_or_create(name(1), TOPIC_ID).log_end_offset == 1
    again.damage_reported()
    assert again.get_or_create(name(7), TOPIC_ID).directory.parent == TWO, "new since the node has registered"
    again.close()
    storage.repair(ONE)
    healed = opened(storage)
    assert healed.get_or_create(name(0), TOPIC_ID).log_end_offset == 1
    assert healed.quarantined == []


def test_what_was_in_a_directory_that_was_replaced_is_known_to_be_lost() -> None:
    storage = CrashingStorage()
    filled(storage)
    storage.replace_disk(ONE)
    again = opened(storage)
    assert again.lost == [str(ONE)]
    assert again.read_clean_shutdown() is None
    for number in range(4):
        assert again.get_or_create(name(number), TOPIC_ID).log_end_offset == number % 2
    assert {lost.topic_partition for lost in again.quarantined} == {name(0), name(2)}
    # The node dies before it has told anybody: the next start must still know.
    third = opened(storage.kill())
    for number in range(4):
        third.get_or_create(name(number), TOPIC_ID)
    assert {lost.topic_partition for lost in third.quarantined} >= {name(0), name(2)}


def test_a_directory_that_is_no_longer_named_is_lost_too() -> None:
    storage = CrashingStorage()
    filled(storage)
    again = opened(storage, TWO)
    assert again.lost == [str(ONE)]
    again.get_or_create(name(0), TOPIC_ID)
    assert [lost.topic_partition for lost in again.quarantined] == [name(0)]


@pytest.mark.parametrize("other", [Owner("cluster-id", 2), Owner("other-id", 1)])
def test_another_nodes_directory_is_refused(other: Owner) -> None:
    storage = CrashingStorage()
    filled(storage)
    with pytest.raises(ForeignDirectory, match="belongs to node 1 of cluster cluster-id"):
        opened(storage, owner=other)


def test_a_node_without_any_directory_does_not_start() -> None:
    storage = CrashingStorage()
    filled(storage)
    storage.break_below(ONE)
    storage.break_below(TWO)
    with pytest.raises(StorageFailed, match=r"/one.*/two"):
        opened(storage)


def test_strays_are_set_aside_and_a_second_copy_is_a_stray() -> None:
    storage = CrashingStorage()
    filled(storage)
    storage.mkdir(TWO / "orders-0")
    again = opened(storage)
    wanted = {name(number): TOPIC_ID for number in (0, 1)}
    aside = {path.parent / path.name.partition(".")[0] for path in again.set_aside_strays(wanted)}
    assert aside == {TWO / "orders-0", ONE / "orders-2", TWO / "orders-3"}


def test_checkpoints_are_each_directorys_own() -> None:
    storage = CrashingStorage()
    filled(storage)
    again = opened(storage)
    again.checkpoint_high_watermarks({name(number): Offset(number) for number in range(4)})
    third = opened(storage)
    assert [third.high_watermark(name(number)) for number in range(4)] == [0, 1, 2, 3]
    assert b"orders 0" not in storage.read_bytes(TWO / "replication-offset-checkpoint")
    again.remove(name(0))
    assert held(storage, ONE) != ["orders-0", "orders-2"]
    assert again.get(name(0)) is None


def test_paths() -> None:
    assert parse_paths("/a, /b,,/a") == (Path("/a"), Path("/b"))
    assert parse_paths("") == ()


def test_a_new_topic_of_the_name_may_live_elsewhere() -> None:
    storage = CrashingStorage()
    filled(storage)
    again = opened(storage)
    again.damage_reported()
    again.remove(name(0))
    again.get_or_create(name(0), TopicId("B" * 22))
    assert sum(f"orders-{0}" in held(storage, path) for path in (ONE, TWO)) == 1


def test_whoever_appends_to_a_failed_directory_has_it_looked_at() -> None:
    """A node ends itself as soon as it is asked to write, not with the next second."""
    directory = DataDirectory(CrashingStorage(), DATA, HandClock())
    looked: list[bool] = []
    directory.on_flush_wanted = lambda: looked.append(True)
    directory.fail(StorageFailed("no"))
    with pytest.raises(StorageFailed):
        directory.admit(1)
    assert looked == [True]
