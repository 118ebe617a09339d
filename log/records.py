"""Record batches, read: their header's fields, their records, and where one ends and the next begins.

The layout is drawn in batch_format; batches are made by batch_builder. This module offers all of it.
"""

import struct
from collections.abc import Iterator

from .batch_builder import BatchBuilder
from .batch_format import (
    CODEC_MASK,
    CONTROL_BIT,
    CRC_START,
    DELETE_HORIZON_BIT,
    HEADER,
    HEADER_SIZE,
    LOG_APPEND_TIME_BIT,
    MAGIC,
    MAX_DECOMPRESSED_BYTES,
    PREFIX_SIZE,
    SEQUENCE_COUNT,
    TRANSACTIONAL_BIT,
    Header,
    Record,
)
from .checksum import crc32c
from .compression import Compression, decompress
from .errors import CorruptBatch
from .model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from .record_decoder import Columns, decode_records
from .storage import Buffer

_OFFSET = struct.Struct(">q")
_INT32 = struct.Struct(">i")
_CRC = struct.Struct(">I")
_ATTRIBUTES = struct.Struct(">h")
CRC_POSITION, ATTRIBUTES_POSITION, MAX_TIMESTAMP_POSITION = 17, 21, 35


class RecordBatch:
    """A batch as stored: its header's fields parsed once, its records left in ``buffer``.

    ``size_bytes`` is the whole batch with its first 12 bytes. Absent epochs, producers and sequences are None.
    """

    __slots__ = (
        "attributes",
        "base_offset",
        "base_sequence",
        "base_timestamp",
        "buffer",
        "crc",
        "last_offset_delta",
        "leader_epoch",
        "magic",
        "max_timestamp",
        "producer_epoch",
        "producer_id",
        "record_count",
        "size_bytes",
    )

    base_offset: Offset
    size_bytes: int
    leader_epoch: LeaderEpoch | None
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: ProducerId | None
    producer_epoch: ProducerEpoch | None
    base_sequence: int | None
    record_count: int
    buffer: Buffer

    @classmethod
    def parse(cls, buffer: Buffer, position: int = 0) -> "RecordBatch":
        """The batch that starts at ``position``. Raises CorruptBatch if there is not a whole one; whether its
        content is true is for ``verify_crc``."""
        batch = cls.parse_header(buffer, position)
        end = position + batch.size_bytes
        if end > len(buffer):
            raise CorruptBatch(
                f"a batch of {batch.size_bytes} bytes starts at byte {position} of {len(buffer)}: it is cut short"
            )
        batch.buffer = buffer if position == 0 and end == len(buffer) else memoryview(buffer)[position:end]
        return batch

    @classmethod
    def parse_header(cls, buffer: Buffer, position: int = 0) -> "RecordBatch":
        """As ``parse`` where only the 61 bytes of the header need to be there; ``buffer`` is then empty."""
        if position < 0 or len(buffer) - position < HEADER_SIZE:
            raise CorruptBatch(f"{len(buffer) - position} bytes are too few for a batch header")
        batch = cls.__new__(cls)
        (
            batch.base_offset,
            length,
            epoch,
            batch.magic,
            batch.crc,
            batch.attributes,
            batch.last_offset_delta,
            batch.base_timestamp,
            batch.max_timestamp,
            producer_id,
            producer_epoch,
            sequence,
            batch.record_count,
        ) = HEADER.unpack_from(buffer, position)
        batch.size_bytes = length + PREFIX_SIZE
        if batch.size_bytes < HEADER_SIZE:
            raise CorruptBatch(f"a batch length of {length} at byte {position} is impossible")
        batch.leader_epoch = None if epoch < 0 else epoch
        batch.producer_id = None if producer_id < 0 else producer_id
        batch.producer_epoch = None if producer_epoch < 0 else producer_epoch
        batch.base_sequence = None if sequence < 0 else sequence
        batch.buffer = b""
        return batch

    @property
    def last_offset(self) -> Offset:
        return Offset(self.base_offset + self.last_offset_delta)

    @property
    def next_offset(self) -> Offset:
        return Offset(self.base_offset + self.last_offset_delta + 1)

    @property
    def compression(self) -> Compression:
        """Raises CorruptBatch where the attributes name no codec."""
        try:
            return Compression(self.attributes & CODEC_MASK)
        except ValueError:
            raise CorruptBatch(f"there is no compression codec {self.attributes & CODEC_MASK}") from None

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def delete_horizon_ms(self) -> int | None:
        """When the batch's tombstones may go; None while no cleaning has met them (KIP-534)."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_BIT else None

    @property
    def last_sequence(self) -> int | None:
        """Sequence of the last record, wrapped; None where there is no producer."""
        if self.base_sequence is None:
            return None
        return (self.base_sequence + self.last_offset_delta) % SEQUENCE_COUNT

    def verify_crc(self) -> None:
        """Raises CorruptBatch unless the CRC in the header is that of the bytes."""
        actual = crc32c(memoryview(self.buffer)[CRC_START:])
        if actual != self.crc:
            raise CorruptBatch(
                f"the batch at offset {self.base_offset} has CRC {actual:#010x} and says {self.crc:#010x}"
            )

    def stamped_header(
        self, base_offset: Offset, leader_epoch: LeaderEpoch, log_append_time_ms: int | None = None
    ) -> bytes:
        """The 61 bytes of this batch's header as the leader stores it: with the two fields that its CRC does not
        cover set, and, where the topic's timestamps are the log's, with that time and a new CRC. The batch says the
        same from then on."""
        self.base_offset, self.leader_epoch = base_offset, leader_epoch
        header = bytearray(self.buffer[:HEADER_SIZE])
        stamp(header, base_offset, leader_epoch)
        if log_append_time_ms is not None:
            self._stamp_time(header, log_append_time_ms)
        return bytes(header)

    def _stamp_time(self, header: bytearray, time_ms: int) -> None:
        self.attributes |= LOG_APPEND_TIME_BIT
        self.max_timestamp = time_ms
        _ATTRIBUTES.pack_into(header, ATTRIBUTES_POSITION, self.attributes)
        _OFFSET.pack_into(header, MAX_TIMESTAMP_POSITION, time_ms)
        body = memoryview(self.buffer)[HEADER_SIZE:]
        self.crc = crc32c(body, crc32c(memoryview(header)[CRC_START:]))
        _CRC.pack_into(header, CRC_POSITION, self.crc)

    def records(self, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> Iterator[Record]:
        """The records in order. Raises CorruptBatch on anything that is not one."""
        return self.columns(max_bytes).rows(Record)

    def columns(self, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> Columns:
        """The same, field by field."""
        if self.magic != MAGIC:
            raise CorruptBatch(f"the batch at offset {self.base_offset} has magic {self.magic}; only 2 is read")
        codec = self.compression
        if codec is Compression.NONE:
            data, position = bytes(self.buffer), HEADER_SIZE
        else:
            data, position = decompress(codec, memoryview(self.buffer)[HEADER_SIZE:], max_bytes), 0
        try:
            columns = decode_records(self, data, position)
        except (IndexError, UnicodeDecodeError) as error:  # an IndexError is data that ends too early
            raise CorruptBatch(f"the batch at offset {self.base_offset} has a bad record: {error}") from error
        if self.attributes & LOG_APPEND_TIME_BIT:  # then the header's time is every record's
            columns.timestamps = [self.max_timestamp] * len(columns.offsets)
        return columns


def stamp(buffer: bytearray, base_offset: Offset, leader_epoch: LeaderEpoch) -> None:
    """Set, in place, the two fields of the batch at the start of ``buffer`` that its CRC does not cover."""
    _OFFSET.pack_into(buffer, 0, base_offset)
    _INT32.pack_into(buffer, 12, leader_epoch)


def batches_in(buffer: Buffer) -> Iterator[RecordBatch]:
    """The batches ``buffer`` is made of. Raises CorruptBatch where it ends inside of one."""
    position = 0
    while position < len(buffer):
        batch = RecordBatch.parse(buffer, position)
        yield batch
        position += batch.size_bytes


def whole_batches_in(buffer: Buffer) -> Iterator[RecordBatch]:
    """As ``batches_in``, but a last batch that is cut short ends the iteration: a fetch may cut anywhere."""
    position = 0
    while len(buffer) - position >= HEADER_SIZE:
        header = RecordBatch.parse_header(buffer, position)
        if position + header.size_bytes > len(buffer):
            return
        yield RecordBatch.parse(buffer, position)
        position += header.size_bytes


__all__ = [
    "BatchBuilder",
    "CODEC_MASK",
    "CONTROL_BIT",
    "CRC_START",
    "HEADER",
    "HEADER_SIZE",
    "Header",
    "LOG_APPEND_TIME_BIT",
    "MAGIC",
    "MAX_DECOMPRESSED_BYTES",
    "PREFIX_SIZE",
    "Record",
    "RecordBatch",
    "SEQUENCE_COUNT",
    "TRANSACTIONAL_BIT",
    "batches_in",
    "stamp",
    "whole_batches_in",
]
