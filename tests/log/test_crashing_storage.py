"""The fake disk is as careful as the real one: the same behaviour while it runs, and only what was synced after."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ottla.log.model import LeaderEpoch, Offset
from ottla.log.partition_log import LogConfig, PartitionLog
from ottla.log.storage import DirectoryLocked, Storage, SystemStorage
from tests.log.builders import PARTITION, TOPIC_ID, HandClock, batch, whole
from tests.simulation.crashing_storage import CrashingStorage, PowerCut

ROOT = Path("/root")


@pytest.fixture(params=["system", "crashing"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, Path]:
    if request.param == "system":
        return SystemStorage(), tmp_path
    storage = CrashingStorage()
    storage.mkdir(ROOT)
    return storage, ROOT


def test_the_contract(place: tuple[Storage, Path]) -> None:
    storage, root = place
    with pytest.raises(FileNotFoundError):
        storage.open(root / "file")
    file = storage.open(root / "file", create=True)
    file.append(b"hello")
    file.append_many([b" ", memoryview(b"world"), bytearray(b"!")])
    assert (file.size(), file.read(6, 100), file.read(100, 5)) == (12, b"world!", b"")
    file.truncate(5)
    file.append(b"?")
    file.sync()
    file.close()
    file.close()
    with pytest.raises(OSError, match="descriptor") as caught:
        file.sync()
    assert caught.value.errno == errno.EBADF
    assert storage.read_bytes(root / "file") == b"hello?"
    storage.mkdir(root / "a" / "b")
    storage.mkdir(root / "a" / "b")
    storage.replace(root / "file", root / "a" / "moved")
    storage.sync_directory(root / "a")
    assert storage.listdir(root / "a") == ["b", "moved"]
    assert not storage.exists(root / "file")
    storage.replace(root / "a", root / "c")
    assert storage.read_bytes(root / "c" / "moved") == b"hello?"
    storage.remove(root / "c" / "moved")
    storage.remove(root / "c" / "moved")
    storage.remove_tree(root / "c")
    storage.remove_tree(root / "c")
    with pytest.raises(FileNotFoundError):
        storage.listdir(root / "c")
    assert storage.free_bytes(root) > 0
    with storage.lock(root / "lock"), pytest.raises(DirectoryLocked), storage.lock(root / "lock"):
        pass


def test_many_parts_and_large_writes(place: tuple[Storage, Path]) -> None:
    storage, root = place
    file = storage.open(root / "file", create=True)
    parts = [b"%05d" % number for number in range(3000)] + [bytes(3 << 20), b"end"]
    file.append_many(parts)
    assert file.read(0, file.size()) == b"".join(parts)


def test_what_was_synced_survives_and_the_rest_is_a_prefix() -> None:
    lengths = set()
    for seed in range(60):
        storage = CrashingStorage(seed)
        storage.mkdir(ROOT)
        storage.sync_directory(Path("/"))
        file = storage.open(ROOT / "file", create=True)
        file.append(b"synced")
        file.sync()
        storage.sync_directory(ROOT)
        file.append(b"12345")
        file.append(b"67890")
        content = storage.crash(seed).read_bytes(ROOT / "file")
        assert b"synced1234567890".startswith(content)
        assert len(content) >= 6
        lengths.add(len(content))
    assert len(lengths) > 6


def test_names_survive_only_with_their_directory() -> None:
    outcomes = set()
    for seed in range(60):
        storage = CrashingStorage(seed)
        storage.mkdir(ROOT)
        storage.sync_directory(Path("/"))
        for name in ("a", "b"):
            file = storage.open(ROOT / name, create=True)
            file.append(name.encode())
            file.sync()
        storage.sync_directory(ROOT)
        storage.replace(ROOT / "b", ROOT / "a")
        storage.open(ROOT / "new", create=True)
        after = storage.crash(seed)
        outcomes.add((tuple(after.listdir(ROOT)), after.read_bytes(ROOT / "a")))
    assert outcomes == {(("a", "b"), b"a"), (("a",), b"b"), (("a", "new"), b"b")}


def test_kill_keeps_the_page_cache_and_drops_handles() -> None:
    storage = CrashingStorage()
    storage.mkdir(ROOT)
    file = storage.open(ROOT / "file", create=True)
    file.append(b"unsynced")
    lock = storage.lock(ROOT / "lock")
    lock.__enter__()
    after = storage.kill()
    assert after.read_bytes(ROOT / "file") == b"unsynced"
    assert after.boot_id() == storage.boot_id()
    with pytest.raises(OSError, match="file"):
        file.append(b"x")
    with after.lock(ROOT / "lock"):
        pass
    assert after.crash(1).boot_id() != storage.boot_id()


def test_faults() -> None:
    storage = CrashingStorage(capacity=10)
    storage.mkdir(ROOT)
    file = storage.open(ROOT / "file", create=True)
    storage.fail("write", nth=2, error=errno.EIO, keep=1)
    file.append(b"abc")
    with pytest.raises(OSError, match="Input/output") as caught:
        file.append(b"def")
    assert (caught.value.errno, file.read(0, 9)) == (errno.EIO, b"abcd")
    with pytest.raises(OSError, match="No space"):
        file.append(b"0123456789")
    assert (file.size(), storage.free_bytes(ROOT)) == (10, 0)
    storage.fail("sync")
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.sync()
    storage.sync_directory(Path("/"))
    storage.sync_directory(ROOT)
    assert storage.crash(3).read_bytes(ROOT / "file") == b""  # the later sync promised nothing


def test_cut_power_visits_every_change() -> None:
    reached = []
    for change in range(1, 10):
        storage = CrashingStorage()
        storage.cut_power_at(change)
        try:
            storage.mkdir(ROOT)
            file = storage.open(ROOT / "file", create=True)
            file.append(b"a")
            file.sync()
        except PowerCut:
            reached.append(change)
            assert storage.dead
    assert reached == [1, 2, 3, 4]


def test_a_log_on_the_real_disk(tmp_path: Path) -> None:
    """The same log on the operating system's files, synced beside the appends."""
    directory = tmp_path / "orders-0"

    def opened(recovery_point: int) -> PartitionLog:
        return PartitionLog.open(
            SystemStorage(),
            directory,
            topic_partition=PARTITION,
            topic_id=TOPIC_ID,
            config=LogConfig(segment_bytes=1000),
            clock=HandClock(),
            recovery_point=Offset(recovery_point),
        )

    log = opened(0)
    with ThreadPoolExecutor(1) as executor:
        for number in range(40):
            log.append_as_leader(batch(3, producer=(1, 0, 3 * number)), LeaderEpoch(number // 9))
            if number % 10 == 5:
                synced = executor.submit(log.sync)
                log.append_as_follower(batch(1, base_offset=log.log_end_offset, epoch=number // 9))
                log.truncate_to(Offset(log.log_end_offset - 1))
                assert synced.result() <= log.log_end_offset
        assert executor.submit(log.sync).result() == log.log_end_offset == 120
    content = whole(log)
    log.close()
    again = opened(120)
    assert whole(again) == content
    assert again.append_as_leader(batch(3, producer=(1, 0, 117)), LeaderEpoch(4)).is_duplicate
    again.close()
