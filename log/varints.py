"""Zig-zag variable-length integers, as Kafka's records use them (ByteUtils.writeVarlong).

A signed number n becomes 2n or -2n-1, then seven bits a byte, least significant first, the high bit set on all
but the last byte.
"""

from .errors import CorruptBatch

TABLE_SIZE = 8192
MAX_BYTES = 10


def _encode(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


VARINTS = (
    *(bytes((number << 1,)) for number in range(64)),
    *(bytes((number << 1 & 0x7F | 0x80, number >> 6)) for number in range(64, TABLE_SIZE)),
)
"""Precomputed: nearly every length and delta of a record is small, and a table costs a tenth of the loop."""


def encode_varint(number: int) -> bytes:
    """``number`` (-2^63 to 2^63-1) encoded, 1 to 10 bytes."""
    return VARINTS[number] if 0 <= number < TABLE_SIZE else _encode(number)


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position after it. Raises CorruptBatch above 10 bytes, IndexError where
    ``data`` ends inside of it."""
    result = shift = 0
    for cursor in range(position, position + MAX_BYTES):
        byte = data[cursor]
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), cursor + 1
        shift += 7
    raise CorruptBatch("a variable-length integer has more than 10 bytes")
