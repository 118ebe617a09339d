"""The Raft log and hard state on disk, and in memory for PySyncObj: our Journal.

Appends are writes into the page cache and happen on the event loop; syncs happen elsewhere (group_commit.py).
What depends on a record being durable compares positions: ``position`` is the end of what was written,
``synced_position`` the end of what is known to be durable.

The log starts after its *base*, the last entry that was dropped because a snapshot has it; without one the base is
0 and the first entry 1. The files are wal_segments.py's.
"""

import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from pysyncobj.journal import Journal

from ottla.log.failpoints import failpoint
from ottla.log.storage import Storage

from .wal_format import (
    FILE_HEADER,
    WAL_ADVICE,
    Append,
    HardState,
    Record,
    Reset,
    Start,
    Truncate,
    WalDamaged,
)
from .wal_segments import Segments, WalFull as WalFull

Entry = tuple[bytes, int, int]
"""PySyncObj's form: (command with its type byte, index, term)."""

SEGMENT_BYTES = 4 << 20
"""A file this large gets a successor."""

_UNKNOWN_TERM = -1  # only during recovery


class EntryId(NamedTuple):
    """Names one entry of all logs that ever hold it (Raft paper, log matching)."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: int


class WriteAheadLog(Journal):  # type: ignore[misc]
    """An open log. Index 1 is its first entry, always there once PySyncObj has started on it.

    Invariants: synced_position <= position == end of the files; the entries' end positions rise strictly; entries
    are base.index + 1, + 2, ...
    """

    def __init__(self, files: Segments, segment_bytes: int) -> None:
        """Use ``open``."""
        self._files = files
        self._segment_bytes = segment_bytes
        self._base = EntryId(0, 0)
        self._base_end = FILE_HEADER.size  # where the record ends that made the base what it is
        self._entries: list[Entry] = []
        self._ends: list[int] = []  # where each entry's record ends
        self._hard_state = HardState(0, None)
        self.hard_state_end = 0  # where the newest HARDSTATE record ends
        self.position = self.synced_position = 0
        self.on_write: Any = lambda: None  # called after each append: there is something to sync

    @classmethod
    def open(
        cls, directory: Path, storage: Storage, snapshot: EntryId | None = None, *, segment_bytes: int = SEGMENT_BYTES
    ) -> "WriteAheadLog":
        """Recover the log below ``directory`` or make an empty one. Blocks.

        ``snapshot`` is the last entry of the newest one: a log that does not hold that entry is reset to it, for it
        was installed and the power went before the log followed. Cuts off a torn tail and makes the rest durable.
        Raises WalDamaged (where, and what to do) on other damage, and where log and snapshot leave a gap.
        """
        files = Segments.open(directory, storage)
        try:
            wal = cls(files, segment_bytes)
            files.recover(wal._recall)
            files.renew()
            wal.position = files.end
            wal._meet(snapshot, directory)
            files.confirm()
        except BaseException:
            files.close()
            raise
        wal.synced_position = wal.position
        return wal

    def _meet(self, snapshot: EntryId | None, directory: Path) -> None:
        reached = snapshot.index if snapshot is not None else 0
        if self._base.index > reached or (self._base.index == reached and self._base.term == _UNKNOWN_TERM):
            raise WalDamaged(
                f"{directory} starts at entry {self._base.index + 1}, and the newest sound snapshot ends at "
                f"{reached}: what is between is missing. {WAL_ADVICE}"
            )
        if snapshot is not None and not self.holds(snapshot):
            self.reset(snapshot)
        if self._base.term == _UNKNOWN_TERM:
            self._forget(self._base.index + 1)  # the snapshot has it too, and its term is known

    def _recall(self, record: Record, end: int, oldest_file: bool) -> None:
        if isinstance(record, Start):
            place = EntryId(record.index, record.term)
            if (oldest_file or self.last == (place.index, _UNKNOWN_TERM)) and not self._entries:
                self._base, self._base_end = place, end
            elif place != self.last:
                raise WalDamaged(f"it follows entry {place.index}, and the file before it ends at {self.last.index}.")
        else:
            self._remember(record, end)

    def _remember(self, record: Record, end: int) -> None:
        match record:
            case Append(index, term, command):
                if index != self.last_index + 1:
                    raise WalDamaged(f"entry {index} before byte {end} where {self.last_index + 1} belongs.")
                self._entries.append((command, index, term))
                self._ends.append(end)
            case Truncate(from_index):
                if from_index <= self._base.index:
                    # The files before this one are gone: all up to this one's start is in the snapshot that let them
                    # go. ``_meet`` makes sure of it.
                    self._base = EntryId(from_index - 1, _UNKNOWN_TERM)
                    self._entries, self._ends = [], []
                del self._entries[from_index - 1 - self._base.index :]
                del self._ends[from_index - 1 - self._base.index :]
            case Reset(index, term):
                self._base, self._base_end = EntryId(index, term), end
                self._entries, self._ends = [], []
            case HardState():
                self._hard_state = record
                self.hard_state_end = end

    def _write(self, record: Record) -> None:
        if self._files.end - self._files.current.begins >= self._segment_bytes:
            self._try_roll()
        self.position = self._files.append(record, self.synced_position)
        self._remember(record, self.position)
        self.on_write()

    @failpoint("raft.roll")
    def _try_roll(self) -> None:
        try:
            self.position = self._files.roll(Start(*self.last), self._hard_state)
        except WalFull:
            return  # the present file will do, and tells whoever writes to it
        self.on_write()

    # Durability

    @failpoint("raft.sync")
    def sync_file(self) -> None:
        """Make what is written durable. Blocks: from an executor. After an OSError nothing may be believed."""
        self._files.sync()

    def mark_synced(self, position: int) -> None:
        """``position`` was the end of the log before a ``sync_file`` that has returned."""
        assert position <= self.position
        self.synced_position = max(self.synced_position, position)

    @property
    def synced_index(self) -> int:
        """The last entry that is durable here, 0 if none is."""
        if self._base_end > self.synced_position:
            return 0
        return self._base.index + bisect.bisect_right(self._ends, self.synced_position)

    @property
    def hard_state_synced(self) -> bool:
        """The current term and vote are durable."""
        return self.hard_state_end <= self.synced_position

    def end_of(self, index: int) -> int:
        """Where entry ``index``, and all before it, end."""
        return self._ends[index - 1 - self._base.index] if index > self._base.index else self._base_end

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

    # Compaction

    def compact(self, index: int) -> None:
        """Forget the entries up to ``index``, which a *durable* snapshot has: here at once, on disk by whole files
        once the next one is durable."""
        assert index <= self.last_index
        if index > self._base.index:
            self._forget(index)
            self._files.unneeded = index
        if self._files.current.entries:
            self._try_roll()  # so that this file can go after the next snapshot

    def _forget(self, index: int) -> None:
        count = index - self._base.index
        self._base, self._base_end = EntryId(index, self.term_at(index)), self.end_of(index)
        del self._entries[:count], self._ends[:count]

    @failpoint("raft.reset")
    def reset(self, snapshot: EntryId) -> None:
        """Drop every entry: the log starts anew after ``snapshot``, which is durable. One atomic step: the new
        file's head. Raises WalFull; then nothing changed."""
        self.position = self._files.roll(Reset(*snapshot), self._hard_state)
        self._remember(Reset(*snapshot), self.position)
        self._files.unneeded = snapshot.index
        self.on_write()

    def holds(self, place: EntryId) -> bool:
        """Whether that very entry is in the log, or its base."""
        return self._base.index <= place.index <= self.last_index and self.term_at(place.index) == place.term

    # What replication asks

    @property
    def base_index(self) -> int:
        """Index of the last entry that is gone; 0 where none is."""
        return self._base.index

    @property
    def last(self) -> EntryId:
        """The last entry, or the base of an empty log."""
        return EntryId(*self._entries[-1][1:]) if self._entries else self._base

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return self._base.index + len(self._entries)

    def term_at(self, index: int) -> int:
        """Term of entry ``index``, which exists and is not before the base; of entry 1 it is 0 in every log."""
        if index == self._base.index:
            return self._base.term
        if index == 1 and self._base.index > 1:
            return 0
        assert index > self._base.index
        return self._entries[index - 1 - self._base.index][2]

    def entry(self, index: int) -> Entry:
        """Entry ``index``, which is after the base."""
        assert index > self._base.index
        return self._entries[index - 1 - self._base.index]

    def batch(self, first: int, max_bytes: int) -> list[Entry]:
        """Entries from ``first`` on: at least one if there is one, else as many as ``max_bytes`` of file hold."""
        start, place = self.end_of(first - 1), first - 1 - self._base.index
        stop = bisect.bisect_right(self._ends, start + max_bytes, lo=place)
        return self._entries[place : max(stop, place + 1)]

    # pysyncobj.journal.Journal. Its numbers count from entry 1, also where that is gone.

    @failpoint("raft.append")
    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry. Raises WalFull, and OSError where the disk failed."""
        assert idx == self.last_index + 1
        self._write(Append(idx, term, command))

    @failpoint("raft.truncate")
    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop all entries from list position ``entryFrom`` on. Raises as ``add``."""
        if entryFrom < self.last_index:
            assert entryFrom >= self._base.index
            self._write(Truncate(entryFrom + 1))

    @failpoint("raft.hard_state")
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
        raise NotImplementedError("a log is never emptied: see reset")

    def deleteEntriesTo(self, entryTo: int) -> None:
        raise NotImplementedError("not by position: see compact")

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | Sequence[Entry]:
        """By position from entry 1, or from the end; a slice is of what is still there."""
        if isinstance(item, slice):
            return self._entries[item]
        if item == -1 and not self._entries and self._base.index:
            return b"", *self._base
        return self._entries[item if item < 0 else item - self._base.index]

    def __len__(self) -> int:
        return self.last_index

    def _destroy(self) -> None:
        self.close()
