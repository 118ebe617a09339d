"""What all logs of a data directory share: its disk's health, the free-space reserve, and how much is unsynced."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .clock import Clock
from .errors import CorruptLog, LogError, StorageFailed, StorageFull
from .producer_state import EXPIRATION_MS
from .storage import Storage

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
RECHECK_BYTES = 4 << 20
RECHECK_SECONDS = 1.0
FLUSH_LOG_BYTES = 16 << 20
"""A log with this much unsynced is flushed at once, not at the next second."""
UNSYNCED_BYTES_MAX = 256 << 20
"""More than this unsynced in a directory, and produces wait: a power cut, and a sync, have a bound."""


class DataDirectory:
    """The gate before every append.

    ``failed``: why nothing may be appended any more, until the node restarts; None while the disk is well.
    ``unsynced_bytes``: appended and not yet known to be durable, all logs together.
    """

    def __init__(
        self,
        storage: Storage,
        path: Path,
        clock: Clock,
        reserve_bytes: int = 0,
        producer_expiration_ms: int = EXPIRATION_MS,
    ) -> None:
        self.path = path
        self.producer_expiration_ms = producer_expiration_ms
        self.failed: LogError | None = None
        self.unsynced_bytes = 0
        self.reserve_bytes = reserve_bytes
        self.on_flush_wanted: Callable[[], None] = _nothing
        self.before_recovery_point_falls: Callable[[], None] = _nothing
        self._storage = storage
        self._clock = clock
        self._room = 0  # bytes that may be appended before free space is looked at again
        self._checked_at: float | None = None

    def admit(self, size_bytes: int) -> None:
        """Raises StorageFailed after a failure, StorageFull where ``size_bytes`` would eat into the reserve."""
        if self.failed is not None:
            self.on_flush_wanted()  # whoever watches over the disk learns it now, not with the next second
            raise StorageFailed(f"{self.path}: {self.failed}; restart the node once the disk is well")
        if not self._known_to_fit(size_bytes):
            self._look(size_bytes)
        self._room -= size_bytes

    def note_appended(self, size_bytes: int, unsynced_in_log: int) -> None:
        """``size_bytes`` went into a log that now has ``unsynced_in_log``."""
        self.unsynced_bytes += size_bytes
        if unsynced_in_log >= FLUSH_LOG_BYTES:
            self.on_flush_wanted()

    def fail(self, error: LogError) -> None:
        """The disk refused a write or a sync: what the page cache holds may never reach it, whatever later syncs
        say, so nothing more is appended. The first failure is the one reported."""
        if self.failed is None:
            self.failed = error

    @contextmanager
    def guarded(self, fatal: bool = False) -> Iterator[None]:
        """The storage's errors as ours: a full disk is StorageFull and heals. After anything else the directory has
        failed, as it has after any error (``fatal``) that leaves a step half done."""
        try:
            yield
        except (OSError, CorruptLog) as error:
            raise self.as_ours(error, fatal=fatal) from error

    def as_ours(self, error: OSError | CorruptLog, *, fatal: bool = False) -> StorageFull | StorageFailed:
        """What ``guarded`` raises, for where a context is too dear."""
        if isinstance(error, OSError) and error.errno in NO_SPACE and not fatal:
            self._room = 0
            return StorageFull(f"{self.path}: the disk is full ({error}); free some space")
        return self._failure(error)

    def _failure(self, cause: Exception) -> StorageFailed:
        failure = StorageFailed(f"{self.path}: {cause}; restart the node once the disk is well")
        self.fail(failure)
        return failure

    def _known_to_fit(self, size_bytes: int) -> bool:
        if self._checked_at is None or size_bytes > self._room:
            return False
        return self._clock.monotonic() - self._checked_at < RECHECK_SECONDS

    def _look(self, size_bytes: int) -> None:
        free = self._storage.free_bytes(self.path) - self.reserve_bytes
        self._checked_at = self._clock.monotonic()
        self._room = min(free, max(RECHECK_BYTES, size_bytes))
        if free < size_bytes:
            raise StorageFull(
                f"{self.path}: {max(0, free)} bytes are free above the reserve of {self.reserve_bytes}, "
                f"{size_bytes} are needed; free some space"
            )


def _nothing() -> None:
    """No one is to be told."""
