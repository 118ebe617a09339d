"""Requests and responses about committed offsets, which both group protocols share."""

from typing import Annotated

from ottla.log.model import LeaderEpoch, Offset, TopicId

from .error_codes import ErrorCode
from .group_names import GroupId, InstanceId, MemberId
from .message import FetchOffset, Int32, Many, Message, Name


class CommitPartition(Message):
    """``offset``: of the next record to read. With ``topic_id`` a commit for a topic that was deleted and made again
    is refused (UNKNOWN_TOPIC_ID); without it the name decides. ``leader_epoch``: of the last record read (KIP-320)."""

    topic: Name
    partition: Int32
    offset: FetchOffset
    leader_epoch: LeaderEpoch | None = None
    metadata: str = ""
    topic_id: TopicId | None = None


class OffsetCommitRequest(Message, tag="offset_commit"):
    """Store offsets. A member names itself and its ``generation_id_or_member_epoch``; who is in no group names
    neither (``None`` and ""), which a group with members refuses: UNKNOWN_MEMBER_ID. ``validate_only``: what would be
    answered; nothing is stored."""

    group_id: GroupId
    generation_id_or_member_epoch: Int32 | None
    member_id: MemberId
    partitions: Annotated[tuple[CommitPartition, ...], Many]
    group_instance_id: InstanceId | None = None
    validate_only: bool = False


class CommittedPartition(Message):
    """One partition's outcome. OFFSET_METADATA_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, or, when the
    write did not come about, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS."""

    topic: str
    partition: int
    error: ErrorCode


class OffsetCommitResponse(Message, tag="offset_commit"):
    """``error``: of the request as a whole (nothing was stored): ILLEGAL_GENERATION, STALE_MEMBER_EPOCH,
    UNKNOWN_MEMBER_ID, GROUP_ID_NOT_FOUND, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS, INVALID_GROUP_ID,
    NOT_COORDINATOR ...; Kafka's wire repeats it in every partition. ``partitions``: in the request's order."""

    error: ErrorCode
    partitions: tuple[CommittedPartition, ...] = ()
    message: str = ""


class OffsetPartition(Message):
    """One partition of a topic, by name."""

    topic: Name
    partition: Int32


class OffsetFetchRequest(Message, tag="offset_fetch"):
    """What is committed: for these partitions, or, with None, for all. A member of the consumer protocol may name
    itself and its epoch, so that one that was fenced learns of it (STALE_MEMBER_EPOCH, UNKNOWN_MEMBER_ID).
    ``require_stable`` has no meaning before there are transactions."""

    group_id: GroupId
    partitions: Annotated[tuple[OffsetPartition, ...], Many] | None
    member_id: MemberId = ""
    member_epoch: Int32 | None = None
    require_stable: bool = False


class FetchedOffset(Message):
    """``offset``: None where nothing is committed. ``topic_id``: of the topic it was committed for, if
    that was told."""

    topic: str
    partition: int
    offset: Offset | None = None
    leader_epoch: LeaderEpoch | None = None
    metadata: str = ""
    topic_id: TopicId | None = None
    error: ErrorCode = ErrorCode.NONE


class OffsetFetchResponse(Message, tag="offset_fetch"):
    """A group that nobody knows has committed nothing: no error."""

    error: ErrorCode
    partitions: tuple[FetchedOffset, ...] = ()
    message: str = ""


class OffsetDeleteRequest(Message, tag="offset_delete"):
    """Forget committed offsets (KIP-496). ``validate_only``: what would be answered; nothing is forgotten."""

    group_id: GroupId
    partitions: Annotated[tuple[OffsetPartition, ...], Many]
    validate_only: bool = False


class OffsetDeleteResponse(Message, tag="offset_delete"):
    """``partitions``: GROUP_SUBSCRIBED_TO_TOPIC where a member reads it. ``error``: GROUP_ID_NOT_FOUND ..."""

    error: ErrorCode
    partitions: tuple[CommittedPartition, ...] = ()
    message: str = ""
