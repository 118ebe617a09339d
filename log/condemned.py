"""A note in a partition's directory that its log was found damaged while it was open.

Opening believes what a sync has made durable and does not read all of it again, so a log in which bytes have rotted
would open as a good one. With the note it does not open at all (CorruptLog): it is quarantined and fetched anew.
"""

from pathlib import Path

from .checkpoint import write_atomically
from .errors import CorruptLog
from .storage import Storage

CONDEMNED_FILE = "condemned"


def condemn(storage: Storage, directory: Path, reason: str) -> None:
    """Write the note, durably. Blocks. Raises OSError, also where the directory is gone."""
    write_atomically(storage, directory / CONDEMNED_FILE, f"{reason}\n".encode())


def refuse_condemned(storage: Storage, directory: Path) -> None:
    """Raises CorruptLog where there is a note, whatever is in it."""
    if storage.exists(directory / CONDEMNED_FILE):
        reason = storage.read_bytes(directory / CONDEMNED_FILE).decode("utf-8", "replace").strip()
        raise CorruptLog(f"{directory}: found damaged in an earlier run: {reason}")
