"""Every group request's own way to be told that it failed. Pure."""

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    GroupResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)

OneGroupRequest = (
    JoinGroupRequest
    | SyncGroupRequest
    | HeartbeatRequest
    | LeaveGroupRequest
    | ConsumerGroupHeartbeatRequest
    | OffsetCommitRequest
    | OffsetFetchRequest
    | OffsetDeleteRequest
)
"""A request to one group, which only its coordinator answers."""


def refusal(request: OneGroupRequest, error: ErrorCode, message: str) -> GroupResponse:
    """The answer that says no, in the request's own type."""
    match request:
        case JoinGroupRequest():
            return JoinGroupResponse(error, member_id=request.member_id, message=message)
        case SyncGroupRequest():
            return SyncGroupResponse(error, message=message)
        case HeartbeatRequest():
            return HeartbeatResponse(error, message)
        case LeaveGroupRequest():
            return LeaveGroupResponse(error, message=message)
        case ConsumerGroupHeartbeatRequest():
            return ConsumerGroupHeartbeatResponse(error, member_id=request.member_id, message=message)
        case OffsetCommitRequest():
            return OffsetCommitResponse(error, message=message)
        case OffsetFetchRequest():
            return OffsetFetchResponse(error, message=message)
        case OffsetDeleteRequest():
            return OffsetDeleteResponse(error, message=message)


_APPEND_ERRORS = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.FENCED_LEADER_EPOCH: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
}


def coordinator_error(error: ErrorCode) -> ErrorCode:
    """What a refused append means to a group's client (Kafka's CoordinatorOperationExceptionHelper)."""
    return _APPEND_ERRORS.get(error, ErrorCode.COORDINATOR_NOT_AVAILABLE)
