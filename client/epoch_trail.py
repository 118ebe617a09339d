"""In which leader epochs the records of a partition were written that a consumer has read, one behind the other.

A commit names the epoch of the last record before its offset, and so does the next question for records: a leader whose
log went another way from there on says so, even to the process that goes on after this one (KIP-320).
"""

from ottla.log.model import LeaderEpoch, Offset

RUNS_MAX = 64
"""So many changes of epoch are remembered; what was read before them is long finished."""


class EpochTrail:
    """``_runs``: offsets from which on another epoch holds, both rising; the last one holds to ``_end``."""

    __slots__ = ("_end", "_runs")

    def __init__(self) -> None:
        self._runs: list[tuple[int, LeaderEpoch]] = []
        self._end = 0

    def begin(self, offset: Offset | None, epoch: LeaderEpoch | None) -> None:
        """The record before ``offset`` was written in ``epoch``; None where that is not known. Nothing else is."""
        self._runs.clear()
        self._end = 0 if offset is None else offset
        if offset is not None and epoch is not None:
            self._runs.append((offset - 1, epoch))

    def add(self, start: Offset, end: Offset, epoch: LeaderEpoch | None) -> None:
        """A batch was read, behind all others."""
        if epoch is None:
            self.begin(end, None)
            return
        if not self._runs or self._runs[-1][1] != epoch:
            self._runs.append((start, epoch))
            del self._runs[:-RUNS_MAX]
        self._end = end

    def go_to(self, offset: Offset | None) -> LeaderEpoch | None:
        """Reading goes on at ``offset``. Returns ``before`` it."""
        epoch = None if offset is None else self.before(offset)
        if epoch is None:
            self.begin(offset, None)
        else:
            assert offset is not None
            self._runs = [run for run in self._runs if run[0] < offset]
            self._end = offset
        return epoch

    def before(self, offset: int) -> LeaderEpoch | None:
        """The epoch of the record before ``offset``; None where it was not read, or too long ago."""
        if offset > self._end:
            return None
        return next((epoch for start, epoch in reversed(self._runs) if start < offset), None)
