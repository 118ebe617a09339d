"""Which records of a compacted log stay, and the batches they stay in (the rules of Kafka's LogCleaner). Pure.

A record stays if it is the newest of its key, as far as the key map knows. Offsets never change, so a batch keeps its
base and last offset, and the records in it their deltas: what stays is copied, not encoded anew. A tombstone stays
until a cleaning later than its batch's delete horizon: the first cleaning that keeps one writes the horizon into the
batch (bit 6; base_timestamp is then the horizon, which consumers of all versions can read: KIP-534).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .batch_format import (
    CODEC_MASK,
    CRC_START,
    DELETE_HORIZON_BIT,
    HEADER,
    HEADER_SIZE,
    LOG_APPEND_TIME_BIT,
    MAX_DECOMPRESSED_BYTES,
    PREFIX_SIZE,
)
from .checksum import crc32c
from .compression import Compression, compress, decompress
from .key_map import KeyMap
from .model import Offset, ProducerId
from .record_spans import RecordSpan, record_spans
from .records import RecordBatch
from .storage import Buffer
from .varints import decode_varint, encode_varint


@dataclass(slots=True)
class CleaningStats:
    """What a cleaning did, for metrics and for people."""

    read_bytes: int = 0
    written_bytes: int = 0
    read_records: int = 0
    kept_records: int = 0


@dataclass(frozen=True, slots=True)
class CompactionRules:
    """What one pass goes by.

    ``keys``: the newest offsets, complete from the first dirty offset to ``keys.end``; a record from there on stays.
    ``last_batches``: the last offset of each idempotent producer's last batch; such a batch stays, be it empty, or the
    producer's next retry would be stored twice. ``now_ms``, ``delete_retention_ms``: for tombstones.
    """

    keys: KeyMap
    now_ms: int
    delete_retention_ms: int
    last_batches: Mapping[ProducerId, Offset] = field(default_factory=dict)


def note_keys(batch: RecordBatch, keys: KeyMap) -> bool:
    """Take a dirty batch's keys in; False, with nothing taken in, where the map has no room. Raises CorruptBatch."""
    if not batch.is_control:
        if not keys.has_room_for(batch.record_count):
            return False
        base, put = batch.base_offset, keys.put
        for span in _spans(batch)[1]:
            if span.key is not None:
                put(span.key, Offset(base + span.offset_delta))
    keys.end = batch.next_offset
    return True


def cleaned(batch: RecordBatch, rules: CompactionRules, stats: CleaningStats, *, keep_empty: bool = False) -> Buffer:
    """The batch as it stays: its own bytes where nothing goes, and none where nothing stays. ``keep_empty``: a header
    stays in any case. Raises CorruptBatch."""
    stats.read_bytes += batch.size_bytes
    stats.read_records += batch.record_count
    if batch.is_control:
        kept = _cleaned_control(batch)
        stats.kept_records += batch.record_count
    else:
        kept = _cleaned_data(batch, rules, stats, keep_empty)
    stats.written_bytes += len(kept)
    return kept


def _cleaned_control(batch: RecordBatch) -> Buffer:
    """Markers of transactions stay for now. Here belongs the rule for those whose transaction has no records left."""
    return batch.buffer


def _cleaned_data(batch: RecordBatch, rules: CompactionRules, stats: CleaningStats, keep_empty: bool) -> Buffer:
    data, spans = _spans(batch)
    horizon_ms = batch.delete_horizon_ms
    tombstones_go = horizon_ms is not None and rules.now_ms >= horizon_ms
    base, keys = batch.base_offset, rules.keys
    end, is_newest = keys.end, keys.is_newest
    kept = [
        span
        for span in spans
        if (offset := base + span.offset_delta) >= end
        or (span.key is not None and is_newest(span.key, Offset(offset)) and not (tombstones_go and span.is_tombstone))
    ]
    stats.kept_records += len(kept)
    if not kept:
        is_last = batch.producer_id is not None and rules.last_batches.get(batch.producer_id) == batch.last_offset
        return _rebuilt(batch, data, (), None) if keep_empty or is_last else b""
    starts_horizon = horizon_ms is None and any(span.is_tombstone for span in kept)
    if starts_horizon:
        return _rebuilt(batch, data, kept, rules.now_ms + rules.delete_retention_ms)
    return batch.buffer if len(kept) == len(spans) else _rebuilt(batch, data, kept, None)


def _spans(batch: RecordBatch) -> tuple[bytes, list[RecordSpan]]:
    """The batch's records unpacked, and where each lies in there."""
    codec = batch.compression
    content = memoryview(batch.buffer)[HEADER_SIZE:]
    data = bytes(content) if codec is Compression.NONE else decompress(codec, content, MAX_DECOMPRESSED_BYTES)
    return data, record_spans(data, 0, batch.record_count)


def _rebuilt(batch: RecordBatch, data: bytes, kept: Sequence[RecordSpan], horizon_ms: int | None) -> bytes:
    """The batch with only the ``kept`` records. ``horizon_ms``: the delete horizon to be set, None to leave what is."""
    attributes, base_timestamp = batch.attributes, batch.base_timestamp
    max_timestamp = batch.max_timestamp
    if kept and not attributes & LOG_APPEND_TIME_BIT:
        max_timestamp = base_timestamp + max(span.timestamp_delta for span in kept)
    if horizon_ms is None:
        parts = _runs(data, kept)
    else:
        parts = [_retimed(data, span, base_timestamp - horizon_ms) for span in kept]
        attributes, base_timestamp = attributes | DELETE_HORIZON_BIT, horizon_ms
    records = b"".join(parts)
    if not kept:
        attributes &= ~CODEC_MASK  # nothing was compressed
    elif batch.compression is not Compression.NONE:
        records = compress(batch.compression, records)
    return _with_header(batch, attributes, base_timestamp, max_timestamp, len(kept), records)


def _runs(data: bytes, kept: Sequence[RecordSpan]) -> list[bytes]:
    """The bytes of ``kept``, neighbours copied together."""
    parts: list[bytes] = []
    start = end = 0
    for span in kept:
        if span.start != end:
            parts.append(data[start:end])
            start = span.start
        end = span.end
    parts.append(data[start:end])
    return parts


def _retimed(data: bytes, span: RecordSpan, shift_ms: int) -> bytes:
    """A record whose timestamp delta is ``shift_ms`` more: the batch's base has moved by as much the other way."""
    _, body = decode_varint(data, span.start)
    _, rest = decode_varint(data, body + 1)
    time = encode_varint(span.timestamp_delta + shift_ms)
    return encode_varint(1 + len(time) + span.end - rest) + data[body : body + 1] + time + data[rest : span.end]


def _with_header(
    batch: RecordBatch, attributes: int, base_timestamp: int, max_timestamp: int, count: int, records: bytes
) -> bytes:
    content = bytearray(HEADER_SIZE)
    HEADER.pack_into(
        content,
        0,
        batch.base_offset,
        HEADER_SIZE + len(records) - PREFIX_SIZE,
        -1 if batch.leader_epoch is None else batch.leader_epoch,
        batch.magic,
        0,
        attributes,
        batch.last_offset_delta,
        base_timestamp,
        max_timestamp,
        -1 if batch.producer_id is None else batch.producer_id,
        -1 if batch.producer_epoch is None else batch.producer_epoch,
        -1 if batch.base_sequence is None else batch.base_sequence,
        count,
    )
    content += records
    content[17:CRC_START] = crc32c(memoryview(content)[CRC_START:]).to_bytes(4, "big")
    return bytes(content)


__all__ = ["CleaningStats", "CompactionRules", "cleaned", "note_keys"]
