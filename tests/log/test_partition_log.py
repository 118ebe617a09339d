"""PartitionLog: its rules one by one, then against a plain list of batches, then against any bytes."""

import contextlib
import errno
import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log.checksum import crc32c
from ottla.log.compression import Compression
from ottla.log.errors import (
    CorruptBatch,
    InconsistentTopicId,
    LogError,
    OffsetOutOfRange,
    OutOfOrderSequence,
    RecordTooLarge,
    StorageFailed,
    StorageFull,
    UnexpectedOffset,
    UnknownProducerId,
)
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.records import RecordBatch, batches_in
from ottla.log.segment_reader import TAIL_BYTES_MAX
from tests.log.builders import (
    DIRECTORY,
    NOW_MS,
    OTHER_TOPIC_ID,
    HandClock,
    batch,
    end_of,
    open_log,
    whole,
)
from tests.simulation.crashing_storage import CrashingStorage

E0, E1, E2 = LeaderEpoch(0), LeaderEpoch(1), LeaderEpoch(2)


@pytest.fixture
def storage() -> CrashingStorage:
    return CrashingStorage()


def sealed(data: bytearray) -> bytes:
    """With the CRC that makes a forged header believable."""
    struct.pack_into(">I", data, 17, crc32c(data[21:]))
    return bytes(data)


def forged(*patches: tuple[str, int, int], **of: object) -> bytes:
    """Two records, with fields (format, position, value) overwritten and a CRC that covers it up."""
    data = bytearray(batch(2, **of))  # type: ignore[arg-type]
    for form, position, value in patches:
        struct.pack_into(form, data, position, value)
    return sealed(data)


def test_the_leader_stamps_and_nothing_else_changes(storage: CrashingStorage) -> None:
    log = open_log(storage)
    data = batch(3, base_offset=77, epoch=99)
    assert log.append_as_leader(data, E1) == (0, 2, None, 0, False)
    result = log.append_as_leader(bytearray(data), E2)
    assert (result.base_offset, result.last_offset) == (3, 5)
    stored = list(batches_in(whole(log)))
    assert [(b.base_offset, b.leader_epoch) for b in stored] == [(0, 1), (3, 2)]
    for one in stored:
        one.verify_crc()
        assert bytes(one.buffer)[16:] == data[16:]
    assert (log.log_end_offset, log.epoch_of(Offset(5))) == (6, 2)
    assert log.unsynced_bytes == log.size_bytes == 2 * len(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "CORRUPT_MESSAGE"),
        (batch(1)[:-1], "CORRUPT_MESSAGE"),
        (batch(1) + b"x", "INVALID_RECORD"),
        (batch(1) + batch(1), "INVALID_RECORD"),
        (batch(1)[:-1] + b"\x01", "CORRUPT_MESSAGE"),
        (forged((">b", 16, 1)), "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
        (forged((">h", 21, 5)), "UNSUPPORTED_COMPRESSION_TYPE"),
        (forged((">h", 21, 0x08)), "INVALID_TIMESTAMP"),
        (forged((">h", 21, 0x20)), "INVALID_RECORD"),
        (forged((">h", 21, 0x40)), "INVALID_RECORD"),
        (forged((">h", 21, -0x8000)), "INVALID_RECORD"),
        (batch(1, producer=(1, 0, 0), transactional=True), "INVALID_RECORD"),
        (forged((">i", 57, 3)), "INVALID_RECORD"),
        (forged((">i", 23, 5)), "INVALID_RECORD"),
        (forged((">i", 23, -1), (">i", 57, 0)), "INVALID_RECORD"),
        (forged((">i", 23, 2**31 - 2), (">i", 57, 2**31 - 1)), "INVALID_RECORD"),
        (forged((">i", 23, 2**31 - 2), (">i", 57, 2**31 - 1), compression=Compression.LZ4), "INVALID_RECORD"),
        (forged((">q", 27, -2)), "INVALID_TIMESTAMP"),
        (forged((">q", 35, NOW_MS - 1)), "INVALID_TIMESTAMP"),
        (batch(1, timestamps=(NOW_MS + 3_600_001,)), "INVALID_TIMESTAMP"),
        (forged((">i", 53, -1), producer=(1, 0, 0)), "INVALID_RECORD"),
        (forged((">h", 51, -1), producer=(1, 0, 0)), "INVALID_RECORD"),
        (batch(1, producer=(1, 0, 1)), "UNKNOWN_PRODUCER_ID"),
        (batch(1, value=bytes(3000)), "MESSAGE_TOO_LARGE"),
    ],
    ids=lambda case: case if isinstance(case, str) else None,
)
def test_what_a_leader_refuses(storage: CrashingStorage, data: bytes, code: str) -> None:
    log = open_log(storage, max_message_bytes=2000)
    log.append_as_leader(batch(1), E0)
    before = whole(log)
    with pytest.raises(LogError) as caught:
        log.append_as_leader(data, E0)
    assert caught.value.code == code
    assert str(caught.value)
    assert whole(log) == before
    assert log.log_end_offset == 1
    log.append_as_leader(batch(1), E0)


def test_the_size_limit_is_of_the_whole_batch(storage: CrashingStorage) -> None:
    data = batch(1)
    open_log(storage, max_message_bytes=len(data)).append_as_leader(data, E0)
    with pytest.raises(RecordTooLarge):
        open_log(storage.kill(), max_message_bytes=len(data) - 1).append_as_leader(data, E0)


def test_a_duplicate_is_answered_and_not_stored_again(storage: CrashingStorage) -> None:
    log = open_log(storage)
    first = log.append_as_leader(batch(2, producer=(9, 0, 0)), E0)
    log.append_as_leader(batch(1, producer=(9, 0, 2)), E0)
    again = log.append_as_leader(batch(2, producer=(9, 0, 0)), E1)
    assert again == first._replace(is_duplicate=True)
    assert (log.log_end_offset, log.latest_epoch) == (3, 0)
    with pytest.raises(OutOfOrderSequence):
        log.append_as_leader(batch(1, producer=(9, 0, 4)), E1)
    log = open_log(storage.kill())
    assert log.append_as_leader(batch(2, producer=(9, 0, 0)), E1).is_duplicate


def test_truncation_takes_the_producers_back(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(1, producer=(9, 0, 0)), E0)
    log.append_as_leader(batch(1, producer=(9, 0, 1)), E0)
    log.append_as_leader(batch(1, producer=(8, 0, 0)), E0)
    log.truncate_to(Offset(1))
    assert not log.append_as_leader(batch(1, producer=(9, 0, 1)), E1).is_duplicate
    with pytest.raises(UnknownProducerId):
        log.append_as_leader(batch(1, producer=(8, 0, 1)), E1)


def follower_copy(leader: PartitionLog, follower: PartitionLog, max_bytes: int = 300) -> None:
    while data := leader.read(follower.log_end_offset, max_bytes, leader.log_end_offset):
        assert follower.append_as_follower(data) == end_of(data)


def test_a_follower_is_byte_identical_however_it_rolls(storage: CrashingStorage) -> None:
    leader, copy = open_log(storage, segment_bytes=700), CrashingStorage()
    for number in range(40):
        data = batch(1 + number % 3, producer=(5, 0, leader.log_end_offset))
        leader.append_as_leader(data, LeaderEpoch(number // 10))
    follower = open_log(copy, segment_bytes=1000)
    assert follower.append_as_follower(whole(leader)) == leader.log_end_offset
    assert whole(follower) == whole(leader)
    assert follower.segment_count > 3
    for segment in copy.listdir(DIRECTORY):
        if segment.endswith(".log"):
            assert 0 < len(copy.read_bytes(DIRECTORY / segment)) <= 1000
    assert (
        follower.append_as_leader(batch(2, producer=(5, 0, leader.log_end_offset)), LeaderEpoch(99)).is_duplicate
        is False
    )


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (batch(1, base_offset=1, epoch=1), UnexpectedOffset),
        (batch(1, base_offset=2, epoch=0), UnexpectedOffset),
        (batch(2, base_offset=2, epoch=1) + batch(1, base_offset=3, epoch=1), UnexpectedOffset),
        (batch(1, base_offset=2, epoch=2) + batch(1, base_offset=3, epoch=1), UnexpectedOffset),
        (batch(1, base_offset=2), CorruptBatch),
        (batch(1, base_offset=2, epoch=1)[:-1], CorruptBatch),
        (batch(1, base_offset=2, epoch=1) + batch(1, base_offset=3, epoch=1)[:-1] + b"!", CorruptBatch),
    ],
)
def test_what_a_follower_refuses(storage: CrashingStorage, data: bytes, error: type[LogError]) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(2), E1)
    before = whole(log)
    with pytest.raises(error):
        log.append_as_follower(data)
    assert (whole(log), log.log_end_offset, log.latest_epoch) == (before, 2, 1)


def test_reads(storage: CrashingStorage) -> None:
    log = open_log(storage, segment_bytes=2000)
    ends = [log.append_as_leader(batch(3, value=bytes(number % 50)), E0).last_offset + 1 for number in range(60)]
    log = open_log(storage.kill(), segment_bytes=2000)
    one = RecordBatch.parse(log.read(Offset(0), 1, log.log_end_offset)).size_bytes
    for offset in range(log.log_end_offset):
        for max_bytes in (0, one, 3 * one + 5, 1 << 20):
            for bound in {offset, offset + 1, offset + 3, offset + 7, int(log.log_end_offset), 10_000}:
                data = log.read(Offset(offset), max_bytes, Offset(bound))
                found = list(batches_in(data))
                first_end = next(end for end in ends if end > offset)
                if bound < first_end:
                    assert data == b""
                    continue
                assert found[0].base_offset <= offset <= found[0].last_offset
                assert found[-1].last_offset < bound
                assert len(data) <= max_bytes or len(found) == 1
    assert log.read(log.log_end_offset, 100, log.log_end_offset) == b""
    for outside in (-1, log.log_end_offset + 1):
        with pytest.raises(OffsetOutOfRange):
            log.read(Offset(outside), 100, log.log_end_offset)


def test_a_full_disk_changes_nothing_and_heals(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(1, producer=(9, 0, 0)), E0)
    before = whole(log)
    for epoch in (E0, E1):
        for nth in (1, 2):
            storage.fail("write", nth=nth, error=errno.ENOSPC)
            if nth == 2 and epoch == E0:
                log.append_as_leader(batch(1), E0)  # the first write goes well, the fault is for the second
                before = whole(log)
            with pytest.raises(StorageFull):
                log.append_as_leader(batch(1, producer=(9, 0, 1)), epoch)
            assert (whole(log), log.latest_epoch) == (before, 0)
            assert storage.read_bytes(DIRECTORY / f"{0:020}.log") == before
    assert not log.append_as_leader(batch(1, producer=(9, 0, 1)), E1).is_duplicate
    assert log.end_offset_for_epoch(E0) == (2, 0)


def test_a_leader_is_a_leader_on_a_full_disk_too(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(1), E0)
    storage.fail("create", error=errno.ENOSPC, name_contains="epoch")
    log.assign_epoch_start(E1)
    assert (log.latest_epoch, log.end_offset_for_epoch(E0)) == (E1, (1, E0))
    log.append_as_leader(batch(1), E1)
    assert open_log(storage.kill()).end_offset_for_epoch(E1) == (2, E1)


def test_truncating_at_the_end_forgets_epochs_without_a_record(storage: CrashingStorage) -> None:
    """A follower that went on naming one would be told for ever that it diverges."""
    log = open_log(storage)
    log.append_as_leader(batch(1), E0)
    log.assign_epoch_start(E1)
    log.truncate_to(Offset(1))
    assert (log.latest_epoch, log.log_end_offset) == (E0, 1)


@pytest.mark.parametrize("operation", ["create", "write"])
def test_a_full_disk_while_rolling(storage: CrashingStorage, operation: str) -> None:
    log = open_log(storage, segment_bytes=100)
    log.append_as_leader(batch(1), E0)
    storage.fail(operation, error=errno.ENOSPC, name_contains=".log")
    with pytest.raises(StorageFull):
        log.append_as_leader(batch(1), E0)
    assert log.log_end_offset == 1
    log.append_as_leader(batch(1), E0)
    assert end_of(whole(log)) == 2
    assert open_log(storage.kill(), segment_bytes=100).log_end_offset == 2


def test_a_failed_write_fails_the_directory(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(1), E0)
    storage.fail("write", error=errno.EIO)
    for _ in range(2):
        with pytest.raises(StorageFailed):
            log.append_as_leader(batch(1), E0)
    assert end_of(whole(log)) == 1


def test_a_failed_sync_is_not_believed_later(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(1), E0)
    storage.fail("sync")
    for _ in range(2):
        with pytest.raises(StorageFailed):
            log.sync()
    assert log.recovery_point == 0
    with pytest.raises(StorageFailed):
        log.append_as_leader(batch(1), E0)


def test_a_truncation_during_a_sync_wins(storage: CrashingStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(storage, segment_bytes=200)
    for _ in range(6):
        log.append_as_leader(batch(1), E0)
    active = list(log._segments)[-1]
    real_sync = active._file.sync

    def truncate_then_sync() -> None:
        log.truncate_to(Offset(1))
        log.append_as_leader(batch(1), E1)
        real_sync()  # of a file that is closed by now

    monkeypatch.setattr(active._file, "sync", truncate_then_sync)
    assert log.sync() == 0
    assert log.recovery_point == 0
    assert log.unsynced_bytes > 0
    assert log.sync() == log.log_end_offset == 2


def test_a_sync_that_begins_within_a_truncation_does_not_speak_for_it(
    storage: CrashingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(storage)
    for _ in range(6):
        log.append_as_leader(batch(1), E0)
    real_truncate = log._segments.truncate_to

    def sync_then_truncate(offset: Offset) -> None:
        log.sync()
        real_truncate(offset)

    monkeypatch.setattr(log._segments, "truncate_to", sync_then_truncate)
    log.truncate_to(Offset(2))
    assert log.recovery_point <= log.log_end_offset == 2


def test_known_starts_do_not_outlive_a_truncation(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_follower(b"".join(batch(1, base_offset=n, epoch=0) for n in range(5)))
    for offset in range(5):
        log.read(Offset(offset), 1, log.log_end_offset)
    log.truncate_to(Offset(1))
    log.append_as_follower(batch(2, base_offset=1, epoch=1) + batch(3, base_offset=3, epoch=1))
    for offset, base in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 3)):
        assert RecordBatch.parse(log.read(Offset(offset), 1, log.log_end_offset)).base_offset == base


def test_a_small_last_batch_is_read_without_the_disk(storage: CrashingStorage) -> None:
    log = open_log(storage)
    log.append_as_leader(batch(1), E0)
    last = log.append_as_leader(batch(3), E0).base_offset
    assert log.read(last, 1 << 20, Offset(last + 1)) == b"", "all of it is below the bound, or none"
    storage.fail("read", name_contains=".log")
    data = log.read(last, 1 << 20, log.log_end_offset)
    assert RecordBatch.parse(data).base_offset == last
    with pytest.raises(OSError):
        log.read(Offset(0), 1 << 20, log.log_end_offset)
    large = log.append_as_leader(batch(1, value=bytes(TAIL_BYTES_MAX)), E0).base_offset
    storage.fail("read", name_contains=".log")
    with pytest.raises(OSError):
        log.read(large, 1 << 20, log.log_end_offset)


def test_the_last_batch_does_not_outlive_a_truncation(storage: CrashingStorage) -> None:
    log = open_log(storage)
    for _ in range(3):
        log.append_as_leader(batch(1), E0)
    log.truncate_to(Offset(2))
    assert log.segments[-1]._tail is None
    assert log.read(Offset(1), 1 << 20, log.log_end_offset)
    log.append_as_follower(batch(1, base_offset=2, epoch=0) + batch(1, value=b"other", base_offset=3, epoch=0))
    assert log.segments[-1]._tail is None, "one batch of many is not kept, nor are all"
    assert [found.base_offset for found in batches_in(log.read(Offset(2), 1 << 20, log.log_end_offset))] == [2, 3]
    log.truncate_to(Offset(2))
    log.append_as_leader(batch(1, value=b"new"), E1)
    assert b"new" in log.read(Offset(2), 1 << 20, log.log_end_offset)


def test_only_the_segment_that_is_written_keeps_its_last_batch(storage: CrashingStorage) -> None:
    log = open_log(storage, segment_bytes=200)
    for _ in range(10):
        log.append_as_leader(batch(1), E0)
    assert log.segment_count > 3
    assert [segment._tail is not None for segment in log.segments] == [False] * (log.segment_count - 1) + [True]


def test_rolls_by_age(storage: CrashingStorage) -> None:
    clock = HandClock()
    log = open_log(storage, clock=clock)
    log.append_as_leader(batch(1), E0)
    clock.seconds = 7 * 24 * 3600 - 1
    log.append_as_leader(batch(1), E0)
    assert log.segment_count == 1
    clock.seconds += 1
    log.append_as_leader(batch(1), E0)
    assert log.segment_count == 2


def test_a_directory_belongs_to_one_topic(storage: CrashingStorage) -> None:
    open_log(storage).append_as_leader(batch(1), E0)
    assert storage.read_bytes(DIRECTORY / "partition.metadata") == b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA"
    with pytest.raises(InconsistentTopicId):
        open_log(storage, topic_id=OTHER_TOPIC_ID)
    storage.remove(DIRECTORY / "partition.metadata")
    with pytest.raises(InconsistentTopicId):
        open_log(storage)


def test_starting_anew(storage: CrashingStorage) -> None:
    log = open_log(storage, segment_bytes=200)
    for _ in range(5):
        log.append_as_leader(batch(1, producer=(1, 0, log.log_end_offset)), E0)
    log.sync()
    log.truncate_fully_and_start_at(Offset(1000))
    assert (log.log_start_offset, log.log_end_offset, log.latest_epoch, log.size_bytes) == (1000, 1000, None, 0)
    log.append_as_follower(batch(2, base_offset=1000, epoch=4))
    log = open_log(storage.kill(), recovery_point=log.recovery_point)
    assert (log.log_start_offset, log.log_end_offset, log.latest_epoch) == (1000, 1002, 4)
    with pytest.raises(OffsetOutOfRange):
        log.read(Offset(999), 10, Offset(2000))


@dataclass
class Model:
    """A log as a list of stored batches."""

    batches: list[RecordBatch] = field(default_factory=list)
    epoch: int = 0
    sequence: int = 0

    @property
    def end(self) -> int:
        return self.batches[-1].next_offset if self.batches else 0

    def bytes(self) -> bytes:
        return b"".join(bytes(one.buffer) for one in self.batches)

    def truncate(self, offset: int) -> None:
        self.batches = [one for one in self.batches if one.last_offset < offset]


operations = st.lists(
    st.one_of(
        st.tuples(st.just("leader"), st.integers(1, 5), st.sampled_from([0, 10, 200])),
        st.tuples(st.just("follower"), st.integers(1, 6), st.sampled_from([0, 10, 200])),
        st.tuples(st.just("truncate"), st.integers(0, 100)),
        st.tuples(st.sampled_from(["epoch", "sync", "kill", "clean", "duplicate"])),
    ),
    max_size=40,
)


@given(operations)
@settings(deadline=None, max_examples=120)
def test_against_the_model(steps: list[tuple]) -> None:
    storage, model = CrashingStorage(), Model()
    log = open_log(storage, segment_bytes=1200)
    for step in steps:
        log, storage = apply(step, log, storage, model)
        assert log.log_end_offset == model.end
        assert log.recovery_point <= log.log_end_offset
        assert whole(log) == model.bytes()
        for offset in range(log.log_end_offset):
            found = RecordBatch.parse_header(log.read(Offset(offset), 1, log.log_end_offset))
            assert found.base_offset <= offset <= found.last_offset
    by_offset = [one.leader_epoch for one in model.batches for _ in range(one.record_count)]
    latest = log.latest_epoch
    for epoch in range(model.epoch + 2):
        known = [one for one in by_offset if one is not None and one <= epoch]
        answer = log.end_offset_for_epoch(LeaderEpoch(epoch))
        if latest is not None and epoch <= latest and known and (epoch < latest or by_offset[-1] == latest):
            assert answer == (len(known), known[-1])
        elif latest is None or epoch > latest:
            assert answer is None


def apply(
    step: tuple, log: PartitionLog, storage: CrashingStorage, model: Model
) -> tuple[PartitionLog, CrashingStorage]:
    match step:
        case ("leader", count, size):
            data = batch(count, value=bytes(size), producer=(1, model.epoch, model.sequence))
            log.append_as_leader(data, LeaderEpoch(model.epoch))
            remember(model, data)
        case ("follower", count, size):
            parts = [batch(1 + n, value=bytes(size), base_offset=model.end, epoch=model.epoch) for n in range(1)]
            for n in range(1, count):
                end = end_of(parts[-1])
                parts.append(batch(1 + n, value=bytes(size), base_offset=end, epoch=model.epoch))
            log.append_as_follower(b"".join(parts))
            model.batches += [RecordBatch.parse(part) for part in parts]
        case ("truncate", percent):
            offset = model.end * percent // 100
            log.truncate_to(Offset(offset))
            model.truncate(offset)
            model.epoch, model.sequence = model.epoch + 1, 0
        case ("epoch",):
            model.epoch, model.sequence = model.epoch + 1, 0
            log.assign_epoch_start(LeaderEpoch(model.epoch))
        case ("sync",):
            assert log.sync() == log.log_end_offset
            assert log.unsynced_bytes == 0
        case ("kill",):
            storage = storage.kill()
            log = open_log(storage, segment_bytes=1200, recovery_point=log.recovery_point)
        case ("clean",):
            log.sync()
            log.close()
            log = open_log(storage, segment_bytes=1200, clean=True)
        case ("duplicate",) if model.batches and model.batches[-1].producer_epoch == model.epoch:
            last = model.batches[-1]
            again = log.append_as_leader(bytes(last.buffer), LeaderEpoch(model.epoch))
            assert again.is_duplicate
            assert again.base_offset == last.base_offset
    return log, storage


def remember(model: Model, data: bytes) -> None:
    stored = RecordBatch.parse(data)
    header = stored.stamped_header(Offset(model.end), LeaderEpoch(model.epoch))
    model.batches.append(RecordBatch.parse(header + data[61:]))
    model.sequence += stored.record_count


@given(
    st.sampled_from(Compression),
    st.lists(st.tuples(st.integers(0, 120), st.integers(1, 255)), max_size=5),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_any_damage_is_an_error_or_a_good_batch(
    codec: Compression, damage: list[tuple[int, int]], believable: bool
) -> None:
    log = open_log(CrashingStorage())
    log.append_as_leader(batch(2), E0)
    data = bytearray(batch(3, compression=codec, producer=(4, 0, 0)))
    for position, mask in damage:
        data[position % len(data)] ^= mask
    attempt = sealed(data) if believable else bytes(data)
    for append in (lambda: log.append_as_leader(attempt, E0), lambda: log.append_as_follower(attempt)):
        before, end = whole(log), log.log_end_offset
        with contextlib.suppress(LogError):
            append()
            before, end = before + whole(log)[len(before) :], log.log_end_offset
        assert (whole(log), log.log_end_offset) == (before, end)


@given(st.binary(max_size=150))
def test_any_bytes_are_an_error(data: bytes) -> None:
    log = open_log(CrashingStorage())
    with pytest.raises(LogError):
        log.append_as_leader(data, E0)
    if data:
        with pytest.raises(LogError):
            log.append_as_follower(data)
    assert log.log_end_offset == 0
