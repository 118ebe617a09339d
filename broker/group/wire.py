"""Kafka's primitive types, as the records of `__consumer_offsets` use them. Pure.

Keys and the older values have lengths of fixed size; newer values are "flexible" (KIP-482): lengths are unsigned
varints, one more than the length so that 0 means null, and tagged fields end every struct.
"""

import base64
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from ottla.log.model import TopicId

T = TypeVar("T")


class BadRecord(ValueError):
    """Bytes that are not a record of a group."""


def varint(value: int) -> bytes:
    """Unsigned, seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def i8(value: int) -> bytes:
    return struct.pack(">b", value)


def i16(value: int) -> bytes:
    return struct.pack(">h", value)


def i32(value: int) -> bytes:
    return struct.pack(">i", value)


def i64(value: int) -> bytes:
    return struct.pack(">q", value)


def string(text: str | None) -> bytes:
    """With a length of two bytes; None is -1."""
    return i16(-1) if text is None else i16(len(data := text.encode())) + data


def octets(data: bytes) -> bytes:
    """With a length of four bytes."""
    return i32(len(data)) + data


def compact(text: str | None) -> bytes:
    """A flexible string."""
    return b"\0" if text is None else varint(len(data := text.encode()) + 1) + data


def compact_octets(data: bytes) -> bytes:
    return varint(len(data) + 1) + data


def compact_array(items: Sequence[T], encode: Callable[[T], bytes]) -> bytes:
    return varint(len(items) + 1) + b"".join(map(encode, items))


NO_TAGS = b"\0"


def tags(fields: dict[int, bytes]) -> bytes:
    """Tagged fields by their numbers."""
    return varint(len(fields)) + b"".join(varint(n) + varint(len(f)) + f for n, f in sorted(fields.items()))


def uuid(topic_id: TopicId) -> bytes:
    """16 bytes."""
    return base64.urlsafe_b64decode(topic_id + "==")


class Reader:
    """Reads what the functions above wrote. Raises BadRecord where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise BadRecord(f"{size} bytes at {self._at} of {len(self._data)}")
        piece, self._at = self._data[self._at : end], end
        return piece

    def i8(self) -> int:
        return int(struct.unpack(">b", self.take(1))[0])

    def i16(self) -> int:
        return int(struct.unpack(">h", self.take(2))[0])

    def i32(self) -> int:
        return int(struct.unpack(">i", self.take(4))[0])

    def i64(self) -> int:
        return int(struct.unpack(">q", self.take(8))[0])

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise BadRecord("a varint of more than five bytes")

    def nullable_string(self) -> str | None:
        size = self.i16()
        return None if size == -1 else _text(self.take(size))

    def string(self) -> str:
        return self.nullable_string() or ""

    def octets(self) -> bytes:
        size = self.i32()
        return b"" if size == -1 else self.take(size)

    def nullable_compact(self) -> str | None:
        size = self.varint()
        return None if size == 0 else _text(self.take(size - 1))

    def compact(self) -> str:
        return self.nullable_compact() or ""

    def compact_octets(self) -> bytes:
        return self.take(max(0, self.varint() - 1))

    def array(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(self.i32())]

    def compact_array(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(self.varint() - 1)]

    def uuid(self) -> TopicId:
        return TopicId(base64.urlsafe_b64encode(self.take(16)).rstrip(b"=").decode())

    def tags(self) -> dict[int, bytes]:
        return {self.varint(): self.take(self.varint()) for _ in range(self.varint())}


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRecord(str(error)) from error
