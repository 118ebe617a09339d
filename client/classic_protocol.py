"""Requests and responses of the classic group protocol: a member computes the assignment."""

from typing import Annotated

import msgspec

from .error_codes import ErrorCode
from .group_names import FEW, MAX_MEMBERS, GroupId, InstanceId, MemberId, Payload, Text
from .message import Int32, Message


class JoinProtocol(Message):
    """An assignor that a member can work with, and its subscription in that assignor's bytes."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    metadata: Payload


class JoinGroupRequest(Message, tag="join_group"):
    """Become a member, or take part in the rebalance that is on. Without ``member_id`` a dynamic member is refused
    with MEMBER_ID_REQUIRED and told its id (KIP-394). Answered when the rebalance has all its members.
    ``protocols``: the best first. ``client_id``: for people; Kafka has it in the request's header. ``client_host``:
    as well, filled in by whoever takes the request in.
    ``rebalance_timeout_ms`` 0: as long as the session (JoinGroup 0 has none). ``needs_member_id`` False: a member
    without an id is taken in at once, under one made for it (JoinGroup 0 to 3)."""

    group_id: GroupId
    session_timeout_ms: Int32
    rebalance_timeout_ms: Int32
    member_id: MemberId
    group_instance_id: InstanceId | None
    protocol_type: Annotated[str, msgspec.Meta(max_length=255)]
    protocols: Annotated[tuple[JoinProtocol, ...], FEW]
    reason: Text = ""
    client_id: Text = ""
    needs_member_id: bool = True
    client_host: Text = ""


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
    assignments: Annotated[tuple[MemberAssignment, ...], MAX_MEMBERS] = ()


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
    members: Annotated[tuple[LeavingMember, ...], MAX_MEMBERS]


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
