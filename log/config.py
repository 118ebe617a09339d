"""What may be set per topic."""

import msgspec


class LogConfig(msgspec.Struct, frozen=True):
    """The names are Kafka's, with underscores for dots."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000  # a segment is rolled this long after its first append
    index_interval_bytes: int = 4096
    max_message_bytes: int = 1048588  # of a batch as it is stored
    message_timestamp_after_max_ms: int = 3600 * 1000  # how far ahead of this node's clock a record may be (KIP-937)
