"""A file of entries of one size that rise from the first to the last: what a segment's indexes are made of.

Entries are appended in memory and written out a few hundred at a time; a search reads a few blocks of the file. So an
index costs memory for its newest entries only, and no descriptor while nobody searches it.
"""

import struct
from bisect import bisect_left
from contextlib import closing, suppress
from operator import itemgetter
from pathlib import Path

from .storage import File, Storage

Entry = tuple[int, ...]

UNWRITTEN_MAX = 512
"""Entries kept in memory before they are written."""
BLOCK_ENTRIES = 256
"""What a search reads at once in the end."""


class EntryFile:
    """Invariant: the first ``written`` entries are in the file, which may be longer; the others are in memory.

    Nothing in the file is believed to be true: what a search finds is for its caller to check. A file that cannot be
    read is one without entries.
    """

    def __init__(self, storage: Storage, path: Path, entry: struct.Struct) -> None:
        self.path = path
        self._storage = storage
        self._entry = entry
        self._written: int | None = None  # None: the file has not been looked at
        self._unwritten: list[Entry] = []

    def __len__(self) -> int:
        return self.written + len(self._unwritten)

    @property
    def written(self) -> int:
        """Entries in the file."""
        if self._written is None:
            self._written = (self.file_size() or 0) // self._entry.size
        return self._written

    def file_size(self) -> int | None:
        """Bytes of the file, of which a part may be no entry; None if there is none that can be read."""
        try:
            with closing(self._storage.open(self.path)) as file:
                return file.size()
        except OSError:
            return None

    def is_whole(self) -> bool:
        """Whether there is a file, and it ends with an entry."""
        size = self.file_size()
        return size is not None and size % self._entry.size == 0

    def start_anew(self) -> None:
        """Forget all entries. What the file holds goes with the next ``flush``."""
        self._written = 0
        self._unwritten.clear()

    def entries(self) -> list[Entry]:
        """All of them."""
        in_file: list[Entry] = []
        if self.written:
            with suppress(OSError), closing(self._storage.open(self.path)) as file:
                in_file = self._read(file, 0, self.written)
        return in_file + self._unwritten

    def last(self) -> Entry | None:
        """The last entry."""
        if self._unwritten:
            return self._unwritten[-1]
        if self.written:
            with suppress(OSError), closing(self._storage.open(self.path)) as file:
                return next(iter(self._read(file, self.written - 1, 1)), None)
        return None

    def append(self, *entry: int) -> None:
        """Add an entry, in memory."""
        self._unwritten.append(entry)

    @property
    def wants_flush(self) -> bool:
        """Whether enough is in memory for it to be written."""
        return len(self._unwritten) >= UNWRITTEN_MAX

    def search(self, value: int, column: int = 0) -> tuple[int, Entry | None]:
        """How many entries have less than ``value`` in ``column``, which rises too; and the last of these."""
        slot = bisect_left(self._unwritten, value, key=itemgetter(column))
        if slot:
            return self.written + slot, self._unwritten[slot - 1]
        if self.written:
            with suppress(OSError), closing(self._storage.open(self.path)) as file:
                return self._search_file(file, value, column)
        return 0, None

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` entries; the file follows with the next ``flush``."""
        if count >= self.written:
            del self._unwritten[count - self.written :]
            return
        self._written = count
        self._unwritten.clear()

    def flush(self) -> None:
        """Bring the file up to date, unsynced. On OSError what was to be written stays in memory."""
        with closing(self._storage.open(self.path, create=True)) as file:
            if file.size() != self.written * self._entry.size:
                file.truncate(self.written * self._entry.size)
            if self._unwritten:
                file.append(b"".join(self._entry.pack(*entry) for entry in self._unwritten))
        self._written = len(self)
        self._unwritten.clear()

    def _search_file(self, file: File, value: int, column: int) -> tuple[int, Entry | None]:
        low, high = 0, self.written  # entries below ``low`` are smaller, those from ``high`` on are not
        while high - low > BLOCK_ENTRIES:
            middle = (low + high) // 2
            found = self._read(file, middle, 1)
            if found and found[0][column] < value:
                low = middle
            else:
                high = middle
        block = self._read(file, low, high - low)
        slot = bisect_left(block, value, key=itemgetter(column))
        return low + slot, block[slot - 1] if slot else None

    def _read(self, file: File, start: int, count: int) -> list[Entry]:
        size = self._entry.size
        data = file.read(start * size, count * size)
        return list(self._entry.iter_unpack(data[: len(data) // size * size]))
