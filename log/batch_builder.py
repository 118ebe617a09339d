"""From records to a batch: the hot loop of every producer."""

import struct
from collections.abc import Sequence

from .batch_format import CRC_START, HEADER_SIZE, MAGIC, PREFIX_SIZE, TRANSACTIONAL_BIT, Header
from .checksum import crc32c
from .compression import Compression, compress
from .model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from .varints import TABLE_SIZE, VARINTS, encode_varint

_BEFORE_CRC_END = struct.Struct(">qiibI")
_CHECKED = struct.Struct(">hiqqqhii")


class BatchBuilder:
    """Collects records, then makes a batch of them.

    ``size_bytes``: what the batch would take uncompressed, to within the varints of its largest numbers.
    """

    __slots__ = (
        "_base_timestamp",
        "_compression",
        "_level",
        "_max_timestamp",
        "_parts",
        "_time",
        "_timestamp",
        "record_count",
        "size_bytes",
    )

    def __init__(self, compression: Compression = Compression.NONE, level: int | None = None) -> None:
        self._compression = compression
        self._level = level
        self._parts: list[bytes] = []
        self._timestamp: int | None = None
        self._base_timestamp = 0
        self._max_timestamp = 0
        self._time = b"\0\0"
        self.record_count = 0
        self.size_bytes = HEADER_SIZE

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
        *,
        timestamp_ms: int,
    ) -> None:
        """Add a record. ``timestamp_ms``: milliseconds since 1970."""
        if timestamp_ms != self._timestamp:
            self._set_time(timestamp_ms)
        time = self._time
        count = self.record_count
        offset = VARINTS[count] if count < TABLE_SIZE else encode_varint(count)
        if key is None and value is not None and not headers:
            size = len(value)
            value_length = VARINTS[size] if size < TABLE_SIZE else encode_varint(size)
            body = size + len(time) + len(offset) + len(value_length) + 2
            length = VARINTS[body] if body < TABLE_SIZE else encode_varint(body)
            self._parts += (length, time, offset, b"\x01", value_length, value, b"\0")
        else:
            parts = [time, offset, *_field(key), *_field(value), encode_varint(len(headers))]
            for name, content in headers:
                parts += _field(name.encode())
                parts += _field(content)
            body = sum(map(len, parts))
            length = encode_varint(body)
            self._parts.append(length)
            self._parts += parts
        self.record_count = count + 1
        self.size_bytes += body + len(length)

    def build(
        self,
        producer_id: ProducerId | None = None,
        producer_epoch: ProducerEpoch | None = None,
        base_sequence: int | None = None,
        base_offset: Offset = Offset(0),  # noqa: B008
        leader_epoch: LeaderEpoch | None = None,
        transactional: bool = False,
    ) -> bytes:
        """The batch, CRC included. There must be at least one record."""
        assert self.record_count > 0
        records = self._parts
        if self._compression is not Compression.NONE:
            records = [compress(self._compression, b"".join(records), self._level)]
        checked = [
            _CHECKED.pack(
                self._compression | (TRANSACTIONAL_BIT if transactional else 0),
                self.record_count - 1,
                self._base_timestamp,
                self._max_timestamp,
                -1 if producer_id is None else producer_id,
                -1 if producer_epoch is None else producer_epoch,
                -1 if base_sequence is None else base_sequence,
                self.record_count,
            ),
            *records,
        ]
        content = b"".join(checked)
        prefix = _BEFORE_CRC_END.pack(
            base_offset,
            len(content) + CRC_START - PREFIX_SIZE,
            -1 if leader_epoch is None else leader_epoch,
            MAGIC,
            crc32c(content),
        )
        return prefix + content

    def _set_time(self, timestamp_ms: int) -> None:
        """Records of one moment share the encoded attributes and timestamp delta."""
        if self._timestamp is None:
            self._base_timestamp = self._max_timestamp = timestamp_ms
        self._timestamp = timestamp_ms
        self._max_timestamp = max(self._max_timestamp, timestamp_ms)
        self._time = b"\0" + encode_varint(timestamp_ms - self._base_timestamp)


def _field(content: bytes | None) -> tuple[bytes, ...]:
    return (b"\x01",) if content is None else (encode_varint(len(content)), content)
