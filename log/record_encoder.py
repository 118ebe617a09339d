"""From records to the bytes of a batch's records.

Where all keys are of one length and all values are, too, as is common, so are all records, and they share the bytes
between time, offset, key and value: then whole columns are written and no record is looked at. Else each takes a turn
of a loop, at five times the price.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, cast

from .batch_format import Header
from .varints import TABLE_SIZE, VARINTS, encode_varint

Extra = tuple[bytes | None, Sequence[Header]]
Values = Sequence[bytes | None]
Times = Sequence[tuple[int, int]]
"""From which index on which time holds, in milliseconds; the first index is 0."""

NULL = b"\x01"
NO_HEADERS = b"\0"
ATTRIBUTES = b"\0"
FIRST_BYTES = bytes(varint[0] for varint in VARINTS)
SECOND_BYTES = bytes(varint[-1] for varint in VARINTS)
WIDTHS = ((0, 64, 1), (64, TABLE_SIZE, 2))
"""From which number to which a varint takes how many bytes."""


def encode_records(values: Values, extras: Mapping[int, Extra], times: Times) -> list[bytes | bytearray]:
    """In pieces, at least one. ``extras``: key and headers, by index, of the records that have any."""
    return _in_columns(values, extras, times) or _one_by_one(values, extras, times)


def _in_columns(values: Values, extras: Mapping[int, Extra], times: Times) -> list[bytes | bytearray] | None:
    """None where the records are not alike enough."""
    count = len(values)
    deltas = _deltas(times, count)
    keys = _keys(extras, count)
    if count > TABLE_SIZE or keys is None or deltas is None:
        return None
    key_length, value_length = _shared_length(keys), _shared_length(values)
    if key_length is None or value_length is None:
        return None
    body = 3 + len(key_length) + len(keys[0] or b"") + len(value_length) + len(values[0] or b"")
    parts: list[bytes | bytearray] = []
    for start, end, width in WIDTHS:
        if start < count:
            part = slice(start, min(end, count))
            head = NO_HEADERS + encode_varint(body + width) + ATTRIBUTES
            lengths = key_length + value_length if key_length == NULL else key_length
            rows = _rows(keys, value_length, values, part)
            parts.append(_records(head, deltas, lengths, rows, part, width))
    parts[0] = parts[0][len(NO_HEADERS) :]  # each record begins with the end of the one before it
    parts.append(NO_HEADERS)
    return parts


def _keys(extras: Mapping[int, Extra], count: int) -> Values | None:
    if not extras:
        return (None,)
    if len(extras) < count or any(headers for _, headers in extras.values()):
        return None
    return [key for key, _ in extras.values()]


def _deltas(times: Times, count: int) -> bytes | None:
    """The timestamp delta of each record, where that takes a byte."""
    base = times[0][1]
    if len(times) == 1:
        return bytes(count)
    if not all(0 <= time - base < WIDTHS[0][1] for _, time in times):
        return None
    ends = [*(start for start, _ in times[1:]), count]
    return b"".join(VARINTS[time - base] * (end - start) for (start, time), end in zip(times, ends, strict=True))


def _shared_length(column: Values) -> bytes | None:
    """How the length of each of these is written; None where they differ."""
    if column[0] is None:
        return NULL if column.count(None) == len(column) else None
    try:
        sizes = set(map(len, column))  # type: ignore[arg-type]
    except TypeError:  # a null among them
        return None
    return encode_varint(sizes.pop()) if len(sizes) == 1 else None


def _rows(keys: Values, value_length: bytes, values: Values, part: slice) -> Iterable[bytes]:
    """Of each record, what comes after its key's length, or, where none has a key, after its value's length."""
    shown: Any = values[part]
    if value_length == NULL:
        shown = repeat(b"", len(shown))
    if keys[0] is None:
        return cast("Iterable[bytes]", shown)
    pairs: Iterable[Any] = zip(keys[part], shown, strict=True)
    return map(value_length.join, pairs)


def _records(head: bytes, deltas: bytes, lengths: bytes, rows: Iterable[bytes], part: slice, width: int) -> bytearray:
    """Records of one length: what they share is written between the rows, then the columns of what differs into it."""
    shared = head + bytes(1 + width) + lengths
    records = bytearray(shared)
    records += shared.join(rows)
    stride = len(records) // (part.stop - part.start)
    position = len(head)
    records[position::stride] = deltas[part]
    records[position + 1 :: stride] = FIRST_BYTES[part]
    if width == 2:
        records[position + 2 :: stride] = SECOND_BYTES[part]
    return records


def _one_by_one(values: Values, extras: Mapping[int, Extra], times: Times) -> list[bytes | bytearray]:
    parts: list[bytes | bytearray] = []
    base = times[0][1]
    changes = iter(times)
    change_at, next_time = next(changes)
    moment = b""
    for count, value in enumerate(values):
        if count == change_at:
            moment = ATTRIBUTES + encode_varint(next_time - base)
            change_at, next_time = next(changes, (-1, 0))
        offset = VARINTS[count] if count < TABLE_SIZE else encode_varint(count)
        extra = extras.get(count)
        if extra is None and value is not None:
            size = len(value)
            value_length = VARINTS[size] if size < TABLE_SIZE else encode_varint(size)
            body = size + len(moment) + len(offset) + len(value_length) + 2
            length = VARINTS[body] if body < TABLE_SIZE else encode_varint(body)
            parts += (length, moment, offset, NULL, value_length, value, NO_HEADERS)
            continue
        key, headers = extra or (None, ())
        fields = [moment, offset, *_field(key), *_field(value), encode_varint(len(headers))]
        for name, content in headers:
            fields += _field(name.encode())
            fields += _field(content)
        parts.append(encode_varint(sum(map(len, fields))))
        parts += fields
    return parts


def _field(content: bytes | None) -> tuple[bytes, ...]:
    return (NULL,) if content is None else (encode_varint(len(content)), content)
