"""The sparse time index of a segment: from which offset on to look for a time (KIP-33).

Its file is Kafka's ``.timeindex`` (without the preallocated tail of the active segment), big endian:

    | timestamp ms: i64   the largest so far | relative offset: i32   its batch's last offset, less the segment's base |

An entry is due with each entry of the offset index, when the segment is rolled and when it is closed, and left out
where the timestamp has not grown; so timestamps rise strictly, and the last one is the segment's largest. Everything in
it can be rebuilt from the segment, and nothing in it is believed: who looks up a time checks the batch.
"""

import struct
from pathlib import Path
from typing import NamedTuple

from .entry_file import EntryFile
from .model import Offset
from .storage import Storage

ENTRY = struct.Struct(">qi")


class TimedOffset(NamedTuple):
    """A largest timestamp so far, in ms, and the last offset of the first batch that has it."""

    timestamp_ms: int
    offset: Offset


class TimeIndex:
    """Of one segment. Its newest entries are in memory; ``flush`` brings the file up to date."""

    def __init__(self, storage: Storage, path: Path, base_offset: Offset) -> None:
        self.path = path
        self.file = EntryFile(storage, path, ENTRY)
        self._base_offset = base_offset
        self._last: TimedOffset | None = None
        self._last_is_known = False

    @property
    def entries(self) -> list[TimedOffset]:
        """All of them."""
        return [TimedOffset(timestamp, Offset(self._base_offset + delta)) for timestamp, delta in self.file.entries()]

    @property
    def last(self) -> TimedOffset | None:
        """The last entry."""
        if not self._last_is_known:
            self._last = self._named(self.file.last())
            self._last_is_known = True
        return self._last

    def append_if_later(self, entry: TimedOffset) -> None:
        """Note a largest timestamp, unless the last entry says as much."""
        if self.last is not None and entry.timestamp_ms <= self.last.timestamp_ms:
            return
        self.file.append(entry.timestamp_ms, entry.offset - self._base_offset)
        self._last = entry

    def lookup(self, timestamp_ms: int) -> TimedOffset | None:
        """The last entry not above ``timestamp_ms``: the first batch that is as late is that one or a later one.
        None: search from the segment's start."""
        return self._named(self.file.search(timestamp_ms + 1)[1])

    def truncate_to(self, offset: Offset) -> None:
        """Forget the batches whose last offset is ``offset`` or above."""
        self.file.truncate(self.file.search(offset - self._base_offset, column=1)[0])
        self._last_is_known = False

    def bytes_if_grown(self) -> int:
        """Size of the file with one entry more, and the one when the segment is rolled."""
        return (len(self.file) + 2) * ENTRY.size

    def start_anew(self) -> None:
        """Forget everything, to be rebuilt."""
        self.file.start_anew()
        self._last, self._last_is_known = None, True

    def flush(self) -> None:
        """Bring the file up to date, unsynced. On OSError the next flush does."""
        self.file.flush()

    def _named(self, entry: tuple[int, ...] | None) -> TimedOffset | None:
        return None if entry is None else TimedOffset(entry[0], Offset(self._base_offset + entry[1]))
