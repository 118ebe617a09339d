"""Log and snapshots of a voter at its start, brought together."""

from pathlib import Path
from typing import NamedTuple

from ottla.log.storage import Storage

from .snapshot import Snapshot, SnapshotDamaged, SnapshotStore, judge_damage
from .wal import SEGMENT_BYTES, EntryId, WriteAheadLog
from .wal_format import WalDamaged


class Opened(NamedTuple):
    """``wal`` holds ``snapshot``'s last entry, or has it as its base."""

    wal: WriteAheadLog
    snapshot: Snapshot | None


def open_log(directory: Path, storage: Storage, store: SnapshotStore, *, segment_bytes: int = SEGMENT_BYTES) -> Opened:
    """Recover the snapshots and then the log on the newest sound one. Blocks.

    A damaged newer snapshot is only complained of if the log still reaches back to an older one, or to its beginning.
    Raises SnapshotDamaged, WalDamaged, OSError.
    """
    found = store.recover()
    snapshot = found.snapshot
    place = EntryId(snapshot.id.index, snapshot.id.term) if snapshot is not None else None
    try:
        wal = WriteAheadLog.open(directory, storage, place, segment_bytes=segment_bytes)
    except WalDamaged as damage:
        if found.damaged:
            raise SnapshotDamaged(f"{found.damaged[0].message}. {damage.message}") from damage
        raise
    judge_damage(found)
    return Opened(wal, snapshot)
