"""A partition's word that it never acknowledged what was not durable: a file in its directory, there while that holds.

A replica that keeps its word through a power cut is as good as before it, and needs not be taken out of the ISR for an
unclean stop (KIP-966 assumes the page cache; docs/guarantees.md). So the word is given after a sync, and taken back,
durably, before the first acknowledgement that does not wait for one.
"""

from pathlib import Path

from .storage import Storage

PROMISE_FILE = "flush.ack"


class FlushPromise:
    """``given`` is true from when the word is durable until it is durably taken back."""

    def __init__(self, storage: Storage, directory: Path) -> None:
        self._storage = storage
        self._directory = directory
        self.given = storage.exists(directory / PROMISE_FILE)

    def give(self) -> None:
        """After a sync of all that the log held when it began to wait for syncs. Blocks. Raises OSError."""
        self._storage.open(self._directory / PROMISE_FILE, create=True).close()
        self._storage.sync_directory(self._directory)
        self.given = True

    def take_back(self) -> None:
        """Blocks. Raises OSError."""
        self._storage.remove(self._directory / PROMISE_FILE)
        self._storage.sync_directory(self._directory)
        self.given = False
