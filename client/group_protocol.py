"""Requests and responses of consumer groups, named after Kafka's, in the vocabulary of protocol.py.

A response tells its failure in its ``error`` field, as Kafka's do, because some refusals carry data (KIP-394 hands out
a member id with one). Only a request that no group could have answered is answered with an ErrorResponse.

Two protocols share the offsets: the *classic* one (JoinGroup, SyncGroup, Heartbeat, LeaveGroup: a member computes the
assignment) and the *consumer* protocol of KIP-848 (ConsumerGroupHeartbeat: the coordinator does). Where Kafka's wire
has -1 for a number that is absent, there is None here; the two epochs that mean something below zero keep their names.
"""

from typing import Annotated

import msgspec

from ottla.log.model import BrokerId, LeaderEpoch, Offset, TopicId

from .error_codes import ErrorCode
from .message import FetchOffset, Int32, Many, Message, Name

GroupId = Annotated[str, msgspec.Meta(max_length=255)]
"""What a group is called. Empty is refused: INVALID_GROUP_ID."""
MemberId = Annotated[str, msgspec.Meta(max_length=300)]
InstanceId = Annotated[str, msgspec.Meta(min_length=1, max_length=249)]
"""A static member's own name (KIP-345): it survives the process, so a restart needs no rebalance."""
Text = Annotated[str, msgspec.Meta(max_length=4096)]
_MAX_MEMBERS = msgspec.Meta(max_length=10_000)
_FEW = msgspec.Meta(max_length=100)
Payload = Annotated[bytes, msgspec.Meta(max_length=1 << 20)]
"""A member's subscription or assignment in the classic protocol: bytes that only members understand."""

JOIN_EPOCH = 0
"""Member epoch of the first heartbeat, and of one that was fenced and joins again (KIP-848)."""
LEAVE_EPOCH = -1
"""Member epoch of the last heartbeat: the member is gone, and so is its place."""
STATIC_LEAVE_EPOCH = -2
"""The last heartbeat of a static member that will be back: its partitions wait for it for a session."""
INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state"})
"""The cluster's own topics, which coordinators write: clients may read them, and neither write, make nor delete
them."""
CLASSIC, CONSUMER = "classic", "consumer"
"""The two types of group, as ListGroups names them."""


# --- who coordinates -------------------------------------------------------------------------------------------------


class FindCoordinatorRequest(Message, tag="find_coordinator"):
    """Which broker coordinates these groups (KIP-699: many at once). Any broker answers."""

    group_ids: Annotated[tuple[GroupId, ...], _FEW]


class Coordinator(Message):
    """A group's coordinator; ``error`` COORDINATOR_NOT_AVAILABLE where there is none now, INVALID_GROUP_ID."""

    group_id: str
    error: ErrorCode
    node_id: BrokerId | None = None
    host: str = ""
    port: int = 0
    message: str = ""


class FindCoordinatorResponse(Message, tag="find_coordinator"):
    """In the request's order."""

    coordinators: tuple[Coordinator, ...]


# --- the classic protocol --------------------------------------------------------------------------------------------


class JoinProtocol(Message):
    """An assignor that a member can work with, and its subscription in that assignor's bytes."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    metadata: Payload


class JoinGroupRequest(Message, tag="join_group"):
    """Become a member, or take part in the rebalance that is on. Without ``member_id`` a dynamic member is refused
    with MEMBER_ID_REQUIRED and told its id (KIP-394). Answered when the rebalance has all its members.
    ``protocols``: the best first. ``client_id``: for people; Kafka has it in the request's header."""

    group_id: GroupId
    session_timeout_ms: Int32
    rebalance_timeout_ms: Int32
    member_id: MemberId
    group_instance_id: InstanceId | None
    protocol_type: Annotated[str, msgspec.Meta(max_length=255)]
    protocols: Annotated[tuple[JoinProtocol, ...], _FEW]
    reason: Text = ""
    client_id: Text = ""


class JoinedMember(Message):
    """What the leader needs to know of a member to give it partitions."""

    member_id: str
    group_instance_id: str | None
    metadata: bytes


class JoinGroupResponse(Message, tag="join_group"):
    """``members``: for the leader only. ``skip_assignment``: the leader is back from a restart and nothing has
    changed, so the assignment stands (KIP-814). INCONSISTENT_GROUP_PROTOCOL, INVALID_SESSION_TIMEOUT,
    MEMBER_ID_REQUIRED (with ``member_id``), UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, GROUP_MAX_SIZE_REACHED,
    REBALANCE_IN_PROGRESS, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE."""

    error: ErrorCode
    member_id: str = ""
    generation_id: int | None = None
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[JoinedMember, ...] = ()
    message: str = ""


class MemberAssignment(Message):
    """What the leader gives to a member."""

    member_id: MemberId
    assignment: Payload


class SyncGroupRequest(Message, tag="sync_group"):
    """Ask for one's part of the assignment; the leader brings all of it. Answered when the leader has."""

    group_id: GroupId
    generation_id: Int32
    member_id: MemberId
    group_instance_id: InstanceId | None = None
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignments: Annotated[tuple[MemberAssignment, ...], _MAX_MEMBERS] = ()


class SyncGroupResponse(Message, tag="sync_group"):
    """ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS (join again), FENCED_INSTANCE_ID,
    INCONSISTENT_GROUP_PROTOCOL."""

    error: ErrorCode
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignment: bytes = b""
    message: str = ""


class HeartbeatRequest(Message, tag="heartbeat"):
    """I am alive. Any request of a member counts as one."""

    group_id: GroupId
    generation_id: Int32
    member_id: MemberId
    group_instance_id: InstanceId | None = None


class HeartbeatResponse(Message, tag="heartbeat"):
    """REBALANCE_IN_PROGRESS: join again. ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID: start anew."""

    error: ErrorCode
    message: str = ""


class LeavingMember(Message):
    """By its id, or, for a static member, by its instance id alone (then ``member_id`` is empty)."""

    member_id: MemberId
    group_instance_id: InstanceId | None = None
    reason: Text = ""


class LeaveGroupRequest(Message, tag="leave_group"):
    """These members are gone. A static one is left out by an administrator (KIP-345), by its instance id."""

    group_id: GroupId
    members: Annotated[tuple[LeavingMember, ...], _MAX_MEMBERS]


class LeftMember(Message):
    """``error``: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, or none."""

    member_id: str
    group_instance_id: str | None
    error: ErrorCode


class LeaveGroupResponse(Message, tag="leave_group"):
    """In the request's order."""

    error: ErrorCode
    members: tuple[LeftMember, ...] = ()
    message: str = ""


# --- the consumer protocol (KIP-848) ---------------------------------------------------------------------------------


class TopicPartitions(Message):
    """Some partitions of a topic."""

    topic_id: TopicId
    partitions: Annotated[tuple[Int32, ...], Many]


class ConsumerGroupHeartbeatRequest(Message, tag="consumer_group_heartbeat"):
    """Join (epoch 0), stay, acknowledge and leave (-1, or -2 for a static member that will be back).

    ``member_id``: chosen by the member (KIP-1082), or empty in the first heartbeat to be given one. What is None has
    not changed since the last heartbeat; a joining member says everything. ``topic_partitions``: what it owns now:
    revocations are acknowledged by their being absent from it, and a joining member owns nothing: ``()``.
    ``subscribed_topic_regex`` is refused for now: INVALID_REQUEST. ``server_assignor``: ``uniform`` or ``range``."""

    group_id: GroupId
    member_id: MemberId
    member_epoch: Annotated[int, msgspec.Meta(ge=-2, le=2**31 - 1)]
    instance_id: InstanceId | None = None
    rack_id: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    rebalance_timeout_ms: Int32 | None = None
    subscribed_topic_names: Annotated[tuple[Name, ...], Many] | None = None
    subscribed_topic_regex: Text | None = None
    server_assignor: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    topic_partitions: Annotated[tuple[TopicPartitions, ...], Many] | None = None
    client_id: Text = ""


class ConsumerGroupHeartbeatResponse(Message, tag="consumer_group_heartbeat"):
    """``assignment``: what the member may own now, all of it; None: as told before. Whatever it owns beyond that it
    revokes (commits first) and then says so by ``topic_partitions`` of its next heartbeat, sent at once.

    FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER_ID: everything is lost, join again at epoch 0. UNRELEASED_INSTANCE_ID: another
    member still has the instance id. UNSUPPORTED_ASSIGNOR, INVALID_REQUEST, GROUP_MAX_SIZE_REACHED,
    INVALID_REGULAR_EXPRESSION, GROUP_ID_NOT_FOUND (the group is a classic one with members), NOT_COORDINATOR ..."""

    error: ErrorCode
    member_id: str = ""
    member_epoch: int = 0
    heartbeat_interval_ms: int = 0
    assignment: tuple[TopicPartitions, ...] | None = None
    message: str = ""


class ConsumerGroupDescribeRequest(Message, tag="consumer_group_describe"):
    """What these groups of the consumer protocol are doing. Only their coordinator answers."""

    group_ids: Annotated[tuple[GroupId, ...], _FEW]


class DescribedConsumer(Message):
    """``assignment``: what it owns; ``target_assignment``: what it will own once all have let go."""

    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    subscribed_topic_names: tuple[str, ...] = ()
    assignment: tuple[TopicPartitions, ...] = ()
    target_assignment: tuple[TopicPartitions, ...] = ()


class DescribedConsumerGroup(Message):
    """``state``: Empty, Assigning, Reconciling, Stable. ``group_epoch`` rises when members, subscriptions or topics
    change, ``assignment_epoch`` follows with the target."""

    group_id: str
    error: ErrorCode
    state: str = ""
    group_epoch: int = 0
    assignment_epoch: int = 0
    assignor: str = ""
    members: tuple[DescribedConsumer, ...] = ()
    message: str = ""


class ConsumerGroupDescribeResponse(Message, tag="consumer_group_describe"):
    """In the request's order. GROUP_ID_NOT_FOUND where there is none of this type."""

    groups: tuple[DescribedConsumerGroup, ...]


# --- offsets ---------------------------------------------------------------------------------------------------------


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
    neither (``None`` and ""), which a group with members refuses: UNKNOWN_MEMBER_ID."""

    group_id: GroupId
    generation_id_or_member_epoch: Int32 | None
    member_id: MemberId
    partitions: Annotated[tuple[CommitPartition, ...], Many]
    group_instance_id: InstanceId | None = None


class CommittedPartition(Message):
    """One partition's outcome. OFFSET_METADATA_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, or, when the
    write did not come about, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS."""

    topic: str
    partition: int
    error: ErrorCode


class OffsetCommitResponse(Message, tag="offset_commit"):
    """``error``: of the request as a whole (nothing was stored): ILLEGAL_GENERATION, STALE_MEMBER_EPOCH,
    UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS, INVALID_GROUP_ID, NOT_COORDINATOR ...; Kafka's wire
    repeats it in every partition. ``partitions``: in the request's order."""

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
    """Forget committed offsets (KIP-496)."""

    group_id: GroupId
    partitions: Annotated[tuple[OffsetPartition, ...], Many]


class OffsetDeleteResponse(Message, tag="offset_delete"):
    """``partitions``: GROUP_SUBSCRIBED_TO_TOPIC where a member reads it. ``error``: GROUP_ID_NOT_FOUND ..."""

    error: ErrorCode
    partitions: tuple[CommittedPartition, ...] = ()
    message: str = ""


# --- for people ------------------------------------------------------------------------------------------------------


class ListGroupsRequest(Message, tag="list_groups"):
    """The groups that the answering broker coordinates: ask every broker. Empty filters let everything through."""

    states: Annotated[tuple[str, ...], _FEW] = ()
    types: Annotated[tuple[str, ...], _FEW] = ()


class ListedGroup(Message):
    """``group_type``: ``classic`` or ``consumer``. ``state``: Kafka's names (Empty, PreparingRebalance,
    CompletingRebalance, Stable, Dead; Assigning, Reconciling)."""

    group_id: str
    protocol_type: str
    state: str
    group_type: str
    members: int = 0


class ListGroupsResponse(Message, tag="list_groups"):
    """COORDINATOR_LOAD_IN_PROGRESS: some are still being read; those that are known are there."""

    error: ErrorCode
    groups: tuple[ListedGroup, ...] = ()


class DescribeGroupsRequest(Message, tag="describe_groups"):
    """What these groups of the classic protocol are doing. Only their coordinator answers."""

    group_ids: Annotated[tuple[GroupId, ...], _FEW]


class DescribedMember(Message):
    member_id: str
    group_instance_id: str | None = None
    client_id: str = ""
    metadata: bytes = b""
    assignment: bytes = b""


class DescribedGroup(Message):
    """``protocol_data``: the assignor that was chosen."""

    group_id: str
    error: ErrorCode
    state: str = ""
    protocol_type: str = ""
    protocol_data: str = ""
    members: tuple[DescribedMember, ...] = ()
    generation_id: int = 0
    message: str = ""


class DescribeGroupsResponse(Message, tag="describe_groups"):
    """In the request's order. GROUP_ID_NOT_FOUND where there is none of this type (KIP-1043)."""

    groups: tuple[DescribedGroup, ...]


class DeleteGroupsRequest(Message, tag="delete_groups"):
    """Forget groups and all that they committed. Only their coordinator does."""

    group_ids: Annotated[tuple[GroupId, ...], _FEW]


class DeletedGroup(Message):
    """NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, or none."""

    group_id: str
    error: ErrorCode


class DeleteGroupsResponse(Message, tag="delete_groups"):
    """In the request's order."""

    groups: tuple[DeletedGroup, ...]


GroupRequest = (
    FindCoordinatorRequest
    | JoinGroupRequest
    | SyncGroupRequest
    | HeartbeatRequest
    | LeaveGroupRequest
    | ConsumerGroupHeartbeatRequest
    | ConsumerGroupDescribeRequest
    | OffsetCommitRequest
    | OffsetFetchRequest
    | OffsetDeleteRequest
    | ListGroupsRequest
    | DescribeGroupsRequest
    | DeleteGroupsRequest
)

GroupResponse = (
    FindCoordinatorResponse
    | JoinGroupResponse
    | SyncGroupResponse
    | HeartbeatResponse
    | LeaveGroupResponse
    | ConsumerGroupHeartbeatResponse
    | ConsumerGroupDescribeResponse
    | OffsetCommitResponse
    | OffsetFetchResponse
    | OffsetDeleteResponse
    | ListGroupsResponse
    | DescribeGroupsResponse
    | DeleteGroupsResponse
)
