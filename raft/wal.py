"""The Raft log and hard state on disk, and in memory for PySyncObj: our Journal.

Appends are writes into the page cache and happen on the event loop; syncs happen elsewhere (group_commit.py).
What depends on a record being durable compares positions: ``position`` is the end of what was written,
``synced_position`` the end of what is known to be durable.

There is one file for now, named by the first entry it may hold; segments come with log compaction.
"""

import bisect
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from pysyncobj.journal import Journal

from ottla.log.storage import File, Storage

from .wal_format import (
    FILE_HEADER,
    WAL_ADVICE,
    Append,
    HardState,
    Record,
    Truncate,
    WalDamaged,
    decode_file,
    encode_file_header,
    encode_record,
)

Entry = tuple[bytes, int, int]
"""PySyncObj's form: (command with its type byte, index, term)."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class WalFull(Exception):
    """The disk had no room. Nothing was written; the caller's step did not happen and may be tried again."""


class WriteAheadLog(Journal):  # type: ignore[misc]
    """An open log. Index 1 is its first entry, always there once PySyncObj has started on it.

    Invariant: synced_position <= position == size of the file; the entries' end positions rise strictly.
    """

    def __init__(self, file: File, path: Path) -> None:
        """Use ``open``."""
        self._file = file
        self._path = path
        self._entries: list[Entry] = []
        self._ends: list[int] = []  # where each entry's record ends in the file
        self._hard_state = HardState(0, None)
        self.hard_state_end = 0  # where the newest HARDSTATE record ends
        self.position = file.size()
        self.synced_position = self.position
        self.on_write: Any = lambda: None  # called after each append: there is something to sync

    @classmethod
    def open(cls, directory: Path, storage: Storage) -> "WriteAheadLog":
        """Recover the log below ``directory`` or make an empty one. Blocks.

        Cuts off a torn tail and makes the rest durable. Raises WalDamaged (where, and what to do) on other damage.
        """
        path = directory / f"{1:020}.wal"
        made = (
            directory.parent / f"{directory.name}.made"
        )  # a log that was there once and is gone has votes in it (D11)
        known = storage.exists(made)
        if known and not storage.exists(path):
            raise WalDamaged(f"{path} is gone. {WAL_ADVICE}")
        storage.mkdir(directory)
        file = storage.open(path, create=True)
        try:
            if not known and file.size() < FILE_HEADER.size:  # new, or the power went while it was being made
                file.truncate(0)
                file.append(encode_file_header())
            wal = cls(file, path)
            wal._recover()
            file.sync()
            for named in (directory, directory.parent, directory.parent.parent):  # whichever of them is new
                storage.sync_directory(named)
            if not known:
                storage.open(made, create=True).close()
                storage.sync_directory(directory.parent)
        except BaseException:
            file.close()
            raise
        return wal

    def _recover(self) -> None:
        end = FILE_HEADER.size
        try:
            for record, end, _ in decode_file(self._file.read(0, self._file.size())):
                self._remember(record, end)
        except WalDamaged as damage:
            raise WalDamaged(f"{damage.message} File: {self._path}") from None
        if end < self._file.size():
            self._file.truncate(end)
        self.position = self.synced_position = end

    def _remember(self, record: Record, end: int) -> None:
        match record:
            case Append(index, term, command):
                expected = self._entries[-1][1] + 1 if self._entries else 1
                if index != expected:
                    raise WalDamaged(f"entry {index} before byte {end} where {expected} belongs.")
                self._entries.append((command, index, term))
                self._ends.append(end)
            case Truncate(from_index):
                del self._entries[from_index - 1 :]
                del self._ends[from_index - 1 :]
            case HardState():
                self._hard_state = record
                self.hard_state_end = end

    def _write(self, record: Record) -> None:
        before = self.position
        data = encode_record(record, before, self.synced_position)
        try:
            self._file.append(data)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self._file.truncate(before)  # a half record must not stand before the next one
            raise WalFull(f"no room for {len(data)} bytes in {self._path}") from error
        self.position = before + len(data)
        self._remember(record, self.position)
        self.on_write()

    # Durability

    def sync_file(self) -> None:
        """Make what is written durable. Blocks: from an executor. After an OSError nothing may be believed."""
        self._file.sync()

    def mark_synced(self, position: int) -> None:
        """``position`` was the end of the log before a ``sync_file`` that has returned."""
        assert position <= self.position
        self.synced_position = max(self.synced_position, position)

    @property
    def synced_index(self) -> int:
        """The last entry that is durable here, 0 if none is."""
        return bisect.bisect_right(self._ends, self.synced_position)

    @property
    def hard_state_synced(self) -> bool:
        """The current term and vote are durable."""
        return self.hard_state_end <= self.synced_position

    def end_of(self, index: int) -> int:
        """Position at which entry ``index``, and all before it, are durable."""
        return self._ends[index - 1]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # What replication asks

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return len(self._entries)

    def term_at(self, index: int) -> int:
        """Term of entry ``index``, which exists."""
        return self._entries[index - 1][2]

    def batch(self, first: int, max_bytes: int) -> list[Entry]:
        """Entries from ``first`` on: at least one if there is one, else as many as ``max_bytes`` of file hold."""
        start = self._ends[first - 2] if first > 1 else FILE_HEADER.size
        stop = bisect.bisect_right(self._ends, start + max_bytes, lo=first - 1)
        return self._entries[first - 1 : max(stop, first)]

    # pysyncobj.journal.Journal. Its numbers count from the first entry, which is index 1.

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry. Raises WalFull, and OSError where the disk failed."""
        assert idx == self.last_index + 1
        self._write(Append(idx, term, command))

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop all entries from list position ``entryFrom`` on. Raises as ``add``."""
        if entryFrom < len(self._entries):
            self._write(Truncate(entryFrom + 1))

    def setCurrentTerm(self, term: int, votedForNodeId: int | None) -> None:
        """Write term and vote as one record. Raises as ``add``."""
        self._write(HardState(term, votedForNodeId))

    def getCurrentTerm(self) -> int:
        return self._hard_state.term

    def getVotedForNodeId(self) -> int | None:
        return self._hard_state.voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Forgotten on purpose: a commit index that outlives the log's tail commits what nobody has (D7)."""

    def getRaftCommitIndex(self) -> int:
        return 1  # D7: learned again from the leader

    def clear(self) -> None:
        raise NotImplementedError("only snapshots clear a log, and there are none in this release")

    def deleteEntriesTo(self, entryTo: int) -> None:
        raise NotImplementedError("only log compaction drops a log's start, and there is none in this release")

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        self.close()
