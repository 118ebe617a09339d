"""From the bytes of a batch's records to records: the hot loop of every consumer.

Records become columns first. A run of records without headers whose keys are of one length and whose values are, too,
as is common, is read at a stride: the bytes that all must share are compared column by column, and then the content is
cut out by one call. Whatever is not such a run goes through a loop, record by record.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

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


def _run(
    batch: "RecordBatch", data: bytes, position: int, left: int, previous: int, columns: Columns
) -> tuple[int, int, int]:
    """Read as many records as share a layout with the one at ``position``. Returns where the next one starts, how
    many there were (0, or RUN_MIN at least), and the last offset delta."""
    nothing = position, 0, previous
    if left < RUN_MIN:
        return nothing
    first = previous + 1
    cursor = position
    size, cursor = decode_varint(data, cursor)
    stride = cursor - position + size
    count = min(left, (len(data) - position) // stride) if size > 0 else 0
    limit = ONE_BYTE_OFFSETS if first < ONE_BYTE_OFFSETS else len(VARINTS)
    count = min(count, limit - first, batch.last_offset_delta - previous)
    if count < RUN_MIN or data[position : position + 2] != data[position + stride : position + stride + 2]:
        return nothing
    time_at = cursor + 1
    offset_at = time_at + 1
    key_at = offset_at + len(VARINTS[first])
    key_size, cursor = decode_varint(data, key_at)
    key_end = cursor + max(key_size, 0)
    value_size, value_at = decode_varint(data, key_end)
    value_end = value_at + max(value_size, 0)
    if value_end + 1 != position + stride or key_size < -1 or value_size < -1:
        return nothing
    shared = [*range(position, time_at - 1), *range(key_at, cursor), *range(key_end, value_at), value_end]
    count = _alike(data, position, stride, count, shared, time_at, offset_at, first)
    if count < RUN_MIN or data[value_end]:
        return nothing
    end = position + count * stride
    layout = cursor - position, max(key_size, 0), value_at - key_end, max(value_size, 0)
    columns.offsets += range(batch.base_offset + first, batch.base_offset + first + count)
    _add_times(batch.base_timestamp, data[time_at:end:stride], columns)
    _add_content(_content(memoryview(data)[position:end], count, layout), count, key_size, value_size, columns)
    return end, count, previous + count


def _alike(
    data: bytes, position: int, stride: int, count: int, shared: list[int], time_at: int, offset_at: int, first: int
) -> int:
    """How many of ``count`` records have the first one's bytes in the ``shared`` places, the offsets that follow on
    each other, and a timestamp delta of one byte."""
    for place in shared:
        column = data[place : position + count * stride : stride]
        if column != column[:1] * count:
            count -= len(column.lstrip(column[:1]))
    columns = [(offset_at, FIRST_BYTES)]
    if first >= ONE_BYTE_OFFSETS:
        columns.append((offset_at + 1, SECOND_BYTES))
    for place, expected in columns:
        if data[place : position + count * stride : stride] != expected[first : first + count]:
            return 0
    return count if data[time_at : position + count * stride : stride].isascii() else 0


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
