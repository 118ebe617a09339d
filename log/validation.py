"""What a leader demands of a produced batch before it goes into the log: rules of the header only (Kafka's
LogValidator); records are not decoded."""

from .compression import Compression
from .config import LogConfig
from .errors import CorruptBatch, InvalidBatch, RecordTooLarge, UnexpectedOffset
from .model import LeaderEpoch, Offset
from .records import (
    CODEC_MASK,
    CONTROL_BIT,
    HEADER_SIZE,
    LOG_APPEND_TIME_BIT,
    MAGIC,
    MAX_DECOMPRESSED_BYTES,
    TRANSACTIONAL_BIT,
    RecordBatch,
    batches_in,
)
from .storage import Buffer

TIMESTAMP_MIN = -1
"""-1 is Kafka's "no timestamp"; below it there is nothing."""

RECORD_BYTES_MIN = 7
"""Length, attributes, two deltas, key length, value length, header count: a byte each."""


def validated(data: Buffer, config: LogConfig, now_ms: int) -> RecordBatch:
    """The one batch that ``data`` is. Raises CorruptBatch, RecordTooLarge or InvalidBatch."""
    if len(data) > config.max_message_bytes:
        raise RecordTooLarge(len(data), config.max_message_bytes)
    batch = RecordBatch.parse(data)
    if batch.magic != MAGIC:
        raise InvalidBatch(
            "UNSUPPORTED_FOR_MESSAGE_FORMAT", f"the batch has magic {batch.magic}; send record batches of version 2"
        )
    if batch.size_bytes != len(data):
        raise InvalidBatch("INVALID_RECORD", "send exactly one batch per partition in a produce request")
    batch.verify_crc()
    _check_attributes(batch)
    _check_counts(batch)
    _check_timestamps(batch)
    if config.message_timestamp_type == "CreateTime":  # else the producer's say nothing
        _check_clock(batch, config, now_ms)
    _check_producer(batch)
    if batch.size_bytes > config.segment_bytes:
        raise InvalidBatch(
            "RECORD_LIST_TOO_LARGE",
            f"the batch is {batch.size_bytes} bytes and segment.bytes is {config.segment_bytes}; send smaller batches",
        )
    return batch


def check_keys(batch: RecordBatch) -> None:
    """Every record has a key, as compaction needs. Decodes the batch: for executors where it is large. Raises
    InvalidBatch."""
    try:
        count, keyless = 0, 0
        for record in batch.records():
            count += 1
            keyless += record.key is None
    except CorruptBatch as error:
        raise InvalidBatch("INVALID_RECORD", f"the topic is compacted and the batch is unreadable: {error}") from error
    if keyless:
        raise InvalidBatch(
            "INVALID_RECORD", f"the topic is compacted, so every record needs a key; {keyless} of {count} have none"
        )


def check_stored(batch: RecordBatch) -> None:
    """What recovery and followers demand of a batch that a leader stored: enough to place it. Raises CorruptBatch."""
    if batch.magic != MAGIC:
        raise CorruptBatch(f"the batch at offset {batch.base_offset} has magic {batch.magic}, not 2")
    if batch.last_offset_delta < 0 or batch.base_offset < 0 or batch.leader_epoch is None:
        raise CorruptBatch(
            f"a batch says it has offsets {batch.base_offset} to {batch.last_offset} of epoch {batch.leader_epoch}"
        )


def validated_from_leader(data: Buffer, log_end_offset: Offset, latest_epoch: LeaderEpoch | None) -> list[RecordBatch]:
    """The batches that ``data`` is, to be appended by a follower whose log ends so. Raises CorruptBatch or
    UnexpectedOffset."""
    batches = list(batches_in(data))
    expected, epoch = log_end_offset, latest_epoch
    for batch in batches:
        check_stored(batch)
        batch.verify_crc()
        if batch.base_offset != expected:
            raise UnexpectedOffset(f"the leader sent offset {batch.base_offset} where {expected} is due")
        assert batch.leader_epoch is not None
        if epoch is not None and batch.leader_epoch < epoch:
            raise UnexpectedOffset(
                f"the leader sent epoch {batch.leader_epoch} at offset {expected}, after epoch {epoch}"
            )
        expected, epoch = batch.next_offset, batch.leader_epoch
    return batches


def _check_attributes(batch: RecordBatch) -> None:
    attributes = batch.attributes
    if attributes & CODEC_MASK > Compression.ZSTD:
        raise InvalidBatch("UNSUPPORTED_COMPRESSION_TYPE", f"there is no compression codec {attributes & CODEC_MASK}")
    if attributes & LOG_APPEND_TIME_BIT:
        raise InvalidBatch("INVALID_TIMESTAMP", "only a broker may mark a batch's timestamps as log append time")
    if attributes & CONTROL_BIT:
        raise InvalidBatch("INVALID_RECORD", "only a broker may write control batches")
    if attributes & TRANSACTIONAL_BIT:
        raise InvalidBatch("INVALID_RECORD", "transactions are not supported yet; produce without a transactional id")
    if attributes & ~CODEC_MASK:
        raise InvalidBatch("INVALID_RECORD", f"attributes {attributes & 0xFFFF:#06x} have bits that mean nothing here")


def _check_counts(batch: RecordBatch) -> None:
    if batch.record_count <= 0 or batch.last_offset_delta + 1 != batch.record_count:
        raise InvalidBatch(
            "INVALID_RECORD",
            f"{batch.record_count} records and a last offset delta of {batch.last_offset_delta} do not agree",
        )
    # A count the bytes cannot hold would burn offsets that no record ever has.
    uncompressed = batch.attributes & CODEC_MASK == Compression.NONE
    content_max = batch.size_bytes - HEADER_SIZE if uncompressed else MAX_DECOMPRESSED_BYTES
    if batch.record_count * RECORD_BYTES_MIN > content_max:
        raise InvalidBatch("INVALID_RECORD", f"{batch.record_count} records do not fit into {content_max} bytes")


def _check_timestamps(batch: RecordBatch) -> None:
    if batch.base_timestamp < TIMESTAMP_MIN or batch.max_timestamp < batch.base_timestamp:
        raise InvalidBatch(
            "INVALID_TIMESTAMP",
            f"timestamps from {batch.base_timestamp} to {batch.max_timestamp} make no sense",
        )


def _check_clock(batch: RecordBatch, config: LogConfig, now_ms: int) -> None:
    """KIP-937, by the header: of the records only the first one's and the largest timestamp stand there."""
    latest_ms = now_ms + config.message_timestamp_after_max_ms
    earliest_ms = now_ms - config.message_timestamp_before_max_ms
    if batch.max_timestamp > latest_ms:
        raise InvalidBatch(
            "INVALID_TIMESTAMP",
            f"timestamp {batch.max_timestamp} is too far in the future (limit {latest_ms}); check the producer's clock",
        )
    if TIMESTAMP_MIN < batch.base_timestamp < earliest_ms:
        raise InvalidBatch(
            "INVALID_TIMESTAMP", f"timestamp {batch.base_timestamp} is too far in the past (limit {earliest_ms})"
        )


def _check_producer(batch: RecordBatch) -> None:
    if batch.producer_id is None:
        return
    if batch.producer_epoch is None or batch.base_sequence is None:
        raise InvalidBatch(
            "INVALID_RECORD", f"producer {batch.producer_id} sent a batch without an epoch or without a sequence"
        )
