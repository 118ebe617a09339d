"""Reads requests by kio's schemas, with bounds of our own.

kio's reader is native and quick, and believes the lengths it reads: a count of four thousand million elements in a
request of ten bytes ends the process. Here a count must fit the bytes that are left, and a request has at most
``ELEMENTS_MAX`` elements, whatever it says: they take a tenth of a second to read, and nobody else is served meanwhile.
"""

import struct
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from types import NoneType, UnionType
from typing import Any, get_args, get_origin
from uuid import UUID

from .wire import NO_TOPIC_ID, Cursor, Malformed

ELEMENTS_MAX = 30_000
"""Of all arrays of one request together."""

Read = Callable[["BoundedCursor"], Any]


class BoundedCursor(Cursor):
    """A cursor that counts elements."""

    def __init__(self, data: memoryview, position: int = 0) -> None:
        super().__init__(data, position)
        self._elements_left = ELEMENTS_MAX

    def counted(self, flexible: bool) -> int | None:
        """Of an array; None for one that is null."""
        count = self.uvarint() - 1 if flexible else self.int32()
        if count < 0:
            if count < -1:
                raise Malformed(f"an array of {count}")
            return None
        self._elements_left -= count
        if self._elements_left < 0:
            raise Malformed(f"more than {ELEMENTS_MAX} elements")
        return count


def reader_of(schema: Any) -> Read:
    """How an instance of this dataclass of kio's is read. What does not fit raises Malformed."""
    flexible: bool = schema.__flexible__
    plain = [(each.name, _field(each, flexible)) for each in fields(schema) if "tag" not in each.metadata]
    tagged = {
        int(each.metadata["tag"]): (each.name, _field(each, flexible))
        for each in fields(schema)
        if "tag" in each.metadata
    }
    defaults = {each.name: each.default for each in fields(schema) if "tag" in each.metadata}

    def read(cursor: BoundedCursor) -> Any:
        values = {name: read_field(cursor) for name, read_field in plain}
        if flexible:
            values.update(defaults)
            _read_tags(cursor, tagged, values)
        return schema(**values)

    return read


def _read_tags(cursor: BoundedCursor, known: dict[int, tuple[str, Read]], values: dict[str, Any]) -> None:
    for _ in range(cursor.uvarint()):
        tag, size = cursor.uvarint(), cursor.uvarint()
        start = cursor.position
        cursor.raw(size)
        if tag in known:
            name, read_field = known[tag]
            end, cursor.position = cursor.position, start
            values[name] = read_field(cursor)
            if cursor.position != end:
                raise Malformed(f"tag {tag} says {size} bytes and has {cursor.position - start}")


def _field(field: Any, flexible: bool) -> Read:
    annotation = field.type
    optional = isinstance(annotation, UnionType)
    if optional:
        [annotation] = [each for each in get_args(annotation) if each is not NoneType]
    is_array = get_origin(annotation) is tuple
    if is_array:
        inner = get_args(annotation)[0]
        element = _entity(inner) or _primitive(field.metadata["kafka_type"], flexible, optional=False)
        return _array(element, flexible, optional)
    entity = _entity(annotation)
    if entity is None:
        return _primitive(field.metadata["kafka_type"], flexible, optional)
    return _nullable(entity) if optional else entity


def _entity(annotation: Any) -> Read | None:
    return reader_of(annotation) if hasattr(annotation, "__dataclass_fields__") else None


def _array(element: Read, flexible: bool, optional: bool) -> Read:
    def read(cursor: BoundedCursor) -> Any:
        count = cursor.counted(flexible)
        if count is None:
            if not optional:
                raise Malformed("an array is null that may not be")
            return None
        return tuple([element(cursor) for _ in range(count)])

    return read


def _nullable(entity: Read) -> Read:
    """KIP-893: a byte before it, -1 for null."""
    return lambda cursor: None if cursor.raw(1)[0] == 0xFF else entity(cursor)


_FIXED = {
    "int8": struct.Struct(">b"),
    "int16": struct.Struct(">h"),
    "int32": struct.Struct(">i"),
    "int64": struct.Struct(">q"),
    "uint8": struct.Struct(">B"),
    "uint16": struct.Struct(">H"),
    "uint32": struct.Struct(">I"),
    "float64": struct.Struct(">d"),
    "bool": struct.Struct(">?"),
    "error_code": struct.Struct(">h"),
}
_DURATIONS = {"timedelta_i32": struct.Struct(">i"), "timedelta_i64": struct.Struct(">q")}


def _primitive(kind: str, flexible: bool, optional: bool) -> Read:
    if kind in _FIXED:
        return _fixed(_FIXED[kind])
    if kind in _DURATIONS:
        return _duration(_FIXED["int32" if kind.endswith("32") else "int64"])
    if kind == "uuid":
        return _uuid
    if kind == "string":
        return _required(lambda cursor: cursor.string(flexible), optional)
    if kind in ("bytes", "records"):
        return _required(lambda cursor: _bytes(cursor, flexible), optional)
    raise NotImplementedError(f"no request has a {kind}")


def _fixed(layout: struct.Struct) -> Read:
    size, unpack = layout.size, layout.unpack
    return lambda cursor: unpack(cursor.raw(size))[0]


def _duration(layout: struct.Struct) -> Read:
    number = _fixed(layout)

    def read(cursor: BoundedCursor) -> timedelta:
        try:
            return timedelta(milliseconds=number(cursor))
        except OverflowError as error:
            raise Malformed("a time beyond all times") from error

    return read


def _uuid(cursor: BoundedCursor) -> UUID | None:
    raw = bytes(cursor.raw(16))
    return None if raw == NO_TOPIC_ID else UUID(bytes=raw)


def _bytes(cursor: BoundedCursor, flexible: bool) -> bytes | None:
    found = cursor.bytes_(flexible)
    return None if found is None else bytes(found)


def _required(read: Read, optional: bool) -> Read:
    if optional:
        return read

    def checked(cursor: BoundedCursor) -> Any:
        value = read(cursor)
        if value is None:
            raise Malformed("something is null that may not be")
        return value

    return checked
