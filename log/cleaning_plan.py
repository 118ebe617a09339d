"""Whether a compacted log is to be cleaned now, how far, and which segments become one. Pure (after Kafka's
LogCleanerManager)."""

from collections.abc import Sequence
from dataclasses import dataclass

from .config import LogConfig
from .index import INT32_MAX
from .model import Offset
from .retention import SegmentFacts


@dataclass(frozen=True, slots=True)
class CleaningPlan:
    """``first_dirty``: below it every key was unique at the last cleaning. ``cleanable``: how many segments, from the
    log's first, may be cleaned; ``dirty``: how many of those hold something at or above ``first_dirty``."""

    first_dirty: Offset
    cleanable: int
    dirty: int
    dirty_ratio: float
    is_due: bool


def plan_cleaning(
    segments: Sequence[SegmentFacts],
    config: LogConfig,
    *,
    first_dirty: Offset,
    high_watermark: Offset,
    now_ms: int,
) -> CleaningPlan:
    """What to do with a log of these segments, the last of which is appended to.

    Cleanable are whole segments below ``high_watermark`` and older than ``min_compaction_lag_ms``. Cleaning is due
    when enough of their bytes is dirty, or a dirty record has waited for ``max_compaction_lag_ms`` (KIP-354; the age of
    a segment's youngest record stands for it, a segment being rolled at that age at the latest).
    """
    cleanable = list(_cleanable(segments, config, high_watermark, now_ms))
    dirty = [segment for segment in cleanable if segment.next_offset > first_dirty]
    dirty_bytes = sum(segment.size_bytes for segment in dirty)
    all_bytes = sum(segment.size_bytes for segment in cleanable)
    ratio = dirty_bytes / all_bytes if all_bytes else 0.0
    overdue = any(
        segment.largest_timestamp_ms is not None
        and now_ms - segment.largest_timestamp_ms > config.max_compaction_lag_ms
        for segment in dirty
    )
    is_due = bool(dirty) and (ratio > config.min_cleanable_dirty_ratio or overdue)
    return CleaningPlan(first_dirty, len(cleanable), len(dirty), ratio, is_due)


def _cleanable(
    segments: Sequence[SegmentFacts], config: LogConfig, high_watermark: Offset, now_ms: int
) -> list[SegmentFacts]:
    found: list[SegmentFacts] = []
    for segment in segments[:-1]:
        youngest = segment.largest_timestamp_ms
        too_young = youngest is not None and now_ms - youngest < config.min_compaction_lag_ms
        if segment.next_offset > high_watermark or (config.min_compaction_lag_ms > 0 and too_young):
            break
        found.append(segment)
    return found


def groups_by_size(segments: Sequence[SegmentFacts], segment_bytes: int) -> list[int]:
    """How many neighbours become one segment each, in order: as many as stay below ``segment_bytes`` together, and
    whose offsets an index can tell apart."""
    sizes: list[int] = []
    total = 0
    base = Offset(0)
    for segment in segments:
        fits = total + segment.size_bytes <= segment_bytes and segment.next_offset - base <= INT32_MAX
        if sizes and fits:
            sizes[-1] += 1
            total += segment.size_bytes
        else:
            sizes.append(1)
            total, base = segment.size_bytes, segment.base_offset
    return sizes
