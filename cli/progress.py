"""A bar for long work: on standard error, where that is a terminal, and gone when the work is done.

Nothing is drawn where data goes to the same terminal.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STEP = 256
"""Steps between two looks at the bar: one costs more than a record."""


class Bar:
    """How far something has got. Without a terminal it only counts."""

    def __init__(self, progress: "Progress | None" = None, task: "TaskID | None" = None) -> None:
        self._progress = progress
        self._task = task
        self._shown = self._total = 0.0
        self.done = 0.0

    @property
    def drawn(self) -> bool:
        """Whether anybody sees it."""
        return self._progress is not None

    def advance(self, by: float = 1.0) -> None:
        """So much more is done."""
        self.done += by
        if self._progress is not None and self.done - self._shown >= STEP:
            self.to(self.done)

    def expect(self, more: float) -> None:
        """So much more is to be done."""
        self._total += more
        self.to(self.done, self._total)

    def end(self) -> None:
        """Take it away: something else is to be said."""
        if self._progress is not None:
            self._progress.stop()

    def to(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """So much is done in all; ``total``: of so much, if that is news; ``note``: to be said beside it."""
        self.done = self._shown = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)
            if note is not None:
                self._progress.update(self._task, note=note)


@contextlib.contextmanager
def progress(label: str, total: float | None, *, in_bytes: bool = False, beside_data: bool = False) -> Iterator[Bar]:
    """``total``: None where the end is not known. ``beside_data``: the command's data goes to standard output
    meanwhile."""
    if not sys.stderr.isatty() or (beside_data and sys.stdout.isatty()):
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    amount: ProgressColumn = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TextColumn("{task.fields[note]}"))
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as drawn:
        task = drawn.add_task(label, total=total, note="")
        yield Bar(drawn, task)
