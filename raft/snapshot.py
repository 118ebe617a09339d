"""Snapshots on disk: the state after one entry, which takes the place of the log up to it (Raft paper, section 7).

    snapshots/<index, 20 digits>.snapshot

    file    | magic "OTTLSNAP": 8s | version: u32 | length of meta: u32 | meta | state ... | crc: u32 |
              meta   msgpack [index, term, cluster id, feature level]; the cluster id is the hash of the voter set
              state  the state machine's own bytes
              crc    crc32c of everything before it

Integers are big-endian. A file is written under a temporary name, synced, renamed, and its directory synced: one that
has a name and fails its check was damaged since. The last two are kept.
"""

import contextlib
import logging
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from ottla.log.checksum import crc32c
from ottla.log.storage import Storage

log = logging.getLogger(__name__)

MAX_SNAPSHOT_BYTES = 1 << 30
"""The largest file that is written, or fetched from a leader: it is held in memory meanwhile."""

STEP_BYTES = 1 << 20
KEPT = 2
SNAPSHOT_DAMAGED = "OTTLA-SNAPSHOT-DAMAGED"

_MAGIC = b"OTTLSNAP"
_VERSION = 1
_HEAD = struct.Struct(">8sII")
_CRC = struct.Struct(">I")
_SUFFIX = ".snapshot"
_Number = Annotated[int, msgspec.Meta(ge=0)]


class SnapshotDamaged(Exception):
    """These bytes are not a whole, sound snapshot of this cluster. ``message`` is for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{SNAPSHOT_DAMAGED}: {message}")
        self.code = SNAPSHOT_DAMAGED
        self.message = message


class SnapshotId(NamedTuple):
    """The file of a snapshot: the last entry in it, its size in bytes, and the CRC it ends with."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: int
    size: int
    crc: int


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Of what a state is the state."""

    index: _Number
    term: _Number
    cluster_id: str
    feature_level: _Number


class Snapshot(NamedTuple):
    """A file's content, checked."""

    id: SnapshotId
    meta: SnapshotMeta
    state: bytes


class Recovered(NamedTuple):
    """What a start finds: the newest sound snapshot, and newer ones that are damaged."""

    snapshot: Snapshot | None
    damaged: tuple[SnapshotDamaged, ...]


def encode_snapshot(meta: SnapshotMeta, *state: bytes) -> bytes:
    """The file's bytes; ``state`` may come in pieces."""
    encoded = msgspec.msgpack.encode(meta)
    parts = [_HEAD.pack(_MAGIC, _VERSION, len(encoded)), encoded, *state]
    crc = 0
    for part in parts:
        crc = crc32c(part, crc)
    return b"".join((*parts, _CRC.pack(crc)))


def decode_snapshot(data: bytes, cluster_id: str) -> Snapshot:
    """Check and read a file's bytes. Raises SnapshotDamaged."""
    if len(data) < _HEAD.size + _CRC.size:
        raise SnapshotDamaged(f"a snapshot of {len(data)} bytes")
    (crc,) = _CRC.unpack_from(data, len(data) - _CRC.size)
    body = memoryview(data)[: -_CRC.size]
    if crc32c(body) != crc:
        raise SnapshotDamaged("its bytes fail their check")
    magic, version, length = _HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise SnapshotDamaged(f"no snapshot, or one of version {version}; this release knows {_VERSION}")
    try:
        meta = msgspec.msgpack.decode(body[_HEAD.size : _HEAD.size + length], type=SnapshotMeta)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotDamaged(str(error)) from error
    if meta.cluster_id != cluster_id:
        raise SnapshotDamaged(f"it is of cluster {meta.cluster_id}, not of {cluster_id}")
    return Snapshot(SnapshotId(meta.index, meta.term, len(data), crc), meta, bytes(body[_HEAD.size + length :]))


class SnapshotStore:
    """The snapshots of one voter. Every method blocks, and is called by one thread at a time."""

    def __init__(self, directory: Path, storage: Storage, cluster_id: str) -> None:
        self._directory = directory
        self._storage = storage
        self._cluster_id = cluster_id

    def recover(self) -> Recovered:
        """The newest sound snapshot, and the damage of those newer than it, for the caller to judge."""
        damaged: list[SnapshotDamaged] = []
        for index in reversed(self._indexes()):
            path = self._path(index)
            try:
                snapshot = self._read(path)
                if snapshot.id.index != index:
                    raise SnapshotDamaged(f"it ends with entry {snapshot.id.index}")
                return Recovered(snapshot, tuple(damaged))
            except SnapshotDamaged as damage:
                damaged.append(SnapshotDamaged(f"{path}: {damage.message}"))
        return Recovered(None, tuple(damaged))

    def _read(self, path: Path) -> Snapshot:
        return decode_snapshot(self._storage.read_bytes(path), self._cluster_id)

    def save(self, data: bytes) -> Snapshot:
        """Check ``data`` and make it a durable file; then older ones may go. Raises SnapshotDamaged (nothing was
        changed) and OSError."""
        saving = self.saving(data)
        while True:
            try:
                next(saving)
            except StopIteration as end:
                saved: Snapshot = end.value
                return saved

    def saving(self, data: bytes) -> Generator[None, None, Snapshot]:
        """``save`` in steps of at most 1 MiB of disk: who shares the thread need not wait for all of it. Nothing else
        may be saved or recovered before it has ended."""
        snapshot = decode_snapshot(data, self._cluster_id)
        if not self._storage.exists(self._directory):
            self._storage.mkdir(self._directory)
            self._storage.sync_directory(self._directory.parent)
        path = self._path(snapshot.id.index)
        temporary = path.with_name(path.name + ".tmp")
        yield from self._write(temporary, data)
        self._storage.replace(temporary, path)
        self._storage.sync_directory(self._directory)
        self._prune()
        return snapshot

    def _write(self, path: Path, data: bytes) -> Generator[None, None, None]:
        self._storage.remove(path)
        file = self._storage.open(path, create=True)
        try:
            for first in range(0, len(data), STEP_BYTES):
                yield
                file.append(memoryview(data)[first : first + STEP_BYTES])
                file.sync()
        except OSError:
            with contextlib.suppress(OSError):
                self._storage.remove(path)
            raise
        finally:
            file.close()

    def _prune(self) -> None:
        for index in self._indexes()[:-KEPT]:
            self._storage.remove(self._path(index))

    def read(self, snapshot_index: int, offset: int, size: int) -> tuple[bytes, int] | None:
        """Bytes of a snapshot's file from ``offset`` on and the file's length; None where there is no such file."""
        try:
            file = self._storage.open(self._path(snapshot_index))
        except FileNotFoundError:
            return None
        try:
            return file.read(offset, size), file.size()
        finally:
            file.close()

    def _indexes(self) -> list[int]:
        if not self._storage.exists(self._directory):
            return []
        numbers = []
        for name in self._storage.listdir(self._directory):
            if name.endswith(".tmp"):
                self._storage.remove(self._directory / name)
            elif name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX).isdigit():
                numbers.append(int(name.removesuffix(_SUFFIX)))
        return sorted(numbers)

    def _path(self, index: int) -> Path:
        return self._directory / f"{index:020}{_SUFFIX}"


def judge_damage(found: Recovered) -> None:
    """Log damage that does not matter: the log, once opened on ``found.snapshot``, reaches back to it."""
    for damage in found.damaged:
        log.error("%s. The log still has all that is newer than the snapshot before it; this node goes on.", damage)
