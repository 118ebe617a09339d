"""Telling a tail that a power cut has torn, which is cut off, from damage, which must not be."""

from collections.abc import Sequence

from .errors import CorruptBatch
from .model import Offset
from .records import HEADER_SIZE, MAGIC, RecordBatch
from .segment import Segment
from .segment_reader import VERIFY_BYTES

MAGIC_POSITION = 16
OFFSETS_AHEAD_MAX = 1 << 31


def why_not_torn(
    segment: Segment,
    position: int,
    later: Sequence[Segment],
    *,
    clean: bool,
    recovery_point: Offset,
    power_was_lost: bool,
) -> str | None:
    """``segment`` has no good batch at ``position``, and ``later`` follow it: why this is no tail that was torn. None:
    it is one.

    A process that dies leaves what it wrote in the page cache, and tears its last write at most. A power cut may lose
    any of the pages that were not synced, and keep what was written after them.
    """
    if clean:
        return "the last run ended cleanly"
    if segment.next_offset < recovery_point:
        return f"it had been durable up to offset {recovery_point}"
    if power_was_lost:
        return None
    if any(other.size_bytes for other in later):
        return "more segments follow"
    if (found := find_batch(segment, position + 1)) is not None:
        return f"a good batch follows at byte {found}"
    return None


def find_batch(segment: Segment, position: int) -> int | None:
    """Where, at or after ``position``, a batch with a true CRC and a later offset starts; None if nowhere."""
    while position + HEADER_SIZE <= segment.size_bytes:
        window = segment.read_range(position, VERIFY_BYTES)
        candidate = window.find(MAGIC, MAGIC_POSITION)
        while candidate >= 0:
            if _is_batch(segment, window, position, candidate - MAGIC_POSITION):
                return position + candidate - MAGIC_POSITION
            candidate = window.find(MAGIC, candidate + 1)
        position += max(1, len(window) - HEADER_SIZE + 1)
    return None


def _is_batch(segment: Segment, window: bytes, window_start: int, at: int) -> bool:
    if at + HEADER_SIZE > len(window):
        return False
    try:
        header = RecordBatch.parse_header(window, at)
        ahead = header.base_offset - segment.next_offset
        if not 0 <= ahead < OFFSETS_AHEAD_MAX or header.last_offset_delta < 0:
            return False
        if window_start + at + header.size_bytes > segment.size_bytes:
            return False
        RecordBatch.parse(segment.read_range(window_start + at, header.size_bytes)).verify_crc()
    except CorruptBatch:
        return False
    return True
