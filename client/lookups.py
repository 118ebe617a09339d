"""Offsets of partitions that are being read, asked of their leaders."""

from collections.abc import Iterable

from ottla.log.model import TopicId, TopicPartition

from .cluster import Cluster
from .errors import OttlaError
from .offsets import list_offsets
from .protocol import LATEST, OffsetResult
from .reading import Partition


async def look_up(
    cluster: Cluster,
    partitions: Iterable[Partition],
    position: str,
    *,
    timeout_s: float,
    timestamp_ms: int | None = None,
) -> dict[TopicPartition, int | None]:
    """As ``list_offsets``; None where there is no such record. Raises OttlaError."""
    found: dict[TopicPartition, int | None] = {}
    for topic_id, members in _by_topic(partitions).items():
        numbers = [member.number for member in members]
        answers = await list_offsets(
            cluster, topic_id, numbers, position, timeout_s=timeout_s, timestamp_ms=timestamp_ms
        )
        for member in members:
            answer = answers[member.number]
            if isinstance(answer, OttlaError):
                raise answer
            found[member.key] = answer.offset
    return found


async def learn_ends(cluster: Cluster, partitions: Iterable[Partition]) -> None:
    """How far these reach, where no fetch tells it; those that do not answer are as they were."""
    idle = [partition for partition in partitions if not partition.fetching and partition.failure is None]
    for topic_id, members in _by_topic(idle).items():
        numbers = [member.number for member in members]
        answers = await list_offsets(cluster, topic_id, numbers, LATEST, timeout_s=0.0)
        for member in members:
            answer = answers[member.number]
            if isinstance(answer, OffsetResult) and not member.fetching:
                member.high_watermark = answer.offset


def _by_topic(partitions: Iterable[Partition]) -> dict[TopicId, list[Partition]]:
    found: dict[TopicId, list[Partition]] = {}
    for partition in partitions:
        found.setdefault(partition.target.topic_id, []).append(partition)
    return found
