"""Any bytes in the files of a log: it opens with every good record, or it is refused; it never opens with less."""

import contextlib
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log.config import LogConfig
from ottla.log.errors import CorruptBatch, CorruptCheckpoint, CorruptLog
from ottla.log.manager import LogManager
from ottla.log.model import BrokerEpoch, LeaderEpoch
from ottla.log.partition_log import PartitionLog
from ottla.log.records import RecordBatch, batches_in
from tests.log.builders import DATA, DIRECTORY, NOW_MS, PARTITION, TOPIC_ID, HandClock, batch, open_log, whole
from tests.log.crash_points import check_consistent
from tests.simulation.crashing_storage import CrashingStorage, SeededChance

SEGMENT_BYTES = 700
BESIDE = (".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint")


def stopped(how: str) -> tuple[CrashingStorage, bytes, int]:
    """A log of several segments that was stopped so; its content and recovery point."""
    storage = CrashingStorage()
    log = opened(storage, 0, clean=False)
    sequence = 0
    for number in range(24):
        count = 1 + number % 3
        data = batch(
            count, value=bytes(10 * (number % 5)), producer=(5, 0, sequence), timestamps=(NOW_MS + number * 37 % 100,)
        )
        log.append_as_leader(data, LeaderEpoch(number // 7))
        sequence += count
        if number == 15:
            log.sync()
    content = whole(log)
    assert log.segment_count > 3
    if how == "clean":
        log.settle()
        log.close()
    return storage.kill(), content, log.recovery_point


def opened(storage: CrashingStorage, recovery_point: int, *, clean: bool) -> PartitionLog:
    return open_log(
        storage,
        segment_bytes=SEGMENT_BYTES,
        index_interval_bytes=150,
        recovery_point=recovery_point,
        clean=clean,
    )


def spoil(storage: CrashingStorage, name: str, random: Random) -> None:
    file = storage.open(DIRECTORY / name)
    data = bytearray(file.read(0, file.size()))
    kind = random.choice(("flip", "flip", "cut", "extend", "zeros", "noise", "swap"))
    place = random.randrange(len(data) + 1)
    if kind == "flip" and data:
        data[place % len(data)] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "extend":
        data += random.randbytes(random.randrange(1, 100))
    elif kind == "zeros":
        data[place : place + 40] = bytes(len(data[place : place + 40]))
    elif kind == "noise":
        data = bytearray(random.randbytes(random.randrange(200)))
    else:
        data = data[place:] + data[:place]
    file.truncate(0)
    file.append(data)


@pytest.mark.parametrize("how", ["clean", "kill"])
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_damage_beside_the_records_costs_no_record(how: str, first: int) -> None:
    for seed in range(first, first + 50):
        storage, content, recovery_point = stopped(how)
        random = Random(seed)
        names = [name for name in storage.listdir(DIRECTORY) if name.endswith(BESIDE)]
        for name in random.sample(names, random.randrange(1, 4)):
            if random.random() < 0.15:
                storage.remove(DIRECTORY / name)
            else:
                spoil(storage, name, random)
        log = opened(storage, recovery_point, clean=how == "clean")
        assert whole(log) == content, seed
        check_consistent(log)
        log.settle()
        log.close()
        check_consistent(opened(storage, log.recovery_point, clean=True))


@pytest.mark.parametrize("how", ["clean", "kill"])
@pytest.mark.parametrize("first", range(0, 400, 100))
def test_damage_in_the_records_is_refused_or_cut_behind_the_last_good_one(how: str, first: int) -> None:
    refused = 0
    for seed in range(first, first + 100):
        storage, content, recovery_point = stopped(how)
        random = Random(seed)
        name = random.choice([name for name in storage.listdir(DIRECTORY) if name.endswith(".log")])
        spoil(storage, name, random)
        stored = b"".join(
            storage.read_bytes(DIRECTORY / each) for each in storage.listdir(DIRECTORY) if each.endswith(".log")
        )
        try:
            log = opened(storage, recovery_point, clean=how == "clean")
        except CorruptLog:
            refused += 1
            continue
        assert log.log_end_offset >= recovery_point
        for one in batches_in(content):
            if bytes(one.buffer) in stored and one.base_offset < log.log_end_offset:
                check_not_dropped(log, one)
    assert refused > 40


def check_not_dropped(log: PartitionLog, good: RecordBatch) -> None:
    """Below the recovery point damage shows when it is read: as an error, or as what fails its CRC; a good batch near
    it is never passed over in silence."""
    with contextlib.suppress(CorruptLog, CorruptBatch):
        data = log.read(good.base_offset, 1, log.log_end_offset)
        assert data
        found = RecordBatch.parse(data)
        assert found.base_offset <= good.base_offset <= found.last_offset
        if found.base_offset != good.base_offset:
            found.verify_crc()
            raise AssertionError(f"{found.base_offset} for {good.base_offset}")


@given(st.data())
@settings(max_examples=150)
def test_any_bytes_in_any_file(data: st.DataObject) -> None:
    storage, _, recovery_point = stopped("kill")
    for name in data.draw(st.sets(st.sampled_from(storage.listdir(DIRECTORY)), max_size=4)):
        file = storage.open(DIRECTORY / name)
        file.truncate(0)
        file.append(data.draw(st.binary(max_size=200)))
    clean = data.draw(st.booleans())
    with contextlib.suppress(CorruptLog):
        log = opened(storage, data.draw(st.sampled_from([0, recovery_point])), clean=clean)
        with contextlib.suppress(CorruptLog):
            whole(log)
        log.close()


@given(st.binary(max_size=80) | st.text(st.sampled_from("0123456789 -\nt"), max_size=60).map(str.encode))
@settings(max_examples=300)
def test_any_bytes_in_the_directorys_checkpoints(data: bytes) -> None:
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown"):
        storage = CrashingStorage()
        storage.mkdir(DATA)
        storage.open(DATA / name, create=True).append(data)
        with contextlib.suppress(CorruptCheckpoint):
            manager = LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)
            manager.read_clean_shutdown()
            manager.get_or_create(PARTITION, TOPIC_ID)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_refused_is_quarantined_and_the_replica_starts_empty(seed: int) -> None:
    storage = CrashingStorage()
    manager = LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)
    config = LogConfig(segment_bytes=SEGMENT_BYTES, index_interval_bytes=150)
    log = manager.get_or_create(PARTITION, TOPIC_ID, config)
    for _ in range(20):
        log.append_as_leader(batch(2), LeaderEpoch(0))
    manager.write_clean_shutdown(BrokerEpoch(1))
    random = Random(seed)
    spoil(storage, random.choice([name for name in storage.listdir(DIRECTORY) if name.endswith(".log")]), random)
    before = {
        name: storage.read_bytes(DIRECTORY / name) for name in storage.listdir(DIRECTORY) if name.endswith(".log")
    }
    manager = LogManager(storage, DATA, HandClock(), SeededChance(seed), reserve_bytes=0)
    manager.read_clean_shutdown()
    log = manager.get_or_create(PARTITION, TOPIC_ID, config)
    if not manager.quarantined:
        assert log.log_end_offset == 40
        return
    [lost] = manager.quarantined
    assert lost.path.name.startswith(f"{PARTITION}.")
    assert lost.path.name.endswith("-quarantined")
    assert {name: storage.read_bytes(lost.path / name) for name in before} == before
    assert (log.log_start_offset, log.log_end_offset, manager.high_watermark(PARTITION)) == (0, 0, 0)
    log.append_as_follower(batch(1, base_offset=0, epoch=3))
    manager.damage_reported()
    manager.write_clean_shutdown(BrokerEpoch(2))
    manager = LogManager(storage, DATA, HandClock(), SeededChance(seed), reserve_bytes=0)
    manager.read_clean_shutdown()
    assert manager.get_or_create(PARTITION, TOPIC_ID, config).log_end_offset == 1
    assert manager.quarantined == []
    assert manager.on_disk() == {PARTITION: TOPIC_ID}
