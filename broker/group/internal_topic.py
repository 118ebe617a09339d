"""The topic that groups live in, and which of its partitions a group lives in."""

from ottla.client.group_protocol import INTERNAL_TOPICS

INTERNAL_TOPIC = "__consumer_offsets"

CONFIGS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(100 << 20),  # small files: what is compacted is what a failover reads
    "max.message.bytes": str(16 << 20),  # one batch is one decision, be it about a group of a thousand members
}


def is_internal(topic: str) -> bool:
    """Whether clients may only read it."""
    return topic in INTERNAL_TOPICS


def partition_of(group_id: str, partitions: int) -> int:
    """Kafka's choice: Java's ``Math.abs(group.hashCode()) % partitions``, where the smallest int counts as 0."""
    value = 0
    for unit in _units(group_id):
        value = (31 * value + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return 0 if signed == -(1 << 31) else abs(signed) % partitions


def _units(text: str) -> list[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
