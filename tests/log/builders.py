"""Shared by the tests of the log: a clock set by hand, batches, and opening a log."""

from collections.abc import Sequence
from pathlib import Path

from ottla.log.compression import Compression
from ottla.log.config import LogConfig
from ottla.log.model import LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.records import BatchBuilder
from ottla.log.storage import Storage

NOW_MS = 1_700_000_000_000
DATA = Path("/data")
PARTITION = TopicPartition("orders", 0)
DIRECTORY = DATA / str(PARTITION)
TOPIC_ID = TopicId("AAAAAAAAAAAAAAAAAAAAAA")
OTHER_TOPIC_ID = TopicId("BBBBBBBBBBBBBBBBBBBBBB")


class HandClock:
    """Time moves when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return NOW_MS + int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


def batch(
    count: int = 1,
    *,
    value: bytes = b"value",
    producer: tuple[int, int, int] | None = None,
    compression: Compression = Compression.NONE,
    base_offset: int = 0,
    epoch: int | None = None,
    timestamps: Sequence[int] = (NOW_MS,),
    transactional: bool = False,
) -> bytes:
    """``count`` records; ``producer`` is (id, epoch, base sequence)."""
    builder = BatchBuilder(compression)
    for number in range(count):
        builder.append(b"%d" % number, value, timestamp_ms=timestamps[number % len(timestamps)])
    producer_id, producer_epoch, sequence = producer or (None, None, None)
    return builder.build(
        None if producer_id is None else ProducerId(producer_id),
        None if producer_epoch is None else ProducerEpoch(producer_epoch),
        sequence,
        Offset(base_offset),
        None if epoch is None else LeaderEpoch(epoch),
        transactional,
    )


def open_log(
    storage: Storage,
    *,
    recovery_point: int = 0,
    clean: bool = False,
    segment_bytes: int = 1 << 20,
    index_interval_bytes: int = 256,
    clock: HandClock | None = None,
    max_message_bytes: int = 1 << 20,
    topic_id: TopicId = TOPIC_ID,
) -> PartitionLog:
    return PartitionLog.open(
        storage,
        DIRECTORY,
        topic_partition=PARTITION,
        topic_id=topic_id,
        config=LogConfig(
            segment_bytes=segment_bytes,
            index_interval_bytes=index_interval_bytes,
            max_message_bytes=max_message_bytes,
        ),
        clock=clock or HandClock(),
        recovery_point=Offset(recovery_point),
        clean=clean,
    )


def whole(log: PartitionLog) -> bytes:
    """Every byte of the log, read as a follower reads it."""
    parts = []
    offset = log.log_start_offset
    while data := log.read(offset, 700, log.log_end_offset):
        parts.append(data)
        offset = end_of(data)
    assert offset == log.log_end_offset
    return b"".join(parts)


def end_of(data: bytes) -> Offset:
    """The offset after the last batch in ``data``."""
    from ottla.log.records import batches_in

    return list(batches_in(data))[-1].next_offset
