"""How a cleaned segment takes the place of those it was made from, so that no crash tears the log (after Kafka).

    1  <base>.log.cleaned   is written and synced        a crash: it is removed, the old segments are the log
    2  <base>.log.swap      its name from now on, synced      a crash: the next start does what follows
    3  old segments get names that end with .deleted; the new one loses its .swap
    4  .deleted files are removed, after a while or at the next start

A cleaned segment ends with the offset at which its last source ended (compaction keeps an empty batch there if need
be), so its own batches tell which segments it stands for.
"""

import re
from contextlib import suppress
from pathlib import Path

from .model import Offset
from .segment import Segment
from .segment_names import CLEANED, DELETED, LOG_SUFFIX, SWAP
from .segment_reader import Extent
from .storage import Storage

COMPACTED_FILE = "compacted"
"""In a partition's directory: its log may have gaps between batches. Without it, recovery takes a gap for damage."""

_BASE = re.compile(r"(\d{20})\.")


def finish_swaps(storage: Storage, directory: Path, *, index_interval_bytes: int) -> None:
    """Before a log is opened: finish or undo what a crash left half done. To be repeated if it is interrupted."""
    names = storage.listdir(directory)
    swaps = [name for name in names if name.endswith(LOG_SUFFIX + SWAP)]
    for name in names:
        if name.endswith((CLEANED, DELETED)) or (name.endswith(SWAP) and name not in swaps):
            storage.remove(directory / name)
    for name in swaps:
        _finish(storage, directory, Offset(int(name[:20])), index_interval_bytes)
    if swaps:
        storage.sync_directory(directory)


def _finish(storage: Storage, directory: Path, base: Offset, index_interval_bytes: int) -> None:
    segment = Segment(storage, directory, base, index_interval_bytes=index_interval_bytes, create=False, state=SWAP)
    end = base
    segment.reset_indexes()
    try:
        for position, batch in segment.scan():
            segment.note_batch(Extent.of(batch), position)
            end = batch.next_offset
        with suppress(OSError):  # what is missing of an index is made anew
            segment.seal()
            segment.sync_indexes()
    finally:
        segment.close()
    assert end > base
    for name in storage.listdir(directory):
        match = _BASE.match(name)
        if match and base <= int(match[1]) < end and not name.endswith((SWAP, ".snapshot")):
            storage.remove(directory / name)
    segment.rename("")


def is_compacted(storage: Storage, directory: Path) -> bool:
    """Whether gaps are to be expected in this log."""
    return storage.exists(directory / COMPACTED_FILE)


def mark_compacted(storage: Storage, directory: Path) -> None:
    """Gaps are to be expected from now on; durable once the directory is synced."""
    storage.open(directory / COMPACTED_FILE, create=True).close()
