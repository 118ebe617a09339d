"""Every field of a header that a producer can send wrong, with Kafka's code for it; and the log's own time."""

import struct

import pytest
from hypothesis import given, strategies as st

from ottla.log.batch_builder import BatchBuilder
from ottla.log.checksum import crc32c
from ottla.log.compression import Compression
from ottla.log.config import LogConfig
from ottla.log.errors import LogError
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.records import RecordBatch
from ottla.log.validation import check_keys, validated

from ..simulation.crashing_storage import CrashingStorage
from .builders import NOW_MS, HandClock, batch, open_log

CRC, ATTRIBUTES, BASE_TIMESTAMP, MAX_TIMESTAMP = 17, 21, 27, 35
HOUR_MS = 3_600_000


def with_field(data: bytes, position: int, layout: str, value: int, *, true_crc: bool = True) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, position, value)
    if true_crc and position >= ATTRIBUTES:
        struct.pack_into(">I", changed, CRC, crc32c(bytes(changed[ATTRIBUTES:])))
    return bytes(changed)


def code_of(data: bytes, **config: object) -> str | None:
    try:
        validated(data, LogConfig(**config), NOW_MS)  # type: ignore[arg-type]
    except LogError as error:
        return error.code
    return None


GOOD = batch(3, producer=(7, 0, 0))

WRONG = {
    "length beyond the bytes": (with_field(GOOD, 8, ">i", len(GOOD)), "CORRUPT_MESSAGE"),
    "length too small": (with_field(GOOD, 8, ">i", 20), "CORRUPT_MESSAGE"),
    "length negative": (with_field(GOOD, 8, ">i", -1), "CORRUPT_MESSAGE"),
    "cut short": (GOOD[:60], "CORRUPT_MESSAGE"),
    "empty": (b"", "CORRUPT_MESSAGE"),
    "magic 1": (with_field(GOOD, 16, ">b", 1), "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
    "magic 3": (with_field(GOOD, 16, ">b", 3), "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
    "CRC": (with_field(GOOD, CRC, ">I", 1), "CORRUPT_MESSAGE"),
    "a flipped bit": (with_field(GOOD, len(GOOD) - 1, ">B", GOOD[-1] ^ 1, true_crc=False), "CORRUPT_MESSAGE"),
    "two batches": (GOOD + GOOD, "INVALID_RECORD"),
    "a byte too much": (GOOD + b"\0", "INVALID_RECORD"),
    "codec 5": (with_field(GOOD, ATTRIBUTES, ">h", 5), "UNSUPPORTED_COMPRESSION_TYPE"),
    "codec 7": (with_field(GOOD, ATTRIBUTES, ">h", 7), "UNSUPPORTED_COMPRESSION_TYPE"),
    "log append time": (with_field(GOOD, ATTRIBUTES, ">h", 8), "INVALID_TIMESTAMP"),
    "transactional": (with_field(GOOD, ATTRIBUTES, ">h", 16), "INVALID_RECORD"),
    "control": (with_field(GOOD, ATTRIBUTES, ">h", 32), "INVALID_RECORD"),
    "delete horizon": (with_field(GOOD, ATTRIBUTES, ">h", 64), "INVALID_RECORD"),
    "an unknown attribute": (with_field(GOOD, ATTRIBUTES, ">h", 128), "INVALID_RECORD"),
    "no records": (with_field(GOOD, 57, ">i", 0), "INVALID_RECORD"),
    "a negative count": (with_field(GOOD, 57, ">i", -1), "INVALID_RECORD"),
    "count above the offsets": (with_field(GOOD, 57, ">i", 4), "INVALID_RECORD"),
    "offsets above the count": (with_field(GOOD, 23, ">i", 3), "INVALID_RECORD"),
    "negative offsets": (with_field(GOOD, 23, ">i", -1), "INVALID_RECORD"),
    "more records than fit": (
        with_field(with_field(GOOD, 57, ">i", 1000), 23, ">i", 999),
        "INVALID_RECORD",
    ),
    "base timestamp": (with_field(GOOD, BASE_TIMESTAMP, ">q", -2), "INVALID_TIMESTAMP"),
    "max below base timestamp": (with_field(GOOD, MAX_TIMESTAMP, ">q", NOW_MS - 1), "INVALID_TIMESTAMP"),
    "too far ahead": (with_field(GOOD, MAX_TIMESTAMP, ">q", NOW_MS + HOUR_MS + 1), "INVALID_TIMESTAMP"),
    "a producer without an epoch": (with_field(GOOD, 51, ">h", -1), "INVALID_RECORD"),
    "a producer without a sequence": (with_field(GOOD, 53, ">i", -1), "INVALID_RECORD"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_field_has_its_code(what: str) -> None:
    data, code = WRONG[what]
    assert code_of(data) == code


def test_what_a_leader_sets_is_not_looked_at() -> None:
    assert code_of(with_field(GOOD, 0, ">q", -5)) is None
    assert code_of(with_field(GOOD, 12, ">i", 77)) is None


def test_limits_are_the_topics() -> None:
    assert code_of(GOOD, max_message_bytes=len(GOOD)) is None
    assert code_of(GOOD, max_message_bytes=len(GOOD) - 1) == "MESSAGE_TOO_LARGE"
    assert code_of(GOOD, segment_bytes=len(GOOD)) is None
    assert code_of(GOOD, segment_bytes=len(GOOD) - 1) == "RECORD_LIST_TOO_LARGE"
    early = batch(1, timestamps=(NOW_MS - 1001,))
    assert code_of(early) is None
    assert code_of(early, message_timestamp_before_max_ms=1001) is None
    assert code_of(early, message_timestamp_before_max_ms=1000) == "INVALID_TIMESTAMP"
    late = batch(1, timestamps=(NOW_MS + 6,))
    assert code_of(late, message_timestamp_after_max_ms=5) == "INVALID_TIMESTAMP"
    assert code_of(late, message_timestamp_after_max_ms=5, message_timestamp_type="LogAppendTime") is None


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_means_the_same(position: int, value: int) -> None:
    changed = bytearray(GOOD)
    changed[position] = value
    code = code_of(bytes(changed))
    same = bytes(changed) == GOOD or position < 8 or 12 <= position < 16
    assert (code is None) == same


@pytest.mark.parametrize("codec", list(Compression))
def test_a_compacted_topic_wants_keys(codec: Compression) -> None:
    builder = BatchBuilder(codec)
    for key in (b"a", None, b"", None):
        builder.append(key, b"v", timestamp_ms=NOW_MS)
    keyless = RecordBatch.parse(builder.build(None, None, None, Offset(0), None, False))
    with pytest.raises(LogError, match="2 of 4 have none") as refused:
        check_keys(keyless)
    assert refused.value.code == "INVALID_RECORD"
    check_keys(RecordBatch.parse(batch(4, compression=codec)))


def test_records_that_are_none_are_no_keys() -> None:
    nonsense = with_field(GOOD, len(GOOD) - 1, ">B", 255)
    with pytest.raises(LogError) as refused:
        check_keys(RecordBatch.parse(nonsense))
    assert refused.value.code == "INVALID_RECORD"


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.ZSTD])
def test_the_logs_own_time_replaces_the_producers(codec: Compression) -> None:
    clock = HandClock()
    log = open_log(CrashingStorage(), clock=clock)
    log.config = LogConfig(message_timestamp_type="LogAppendTime")
    clock.seconds = 5
    sent = batch(3, timestamps=(1, 2, 3), producer=(7, 0, 0), compression=codec)
    appended = log.append_as_leader(sent, LeaderEpoch(0))
    assert appended.log_append_time_ms == NOW_MS + 5000
    stored = RecordBatch.parse(log.read(Offset(0), 1 << 20, log.log_end_offset))
    stored.verify_crc()
    assert stored.max_timestamp == NOW_MS + 5000
    assert [record.timestamp_ms for record in stored.records()] == [NOW_MS + 5000] * 3
    clock.seconds = 9
    again = log.append_as_leader(sent, LeaderEpoch(0))
    assert (again.is_duplicate, again.log_append_time_ms) == (True, NOW_MS + 5000)
