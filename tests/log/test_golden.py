"""Files that classes of Kafka 4.1 wrote (tests/compatibility/KafkaLog.java): we read them, and write the same bytes."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ottla.log.checkpoint import OffsetCheckpoint
from ottla.log.config import LogConfig
from ottla.log.model import LeaderEpoch, Offset, ProducerId, TopicId
from ottla.log.partition_log import PartitionLog
from ottla.log.producer_snapshot import decode_snapshot, encode_snapshot
from ottla.log.records import batches_in
from ottla.log.storage import Storage, SystemStorage
from ottla.log.txn_index import AbortedTransaction, decode_aborted, encode_aborted
from tests.log.builders import DIRECTORY, NOW_MS, PARTITION, HandClock, batch, whole
from tests.simulation.crashing_storage import CrashingStorage

GOLDEN = Path(__file__).parent / "golden"
TOPIC_ID = TopicId("AAAAAAAAAAAAAAAAAAAAAQ")
BASE = Offset(1000)


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def opened(storage: Storage, directory: Path, **options: object) -> PartitionLog:
    return PartitionLog.open(
        storage,
        directory,
        topic_partition=PARTITION,
        topic_id=TOPIC_ID,
        config=LogConfig(index_interval_bytes=300),
        clock=HandClock(),
        **options,  # type: ignore[arg-type]
    )


def test_we_write_what_kafka_writes() -> None:
    storage = CrashingStorage()
    log = opened(storage, DIRECTORY)
    log.truncate_fully_and_start_at(BASE)
    for one in batches_in(golden(f"{BASE:020}.log")):
        log.append_as_follower(one.buffer)
    log.settle()
    log.close()
    for name in (f"{BASE:020}.log", f"{BASE:020}.index", f"{BASE:020}.timeindex", "leader-epoch-checkpoint"):
        assert storage.read_bytes(DIRECTORY / name) == golden(name)
    assert storage.read_bytes(DIRECTORY / "partition.metadata") == golden("partition.metadata")
    last = decode_snapshot(storage.read_bytes(DIRECTORY / f"{1039:020}.snapshot"))[-1]
    kafkas = decode_snapshot(golden(f"{1039:020}.snapshot"))
    assert last._replace(timestamp=NOW_MS + 2) == kafkas[0]


def copy_of_golden(directory: Path) -> None:
    for path in GOLDEN.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("clean", [True, False])
def test_we_open_what_kafka_wrote(tmp_path: Path, clean: bool) -> None:
    copy_of_golden(tmp_path)
    log = opened(SystemStorage(), tmp_path, clean=clean, recovery_point=Offset(1039))
    assert (log.log_start_offset, log.log_end_offset) == (1000, 1039)
    assert whole(log) == golden(f"{BASE:020}.log")
    [segment] = log._segments
    assert (segment.largest_timestamp_ms, segment.largest_timestamp_offset) == (NOW_MS + 40, 1036)
    for time, base_offset in ((NOW_MS, 1000), (NOW_MS + 20, 1012), (NOW_MS + 40, 1036)):
        found = segment.find_time(time)
        assert found is not None
        assert found.batch.base_offset == base_offset
    assert log.end_offset_for_epoch(LeaderEpoch(3)) == (1031, 3)
    again = batch(2, producer=(7, 1, 37))
    assert log.append_as_leader(again, LeaderEpoch(5))[:2] == (1037, 1038)
    log.close()


def test_snapshot() -> None:
    data = golden(f"{1039:020}.snapshot")
    entries = decode_snapshot(data)
    assert [tuple(entry) for entry in entries] == [
        (7, 1, 38, 1038, 1, NOW_MS + 2, -1, -1),
        (9, 3, 0, 1010, 2, NOW_MS + 8, 4, 1005),
    ]
    assert encode_snapshot(entries) == data


def test_aborted_transactions() -> None:
    data = golden(f"{BASE:020}.txnindex")
    transactions = decode_aborted(data, BASE)
    assert [tuple(one) for one in transactions] == [(7, 1001, 1004, 1002), (9, 1005, 1020, 1021)]
    assert encode_aborted(transactions) == data
    with pytest.raises(ValueError, match="whole"):
        decode_aborted(data[:-1], BASE)
    with pytest.raises(ValueError, match="place"):
        decode_aborted(data, Offset(1005))
    with pytest.raises(ValueError, match="version"):
        decode_aborted(b"\x01" + data[1:], BASE)


@given(st.lists(st.tuples(*[st.integers(0, 2**62)] * 4), max_size=8))
def test_aborted_transactions_go_round(numbers: list[tuple[int, int, int, int]]) -> None:
    transactions = sorted(
        (
            AbortedTransaction(ProducerId(pid), Offset(min(a, b)), Offset(max(a, b)), Offset(c))
            for pid, a, b, c in numbers
        ),
        key=lambda one: one.last_offset,
    )
    assert decode_aborted(encode_aborted(transactions), Offset(0)) == transactions


def test_checkpoint() -> None:
    checkpoint = OffsetCheckpoint(SystemStorage(), GOLDEN / "recovery-point-offset-checkpoint")
    assert checkpoint.read() == {PARTITION: 1039}
