"""What happened in a run, as one hash and as the last lines of it for whoever reads a failure."""

import hashlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINES_KEPT = 20_000


class Trace:
    """``record`` goes into the hash, so two runs of a seed must record the same; ``note`` is for people only."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.events = 0
        self._now = now
        self._hash = hashlib.blake2b(digest_size=12)
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def record(self, *fields: Any, shown: bool = False) -> None:
        """An event of the run. ``shown``: also among the lines."""
        line = f"{self._now():.9f} {fields!r}"
        self.events += 1
        self._hash.update(line.encode())
        if shown:
            self.note("*", *fields)

    def note(self, who: str, *fields: Any) -> None:
        """A line that does not count, as a log line of a node."""
        self._lines.append(f"{self._now():10.4f} {who:6} {' '.join(map(str, fields))}")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def tail(self, count: int = 40) -> str:
        """The last lines."""
        return "\n".join(list(self._lines)[-count:])

    def write(self, path: Path) -> None:
        """All lines that are kept."""
        path.write_text("\n".join(self._lines) + "\n")
