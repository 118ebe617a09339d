"""The sparse offset index of a segment: where in its file to start looking for an offset.

Its file, as Kafka's ``.index`` (without the preallocated tail), big endian, one entry about each
``index_interval_bytes`` of log:

    | relative offset: i32   last offset of a batch, less the segment's base | position: i32   where that batch starts |

Both columns rise strictly. Everything in it can be rebuilt from the segment, so it is never synced, and never
believed: opening a log passes every batch header anyway (for the producers), and builds the index on the way. A
file that differs is written anew.
"""

import struct
from array import array
from bisect import bisect_right
from pathlib import Path

from .model import Offset
from .storage import Storage

ENTRY = struct.Struct(">ii")
INT32_MAX = (1 << 31) - 1


class OffsetIndex:
    """In memory while its segment is open; ``flush`` brings the file up to date."""

    def __init__(self, storage: Storage, path: Path, base_offset: Offset) -> None:
        self.path = path
        self._storage = storage
        self._base_offset = base_offset
        self._offsets = array("i")
        self._positions = array("i")
        self._entries_on_disk: int | None = None  # None: the file is not (known to be) a prefix of what is here

    @property
    def entries(self) -> list[tuple[Offset, int]]:
        """Last offset and position of each batch that has an entry."""
        return [
            (Offset(self._base_offset + relative), position)
            for relative, position in zip(self._offsets, self._positions, strict=True)
        ]

    def check_file(self) -> bool:
        """Whether the file holds exactly what is here, which a scan of the segment has just built. If not, the next
        ``flush`` writes it anew."""
        try:
            matches = self._storage.read_bytes(self.path) == self._encode(0)
        except OSError:
            matches = False
        self._entries_on_disk = len(self._offsets) if matches else None
        return matches

    def append(self, last_offset: Offset, position: int) -> None:
        """The batch that ends with ``last_offset`` starts at ``position``."""
        assert not self._positions or position > self._positions[-1]
        self._offsets.append(last_offset - self._base_offset)
        self._positions.append(position)

    def lookup(self, offset: Offset) -> int:
        """A position at or before the batch that contains ``offset``: that of the last entry not above it."""
        slot = bisect_right(self._offsets, offset - self._base_offset)
        return self._positions[slot - 1] if slot else 0

    def position_before(self, position: int) -> int:
        """Where a batch starts that is below ``position``, the last with an entry; 0 if none has."""
        slot = bisect_right(self._positions, position - 1)
        return self._positions[slot - 1] if slot else 0

    @property
    def last_position(self) -> int:
        """Position of the last entry's batch; 0 without entries."""
        return self._positions[-1] if self._positions else 0

    def truncate_to_position(self, position: int) -> None:
        """Forget the batches that start at or after ``position``."""
        slot = bisect_right(self._positions, position - 1)
        if slot == len(self._positions):
            return
        del self._offsets[slot:]
        del self._positions[slot:]
        self._entries_on_disk = None

    def reset(self) -> None:
        """Forget everything, to be rebuilt."""
        self._offsets = array("i")
        self._positions = array("i")
        self._entries_on_disk = None

    def flush(self) -> None:
        """Bring the file up to date. On OSError the file is written anew by the next flush."""
        if self._entries_on_disk == len(self._offsets):
            return
        try:
            self._write()
        except OSError:
            self._entries_on_disk = None
            raise

    def _write(self) -> None:
        file = self._storage.open(self.path, create=True)
        try:
            start = self._entries_on_disk
            if start is None or file.size() != start * ENTRY.size:
                file.truncate(0)
                start = 0
            file.append(self._encode(start))
        finally:
            file.close()
        self._entries_on_disk = len(self._offsets)

    def _encode(self, start: int) -> bytes:
        pairs = zip(self._offsets[start:], self._positions[start:], strict=True)
        return b"".join(ENTRY.pack(relative, position) for relative, position in pairs)
