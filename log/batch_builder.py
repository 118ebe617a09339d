"""From records to a batch: the hot loop of every producer.

Records are kept as they came and become bytes all at once when the batch is built (record_encoder).
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import repeat

from .batch_format import CRC_START, MAGIC, PREFIX_SIZE, TRANSACTIONAL_BIT, Header
from .checksum import crc32c
from .compression import Compression, compress
from .model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from .record_encoder import Extra, encode_records

_BEFORE_CRC_END = struct.Struct(">qiibI")
_CHECKED = struct.Struct(">hiqqqhii")


class BatchBuilder:
    """Collects records, then makes a batch of them.

    ``_values``: of every record. ``_extras``: key and headers, by index, of those that have any. ``_times``: from
    which index on which time holds.
    """

    __slots__ = ("_compression", "_extras", "_level", "_time", "_times", "_values")

    def __init__(self, compression: Compression = Compression.NONE, level: int | None = None) -> None:
        self._compression = compression
        self._level = level
        self._values: list[bytes | None] = []
        self._extras: dict[int, Extra] = {}
        self._times: list[tuple[int, int]] = []
        self._time: int | None = None

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
        *,
        timestamp_ms: int,
    ) -> None:
        """Add a record. ``timestamp_ms``: milliseconds since 1970."""
        if timestamp_ms != self._time:
            self._times.append((len(self._values), timestamp_ms))
            self._time = timestamp_ms
        if key is not None or headers:
            self._extras[len(self._values)] = key, headers
        self._values.append(value)

    def timestamps(self) -> Iterator[int]:
        """Of each record, in milliseconds."""
        ends = [*(start for start, _ in self._times[1:]), len(self._values)]
        for (start, time), end in zip(self._times, ends, strict=True):
            yield from repeat(time, end - start)

    @property
    def record_count(self) -> int:
        return len(self._values)

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
        count = len(self._values)
        assert count > 0
        parts = encode_records(self._values, self._extras, self._times)
        if self._compression is not Compression.NONE:
            parts = [compress(self._compression, b"".join(parts), self._level)]
        checked = _CHECKED.pack(
            self._compression | (TRANSACTIONAL_BIT if transactional else 0),
            count - 1,
            self._times[0][1],
            max(time for _, time in self._times),
            -1 if producer_id is None else producer_id,
            -1 if producer_epoch is None else producer_epoch,
            -1 if base_sequence is None else base_sequence,
            count,
        )
        parts[0] = checked + parts[0]
        content = b"".join(parts)
        prefix = _BEFORE_CRC_END.pack(
            base_offset,
            len(content) + CRC_START - PREFIX_SIZE,
            -1 if leader_epoch is None else leader_epoch,
            MAGIC,
            crc32c(content),
        )
        return prefix + content
