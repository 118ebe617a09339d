"""The sparse offset index of a segment: where in its file to start looking for an offset.

Its file is Kafka's ``.index`` (without the preallocated tail of the active segment), big endian, one entry about each
``index_interval_bytes`` of log:

    | relative offset: i32   last offset of a batch, less the segment's base | position: i32   where that batch starts |

Both columns rise strictly. Everything in it can be rebuilt from the segment, and nothing in it is believed: who looks
up an offset checks the batch at the position.
"""

import struct
from pathlib import Path
from typing import NamedTuple

from .entry_file import EntryFile
from .model import Offset
from .storage import Storage

ENTRY = struct.Struct(">ii")
INT32_MAX = (1 << 31) - 1


class IndexedBatch(NamedTuple):
    """What an entry says of a batch."""

    last_offset: Offset
    position: int


class OffsetIndex:
    """Of one segment. Its newest entries are in memory; ``flush`` brings the file up to date."""

    def __init__(self, storage: Storage, path: Path, base_offset: Offset) -> None:
        self.path = path
        self.file = EntryFile(storage, path, ENTRY)
        self._base_offset = base_offset

    @property
    def entries(self) -> list[tuple[Offset, int]]:
        """Last offset and position of each batch that has an entry."""
        return [(Offset(self._base_offset + relative), position) for relative, position in self.file.entries()]

    @property
    def last(self) -> IndexedBatch | None:
        """The last entry."""
        return self._named(self.file.last())

    def append(self, last_offset: Offset, position: int) -> None:
        """The batch that ends with ``last_offset`` starts at ``position``."""
        self.file.append(last_offset - self._base_offset, position)

    def lookup(self, offset: Offset) -> IndexedBatch | None:
        """The last entry not above ``offset``: the batch that contains it starts there or later. None: search from
        the segment's start."""
        return self._named(self.file.search(offset - self._base_offset + 1)[1])

    def truncate_to_position(self, position: int) -> None:
        """Forget the batches that start at or after ``position``."""
        self.file.truncate(self.file.search(position, column=1)[0])

    def position_not_above(self, position: int) -> int:
        """The largest position of an entry up to this one; 0 if there is none."""
        entry = self.file.search(position + 1, column=1)[1]
        return 0 if entry is None else entry[1]

    def bytes_if_grown(self) -> int:
        """Size of the file with one entry more."""
        return (len(self.file) + 1) * ENTRY.size

    def start_anew(self) -> None:
        """Forget everything, to be rebuilt."""
        self.file.start_anew()

    def flush(self) -> None:
        """Bring the file up to date, unsynced. On OSError the next flush does."""
        self.file.flush()

    def _named(self, entry: tuple[int, ...] | None) -> IndexedBatch | None:
        return None if entry is None else IndexedBatch(Offset(self._base_offset + entry[0]), entry[1])
