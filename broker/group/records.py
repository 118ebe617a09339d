"""What `__consumer_offsets` holds, in the bytes of Kafka's own schemas (group-coordinator/src/main/resources/common/
message of its source), so that its tools read ours. Pure.

A key starts with its version, which tells what it is; a value with its own. A null value is a tombstone.
"""

from typing import TypeAlias

import msgspec

from ottla.log.model import LeaderEpoch, Offset, TopicId, TopicIdPartition

Partitions = frozenset[TopicIdPartition]

OFFSET_COMMIT, GROUP, CONSUMER_GROUP, MEMBER, TARGET, TARGET_MEMBER, CURRENT = 1, 2, 3, 5, 6, 7, 8
"""Versions of keys. 0 is an older OffsetCommit with the same fields; 4, KIP-848's first way to note the topics, is
passed over; 9 and above are of share groups, regular expressions and streams, which are not here."""


class _Struct(msgspec.Struct, frozen=True):
    pass


class OffsetCommitKey(_Struct, frozen=True):
    group_id: str
    topic: str
    partition: int


class GroupKey(_Struct, frozen=True):
    """``kind``: GROUP, CONSUMER_GROUP or TARGET."""

    kind: int
    group_id: str


class MemberKey(_Struct, frozen=True):
    """``kind``: MEMBER, TARGET_MEMBER or CURRENT."""

    kind: int
    group_id: str
    member_id: str


class CommittedOffset(_Struct, frozen=True):
    """OffsetCommitValue. ``timestamp_ms``: of the commit."""

    offset: Offset
    leader_epoch: LeaderEpoch | None
    metadata: str
    timestamp_ms: int
    topic_id: TopicId | None = None


class ClassicMemberValue(_Struct, frozen=True):
    member_id: str
    instance_id: str | None
    client_id: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes
    client_host: str = ""


class ClassicGroupValue(_Struct, frozen=True):
    """GroupMetadataValue: a classic group whenever it is stable or empty."""

    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    timestamp_ms: int
    members: tuple[ClassicMemberValue, ...]


class ConsumerGroupValue(_Struct, frozen=True):
    """``metadata_hash``: of the topics that are subscribed to, so that a change is seen after a failover too."""

    epoch: int
    metadata_hash: int = 0


class ClassicMetadata(_Struct, frozen=True):
    """What only a member has that is in a consumer group by the classic protocol: its assignors, the best first, each
    with the subscription in its bytes."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class MemberValue(_Struct, frozen=True):
    """What a member of a consumer group said of itself. ``regex``: topics by regular expression, besides ``topics``.
    ``classic``: of a member that speaks the classic protocol."""

    instance_id: str | None
    rack_id: str | None
    client_id: str
    topics: tuple[str, ...]
    rebalance_timeout_ms: int
    assignor: str | None
    regex: str | None = None
    classic: ClassicMetadata | None = None
    client_host: str = ""


class TargetValue(_Struct, frozen=True):
    epoch: int


class TargetMemberValue(_Struct, frozen=True):
    partitions: Partitions


STABLE, UNREVOKED, UNRELEASED = 0, 1, 2
"""States of a member: it owns what it should; it still has to let go of something; others do."""


class CurrentValue(_Struct, frozen=True):
    """What a member owns. ``revoking``: still its own, and only its own, until it says that it let go."""

    epoch: int
    previous_epoch: int
    state: int
    assigned: Partitions
    revoking: Partitions = frozenset()


Key: TypeAlias = OffsetCommitKey | GroupKey | MemberKey
Value: TypeAlias = (
    CommittedOffset
    | ClassicGroupValue
    | ConsumerGroupValue
    | MemberValue
    | TargetValue
    | TargetMemberValue
    | CurrentValue
)


class GroupRecord(_Struct, frozen=True):
    """One record: ``value`` None deletes what is under ``key``."""

    key: Key
    value: Value | None


def by_topic(partitions: Partitions) -> dict[TopicId, list[int]]:
    """Partition numbers, sorted, by topic id."""
    topics: dict[TopicId, list[int]] = {}
    for topic_id, number in sorted(partitions):
        topics.setdefault(topic_id, []).append(number)
    return topics
