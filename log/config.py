"""What may be set per topic, as its logs see it."""

from typing import Literal

import msgspec

_DAY_MS = 24 * 3600 * 1000
_FOREVER_MS = 2**63 - 1


class LogConfig(msgspec.Struct, frozen=True):
    """The names are Kafka's, with underscores for dots. Kafka's -1 ("no limit") is None."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * _DAY_MS  # a segment is rolled this long after its first append
    segment_jitter_ms: int = 0  # taken off segment_ms at random, so that many logs do not roll at once
    segment_index_bytes: int = 10 << 20  # of each index of a segment; a full index rolls the segment
    index_interval_bytes: int = 4096
    max_message_bytes: int = 1048588  # of a batch as it is stored

    message_timestamp_type: Literal["CreateTime", "LogAppendTime"] = "CreateTime"
    message_timestamp_before_max_ms: int = _FOREVER_MS  # how far behind this node's clock a record may be (KIP-937)
    message_timestamp_after_max_ms: int = 3600 * 1000  # how far ahead of it

    cleanup_policy: frozenset[Literal["delete", "compact"]] = frozenset({"delete"})
    retention_ms: int | None = 7 * _DAY_MS
    retention_bytes: int | None = None  # of the whole partition
    file_delete_delay_ms: int = 60_000  # a file out of use keeps its bytes this long, for who still reads it

    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0  # a record younger than this is not compacted away
    max_compaction_lag_ms: int = _FOREVER_MS  # a record older than this is, whatever the ratio (KIP-354)
    delete_retention_ms: int = _DAY_MS  # how long a tombstone stays after the cleaning that met it first

    flush: Literal["os", "ack"] = "os"  # "ack": a record counts once it is durable
    flush_messages: int | None = None  # flush at the latest after so many records
    flush_ms: int | None = None  # and this long after an append

    @property
    def flushes_before_ack(self) -> bool:
        """Whether a record counts only once it is durable. Kafka has no ``flush``, its users say flush.messages=1."""
        return self.flush == "ack" or self.flush_messages == 1

    @property
    def compacts(self) -> bool:
        """Whether only the newest record of each key is kept."""
        return "compact" in self.cleanup_policy

    @property
    def deletes(self) -> bool:
        """Whether retention removes what is old."""
        return "delete" in self.cleanup_policy
