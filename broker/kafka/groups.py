"""Members of groups, by both protocols: joining, staying, leaving (KIP-345, KIP-394, KIP-848)."""

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    LeaveGroupRequest,
    LeaveGroupResponse,
    LeavingMember,
    MemberAssignment,
    SyncGroupRequest,
    SyncGroupResponse,
    TopicPartitions,
)

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields, duration, field, id_of, milliseconds, uuid_of
from .header import Header
from .versions import ApiKey
from .view import BrokerView, failed

_OF_GROUPS, _OF_TRANSACTIONS = 0, 1
MEMBER_ID_REQUIRED_SINCE = 4
NULL_PROTOCOL_SINCE = 7
PROTOCOL_SAID_SINCE = 5
"""Of SyncGroup (KIP-559)."""


async def find_coordinator(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """One key, or from version 4 many (KIP-699)."""
    many = field(request, "coordinator_keys")
    keys = (request.key,) if many is None else many
    try:
        key_type = field(request, "key_type", _OF_GROUPS)
        if key_type == _OF_TRANSACTIONS:  # by a code that clients take for final: librdkafka asks again for others
            raise Refused(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not there yet")
        if key_type != _OF_GROUPS:
            raise Refused(ErrorCode.INVALID_REQUEST, "only groups have coordinators here")
        response = await view.ask(FindCoordinatorRequest(keys), FindCoordinatorResponse, checked=True)
        found = [
            _coordinator(view, caller, c.group_id, c.error, c.message or None, c.node_id) for c in response.coordinators
        ]
    except Refused as refused:
        found = [_coordinator(view, caller, key, *failed(refused), None) for key in keys]
    return {"coordinators": found} if many is not None else found[0]


def _coordinator(
    view: BrokerView, caller: Caller, key: str, error: ErrorCode, message: str | None, node_id: int | None
) -> Fields:
    address = None if node_id is None else view.address(caller, node_id)  # type: ignore[arg-type]
    if error is ErrorCode.NONE and address is None:
        error, message = ErrorCode.COORDINATOR_NOT_AVAILABLE, "the coordinator has no listener for this protocol"
    known = error is ErrorCode.NONE and address is not None
    return {
        "key": key,
        "node_id": node_id if known else -1,
        "host": address.host if known and address is not None else "",
        "port": address.port if known and address is not None else -1,
        "error_code": error,
        "error_message": message,
    }


async def join_group(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Versions below 4 do not know that a member's id is given out before it joins."""
    session_timeout_ms = milliseconds(request.session_timeout)
    rebalance = field(request, "rebalance_timeout")
    join = JoinGroupRequest(
        group_id=request.group_id,
        session_timeout_ms=max(0, session_timeout_ms),
        rebalance_timeout_ms=max(0, session_timeout_ms if rebalance is None else milliseconds(rebalance)),
        member_id=request.member_id,
        group_instance_id=field(request, "group_instance_id"),
        protocol_type=request.protocol_type,
        protocols=tuple(JoinProtocol(each.name, bytes(each.metadata)) for each in request.protocols),
        reason=field(request, "reason") or "",
        client_id=header.client_id,
        client_host=caller.host,
        needs_member_id=header.version >= MEMBER_ID_REQUIRED_SINCE,
    )
    try:
        joined = await view.ask(join, JoinGroupResponse, checked=True)
    except Refused as refused:
        joined = JoinGroupResponse(refused.error, message=str(refused))
    nothing = None if header.version >= NULL_PROTOCOL_SINCE else ""
    return {
        "error_code": joined.error,
        "generation_id": -1 if joined.generation_id is None else joined.generation_id,
        "protocol_type": joined.protocol_type,
        "protocol_name": nothing if joined.protocol_name is None else joined.protocol_name,
        "leader": joined.leader,
        "skip_assignment": joined.skip_assignment,
        "member_id": joined.member_id or request.member_id,
        "members": [
            {"member_id": m.member_id, "group_instance_id": m.group_instance_id, "metadata": m.metadata}
            for m in joined.members
        ],
    }


async def sync_group(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    sync = SyncGroupRequest(
        group_id=request.group_id,
        generation_id=request.generation_id,
        member_id=request.member_id,
        group_instance_id=field(request, "group_instance_id"),
        protocol_type=field(request, "protocol_type"),
        protocol_name=field(request, "protocol_name"),
        assignments=tuple(MemberAssignment(each.member_id, bytes(each.assignment)) for each in request.assignments),
    )
    try:
        if header.version >= PROTOCOL_SAID_SINCE and None in (sync.protocol_type, sync.protocol_name):
            raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "a sync says its protocol")
        synced = await view.ask(sync, SyncGroupResponse, checked=True)
    except Refused as refused:
        synced = SyncGroupResponse(refused.error, message=str(refused))
    return {
        "error_code": synced.error,
        "protocol_type": synced.protocol_type,
        "protocol_name": synced.protocol_name,
        "assignment": synced.assignment,
    }


async def heartbeat(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    beat = HeartbeatRequest(
        request.group_id, request.generation_id, request.member_id, field(request, "group_instance_id")
    )
    try:
        return {"error_code": (await view.ask(beat, HeartbeatResponse, checked=True)).error}
    except Refused as refused:
        return {"error_code": refused.error}


async def leave_group(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """One member, or from version 3 several (KIP-345)."""
    several = field(request, "members")
    leaving = (
        (LeavingMember(request.member_id),)
        if several is None
        else tuple(LeavingMember(m.member_id, m.group_instance_id, field(m, "reason") or "") for m in several)
    )
    try:
        left = await view.ask(LeaveGroupRequest(request.group_id, leaving), LeaveGroupResponse, checked=True)
    except Refused as refused:
        return {"error_code": refused.error, "members": []}
    error = left.error
    if several is None and error is ErrorCode.NONE and left.members:
        error = left.members[0].error
    members = [
        {"member_id": m.member_id, "group_instance_id": m.group_instance_id, "error_code": m.error}
        for m in left.members
    ]
    return {"error_code": error, "members": members}


async def consumer_group_heartbeat(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """An absent pattern is as it was, an empty one is none."""
    timeout_ms = milliseconds(request.rebalance_timeout)
    owned = request.topic_partitions
    beat = ConsumerGroupHeartbeatRequest(
        group_id=request.group_id,
        member_id=request.member_id,
        member_epoch=request.member_epoch,
        instance_id=request.instance_id,
        rack_id=request.rack_id,
        rebalance_timeout_ms=None if timeout_ms < 0 else timeout_ms,
        subscribed_topic_names=request.subscribed_topic_names,
        subscribed_topic_regex=field(request, "subscribed_topic_regex"),
        server_assignor=request.server_assignor,
        topic_partitions=None
        if owned is None
        else tuple(TopicPartitions(id_of(each.topic_id) or "", each.partitions) for each in owned),  # type: ignore[arg-type]
        client_id=header.client_id,
        client_host=caller.host,
    )
    try:
        answer = await view.ask(beat, ConsumerGroupHeartbeatResponse, checked=True)
    except Refused as refused:
        answer = ConsumerGroupHeartbeatResponse(refused.error, message=str(refused))
    return {
        "error_code": answer.error,
        "error_message": answer.message or None,
        "member_id": answer.member_id or request.member_id or None,
        "member_epoch": answer.member_epoch,
        "heartbeat_interval": duration(answer.heartbeat_interval_ms),
        "assignment": None if answer.assignment is None else {"topic_partitions": _partitions(answer.assignment)},
    }


def _partitions(assignment: tuple[TopicPartitions, ...]) -> list[Fields]:
    return [{"topic_id": uuid_of(each.topic_id), "partitions": each.partitions} for each in assignment]


HANDLERS = {
    ApiKey.FIND_COORDINATOR: find_coordinator,
    ApiKey.JOIN_GROUP: join_group,
    ApiKey.SYNC_GROUP: sync_group,
    ApiKey.HEARTBEAT: heartbeat,
    ApiKey.LEAVE_GROUP: leave_group,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: consumer_group_heartbeat,
}
