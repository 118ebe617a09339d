"""A log's leader epochs, in memory and in their file.

The file is replaced without waiting for the platter, and made durable before the recovery point passes what it speaks
of: recovery believes it below the recovery point, and takes the epochs above from the batches.
"""

from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from .checkpoint import EPOCHS_FILE, write_epochs
from .leader_epochs import EpochStart, LeaderEpochCache
from .model import LeaderEpoch, Offset
from .storage import Storage


class EpochFile:
    """Changed by the event loop; only ``sync`` is called beside it."""

    def __init__(self, storage: Storage, directory: Path, cache: LeaderEpochCache, *, saved: bool) -> None:
        """``saved``: the file says what ``cache`` says."""
        self.cache = cache
        self._storage = storage
        self._directory = directory
        self._saved = saved
        self._synced = False

    @property
    def entries(self) -> tuple[EpochStart, ...]:
        """Every epoch with its start offset, oldest first."""
        return self.cache.entries

    @property
    def is_saved(self) -> bool:
        """Whether the file says what memory says. Else recovery must not come to believe it."""
        return self._saved

    def assign(self, starts: Iterable[EpochStart]) -> None:
        """Note where epochs start, in the file and then in memory. On OSError nothing changed."""
        epochs = LeaderEpochCache(self.cache.entries)
        for epoch, start in starts:
            epochs.assign(epoch, start)
        if epochs.entries == self.cache.entries and self._saved:
            return
        self._write(epochs)
        self.cache = epochs

    def assign_in_memory(self, epoch: LeaderEpoch, start: Offset) -> None:
        """As ``assign`` on a full disk: the file follows with the next epoch or record."""
        self._saved = not self.cache.assign(epoch, start) and self._saved

    def take_back(self, cache: LeaderEpochCache) -> None:
        """What was assigned for an append that failed was not written: ``cache`` is true again."""
        self._saved = self._saved and cache is self.cache
        self.cache = cache

    def truncate_from_end(self, end: Offset) -> None:
        """The log was cut to ``end``. On a full disk the file follows later."""
        self.cache.truncate_from_end(end)
        self.try_to_save(force=True)

    def try_to_save(self, *, force: bool = False) -> None:
        """Bring the file up to date, unless the disk is full."""
        if self._saved and not force:
            return
        self._saved = False
        with suppress(OSError):
            self._write(self.cache)

    def sync(self) -> None:
        """Make the file durable but for its name: the directory is for the caller to sync. For executors."""
        if self._synced:
            return
        self._synced = True  # first: what changes meanwhile is for the next time
        try:
            with closing(self._storage.open(self._directory / EPOCHS_FILE)) as file:
                file.sync()
        except FileNotFoundError:
            assert not self.cache.entries or not self._saved
        except OSError:
            self._synced = False
            raise

    @property
    def is_synced(self) -> bool:
        """Whether ``sync`` has nothing to do."""
        return self._synced

    def _write(self, epochs: LeaderEpochCache) -> None:
        write_epochs(self._storage, self._directory, epochs.entries)
        self._saved, self._synced = True, False
