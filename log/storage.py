"""The door to the disk: every file, sync, rename and listing of Ottla goes through a Storage.

A write reaches the page cache when it returns and the platter when the file is synced; a created, renamed or
removed name is durable only once its directory is synced. The crashing fake of the tests forgets exactly what
this contract lets a power cut forget.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

WRITE_BYTES_MAX = 1 << 20
"""One write call: what the event loop is kept from for (a copy into the page cache) has a bound."""
WRITE_PARTS_MAX = 1024
"""IOV_MAX of Linux."""


class DirectoryLocked(OSError):
    """Another process holds this data directory."""


class File(Protocol):
    """An open file. Appends go to its end; reads name their position. All calls block, if only for a copy."""

    def append(self, data: Buffer) -> None:
        """Write all of ``data`` at the end. On OSError (ENOSPC, EIO) a part of it may have been written."""
        ...

    def append_many(self, parts: Sequence[Buffer]) -> None:
        """Write all ``parts`` at the end, in order, as one gathered write. Errors as ``append``."""
        ...

    def read(self, position: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``position``; shorter only at the end of the file."""
        ...

    def size(self) -> int:
        """Length in bytes, unsynced writes included."""
        ...

    def truncate(self, size: int) -> None:
        """Cut to ``size`` bytes."""
        ...

    def sync(self) -> None:
        """fdatasync: what was written before is durable when this returns. May take seconds: call it from an
        executor. After an OSError the file's unsynced pages may be gone and no later sync may be believed."""
        ...

    def close(self) -> None:
        """Let go of the file; nothing is synced. A sync going on in an executor finishes first, unawaited; one that
        comes later is an OSError (EBADF)."""
        ...


class Storage(Protocol):
    """A tree of files."""

    def open(self, path: Path, *, create: bool = False) -> File:
        """Open for reading and appending. FileNotFoundError unless ``create``."""
        ...

    def read_bytes(self, path: Path) -> bytes:
        """The whole of a small file."""
        ...

    def exists(self, path: Path) -> bool: ...

    def listdir(self, path: Path) -> list[str]:
        """Names in a directory, sorted. FileNotFoundError where there is none."""
        ...

    def mkdir(self, path: Path) -> None:
        """Make a directory and its parents; content with one that is there."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Atomically give ``source`` the name ``target``. Durable after ``sync_directory`` of the parent."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file; content if it is gone already."""
        ...

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below; content if it is gone already."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Bytes that may still be written below ``path``."""
        ...

    def boot_id(self) -> str | None:
        """Identity of this run of the kernel; ``None`` if it cannot be known. While it is unchanged, the page
        cache has outlived every process (docs/guarantees.md: when a stop counts as unclean)."""
        ...

    def lock(self, path: Path) -> contextlib.AbstractContextManager[None]:
        """Hold ``path`` alone until the context ends or the process dies. Raises DirectoryLocked."""
        ...


class SystemFile:
    """A file of the operating system, by descriptor; reads do not move the append position.

    Only ``sync`` is called beside the event loop. The lock keeps a descriptor that is being synced from being
    closed, and its number from being given to another file, meanwhile.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._syncing = 0
        self._closed = False
        self._size = os.fstat(descriptor).st_size

    def append(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        while view:
            written = os.pwrite(self._descriptor, view[:WRITE_BYTES_MAX], self._size)
            self._size += written
            view = view[written:]

    def append_many(self, parts: Sequence[Buffer]) -> None:
        wanted = sum(map(len, parts))
        if wanted <= WRITE_BYTES_MAX and len(parts) <= WRITE_PARTS_MAX:  # nearly always: as it is, in one call
            written = os.pwritev(self._descriptor, parts, self._size)
            self._size += written
            if written < wanted:
                self.append(b"".join(parts)[written:])
            return
        for group in _write_groups(parts):
            if len(group) == 1:
                self.append(group[0])
                continue
            wanted = sum(map(len, group))
            written = os.pwritev(self._descriptor, group, self._size)
            self._size += written
            if written < wanted:
                self.append(b"".join(group)[written:])

    def read(self, position: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, position)
        while 0 < len(data) < size:
            more = os.pread(self._descriptor, size - len(data), position + len(data))
            if not more:
                break
            data += more
        return data

    def size(self) -> int:
        return self._size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._size = size

    def sync(self) -> None:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._syncing += 1
        try:
            os.fdatasync(self._descriptor)
        finally:
            with self._lock:
                self._syncing -= 1
                self._release()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._release()

    def _release(self) -> None:
        if self._closed and not self._syncing and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _write_groups(parts: Sequence[Buffer]) -> Iterator[list[memoryview]]:
    """``parts`` in groups of at most WRITE_BYTES_MAX bytes and the 1024 parts the system takes; a larger part is
    a group of its own."""
    group: list[memoryview] = []
    size = 0
    for part in parts:
        view = memoryview(part).cast("B")
        if group and (len(group) == WRITE_PARTS_MAX or size + len(view) > WRITE_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append(view)
        size += len(view)
    if group:
        yield group


class SystemStorage:
    """The operating system's files."""

    def open(self, path: Path, *, create: bool = False) -> SystemFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return SystemFile(os.open(path, flags, 0o644))

    def read_bytes(self, path: Path) -> bytes:
        return path.read_bytes()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def listdir(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        figures = os.statvfs(path)
        return figures.f_bavail * figures.f_frsize

    def boot_id(self) -> str | None:
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise DirectoryLocked(error.errno, "held by another process", str(path)) from error
                raise
            yield
        finally:
            os.close(descriptor)
