"""Which of a log's segments go, because they are too old, too many, or below the log's start. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from .config import LogConfig
from .model import Offset


class SegmentFacts(NamedTuple):
    """What is asked of a segment. ``largest_timestamp_ms``: of its records; None where it has none with a time."""

    base_offset: Offset
    next_offset: Offset
    size_bytes: int
    largest_timestamp_ms: int | None


def expired_count(
    segments: Sequence[SegmentFacts],
    config: LogConfig,
    *,
    now_ms: int,
    log_start_offset: Offset,
    high_watermark: Offset,
) -> int:
    """How many segments go, from the first on (Kafka's UnifiedLog.deleteOldSegments): whole ones that hold nothing at
    or above ``high_watermark``. All of them means that a new one must be begun first.

    By time a segment goes once its youngest record is older than ``retention_ms``; by size the oldest go while the
    others alone make ``retention_bytes``. Below the log's start they go whatever the policy.
    """
    excess = _excess_bytes(segments, config)
    count = 0
    for segment in segments:
        if segment.next_offset > high_watermark or not segment.size_bytes:
            break
        too_many = excess is not None and excess >= segment.size_bytes
        if not (segment.next_offset <= log_start_offset or too_many or _is_too_old(segment, config, now_ms)):
            break
        if excess is not None:
            excess -= segment.size_bytes
        count += 1
    return count


def _excess_bytes(segments: Sequence[SegmentFacts], config: LogConfig) -> int | None:
    if not config.deletes or config.retention_bytes is None:
        return None
    return sum(segment.size_bytes for segment in segments) - config.retention_bytes


def _is_too_old(segment: SegmentFacts, config: LogConfig, now_ms: int) -> bool:
    if not config.deletes or config.retention_ms is None or segment.largest_timestamp_ms is None:
        return False
    return now_ms - segment.largest_timestamp_ms > config.retention_ms
