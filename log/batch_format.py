"""Kafka's record batch, version 2 (KIP-98): what producers send, disks keep and consumers get, never re-encoded.

Batch, big endian:

    |  0 base_offset: i64     |  8 batch_length: i32   bytes after this field
    | 12 leader_epoch: i32    | 16 magic: i8 = 2
    | 17 crc: u32                                      CRC-32C of everything after itself, from byte 21
    | 21 attributes: i16      | 23 last_offset_delta: i32
    | 27 base_timestamp: i64  | 35 max_timestamp: i64
    | 43 producer_id: i64     | 51 producer_epoch: i16 | 53 base_sequence: i32
    | 57 record_count: i32    | 61 records, compressed together if attributes say so

    attributes: bits 0-2 codec | 3 LogAppendTime | 4 transactional | 5 control | 6 delete horizon

The leader stamps base offset and leader epoch without rehashing, because the CRC does not cover them.

Record, every number but ``attributes`` a zig-zag varint:

    | length | attributes: i8 = 0 | timestamp delta | offset delta | key length (-1: null) | key
    | value length (-1: null) | value | header count | ( key length | key | value length (-1: null) | value )*
"""

import struct
from typing import NamedTuple

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_SIZE = HEADER.size
PREFIX_SIZE = 12
"""Base offset and length: what must be read to know where the next batch starts."""
CRC_START = 21
MAGIC = 2

CODEC_MASK = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40
"""base_timestamp is not the first record's time but when the batch's tombstones may go (KIP-534)."""

SEQUENCE_COUNT = 1 << 31
"""Sequence numbers are i32 and wrap from 2^31-1 to 0."""

MAX_DECOMPRESSED_BYTES = 128 << 20
"""Most a batch's records may unpack to: batches are limited by max.message.bytes as compressed."""

Header = tuple[str, bytes | None]


class Record(NamedTuple):
    """One record. ``timestamp_ms`` is milliseconds since 1970; None is a null key, value or header value."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
