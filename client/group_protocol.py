"""Requests and responses of consumer groups, named after Kafka's, in the vocabulary of protocol.py.

A response tells its failure in its ``error`` field, as Kafka's do, because some refusals carry data (KIP-394 hands out
a member id with one). Only a request that no group could have answered is answered with an ErrorResponse.

Two protocols share the offsets: the *classic* one (JoinGroup, SyncGroup, Heartbeat, LeaveGroup: a member computes the
assignment) and the *consumer* protocol of KIP-848 (ConsumerGroupHeartbeat: the coordinator does). Where Kafka's wire
has -1 for a number that is absent, there is None here; the two epochs that mean something below zero keep their names.
"""

from .classic_protocol import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinedMember,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    LeaveGroupRequest,
    LeaveGroupResponse,
    LeavingMember,
    LeftMember,
    MemberAssignment,
    SyncGroupRequest,
    SyncGroupResponse,
)
from .consumer_protocol import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from .group_admin_protocol import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    Coordinator,
    DeletedGroup,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedConsumer,
    DescribedConsumerGroup,
    DescribedGroup,
    DescribedMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
)
from .group_names import (
    CLASSIC,
    CONSUMER,
    INTERNAL_TOPICS,
    JOIN_EPOCH,
    LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH,
    GroupId,
    InstanceId,
    MemberId,
    Payload,
    Text,
)
from .offset_protocol import (
    CommitPartition,
    CommittedPartition,
    FetchedOffset,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetPartition,
)

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

__all__ = [
    "CLASSIC",
    "CONSUMER",
    "CommitPartition",
    "CommittedPartition",
    "ConsumerGroupDescribeRequest",
    "ConsumerGroupDescribeResponse",
    "ConsumerGroupHeartbeatRequest",
    "ConsumerGroupHeartbeatResponse",
    "Coordinator",
    "DeleteGroupsRequest",
    "DeleteGroupsResponse",
    "DeletedGroup",
    "DescribeGroupsRequest",
    "DescribeGroupsResponse",
    "DescribedConsumer",
    "DescribedConsumerGroup",
    "DescribedGroup",
    "DescribedMember",
    "FetchedOffset",
    "FindCoordinatorRequest",
    "FindCoordinatorResponse",
    "GroupId",
    "GroupRequest",
    "GroupResponse",
    "HeartbeatRequest",
    "HeartbeatResponse",
    "INTERNAL_TOPICS",
    "InstanceId",
    "JOIN_EPOCH",
    "JoinGroupRequest",
    "JoinGroupResponse",
    "JoinProtocol",
    "JoinedMember",
    "LEAVE_EPOCH",
    "LeaveGroupRequest",
    "LeaveGroupResponse",
    "LeavingMember",
    "LeftMember",
    "ListGroupsRequest",
    "ListGroupsResponse",
    "ListedGroup",
    "MemberAssignment",
    "MemberId",
    "OffsetCommitRequest",
    "OffsetCommitResponse",
    "OffsetDeleteRequest",
    "OffsetDeleteResponse",
    "OffsetFetchRequest",
    "OffsetFetchResponse",
    "OffsetPartition",
    "Payload",
    "STATIC_LEAVE_EPOCH",
    "SyncGroupRequest",
    "SyncGroupResponse",
    "Text",
    "TopicPartitions",
]
