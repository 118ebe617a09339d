"""What groups have committed. Pure: records make it, and questions are answered from it."""

from collections.abc import Collection, Iterable, Iterator

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    CommittedPartition,
    FetchedOffset,
    OffsetCommitRequest,
    OffsetFetchRequest,
)
from ottla.log.model import Offset

from .outcome import FindTopic
from .records import CommittedOffset, GroupRecord, OffsetCommitKey

TopicAndPartition = tuple[str, int]


class Offsets:
    """Committed offsets by group, topic name and partition."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[TopicAndPartition, CommittedOffset]] = {}

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def __len__(self) -> int:
        return len(self._groups)

    def groups(self) -> list[str]:
        """Those that have committed anything."""
        return list(self._groups)

    def of(self, group_id: str) -> dict[TopicAndPartition, CommittedOffset]:
        """By topic and partition; empty for an unknown group."""
        return self._groups.get(group_id, {})

    def replay(self, record: GroupRecord) -> None:
        """Become what an OffsetCommit says."""
        key, value = record.key, record.value
        assert isinstance(key, OffsetCommitKey)
        where = (key.topic, key.partition)
        if isinstance(value, CommittedOffset):
            self._groups.setdefault(key.group_id, {})[where] = value
            return
        group = self._groups.get(key.group_id, {})
        group.pop(where, None)
        if not group:
            self._groups.pop(key.group_id, None)


def commit(
    request: OffsetCommitRequest, find_topic: FindTopic, now_ms: int, metadata_bytes_max: int
) -> tuple[list[GroupRecord], tuple[CommittedPartition, ...]]:
    """Records for the partitions that can be committed, and the outcome of each. Whether the member may is decided
    before."""
    records, results = [], []
    for asked in request.partitions:
        error = _why_not(asked, find_topic, metadata_bytes_max)
        results.append(CommittedPartition(asked.topic, asked.partition, error))
        found = find_topic(asked.topic)
        if error is ErrorCode.NONE and found is not None:
            value = CommittedOffset(Offset(asked.offset), asked.leader_epoch, asked.metadata, now_ms, found[0])
            records.append(GroupRecord(OffsetCommitKey(request.group_id, asked.topic, asked.partition), value))
    return records, tuple(results)


def _why_not(asked: CommitPartition, find_topic: FindTopic, metadata_bytes_max: int) -> ErrorCode:
    if len(asked.metadata.encode()) > metadata_bytes_max:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    found = find_topic(asked.topic)
    if found is None or asked.partition >= found[1]:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if asked.topic_id is not None and asked.topic_id != found[0]:
        return ErrorCode.UNKNOWN_TOPIC_ID
    return ErrorCode.NONE


def fetch(offsets: Offsets, request: OffsetFetchRequest, find_topic: FindTopic) -> tuple[FetchedOffset, ...]:
    """What is committed: in the order asked, or sorted, where all was asked for."""
    held = offsets.of(request.group_id)
    wanted: Iterable[TopicAndPartition]
    if request.partitions is None:
        wanted = sorted(where for where, value in held.items() if _is_of_current(where, value, find_topic))
    else:
        wanted = ((asked.topic, asked.partition) for asked in request.partitions)
    return tuple(_fetched(where, held.get(where), find_topic) for where in wanted)


def _fetched(where: TopicAndPartition, value: CommittedOffset | None, find_topic: FindTopic) -> FetchedOffset:
    if value is None or not _is_of_current(where, value, find_topic):
        return FetchedOffset(*where)
    return FetchedOffset(*where, value.offset, value.leader_epoch, value.metadata, value.topic_id)


def _is_of_current(where: TopicAndPartition, value: CommittedOffset, find_topic: FindTopic) -> bool:
    """Whether the offset is of the topic that has this name now. A topic this node has not heard of yet counts."""
    found = find_topic(where[0])
    return found is None or value.topic_id in (None, found[0])


def tombstones(group_id: str, wheres: Iterable[TopicAndPartition]) -> Iterator[GroupRecord]:
    """Records that forget offsets."""
    for topic, partition in wheres:
        yield GroupRecord(OffsetCommitKey(group_id, topic, partition), None)


def expired(
    offsets: Offsets,
    group_id: str,
    unread: Collection[TopicAndPartition],
    empty_since_ms: int,
    now_ms: int,
    retention_ms: int,
) -> list[GroupRecord]:
    """Tombstones for what was committed too long ago and is read by no member; and, in an empty group, has been read
    by none for as long (KIP-211)."""
    old = [
        where
        for where, value in offsets.of(group_id).items()
        if where in unread and max(value.timestamp_ms, empty_since_ms) + retention_ms <= now_ms
    ]
    return list(tombstones(group_id, old))
