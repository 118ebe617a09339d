"""What is known of a partition's producers at an offset, in a file named by it: Kafka's ``<offset>.snapshot``, big
endian (ProducerSnapshot.json of Kafka's storage module):

    | version: i16 = 1 | crc: u32   CRC-32C of all after it | count: i32 | entries... |
    entry: | producer id: i64 | epoch: i16 | last sequence: i32 | last offset: i64 | offset delta: i32 |
           | timestamp: i64 | coordinator epoch: i32 (-1: none) | first offset of the open transaction: i64 (-1: none) |

Kafka writes one entry a producer, of its last batch. We write one for each batch that is remembered, oldest first:
Kafka takes the last of a producer's, and we get all five back (docs/decisions/0010-producer-snapshots.md).
"""

import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .checksum import crc32c
from .model import Offset
from .storage import Storage

SNAPSHOT_SUFFIX = ".snapshot"
VERSION = 1
HEAD = struct.Struct(">hI")
COUNT = struct.Struct(">i")
ENTRY = struct.Struct(">qhiqiqiq")
NAME_DIGITS = 20
UNWRITTEN_SUFFIX = ".tmp"


class SnapshotEntry(NamedTuple):
    """A batch of a producer. As in the file: absence is -1 here."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int
    coordinator_epoch: int = -1
    current_txn_first_offset: int = -1


def encode_snapshot(entries: Sequence[SnapshotEntry]) -> bytes:
    """The file's bytes."""
    body = COUNT.pack(len(entries)) + b"".join(ENTRY.pack(*entry) for entry in entries)
    return HEAD.pack(VERSION, crc32c(body)) + body


def decode_snapshot(data: bytes) -> list[SnapshotEntry]:
    """The entries in these bytes. Raises ValueError saying what is wrong."""
    if len(data) < HEAD.size + COUNT.size:
        raise ValueError("it is cut short")
    version, crc = HEAD.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"version {version} is not known")
    body = memoryview(data)[HEAD.size :]
    if crc32c(body) != crc:
        raise ValueError("its CRC is wrong")
    (count,) = COUNT.unpack_from(body)
    if count < 0 or len(body) != COUNT.size + count * ENTRY.size:
        raise ValueError(f"{count} entries do not make {len(body)} bytes")
    return [SnapshotEntry._make(entry) for entry in ENTRY.iter_unpack(body[COUNT.size :])]


class ProducerSnapshots:
    """The snapshots in a partition's directory: taken by the event loop, written by the next sync.

    A snapshot that is not above the recovery point is true: ``write`` comes before the recovery point rises, and what
    truncation makes untrue is dropped before it rises again.
    """

    def __init__(self, storage: Storage, directory: Path) -> None:
        self._storage = storage
        self._directory = directory
        self._lock = threading.Lock()  # held for a rename only
        self._unwritten: dict[Offset, list[SnapshotEntry]] = {}
        self._on_disk = {
            Offset(int(name[:NAME_DIGITS])) for name in storage.listdir(directory) if is_snapshot_name(name)
        }

    def newest(self, at_most: Offset) -> tuple[Offset, list[SnapshotEntry]] | None:
        """The newest that is whole and not above ``at_most``, with its offset."""
        for offset in sorted({*self._on_disk, *self._unwritten}, reverse=True):
            if offset > at_most:
                continue
            entries = self._unwritten.get(offset)
            if entries is None:
                entries = self._read(offset)
            if entries is not None:
                return offset, entries
        return None

    def take(self, offset: Offset, entries: list[SnapshotEntry]) -> None:
        """This is what is known where the log reaches to ``offset``. In memory until ``write``."""
        self._unwritten[offset] = entries

    def write(self) -> bool:
        """Write what was taken, durably but for the names: the directory is for the caller to sync. Returns whether
        there was anything. For executors; truncation may go on meanwhile. Raises OSError."""
        taken = list(self._unwritten.items())
        for offset, entries in taken:
            temporary = self._path(offset).with_suffix(SNAPSHOT_SUFFIX + UNWRITTEN_SUFFIX)
            self._storage.remove(temporary)
            file = self._storage.open(temporary, create=True)
            try:
                file.append(encode_snapshot(entries))
                file.sync()
            finally:
                file.close()
            with self._lock:
                if self._unwritten.get(offset) is entries:
                    self._storage.replace(temporary, self._path(offset))
                    self._on_disk.add(offset)
                    del self._unwritten[offset]
                else:
                    self._storage.remove(temporary)
        return bool(taken)

    def drop_above(self, offset: Offset) -> bool:
        """The log was cut to ``offset``; whether files went, whose directory then is to be synced."""
        with self._lock:
            for taken in [taken for taken in self._unwritten if taken > offset]:
                del self._unwritten[taken]
            gone = [found for found in self._on_disk if found > offset]
            self._remove(gone)
        return bool(gone)

    def drop_all(self) -> None:
        """The log starts anew."""
        with self._lock:
            self._unwritten.clear()
            self._remove(list(self._on_disk))

    def keep_only(self, offsets: set[Offset]) -> None:
        """Drop the others: those at segments that are gone, or of an earlier close. A full disk or one that fails does
        not matter here."""
        with self._lock, suppress(OSError):
            self._remove([found for found in self._on_disk if found not in offsets])

    def _remove(self, offsets: list[Offset]) -> None:
        for offset in offsets:
            self._storage.remove(self._path(offset))
            self._on_disk.discard(offset)

    def _read(self, offset: Offset) -> list[SnapshotEntry] | None:
        try:
            return decode_snapshot(self._storage.read_bytes(self._path(offset)))
        except (OSError, ValueError):
            return None

    def _path(self, offset: Offset) -> Path:
        return self._directory / f"{offset:020d}{SNAPSHOT_SUFFIX}"


def is_snapshot_name(name: str) -> bool:
    """Whether a file of this name is a snapshot."""
    return name.endswith(SNAPSHOT_SUFFIX) and name[: -len(SNAPSHOT_SUFFIX)].isdecimal() and name.isascii()
