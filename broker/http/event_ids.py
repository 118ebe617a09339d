"""The ids of server-sent events: where a reader goes on that comes back with the last one it has seen.

One partition:  ``PARTITION:OFFSET`` of the event's record.
Several:        ``~`` and base64url of

    | crc32c of the topic's id: u32 | of each partition from 0 on: its position + 1, or 0 where there is none: varint |*

A position is the offset of the next record.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from ottla.log.checksum import crc32c

PARTITIONS_MAX = 500
"""Of a topic of more partitions events have no ids: a reader could not send them back in a header."""
OFFSET_MAX = 1 << 62
MARK = "~"
CHECK_BYTES = 4
VARINT_BYTES_MAX = 9
_ONE = re.compile(r"([0-9]{1,9}):([0-9]{1,19})")
_MANY = re.compile(r"~[A-Za-z0-9_-]{1,8000}")


class BadEventId(ValueError):
    """It is none of ours, or not of this stream."""


def id_of_record(partition: int, offset: int) -> str:
    """In a stream of one partition."""
    return f"{partition}:{offset}"


def id_of_positions(topic_id: str, positions: Mapping[int, int]) -> str:
    """In a stream of several. ``positions``: of the partitions that have one."""
    packed = bytearray(_check(topic_id))
    for number in range(max(positions, default=-1) + 1):
        rest = positions.get(number, -1) + 1
        while rest > 0x7F:
            packed.append(rest & 0x7F | 0x80)
            rest >>= 7
        packed.append(rest)
    return MARK + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def positions_of(text: str, topic_id: str, partition: int | None, count: int) -> dict[int, int]:
    """The next offsets, by partition, of a reader that has seen this id. ``partition``: the only one that is asked for;
    ``count``: how many the topic has. Raises BadEventId."""
    if partition is not None:
        found = _ONE.fullmatch(text)
        if found is None:
            raise BadEventId(f"the last event id {text[:50]!r} is not PARTITION:OFFSET")
        if int(found[1]) != partition or int(found[2]) >= OFFSET_MAX:
            raise BadEventId(f"the last event id {text!r} is not of partition {partition}")
        return {partition: int(found[2]) + 1}
    if _MANY.fullmatch(text) is None:
        raise BadEventId(f"the last event id {text[:50]!r} is not one of a stream of all partitions")
    try:
        packed = base64.urlsafe_b64decode(text[1:] + "=" * (-(len(text) - 1) % 4))
    except binascii.Error as error:
        raise BadEventId(f"the last event id is damaged: {error}") from error
    if packed[:CHECK_BYTES] != _check(topic_id):
        raise BadEventId("the last event id is of another topic")
    positions = _unpack(packed[CHECK_BYTES:])
    if len(positions) > count:
        raise BadEventId(f"the last event id names {len(positions)} partitions of {count}")
    return {number: shifted - 1 for number, shifted in enumerate(positions) if shifted}


def _unpack(packed: bytes) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
        elif shift >= 7 * VARINT_BYTES_MAX:
            raise BadEventId("the last event id is damaged: a number is too long")
    if shift:
        raise BadEventId("the last event id is cut short")
    if any(number > OFFSET_MAX for number in numbers):
        raise BadEventId("the last event id is damaged: an offset is too large")
    return numbers


def _check(topic_id: str) -> bytes:
    return crc32c(topic_id.encode()).to_bytes(CHECK_BYTES, "big")
