"""The protocol's primitives, for the requests and responses that are made by hand: those of the hot paths. Pure.

string   i16 length and bytes, -1 for null          compact: uvarint length + 1 and bytes, 0 for null
bytes    i32 length and bytes, -1 for null          compact: uvarint length + 1 and bytes, 0 for null
array    i32 count and elements, -1 for null        compact: uvarint count + 1 and elements, 0 for null
tags     uvarint count, then each: uvarint tag, uvarint size, bytes; at the end of every flexible struct
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from ottla.log.model import TopicId

INT16, INT32, INT64 = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")
NO_TAGS = b"\x00"
_VARINT_BYTES_MAX = 5


class Malformed(ValueError):
    """The bytes are no request of this key and version; the connection cannot go on."""


class Cursor:
    """Reads one request from the front to the back. Every method raises Malformed past the end."""

    def __init__(self, data: memoryview, position: int = 0) -> None:
        self._data = data
        self.position = position

    def _take(self, size: int) -> int:
        start = self.position
        end = start + size
        if size < 0 or end > len(self._data):
            raise Malformed(f"{size} bytes at {start} do not fit a request of {len(self._data)}")
        self.position = end
        return start

    def int16(self) -> int:
        value: int = INT16.unpack_from(self._data, self._take(2))[0]
        return value

    def int32(self) -> int:
        value: int = INT32.unpack_from(self._data, self._take(4))[0]
        return value

    def uvarint(self) -> int:
        """At most 32 bits."""
        value = 0
        for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
            byte = self._data[self._take(1)]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Malformed("a length of more than 32 bits")

    def raw(self, size: int) -> memoryview:
        """The next bytes, not copied."""
        start = self._take(size)
        return self._data[start : start + size]

    def string(self, flexible: bool) -> str | None:
        length = self.uvarint() - 1 if flexible else self.int16()
        if length < 0:
            return None
        try:
            return str(self.raw(length), "utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"a string is not UTF-8: {error.reason}") from error

    def bytes_(self, flexible: bool) -> memoryview | None:
        """Not copied."""
        length = self.uvarint() - 1 if flexible else self.int32()
        return None if length < 0 else self.raw(length)

    def tags(self, flexible: bool) -> None:
        """Skip them: none is known here."""
        if flexible:
            for _ in range(self.uvarint()):
                self.uvarint()
                self._take(self.uvarint())


def uvarint(value: int) -> bytes:
    """Of a number that is not negative."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def string(text: str, flexible: bool) -> bytes:
    encoded = text.encode()
    return (uvarint(len(encoded) + 1) if flexible else INT16.pack(len(encoded))) + encoded


def nullable_string(text: str | None, flexible: bool) -> bytes:
    if text is None:
        return b"\x00" if flexible else b"\xff\xff"
    return string(text, flexible)


def count(length: int, flexible: bool) -> bytes:
    """Before the elements of an array."""
    return uvarint(length + 1) if flexible else INT32.pack(length)


def size(length: int, flexible: bool) -> bytes:
    """Before bytes."""
    return uvarint(length + 1) if flexible else INT32.pack(length)


def int32s(numbers: tuple[int, ...], flexible: bool) -> bytes:
    """An array of i32."""
    return count(len(numbers), flexible) + struct.pack(f">{len(numbers)}i", *numbers)


# A topic's id is 16 bytes, which we write as 22 characters of URL-safe base64, as Kafka's own tools do.

NO_TOPIC_ID = bytes(16)


def topic_id_bytes(topic_id: TopicId) -> bytes:
    """The 16 bytes."""
    return urlsafe_b64decode(topic_id + "==")


def topic_id_of(raw: bytes) -> TopicId:
    """The id in these 16 bytes."""
    return TopicId(urlsafe_b64encode(raw).decode().rstrip("="))
