"""Bugs in what a log keeps: compaction, retention, and what is done about bytes that rot."""

from typing import Any

from ottla.broker import housekeeping
from ottla.broker.scrubber import Scrubber
from ottla.log.key_map import KeyMap, digest_of
from ottla.log.model import Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.records import RecordBatch
from ottla.log.segment_names import SWAP

from .base import Bug, put, put_at, together

EVERYTHING = Offset(1 << 62)


def _newest_goes_too(keys: KeyMap, key: bytes, offset: int) -> bool:
    return offset > keys._offsets.get(digest_of(key), -1)


def _clean_anything(*arguments: Any, plan: Any = housekeeping.plan_cleaning, **named: Any) -> Any:
    return plan(*arguments, **{**named, "high_watermark": EVERYTHING})


def _expire_anything(*arguments: Any, count: Any = housekeeping.expired_count, **named: Any) -> Any:
    return count(*arguments, **{**named, "high_watermark": EVERYTHING})


def _expire_one_more(segments: Any, *arguments: Any, count: Any = housekeeping.expired_count, **named: Any) -> Any:
    found = count(segments, *arguments, **named)
    return min(found + 3, len(segments) - 1) if found else found


def _undo_swaps(storage: Any, directory: Any, *, index_interval_bytes: int) -> None:
    for name in storage.listdir(directory):
        if name.endswith((".cleaned", ".deleted", SWAP)):
            storage.remove(directory / name)


def _cut_and_swapped_all_the_same(log: PartitionLog) -> None:
    """What is being cleaned is not told of the truncation."""


async def _looks_away(scrubber: Scrubber) -> None:
    return None


CLEANING = {
    "cleaner_drops_newest": Bug(
        put(KeyMap, "is_newest", _newest_goes_too), "The newest record of each key stays", "Kafka LogCleaner"
    ),
    "cleans_above_high_watermark": Bug(
        put_at("ottla.broker.housekeeping.plan_cleaning", _clean_anything),
        "What is not committed, or not durable, replaces no older record of its key",
        "Kafka LogCleaner",
    ),
    "tombstone_goes_at_once": Bug(
        put(RecordBatch, "delete_horizon_ms", property(lambda batch: 0)),
        "A tombstone stays for delete.retention.ms, for those who read along",
        "KIP-534",
    ),
    "swap_undone_half": Bug(
        put_at("ottla.log.partition_log.finish_swaps", _undo_swaps),
        "A cleaned segment whose old ones may be gone takes their place after a crash",
        "Kafka LogCleaner",
    ),
    "cut_and_swapped_back": Bug(
        put(PartitionLog, "_forget_swap", _cut_and_swapped_all_the_same),
        "What was truncated does not come back with a segment that was being cleaned",
        "Kafka LogCleanerManager",
    ),
    "retention_above_high_watermark": Bug(
        put_at("ottla.broker.housekeeping.expired_count", _expire_anything),
        "Retention takes nothing at or above the high watermark",
        "Kafka UnifiedLog",
    ),
    "retention_takes_too_much": Bug(
        put_at("ottla.broker.housekeeping.expired_count", _expire_one_more),
        "Retention leaves retention.bytes",
        "Kafka UnifiedLog",
    ),
    "damage_not_looked_for": Bug(
        together(put(Scrubber, "suspect", lambda *_: None), put(Scrubber, "scrub", _looks_away)),
        "What a disk holds is read again, and given up where bytes have rotted",
        "Ceph, ZFS: scrubbing",
    ),
    "damage_opens_again": Bug(
        put_at("ottla.log.partition_log.condemn", lambda *_: None),
        "A log that was found damaged does not open again",
        "docs/guarantees.md",
    ),
    "crc_not_looked_at": Bug(
        put(RecordBatch, "verify_crc", lambda batch: None),
        "A batch whose CRC is wrong is neither taken over nor served for long",
        "Kafka log recovery",
    ),
}
