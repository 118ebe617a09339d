"""What a run of the node leaves behind for the next one to judge its end by: ``run.json`` (docs/guarantees.md).

A stop is unclean only if something acknowledged may have been lost with it. A killed process keeps its page cache, so
it is clean enough while the kernel is the same one; after a power cut, or a failed write or sync, it is not.
"""

from pathlib import Path

import msgspec
import structlog

from ottla.log.checkpoint import write_atomically
from ottla.log.model import BrokerEpoch
from ottla.log.storage import Storage

log = structlog.get_logger(__name__)

FILE_NAME = "run.json"


class RunRecord(msgspec.Struct, frozen=True):
    """The last run: the broker epoch it had, the kernel it ran on, and whether its disk failed it."""

    broker_epoch: BrokerEpoch
    boot_id: str | None
    failed: bool = False


def read_run_record(storage: Storage, directory: Path) -> RunRecord | None:
    """The last run's record; None before the first run. One that cannot be read says that the disk failed."""
    path = directory / FILE_NAME
    if not storage.exists(path):
        return None
    try:
        return msgspec.json.decode(storage.read_bytes(path), type=RunRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("run.record.unreadable", path=str(path), problem=str(error))
        return RunRecord(BrokerEpoch(0), None, failed=True)


def write_run_record(storage: Storage, directory: Path, record: RunRecord) -> None:
    """Durably. Blocks. Raises OSError."""
    write_atomically(storage, directory / FILE_NAME, msgspec.json.encode(record))


def was_unclean(record: RunRecord | None, clean_epoch: BrokerEpoch | None, boot_id: str | None) -> bool:
    """Whether the last stop may have lost what was acknowledged.

    ``clean_epoch``: from the clean-shutdown file, None without one. ``boot_id``: of the kernel now.
    """
    if record is None:
        return False  # nothing ran here before; the quorum judges by the directory id
    if record.failed:
        return True
    if clean_epoch == record.broker_epoch:
        return False
    return boot_id is None or record.boot_id != boot_id


def power_was_lost(record: RunRecord | None, boot_id: str | None) -> bool:
    """Whether what the last run had not synced may be gone, or gone in part: not while the kernel is the same one and
    the disk took every write."""
    return record is None or record.failed or boot_id is None or record.boot_id != boot_id
