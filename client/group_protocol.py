"""Requests and responses of consumer groups, named after Kafka's, in the vocabulary of protocol.py.

A response tells its failure in its ``error`` field, as Kafka's do, because some refusals carry data (KIP-394 hands out
a member id with one). Only a request that no group could have answered is answered with an ErrorResponse.

Two protocols share the offsets: the *classic* one (JoinGroup, SyncGroup, Heartbeat, LeaveGroup: a member computes the
assignment) and the *consumer* protocol of KIP-848 (ConsumerGroupHeartbeat: the coordinator does). Where Kafka's wire
has -1 for a number that is absent, there is None here; the two epochs that mean something below zero keep their names.
"""

from .classic_protocol import (
    HeartbeatRequest as HeartbeatRequest,
)
from .classic_protocol import (
    HeartbeatResponse as HeartbeatResponse,
)
from .classic_protocol import (
    JoinedMember as JoinedMember,
)
from .classic_protocol import (
    JoinGroupRequest as JoinGroupRequest,
)
from .classic_protocol import (
    JoinGroupResponse as JoinGroupResponse,
)
from .classic_protocol import (
    JoinProtocol as JoinProtocol,
)
from .classic_protocol import (
    LeaveGroupRequest as LeaveGroupRequest,
)
from .classic_protocol import (
    LeaveGroupResponse as LeaveGroupResponse,
)
from .classic_protocol import (
    LeavingMember as LeavingMember,
)
from .classic_protocol import (
    LeftMember as LeftMember,
)
from .classic_protocol import (
    MemberAssignment as MemberAssignment,
)
from .classic_protocol import (
    SyncGroupRequest as SyncGroupRequest,
)
from .classic_protocol import (
    SyncGroupResponse as SyncGroupResponse,
)
from .consumer_protocol import (
    ConsumerGroupHeartbeatRequest as ConsumerGroupHeartbeatRequest,
)
from .consumer_protocol import (
    ConsumerGroupHeartbeatResponse as ConsumerGroupHeartbeatResponse,
)
from .consumer_protocol import (
    TopicPartitions as TopicPartitions,
)
from .group_admin_protocol import (
    ConsumerGroupDescribeRequest as ConsumerGroupDescribeRequest,
)
from .group_admin_protocol import (
    ConsumerGroupDescribeResponse as ConsumerGroupDescribeResponse,
)
from .group_admin_protocol import (
    Coordinator as Coordinator,
)
from .group_admin_protocol import (
    DeletedGroup as DeletedGroup,
)
from .group_admin_protocol import (
    DeleteGroupsRequest as DeleteGroupsRequest,
)
from .group_admin_protocol import (
    DeleteGroupsResponse as DeleteGroupsResponse,
)
from .group_admin_protocol import (
    DescribedConsumer as DescribedConsumer,
)
from .group_admin_protocol import (
    DescribedConsumerGroup as DescribedConsumerGroup,
)
from .group_admin_protocol import (
    DescribedGroup as DescribedGroup,
)
from .group_admin_protocol import (
    DescribedMember as DescribedMember,
)
from .group_admin_protocol import (
    DescribeGroupsRequest as DescribeGroupsRequest,
)
from .group_admin_protocol import (
    DescribeGroupsResponse as DescribeGroupsResponse,
)
from .group_admin_protocol import (
    FindCoordinatorRequest as FindCoordinatorRequest,
)
from .group_admin_protocol import (
    FindCoordinatorResponse as FindCoordinatorResponse,
)
from .group_admin_protocol import (
    ListedGroup as ListedGroup,
)
from .group_admin_protocol import (
    ListGroupsRequest as ListGroupsRequest,
)
from .group_admin_protocol import (
    ListGroupsResponse as ListGroupsResponse,
)
from .group_names import (
    CLASSIC as CLASSIC,
)
from .group_names import (
    CONSUMER as CONSUMER,
)
from .group_names import (
    INTERNAL_TOPICS as INTERNAL_TOPICS,
)
from .group_names import (
    JOIN_EPOCH as JOIN_EPOCH,
)
from .group_names import (
    LEAVE_EPOCH as LEAVE_EPOCH,
)
from .group_names import (
    STATIC_LEAVE_EPOCH as STATIC_LEAVE_EPOCH,
)
from .group_names import (
    GroupId as GroupId,
)
from .group_names import (
    InstanceId as InstanceId,
)
from .group_names import (
    MemberId as MemberId,
)
from .group_names import (
    Payload as Payload,
)
from .group_names import (
    Text as Text,
)
from .offset_protocol import (
    CommitPartition as CommitPartition,
)
from .offset_protocol import (
    CommittedPartition as CommittedPartition,
)
from .offset_protocol import (
    FetchedOffset as FetchedOffset,
)
from .offset_protocol import (
    OffsetCommitRequest as OffsetCommitRequest,
)
from .offset_protocol import (
    OffsetCommitResponse as OffsetCommitResponse,
)
from .offset_protocol import (
    OffsetDeleteRequest as OffsetDeleteRequest,
)
from .offset_protocol import (
    OffsetDeleteResponse as OffsetDeleteResponse,
)
from .offset_protocol import (
    OffsetFetchRequest as OffsetFetchRequest,
)
from .offset_protocol import (
    OffsetFetchResponse as OffsetFetchResponse,
)
from .offset_protocol import (
    OffsetPartition as OffsetPartition,
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
