"""Checks a partition's directory from end to end, changing nothing: what `ottla log verify` does.

Unlike opening a log it believes nothing: every batch's CRC, every entry of every index against the batch it means,
every epoch against the batches. The log should not be written meanwhile; a running node's tail may look torn.
"""

import struct
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from . import index, time_index
from .errors import CorruptBatch
from .inspect import EPOCHS_FILE, batches, entries_in
from .leader_epochs import LeaderEpochCache, decode_epochs
from .producer_snapshot import decode_snapshot
from .records import RecordBatch
from .storage import Storage
from .validation import check_stored

PROBLEMS_MAX = 20
"""Of one partition; after so many the rest is counted only."""


@dataclass(slots=True)
class Verdict:
    """``problems``: a sentence each, the first PROBLEMS_MAX; ``found`` counts all."""

    directory: Path
    segments: int = 0
    batches: int = 0
    records: int = 0
    size_bytes: int = 0
    start_offset: int | None = None
    end_offset: int | None = None
    problems: list[str] = field(default_factory=list)
    found: int = 0

    def add(self, problem: str) -> None:
        self.found += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def partitions_below(storage: Storage, path: Path) -> Iterator[Path]:
    """``path`` itself if it is a partition's directory, else those in it, or in its ``logs``."""
    names = storage.listdir(path)
    if any(map(_is_segment, names)):
        yield path
        return
    for name in names:
        try:
            if name == "logs" or any(map(_is_segment, storage.listdir(path / name))):
                yield from partitions_below(storage, path / name)
        except NotADirectoryError:
            continue


def verify(storage: Storage, directory: Path) -> Verdict:
    """Everything in one partition's directory. Raises OSError where it cannot be read."""
    verdict = Verdict(directory)
    names = storage.listdir(directory)
    epochs = _epochs(storage, directory, names, verdict)
    for name in names:
        if _is_segment(name):
            _Segment(storage, directory / name, verdict, epochs).check()
        elif name.endswith(".snapshot"):
            try:
                decode_snapshot(storage.read_bytes(directory / name))
            except ValueError as error:
                verdict.add(f"{name}: {error}")
    return verdict


def _is_segment(name: str) -> bool:
    return name.endswith(".log") and name.removesuffix(".log").isdecimal()


def _epochs(storage: Storage, directory: Path, names: list[str], verdict: Verdict) -> LeaderEpochCache | None:
    if EPOCHS_FILE not in names:
        return None
    try:
        return LeaderEpochCache(decode_epochs(storage.read_bytes(directory / EPOCHS_FILE)))
    except ValueError as error:
        verdict.add(f"{EPOCHS_FILE}: {error}")
        return None


class _Segment:
    """One ``.log`` with its indexes, walked once."""

    def __init__(self, storage: Storage, path: Path, verdict: Verdict, epochs: LeaderEpochCache | None) -> None:
        self._storage = storage
        self._path = path
        self._verdict = verdict
        self._epochs = epochs
        self._base = int(path.stem) if path.stem.isdecimal() else 0
        self._positions = self._entries(path.with_suffix(".index"), index.ENTRY, column=1)
        self._indexed: deque[int] = deque()  # offsets of entries that were met, and are still to come
        self._times = self._entries(path.with_suffix(".timeindex"), time_index.ENTRY, column=0)

    def check(self) -> None:
        verdict = self._verdict
        verdict.segments += 1
        if verdict.start_offset is None:
            verdict.start_offset = verdict.end_offset = self._base
        if verdict.end_offset is not None and self._base < verdict.end_offset:
            self._say(0, f"it begins at offset {self._base}, before the end {verdict.end_offset} of the one before")
        verdict.end_offset = self._base
        position = 0
        with closing(self._storage.open(self._path)) as file:
            verdict.size_bytes += file.size()
            try:
                for position, batch in batches(file):
                    self._check_batch(position, batch)
                    position += batch.size_bytes
            except CorruptBatch as error:
                self._say(position, f"{error}; {file.size() - position} bytes from there on")
        for _, at in self._positions:
            self._say(at, "the offset index means a batch there, and there is none")
        for offset in self._indexed:
            self._say(0, f"the offset index names offset {offset}, with which no batch ends")
        for timestamp, offset in self._times:
            self._say(0, f"the time index names offset {self._base + offset} for {timestamp}, and no batch has it")

    def _check_batch(self, position: int, batch: RecordBatch) -> None:
        verdict = self._verdict
        verdict.batches += 1
        verdict.records += max(0, batch.record_count)
        try:
            check_stored(batch)  # the CRC covers neither the magic nor what is before it
            batch.verify_crc()
        except CorruptBatch as error:
            self._say(position, str(error))
        assert verdict.end_offset is not None
        if batch.base_offset < verdict.end_offset:
            self._say(position, f"offset {batch.base_offset} comes after {verdict.end_offset - 1}")
        if self._epochs is not None and self._epochs.epoch_of(batch.base_offset) != batch.leader_epoch:
            known = self._epochs.epoch_of(batch.base_offset)
            self._say(position, f"the batch is of epoch {batch.leader_epoch}, {EPOCHS_FILE} says {known}")
        self._check_indexes(position, batch)
        verdict.end_offset = batch.next_offset

    def _check_indexes(self, position: int, batch: RecordBatch) -> None:
        while self._positions and self._positions[0][1] <= position:
            offset, at = self._positions.popleft()
            if at != position or self._base + offset < batch.base_offset:
                self._say(at, f"the offset index means offset {self._base + offset} there, and it is elsewhere")
            else:
                self._indexed.append(self._base + offset)
        # Of an entry that Kafka wrote for several batches at once, the offset is the last one's last.
        while self._indexed and self._indexed[0] <= batch.last_offset:
            offset = self._indexed.popleft()
            if offset != batch.last_offset:
                self._say(position, f"the offset index names offset {offset}, with which no batch ends")
        while self._times and self._base + self._times[0][1] <= batch.last_offset:
            timestamp, offset = self._times.popleft()
            if self._base + offset < batch.base_offset or timestamp != batch.max_timestamp:
                self._say(position, f"the time index says {timestamp} of offset {self._base + offset}, which is wrong")

    def _entries(self, path: Path, layout: struct.Struct, column: int) -> deque[tuple[int, int]]:
        """As long as ``column`` rises; where it does not, that is a problem."""
        found: deque[tuple[int, int]] = deque()
        try:
            data = self._storage.read_bytes(path)
        except FileNotFoundError:
            return found
        if len(data) % layout.size:
            self._verdict.add(f"{path.name}: {len(data)} bytes are no whole number of entries")
        for number, entry in enumerate(entries_in(data, layout)):
            if found and entry[column] <= found[-1][column]:
                self._verdict.add(f"{path.name}: entry {number} does not rise above the one before")
                break
            found.append((entry[0], entry[1]))
        return found

    def _say(self, position: int, problem: str) -> None:
        self._verdict.add(f"{self._path.name} at byte {position}: {problem}")
