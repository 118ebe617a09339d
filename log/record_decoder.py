"""From the bytes of a batch's records to records: the hot loop of every consumer.

Records become columns first. A run of records without headers whose keys are of one length and whose values are, too,
as is common, is read at a stride: the bytes that all must share are compared column by column, and then the content is
cut out by one call. Whatever is not such a run goes through a loop, record by record.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .batch_format import Header
from .errors import CorruptBatch
from .varints import VARINTS, decode_varint

if TYPE_CHECKING:
    from .records import RecordBatch

RowT = TypeVar("RowT", bound=tuple[Any, ...])

RUN_MIN = 8
"""Shorter runs are dearer to find than to loop over."""
BLOCK = 16
"""Records cut by one call."""
PATIENCE_MAX = 256
"""At most so many records are looped over before a run is looked for again."""
FIRST_BYTES = bytes(varint[0] for varint in VARINTS)
SECOND_BYTES = bytes(varint[-1] for varint in VARINTS)
ONE_BYTE_OFFSETS = 64


class Columns:
    """Records, field by field: the first of each list are those of the first record."""

    __slots__ = ("headers", "keys", "offsets", "timestamps", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[tuple[Header, ...]] = []

    def behind(self, count: int) -> "Columns":
        """Without the first ``count`` of them."""
        rest = Columns()
        for name in self.__slots__:
            setattr(rest, name, getattr(self, name)[count:])
        return rest

    def row(self, number: int) -> tuple[int, int, bytes | None, bytes | None, tuple[Header, ...]]:
        """One of them."""
        return (
            self.offsets[number],
            self.timestamps[number],
            self.keys[number],
            self.values[number],
            self.headers[number],
        )

    def rows(self, kind: type[RowT], *before: object, offsets: Iterator[int] | None = None) -> Iterator[RowT]:
        """Named tuples of ``before``, the same for each, and these fields, made when they are asked for and without
        a call of Python's. ``offsets``: an iterator of the offsets, for who wants to see how far it has got."""
        fields = (offsets or self.offsets, self.timestamps, self.keys, self.values, self.headers)
        rows = zip(*map(repeat, before), *fields)  # noqa: B905
        return map(tuple.__new__, repeat(kind), rows)


def decode_records(batch: "RecordBatch", data: bytes, position: int) -> Columns:
    """All records of ``batch``, whose bytes begin at ``position`` of ``data``. Raises CorruptBatch, or IndexError or
    UnicodeDecodeError where the bytes are no records."""
    columns = Columns()
    left = batch.record_count
    previous = -1
    patience = RUN_MIN
    while left > 0:
        position, found, previous = _run(batch, data, position, left, previous, columns)
        if found:
            patience = RUN_MIN
        else:
            found = min(left, patience)
            position, previous = _one_by_one(batch, data, position, found, previous, columns)
            patience = min(2 * patience, PATIENCE_MAX)
        left -= found
    if position != len(data):
        raise CorruptBatch(
            f"the batch at offset {batch.base_offset} has {len(data) - position} bytes after its records"
        )
    return columns


# --- runs ------------------------------------------------------------------------------------------------------------


@lru_cache(256)
def _cutter(before: int, key: int, between: int, value: int, records: int) -> struct.Struct:
    """Cuts keys and values out of so many records; what is empty is left out."""
    keys = f"{key}s" if key else ""
    values = f"{value}s" if value else ""
    return struct.Struct(f"{before}x{keys}{between}x{values}1x" * records)


def _content(data: memoryview, count: int, layout: tuple[int, int, int, int]) -> list[bytes]:
    """The keys and values of ``count`` records, in turns."""
    blocks = count // BLOCK * BLOCK
    edge = len(data) // count * blocks
    content = list(chain.from_iterable(_cutter(*layout, BLOCK).iter_unpack(data[:edge])))
    content += chain.from_iterable(_cutter(*layout, 1).iter_unpack(data[edge:]))
    return content


class _Layout(NamedTuple):
    """Where the fields of a record without headers are, from ``position``; sizes are -1 for nulls."""

    position: int
    time_at: int
    offset_at: int
    key_at: int
    key_size: int
    value_length_at: int
    value_at: int
    value_size: int
    end: int

    @property
    def shared(self) -> list[int]:
        """Places of the bytes that records of this layout have in common: lengths, and the lack of headers."""
        key_length_at = self.value_length_at - max(self.key_size, 0)
        return [
            *range(self.position, self.time_at - 1),
            *range(self.key_at, key_length_at),
            *range(self.value_length_at, self.value_at),
            self.end - 1,
        ]

    @property
    def cuts(self) -> tuple[int, int, int, int]:
        """Bytes before the key, of the key, between it and the value, of the value."""
        key_size, value_size = max(self.key_size, 0), max(self.value_size, 0)
        before = self.value_length_at - key_size - self.position
        return before, key_size, self.value_at - self.value_length_at, value_size


def _layout_at(data: bytes, position: int, offset_bytes: int) -> _Layout | None:
    """If there is such a record, with a timestamp delta of one byte. Guesses: what does not fit is for the loop."""
    try:
        size, cursor = decode_varint(data, position)
        end = cursor + size
        time_at = cursor + 1
        key_at = time_at + 1 + offset_bytes
        key_size, cursor = decode_varint(data, key_at)
        value_length_at = cursor + max(key_size, 0)
        value_size, value_at = decode_varint(data, value_length_at)
    except (IndexError, CorruptBatch):
        return None
    if value_at + max(value_size, 0) + 1 != end or min(key_size, value_size) < -1 or end > len(data) or data[end - 1]:
        return None
    return _Layout(position, time_at, time_at + 1, key_at, key_size, value_length_at, value_at, value_size, end)


def _run(
    batch: "RecordBatch", data: bytes, position: int, left: int, previous: int, columns: Columns
) -> tuple[int, int, int]:
    """Read as many records as share a layout with the one at ``position``. Returns where the next one starts, how
    many there were (0, or RUN_MIN at least), and the last offset delta."""
    first = previous + 1
    limit = ONE_BYTE_OFFSETS if first < ONE_BYTE_OFFSETS else len(VARINTS)
    count = min(left, limit - first, batch.last_offset_delta - previous)
    layout = _layout_at(data, position, len(VARINTS[first])) if count >= RUN_MIN else None
    if layout is None:
        return position, 0, previous
    stride = layout.end - position
    count = min(count, (len(data) - position) // stride)
    if count < RUN_MIN or data[position] != data[position + stride]:
        return position, 0, previous
    count = _alike(data, layout, count, first)
    if count < RUN_MIN:
        return position, 0, previous
    end = position + count * stride
    columns.offsets += range(batch.base_offset + first, batch.base_offset + first + count)
    _add_times(batch.base_timestamp, data[layout.time_at : end : stride], columns)
    content = _content(memoryview(data)[position:end], count, layout.cuts)
    _add_content(content, count, layout.key_size, layout.value_size, columns)
    return end, count, previous + count


def _alike(data: bytes, layout: _Layout, count: int, first: int) -> int:
    """How many of ``count`` records have the first one's bytes in the shared places, the offsets that follow on each
    other, and a timestamp delta of one byte; 0 where some of those that seem so do not."""
    position, stride = layout.position, layout.end - layout.position
    for place in layout.shared:
        column = data[place : position + count * stride : stride]
        if column != column[:1] * count:
            count -= len(column.lstrip(column[:1]))
    columns = [(layout.offset_at, FIRST_BYTES)]
    if first >= ONE_BYTE_OFFSETS:
        columns.append((layout.offset_at + 1, SECOND_BYTES))
    for place, expected in columns:
        if data[place : position + count * stride : stride] != expected[first : first + count]:
            return 0
    return count if data[layout.time_at : position + count * stride : stride].isascii() else 0


def _add_times(base: int, deltas: bytes, columns: Columns) -> None:
    count = len(deltas)
    if deltas.count(deltas[:1]) == count:
        columns.timestamps += repeat(base + _signed(deltas[0]), count)
    else:
        columns.timestamps += [base + _signed(delta) for delta in deltas]


def _add_content(content: list[bytes], count: int, key_size: int, value_size: int, columns: Columns) -> None:
    columns.headers += repeat((), count)
    if key_size > 0 and value_size > 0:
        columns.keys += content[::2]
        columns.values += content[1::2]
        return
    columns.keys += content if key_size > 0 else repeat(None if key_size < 0 else b"", count)
    columns.values += content if value_size > 0 else repeat(None if value_size < 0 else b"", count)


def _signed(zigzag: int) -> int:
    return (zigzag >> 1) ^ -(zigzag & 1)


# --- one by one ------------------------------------------------------------------------------------------------------


def _one_by_one(
    batch: "RecordBatch", data: bytes, position: int, count: int, previous: int, columns: Columns
) -> tuple[int, int]:
    """One loop with one- and two-byte varints inlined: calls are what costs. Returns where the next record starts and
    the last offset delta."""
    base_offset, base_timestamp, last = batch.base_offset, batch.base_timestamp, batch.last_offset_delta
    add_offset, add_time = columns.offsets.append, columns.timestamps.append
    add_key, add_value, add_headers = columns.keys.append, columns.values.append, columns.headers.append
    for _ in range(count):
        length = data[position]
        if length < 0x80:
            position += 1
            end = position + (length >> 1)
        elif (more := data[position + 1]) < 0x80:
            position += 2
            end = position + ((length & 0x7F | more << 7) >> 1)
        else:
            size, position = decode_varint(data, position)
            end = position + size
        time = data[position + 1]  # the byte before it is the record's attributes, of which none is in use
        if time < 0x80:
            timestamp = base_timestamp + ((time >> 1) ^ -(time & 1))
            position += 2
        else:
            delta, position = decode_varint(data, position + 1)
            timestamp = base_timestamp + delta
        offset = data[position]
        if offset < 0x80 and not offset & 1:
            offset >>= 1
            position += 1
        elif not offset & 1 and (more := data[position + 1]) < 0x80:
            offset = (offset & 0x7F | more << 7) >> 1
            position += 2
        else:
            offset, position = decode_varint(data, position)
        if data[position] == 1:
            key = None
            position += 1
        else:
            key, position = _nullable_bytes(data, position)
        size = data[position]
        if size < 0x80 and not size & 1:
            start = position + 1
            position = start + (size >> 1)
            value: bytes | None = data[start:position]
        elif not size & 1 and (more := data[position + 1]) < 0x80:
            start = position + 2
            position = start + ((size & 0x7F | more << 7) >> 1)
            value = data[start:position]
        else:
            value, position = _nullable_bytes(data, position)
        headers: tuple[Header, ...] = ()
        if data[position]:
            headers, position = _headers(data, position)
        else:
            position += 1
        # One comparison covers every slice above: a short one would have left position beyond the end. An odd
        # first byte is a negative length.
        if position != end or length & 1 or not previous < offset <= last:
            raise CorruptBatch(f"the batch at offset {base_offset} has a bad record after offset delta {previous}")
        previous = offset
        add_offset(base_offset + offset)
        add_time(timestamp)
        add_key(key)
        add_value(value)
        add_headers(headers)
    return position, previous


def _nullable_bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = decode_varint(data, position)
    if size < 0:
        if size != -1:
            raise CorruptBatch(f"a length of {size} is impossible")
        return None, position
    return data[position : position + size], position + size


def _headers(data: bytes, position: int) -> tuple[tuple[Header, ...], int]:
    count, position = decode_varint(data, position)
    if not 0 <= count <= len(data) - position:  # a header takes at least two bytes: no loop beyond the data
        raise CorruptBatch(f"a header count of {count} is impossible")
    headers = []
    for _ in range(count):
        key, position = _nullable_bytes(data, position)
        if key is None:
            raise CorruptBatch("a header has a null key")
        value, position = _nullable_bytes(data, position)
        headers.append((key.decode(), value))
    return tuple(headers), position
