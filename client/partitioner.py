"""Which partition a record goes to: Kafka's default partitioner, so that both kinds of client agree on every key."""

from collections.abc import Callable, Sequence
from typing import Protocol

MASK = 0xFFFFFFFF
MULTIPLIER = 0x5BD1E995
SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """The signed 32-bit murmur2 of Kafka's ``Utils.murmur2``."""
    length = len(data)
    state = SEED ^ length
    whole = length & ~3
    for position in range(0, whole, 4):
        word = int.from_bytes(data[position : position + 4], "little") * MULTIPLIER & MASK
        word = (word ^ word >> 24) * MULTIPLIER & MASK
        state = (state * MULTIPLIER & MASK) ^ word
    if whole < length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * MULTIPLIER & MASK
    state = (state ^ state >> 13) * MULTIPLIER & MASK
    state ^= state >> 15
    return state - (1 << 32) if state >> 31 else state


def partition_for_key(key: bytes, partition_count: int) -> int:
    """The partition of every record with this key, for as long as the topic has this many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


Partitioner = Callable[[bytes, int], int]
"""From a key and a partition count to a partition number, 0 to count-1. Must be pure."""


class RandBelow(Protocol):
    def __call__(self, bound: int, /) -> int: ...


class StickyChoice:
    """Where one topic's records without a key go: all to one partition until its batch is done, then to another
    (KIP-480). Fewer and fuller batches than a round robin, and as even over time (uniform sticky)."""

    __slots__ = ("_begun", "_randbelow", "partition")

    def __init__(self, randbelow: RandBelow) -> None:
        self._randbelow = randbelow
        self._begun = False
        self.partition: int | None = None

    def choose(self, available: Sequence[int], has_room: Callable[[int], bool]) -> int:
        """The partition for the next record. ``available``: partitions that have a leader, or all where none has;
        ``has_room``: whether a partition's open batch takes one more record."""
        current = self.partition
        if current is None or (self._begun and not has_room(current)) or current not in available:
            current = self.partition = self._another(available, current)
        self._begun = True
        return current

    def _another(self, available: Sequence[int], current: int | None) -> int:
        others = [partition for partition in available if partition != current] or list(available)
        return others[self._randbelow(len(others))]
