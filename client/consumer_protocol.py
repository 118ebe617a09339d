"""Requests and responses of the consumer protocol of KIP-848: the coordinator computes the assignment."""

from typing import Annotated

import msgspec

from ottla.log.model import TopicId

from .error_codes import ErrorCode
from .group_names import GroupId, InstanceId, MemberId, Text
from .message import Int32, Many, Message, Name


class TopicPartitions(Message):
    """Some partitions of a topic."""

    topic_id: TopicId
    partitions: Annotated[tuple[Int32, ...], Many]


class ConsumerGroupHeartbeatRequest(Message, tag="consumer_group_heartbeat"):
    """Join (epoch 0), stay, acknowledge and leave (-1, or -2 for a static member that will be back).

    ``member_id``: chosen by the member (KIP-1082), or empty in the first heartbeat to be given one. What is None has
    not changed since the last heartbeat; a joining member says everything. ``topic_partitions``: what it owns now:
    revocations are acknowledged by their being absent from it, and a joining member owns nothing: ``()``.
    ``subscribed_topic_regex``: topics by a regular expression of RE2's that means their whole names, besides those that
    are named; "": none; one that is not valid is refused: INVALID_REGULAR_EXPRESSION.
    ``server_assignor``: ``uniform`` or ``range``."""

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
    client_host: Text = ""


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
