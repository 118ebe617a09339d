"""Up to where a log is durable, agreed between the event loop, which appends and truncates, and the executor, which
syncs meanwhile.

A sync's word counts only if the loop has not truncated since the sync began: after a truncation the same offsets may
name newer bytes. Each field is written by one thread, in one assignment.
"""

from .model import Offset


class SyncPoint:
    """The recovery point, and the count of bytes that are not yet durable."""

    def __init__(self, recovery_point: Offset, unsynced_bytes: int) -> None:
        self._generation = 0
        self._floor = recovery_point
        self._appended_total = unsynced_bytes
        self._synced: tuple[int, Offset] = (-1, recovery_point)  # generation, end
        self._synced_total = 0

    @property
    def recovery_point(self) -> Offset:
        """Everything below it is durable."""
        generation, end = self._synced
        return end if generation == self._generation else self._floor

    @property
    def unsynced_bytes(self) -> int:
        """Appended and not yet known to be durable."""
        return self._appended_total - self._synced_total

    def appended(self, size_bytes: int) -> None:
        """The loop has appended."""
        self._appended_total += size_bytes

    def set(self, recovery_point: Offset) -> None:
        """The loop decides; a sync that is under way has nothing more to say. Before a cut and again after it, since
        a sync may begin in between."""
        self._floor = recovery_point
        self._generation += 1

    def begin(self) -> tuple[int, int]:
        """A sync begins: what to hand to ``reached``. To be called before the log's end is looked at."""
        return self._generation, self._appended_total

    def reached(self, began: tuple[int, int], end: Offset) -> None:
        """The sync that began so has made everything below ``end`` durable."""
        generation, appended = began
        self._synced = (generation, end)
        if generation == self._generation:
            self._synced_total = max(self._synced_total, appended)
