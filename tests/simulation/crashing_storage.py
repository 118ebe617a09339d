"""A Storage in memory that forgets, on ``crash()``, whatever the contract of ottla.log.storage lets a power cut forget.

Every file and directory is a node with two states: ``current`` (what a running process sees: the page cache) and
``durable`` (what a sync has promised), and between them the list of changes not yet synced:

    storage = CrashingStorage(seed=7)
    log = PartitionLog.open(storage, ...)
    ...
    log = PartitionLog.open(storage.crash(), ...)     # power loss: unsynced changes survive in part
    log = PartitionLog.open(storage.kill(), ...)      # kill -9: the page cache survives, open files do not

Faults: ``storage.fail("write", nth=3, error=errno.ENOSPC)``, ``storage.capacity = 10_000``, and
``storage.cut_power_at(n)``, which raises PowerCut out of the n-th change from now; a loop over n visits every
point at which a program can be interrupted.
"""

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ottla.log.chance import Chance
from ottla.log.storage import Buffer, DirectoryLocked

SECTOR = 512


class PowerCut(BaseException):
    """The lights went out inside a storage call. Not an Exception: no product code may catch it and go on."""


class SeededChance:
    """A Chance that repeats itself."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def random(self) -> float:
        return self._random.random()

    def randbelow(self, bound: int) -> int:
        return self._random.randrange(bound)

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)


@dataclass(slots=True, eq=False)
class _Write:
    position: int
    data: bytes


@dataclass(slots=True, eq=False)
class _Cut:
    size: int


@dataclass(slots=True, eq=False)
class _FileNode:
    current: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[_Write | _Cut] = field(default_factory=list)

    def apply(self, change: _Write | _Cut) -> None:
        _apply(self.current, change)
        self.pending.append(change)

    def sync(self) -> None:
        self.durable = bytes(self.current)
        self.pending.clear()

    def crash(self, chance: Chance, holes: bool) -> None:
        """Keep the durable bytes and a prefix of the unsynced changes, the last of them torn."""
        content = bytearray(self.durable)
        kept = chance.randbelow(len(self.pending) + 1)
        for change in self.pending[:kept]:
            _apply(content, _with_hole(change, chance) if holes else change)
        if kept < len(self.pending) and isinstance(torn := self.pending[kept], _Write):
            _apply(content, _Write(torn.position, torn.data[: chance.randbelow(len(torn.data) + 1)]))
        self.durable = bytes(content)
        self.current = content
        self.pending = []


def _apply(content: bytearray, change: _Write | _Cut) -> None:
    if isinstance(change, _Cut):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
    else:
        content.extend(bytes(max(0, change.position - len(content))))
        content[change.position : change.position + len(change.data)] = change.data


def _with_hole(change: _Write | _Cut, chance: Chance) -> _Write | _Cut:
    """The file's length reached the platter and a sector of its data did not: it reads as zeros."""
    if isinstance(change, _Cut) or not change.data or chance.random() < 0.7:
        return change
    start = chance.randbelow(len(change.data))
    data = bytearray(change.data)
    data[start : start + SECTOR] = bytes(len(data[start : start + SECTOR]))
    return _Write(change.position, bytes(data))


@dataclass(slots=True, eq=False)
class _DirectoryNode:
    current: "dict[str, _Node]" = field(default_factory=dict)
    durable: "dict[str, _Node]" = field(default_factory=dict)
    pending: "list[dict[str, _Node | None]]" = field(default_factory=list)
    """Each change names what it sets (a node) or removes (None): applied whole or not at all, as a rename is."""

    def apply(self, change: "dict[str, _Node | None]") -> None:
        _rename(self.current, change)
        self.pending.append(change)

    def sync(self) -> None:
        self.durable = dict(self.current)
        self.pending.clear()

    def crash(self, chance: Chance, holes: bool) -> None:
        """Keep a prefix of the unsynced changes: metadata journals are ordered. Then crash what is below."""
        kept = chance.randbelow(len(self.pending) + 1)
        for change in self.pending[:kept]:
            _rename(self.durable, change)
        self.current = dict(self.durable)
        self.pending = []
        for name in sorted(self.durable):
            self.durable[name].crash(chance, holes)


_Node = _FileNode | _DirectoryNode


def _rename(entries: dict[str, _Node], change: dict[str, _Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class CrashingFile:
    """An open file of a CrashingStorage."""

    def __init__(self, storage: "CrashingStorage", node: _FileNode, path: Path) -> None:
        self._storage = storage
        self._node = node
        self._path = path
        self._open = True

    def append(self, data: Buffer) -> None:
        self._check_open()
        wanted = bytes(data)
        allowed, error = self._storage._admit_write(self._path, len(wanted))
        self._node.apply(_Write(len(self._node.current), wanted[:allowed]))
        self._storage._changed()
        if error is not None:
            raise error

    def append_many(self, parts: Sequence[Buffer]) -> None:
        self.append(b"".join(parts))

    def read(self, position: int, size: int) -> bytes:
        self._check_open()
        assert position >= 0
        assert size >= 0
        self._storage._fault("read", self._path)
        return bytes(self._node.current[position : position + size])

    def size(self) -> int:
        return len(self._node.current)

    def truncate(self, size: int) -> None:
        self._check_open()
        self._storage._fault("truncate", self._path)
        self._node.apply(_Cut(size))
        self._storage._changed()

    def sync(self) -> None:
        self._check_open()
        try:
            self._storage._fault("sync", self._path)
        except OSError:
            # A failed fsync drops the dirty pages' dirtiness: a later sync "succeeds" and makes nothing durable
            # (fsyncgate). The bytes stay readable until the machine stops.
            self._node.pending = []
            raise
        self._storage._changed()
        if self._node.pending:
            self._node.sync()

    def close(self) -> None:
        self._open = False

    def _check_open(self) -> None:
        if not self._open or self._storage.dead:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), str(self._path))


@dataclass(slots=True)
class _Fault:
    operation: str
    remaining: int
    error: int
    name_contains: str
    keep: int | None


class CrashingStorage:
    """A tree of files in memory. Public attributes a test may read or set:

    ``capacity``: bytes all files together may hold, None for no limit (ENOSPC beyond, with a partial write);
    ``changes``: how many changes (writes, cuts, syncs, names) have been made: the clock of ``cut_power_at``;
    ``holes``: whether a crash may also leave zero-filled sectors inside unsynced writes;
    ``on_power_cut``: called as the power goes, before PowerCut is raised;
    ``dead``: True once killed or crashed: every later call through this object fails.
    """

    def __init__(self, seed: int = 0, capacity: int | None = None, holes: bool = False) -> None:
        self.capacity = capacity
        self.changes = 0
        self.holes = holes
        self.on_power_cut: Callable[[], None] = lambda: None
        self.dead = False
        self._seed = seed
        self._root = _DirectoryNode()
        self._boot = 0
        self._faults: list[_Fault] = []
        self._broken: set[Path] = set()
        self._locks: set[Path] = set()
        self._cut_at: int | None = None

    # What a test does to it

    def crash(self, chance: Chance | int | None = None) -> "CrashingStorage":
        """Power loss: the storage as the next boot finds it. ``chance`` (or a seed) decides what survived."""
        self.dead = True
        self._boot += 1
        if chance is None:
            chance = SeededChance(hash((self._seed, self._boot)))
        elif isinstance(chance, int):
            chance = SeededChance(chance)
        self._root.crash(chance, self.holes)
        return self._reborn()

    def kill(self) -> "CrashingStorage":
        """kill -9: the page cache survives, open files and locks do not, the boot id stays."""
        self.dead = True
        return self._reborn()

    def fail(
        self,
        operation: str,
        nth: int = 1,
        error: int = errno.EIO,
        *,
        name_contains: str = "",
        keep: int | None = None,
    ) -> None:
        """Let the ``nth`` next ``operation`` on a path containing ``name_contains`` raise OSError(error).

        ``operation``: write, read, sync, truncate, create, replace, remove, mkdir or sync_directory.
        ``keep``: how many bytes of a failed write reach the file (default: half of them).
        """
        self._faults.append(_Fault(operation, nth, error, name_contains, keep))

    @property
    def has_faults(self) -> bool:
        """Whether an operation that is to fail has not come yet."""
        return bool(self._faults)

    def break_below(self, path: Path) -> None:
        """Everything in this directory raises EIO from now on, in later lives too: a disk that has died."""
        self._broken.add(path)

    def replace_disk(self, path: Path) -> None:
        """A new disk, empty, in place of the one that died."""
        self._broken.discard(path)
        parent = self._directory(path.parent)
        parent.apply({path.name: None})
        parent.sync()

    def repair(self, path: Path) -> None:
        """The disk works again, with what it had."""
        self._broken.discard(path)

    def forgive(self) -> None:
        """No arranged ``fail`` comes any more."""
        self._faults.clear()

    def cut_power_at(self, change: int | None) -> None:
        """Raise PowerCut out of the ``change``-th change from now (1 is the next). None: never."""
        self._cut_at = None if change is None else self.changes + change

    def used_bytes(self) -> int:
        """What all files together hold."""
        return self._used(self._root)

    # The Storage protocol

    def open(self, path: Path, *, create: bool = False) -> CrashingFile:
        self._check_alive()
        if self._broken:
            self._fault("open", path)
        parent = self._directory(path.parent)
        node = parent.current.get(path.name)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self._fault("create", path)
            node = _FileNode()
            parent.apply({path.name: node})
            self._changed()
        if not isinstance(node, _FileNode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return CrashingFile(self, node, path)

    def read_bytes(self, path: Path) -> bytes:
        file = self.open(path)
        return file.read(0, file.size())

    def exists(self, path: Path) -> bool:
        self._check_alive()
        return self._find(path) is not None

    def listdir(self, path: Path) -> list[str]:
        self._check_alive()
        if self._broken:
            self._fault("listdir", path)
        return sorted(self._directory(path).current)

    def mkdir(self, path: Path) -> None:
        self._check_alive()
        parent = self._root
        for part in _parts(path):
            node = parent.current.get(part)
            if node is None:
                self._fault("mkdir", path)
                node = _DirectoryNode()
                parent.apply({part: node})
                self._changed()
            if not isinstance(node, _DirectoryNode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            parent = node

    def replace(self, source: Path, target: Path) -> None:
        self._check_alive()
        self._fault("replace", target)
        node = self._find(source)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        there = self._find(target)
        if isinstance(there, _DirectoryNode) and (there.current or not isinstance(node, _DirectoryNode)):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(target))
        if source.parent == target.parent:
            self._directory(target.parent).apply({source.name: None, target.name: node})
        else:
            self._directory(target.parent).apply({target.name: node})
            self._directory(source.parent).apply({source.name: None})
        self._changed()

    def remove(self, path: Path) -> None:
        self._check_alive()
        if self._find(path) is None:
            return
        self._fault("remove", path)
        self._directory(path.parent).apply({path.name: None})
        self._changed()

    def remove_tree(self, path: Path) -> None:
        self.remove(path)

    def sync_directory(self, path: Path) -> None:
        self._check_alive()
        self._fault("sync_directory", path)
        directory = self._directory(path)
        self._changed()
        directory.sync()

    def free_bytes(self, path: Path) -> int:
        self._check_alive()
        return 1 << 50 if self.capacity is None else max(0, self.capacity - self._used(self._root))

    def boot_id(self) -> str | None:
        return f"boot-{self._boot}"

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        self._check_alive()
        if path in self._locks:
            raise DirectoryLocked(errno.EAGAIN, "held by another process", str(path))
        self._locks.add(path)
        try:
            yield
        finally:
            self._locks.discard(path)

    # Inside

    def _reborn(self) -> "CrashingStorage":
        heir = CrashingStorage(self._seed, self.capacity, self.holes)
        heir._root = self._root
        heir._boot = self._boot
        heir._broken = self._broken
        return heir

    def _check_alive(self) -> None:
        if self.dead:
            raise OSError(errno.EBADF, "this storage was killed or crashed")

    def _changed(self) -> None:
        self.changes += 1
        if self._cut_at is not None and self.changes >= self._cut_at:
            self.dead = True
            self.on_power_cut()
            raise PowerCut(f"at change {self.changes}")

    def _fault(self, operation: str, path: Path) -> None:
        fault = self._due(operation, path)
        if fault is not None:
            raise OSError(fault.error, os.strerror(fault.error), str(path))

    def _due(self, operation: str, path: Path) -> _Fault | None:
        if any(path.is_relative_to(broken) for broken in self._broken):
            return _Fault(operation, 1, errno.EIO, "", 0)
        for fault in self._faults:
            if fault.operation == operation and fault.name_contains in str(path):
                fault.remaining -= 1
                if fault.remaining == 0:
                    self._faults.remove(fault)
                    return fault
        return None

    def _admit_write(self, path: Path, size: int) -> tuple[int, OSError | None]:
        """How many bytes of a write get through, and the error that follows if not all of them do."""
        fault = self._due("write", path)
        if fault is not None:
            keep = size // 2 if fault.keep is None else min(fault.keep, size)
            return keep, OSError(fault.error, os.strerror(fault.error), str(path))
        free = self.free_bytes(path)
        if size > free:
            return free, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return size, None

    def _used(self, node: _Node) -> int:
        if isinstance(node, _FileNode):
            return len(node.current)
        return sum(self._used(child) for child in node.current.values())

    def _find(self, path: Path) -> _Node | None:
        node: _Node | None = self._root
        for part in _parts(path):
            if not isinstance(node, _DirectoryNode):
                return None
            node = node.current.get(part)
        return node

    def _directory(self, path: Path) -> _DirectoryNode:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if not isinstance(node, _DirectoryNode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return node


def _parts(path: Path) -> tuple[str, ...]:
    return tuple(part for part in path.parts if part != path.anchor)
