"""Reading a log again: every byte that rots is found, and a log in which some have does not open again."""

import random

import pytest

from ottla.log.cleaner import Source
from ottla.log.errors import CorruptBatch, CorruptCheckpoint, CorruptLog
from ottla.log.manager import LogManager
from ottla.log.model import BrokerEpoch, LeaderEpoch, Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.scrub import check_read, scrub
from tests.log.builders import DATA, DIRECTORY, PARTITION, TOPIC_ID, HandClock, batch, open_log
from tests.simulation.crashing_storage import CrashingStorage, SeededChance

EPOCHS = (0, 0, 1, 1, 4, 4)


def filled(storage: CrashingStorage) -> PartitionLog:
    log = open_log(storage, segment_bytes=400)
    for number in range(18):
        log.append_as_leader(batch(2, value=b"%d" % number), LeaderEpoch(EPOCHS[number // 3]))
    assert log.segment_count > 3
    return log


def scrubbed(storage: CrashingStorage, log: PartitionLog, *, gaps: bool = False) -> None:
    sources = [Source.of(segment) for segment in log.segments]
    for _ in scrub(storage, sources, log.epochs, gaps=gaps):
        pass


def test_a_good_log_is_good() -> None:
    storage = CrashingStorage()
    log = filled(storage)
    scrubbed(storage, log)
    scrubbed(storage, log, gaps=True)
    check_read(log.read(Offset(5), 1 << 20, log.log_end_offset), Offset(5), log.epochs)


def test_every_byte_that_rots_is_found() -> None:
    storage = CrashingStorage()
    log = filled(storage)
    for segment in log.segments:
        for position in range(segment.size_bytes):
            storage.rot(segment.path, position, 1 << (position % 8))
            with pytest.raises(CorruptBatch):
                scrubbed(storage, log)
            storage.rot(segment.path, position, 1 << (position % 8))
    scrubbed(storage, log)


def test_a_file_cut_short_is_found() -> None:
    storage = CrashingStorage()
    log = filled(storage)
    for segment in log.segments:
        storage.tear(segment.path, segment.size_bytes - 1)
        with pytest.raises(CorruptBatch):
            scrubbed(storage, log)
        break


def test_what_left_the_log_meanwhile_is_no_damage() -> None:
    storage = CrashingStorage()
    log = filled(storage)
    sources = [Source.of(segment) for segment in log.segments]
    storage.remove(sources[0].path)
    for _ in scrub(storage, sources, log.epochs, gaps=False):
        pass


@pytest.mark.parametrize("seed", range(40))
def test_what_a_reader_was_given_is_checked(seed: int) -> None:
    storage, dice = CrashingStorage(), random.Random(seed)
    log = filled(storage)
    segment = dice.choice(log.segments)
    # The CRC covers what follows after it; of what stands before, only that it makes sense can be checked.
    storage.rot(segment.path, dice.randrange(21, 61), 1 << dice.randrange(8))
    with pytest.raises((CorruptBatch, CorruptLog)):
        check_read(log.read(segment.base_offset, 1 << 20, log.log_end_offset), segment.base_offset, log.epochs)


def test_a_condemned_log_is_quarantined_at_the_next_start() -> None:
    storage = CrashingStorage()
    manager = LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)
    manager.power_was_lost = False
    log = manager.get_or_create(PARTITION, TOPIC_ID)
    log.append_as_leader(batch(3), LeaderEpoch(0))
    log.condemn("a CRC is wrong")
    manager.write_clean_shutdown(BrokerEpoch(1))
    manager = LogManager(storage.crash(), DATA, HandClock(), SeededChance(), reserve_bytes=0)
    assert manager.read_clean_shutdown() == 1
    assert manager.get_or_create(PARTITION, TOPIC_ID).log_end_offset == 0
    (lost,) = manager.quarantined
    assert "a CRC is wrong" in lost.reason


def test_a_log_that_went_is_not_condemned() -> None:
    storage = CrashingStorage()
    log = filled(storage)
    log.close()
    log.condemn("too late")
    assert "condemned" not in storage.listdir(DIRECTORY)


def test_every_bit_that_rots_in_a_checkpoint_is_found_or_says_the_same() -> None:
    storage = CrashingStorage()
    manager = LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)
    manager.checkpoint_high_watermarks({PARTITION: Offset(1234)})
    path = DATA / "replication-offset-checkpoint"
    for position in range(len(storage.read_bytes(path))):
        for bit in range(8):
            storage.rot(path, position, 1 << bit)
            try:
                found = LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)
            except CorruptCheckpoint:
                pass
            else:
                assert found.high_watermark(PARTITION) == 1234
            storage.rot(path, position, 1 << bit)


def test_a_checkpoint_as_kafka_writes_it_is_read() -> None:
    storage = CrashingStorage()
    storage.mkdir(DATA)
    storage.open(DATA / "replication-offset-checkpoint", create=True).append(b"0\n1\norders 0 7\n")
    assert LogManager(storage, DATA, HandClock(), SeededChance(), reserve_bytes=0).high_watermark(PARTITION) == 7
