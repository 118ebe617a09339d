"""Key -> last offset, in bounded memory: what a pass of compaction knows of the newer part of a log.

A key of 16 bytes or more is known by its 16-byte BLAKE2b digest (two keys in 2^64 would have to meet for one to be
taken for the other); a shorter one is its own digest, and of another length.
"""

from hashlib import blake2b

from .model import Offset

DIGEST_BYTES = 16
BYTES_PER_KEY = 192
"""What an entry costs at most, measured by tests/log/test_key_map.py: a dict's slot just after it has grown (with the
old table still there), a bytes object of 16 and an int."""


def digest_of(key: bytes) -> bytes:
    """What stands for ``key``."""
    return key if len(key) < DIGEST_BYTES else blake2b(key, digest_size=DIGEST_BYTES).digest()


class KeyMap:
    """At most ``keys_max`` keys. ``end``: every record from where the pass began to there is in it."""

    __slots__ = ("_offsets", "end", "keys_max")

    def __init__(self, memory_bytes: int, start: Offset) -> None:
        self.keys_max = max(1, memory_bytes // BYTES_PER_KEY)
        self.end = start
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def has_room_for(self, count: int) -> bool:
        """Whether ``count`` records fit, all with new keys. The first batch always does: a pass must get on."""
        return not self._offsets or len(self._offsets) + count <= self.keys_max

    def put(self, key: bytes, offset: Offset) -> None:
        """The newest record of ``key`` so far is at ``offset``; offsets rise from call to call."""
        self._offsets[digest_of(key)] = offset

    def is_newest(self, key: bytes, offset: Offset) -> bool:
        """Whether no record of ``key`` above ``offset`` is known."""
        return offset >= self._offsets.get(digest_of(key), -1)
