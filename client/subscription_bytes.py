"""What members of the classic protocol tell each other, in the bytes of Kafka's consumers, so that clients of both
kinds can share a group (ConsumerProtocolSubscription, ConsumerProtocolAssignment).

Subscription, version 2, and Assignment, version 0; strings are | length: i16 | UTF-8 |, arrays | count: i32 | ... |:

| version: i16 | topics: [string] | user data: bytes, -1 | owned: [string, [i32]] | generation: i32, -1 |
| version: i16 | [topic: string, partitions: [i32]] | user data: bytes, -1 |
"""

import struct
from collections.abc import Iterable

from ottla.log.model import TopicPartition

from .assignors import MemberSubscription

_I16, _I32 = struct.Struct(">h"), struct.Struct(">i")
VERSION = 2
OWNED_SINCE, GENERATION_SINCE = 1, 2


def encode_subscription(member: MemberSubscription) -> bytes:
    """What a member joins with; its instance id travels beside it."""
    generation = -1 if member.generation is None else member.generation
    topics = b"".join(_string(topic) for topic in sorted(member.topics))
    parts = (_I16.pack(VERSION), _I32.pack(len(member.topics)), topics, _I32.pack(-1), _partitions(member.owned))
    return b"".join((*parts, _I32.pack(generation)))


def decode_subscription(data: bytes, instance_id: str | None = None) -> MemberSubscription:
    """Of any version: what is beyond the ones we know is left unread. Raises ValueError."""
    reader = _Bytes(data)
    version = reader.i16()
    topics = tuple(reader.string() for _ in range(reader.count()))
    reader.skip_bytes()
    owned = reader.partitions() if version >= OWNED_SINCE else frozenset()
    generation = reader.i32() if version >= GENERATION_SINCE else -1
    return MemberSubscription(topics, owned, None if generation < 0 else generation, instance_id)


def encode_assignment(partitions: Iterable[TopicPartition]) -> bytes:
    """What the leader gives to a member."""
    return b"".join((_I16.pack(0), _partitions(partitions), _I32.pack(-1)))


def decode_assignment(data: bytes) -> frozenset[TopicPartition]:
    """Nothing at all is no partitions: the leader did not know of us. Raises ValueError."""
    if not data:
        return frozenset()
    reader = _Bytes(data)
    reader.i16()
    return reader.partitions()


def _string(text: str) -> bytes:
    data = text.encode()
    return _I16.pack(len(data)) + data


def _partitions(keys: Iterable[TopicPartition]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, number in sorted(keys):
        topics.setdefault(topic, []).append(number)
    parts = [_I32.pack(len(topics))]
    for topic, numbers in topics.items():
        parts += [_string(topic), _I32.pack(len(numbers)), *map(_I32.pack, numbers)]
    return b"".join(parts)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if size < 0 or len(taken) != size:
            raise ValueError(f"the bytes end at {len(self._data)}, {size} more are wanted at {self._at}")
        self._at += size
        return taken

    def i16(self) -> int:
        return int(_I16.unpack(self._take(2))[0])

    def i32(self) -> int:
        return int(_I32.unpack(self._take(4))[0])

    def count(self) -> int:
        count = self.i32()
        if not 0 <= count <= len(self._data):  # each takes a byte at least
            raise ValueError(f"a count of {count} in {len(self._data)} bytes")
        return count

    def string(self) -> str:
        return self._take(self.i16()).decode()

    def skip_bytes(self) -> None:
        size = self.i32()
        if size > 0:
            self._take(size)

    def partitions(self) -> frozenset[TopicPartition]:
        found: set[TopicPartition] = set()
        for _ in range(self.count()):
            topic = self.string()
            found.update(TopicPartition(topic, self.i32()) for _ in range(self.count()))
        return frozenset(found)
