"""The files of the write-ahead log: one that is written, and those before it that snapshots have not replaced yet.

A file is named by the first entry it may hold, or by one more than the name before it where a truncation went back
behind that: names only rise. A new file is written under a temporary name and gets its own only when all before it
and its own head are durable. So of the files that have names only the last can have a torn tail, and what is in a
file without one was promised to nobody.

Positions count through all files, from the first byte of the oldest one found at start.
"""

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from ottla.log.storage import File, Storage

from .wal_format import (
    FILE_HEADER,
    WAL_ADVICE,
    Append,
    HardState,
    Record,
    Reset,
    Start,
    WalDamaged,
    decode_file,
    encode_file_header,
    encode_record,
)

log = logging.getLogger(__name__)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SUFFIX = ".wal"


class WalFull(Exception):
    """The disk had no room. Nothing was written; the caller's step did not happen and may be tried again."""


class _Segment:
    """One file. ``follows``: the entry its first record says it comes after."""

    def __init__(self, number: int, path: Path, file: File, begins: int) -> None:
        self.number = number
        self.path = path
        self.file = file
        self.begins = begins  # position of its first byte
        self.follows = 0
        self.entries = 0
        self.sealed = False  # nothing is written to it any more
        self.durable = False  # sealed, and synced since
        self.named = True

    @property
    def end(self) -> int:
        return self.begins + self.file.size()

    def note(self, record: Record) -> None:
        match record:
            case Start(index) | Reset(index):
                self.follows = index
            case Append():
                self.entries += 1
            case _:
                pass


class Segments:
    """The open files of one log, oldest first. ``sync`` is for an executor, everything else for the event loop."""

    def __init__(self, directory: Path, storage: Storage) -> None:
        """Use ``open``."""
        self._directory = directory
        self._storage = storage
        self._segments: list[_Segment] = []
        self.unneeded = 0  # no entry up to here is asked of the disk again: a durable snapshot has them

    @classmethod
    def open(cls, directory: Path, storage: Storage) -> "Segments":
        """Open what is there or make an empty log. Blocks. Raises WalDamaged where a log that was there is gone."""
        segments = cls(directory, storage)
        made = directory.parent / f"{directory.name}.made"  # a log that was once there has votes in it (D11)
        known = storage.exists(made)
        names = segments._names() if storage.exists(directory) else []
        if known and not names:
            raise WalDamaged(f"{directory / _name(1)} is gone. {WAL_ADVICE}")
        storage.mkdir(directory)
        try:
            for number in names or [1]:
                segments._add(number, storage.open(directory / _name(number), create=True))
            first = segments.current.file
            if not known and first.size() <= FILE_HEADER.size:  # new, or the power went while it was being made
                first.truncate(0)
                first.append(encode_file_header())
        except BaseException:
            segments.close()
            raise
        return segments

    def renew(self) -> None:
        """Put a copy in the place of the file that is written. Blocks.

        After a failed sync a kernel may keep the bytes in its cache as if they were on the platter, and say of every
        later sync that it succeeded (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). An
        earlier run may have ended of just that, and what it left is read here as sound; only new bytes are written.
        """
        segment, temporary = self.current, _temporary(self.current.path)
        try:
            file = self._storage.open(temporary, create=True)
            with _closing_on_error(file):
                file.append(segment.file.read(0, segment.file.size()))
                file.sync()
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self._storage.remove(temporary)
            log.warning("no room for a copy of %s; it is trusted as it is", segment.path)
            return
        self._storage.replace(temporary, segment.path)
        segment.file.close()
        segment.file = file

    def confirm(self) -> None:
        """Recovery is done: make what was found durable. Blocks."""
        self.sync()
        directory, storage = self._directory, self._storage
        for named in (directory, directory.parent, directory.parent.parent):  # whichever of them is new
            storage.sync_directory(named)
        made = directory.parent / f"{directory.name}.made"
        if not storage.exists(made):
            storage.open(made, create=True).close()
            storage.sync_directory(directory.parent)

    def _names(self) -> list[int]:
        numbers = []
        for name in self._storage.listdir(self._directory):
            if name.endswith(".tmp"):
                self._storage.remove(self._directory / name)
            elif name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX).isdigit():
                numbers.append(int(name.removesuffix(_SUFFIX)))
        return sorted(numbers)

    def _add(self, number: int, file: File) -> _Segment:
        if self._segments:
            self.current.sealed = True
        begins = self.current.end if self._segments else 0
        self._segments.append(_Segment(number, self._directory / _name(number), file, begins))
        return self.current

    def recover(self, remember: Callable[[Record, int, bool], None]) -> None:
        """Read every record, ``remember(record, end, first)``, and cut off the last file's torn tail.

        Raises WalDamaged on other damage; ``remember`` may too.
        """
        for segment in self._segments:
            try:
                self._recover_one(segment, remember)
            except WalDamaged as damage:
                raise WalDamaged(f"{damage.message} File: {segment.path}") from None

    def _recover_one(self, segment: _Segment, remember: Callable[[Record, int, bool], None]) -> None:
        oldest, last = segment is self._segments[0], segment is self.current
        segment.begins = 0 if oldest else self._segments[self._segments.index(segment) - 1].end
        end, bare = FILE_HEADER.size, segment.number == 1
        for record, end, _ in decode_file(segment.file.read(0, segment.file.size())):
            if not bare and not isinstance(record, Start | Reset):
                raise WalDamaged(f"the record at byte {FILE_HEADER.size} does not say what it follows. {WAL_ADVICE}")
            bare = True
            segment.note(record)
            remember(record, segment.begins + end, oldest)
        if end == segment.file.size() and bare:
            return
        if not last or not bare:
            raise WalDamaged(f"the record at byte {end} fails its check, and the log goes on after it. {WAL_ADVICE}")
        segment.file.truncate(end)

    # Writing

    @property
    def current(self) -> _Segment:
        """The file that is written."""
        return self._segments[-1]

    @property
    def end(self) -> int:
        """Position after the last byte."""
        return self.current.end

    def append(self, record: Record, synced: int) -> int:
        """Write ``record``; its end. ``synced``: the position known to be durable. Raises WalFull, OSError."""
        segment = self.current
        before = segment.file.size()
        data = encode_record(record, before, max(0, synced - segment.begins))
        try:
            segment.file.append(data)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            segment.file.truncate(before)  # a half record must not stand before the next one
            raise WalFull(f"no room for {len(data)} bytes in {segment.path}") from error
        segment.note(record)
        return segment.end

    def roll(self, head: Start | Reset, hard_state: HardState) -> int:
        """Write to a new file from now on; where its head ends. Raises WalFull (nothing changed), OSError."""
        number = max(head.index + 1, self.current.number + 1)
        path = self._directory / _name(number)
        data = encode_file_header()
        for record in (head, hard_state):
            data += encode_record(record, len(data), 0)
        try:
            file = self._storage.open(_temporary(path), create=True)
            with _closing_on_error(file):
                file.append(data)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self._storage.remove(_temporary(path))
            raise WalFull(f"no room for {path}") from error
        segment = self._add(number, file)
        segment.named = False
        segment.note(head)
        return segment.end

    # In the executor

    def sync(self) -> None:
        """Make what is written durable, name new files and remove unneeded ones. Blocks.

        The loop may meanwhile write to the last file and add another one, which then waits for the next call.
        """
        for segment in tuple(self._segments):
            if segment.durable:
                continue
            sealed = segment.sealed  # asked before: what is written during a sync is not under it
            segment.file.sync()
            if not segment.named:
                self._storage.replace(_temporary(segment.path), segment.path)
                self._storage.sync_directory(self._directory)
                segment.named = True
            segment.durable = sealed
        self._remove_unneeded()

    def _remove_unneeded(self) -> None:
        keep = self._oldest_needed(tuple(self._segments))
        for segment in tuple(self._segments[:keep]):
            self._storage.remove(segment.path)
            self._storage.sync_directory(self._directory)  # oldest first, so that no gap can be left
            segment.file.close()
        del self._segments[:keep]

    def _oldest_needed(self, segments: tuple[_Segment, ...]) -> int:
        # What is kept must stand alone: its first file has a name, and a head that says where the log starts. The loop
        # may have added one during this very sync that has none yet.
        for oldest in range(len(segments) - 1, 0, -1):
            if segments[oldest].named and segments[oldest].follows <= self.unneeded:
                return oldest
        return 0

    def close(self) -> None:
        """Let go of the files."""
        for segment in self._segments:
            segment.file.close()


@contextlib.contextmanager
def _closing_on_error(file: File) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


def _name(number: int) -> str:
    return f"{number:020}{_SUFFIX}"


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")
