"""Groups listed, described and deleted."""

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CLASSIC,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedConsumer,
    DescribedConsumerGroup,
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
    TopicPartitions,
)

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields, field, uuid_of
from .header import Header
from .versions import ApiKey
from .view import BrokerView, failed

GROUP_ID_NOT_FOUND_SINCE = 6
ALL_GROUP_OPERATIONS = sum(1 << operation for operation in (3, 6, 8))
UNKNOWN_OPERATIONS = -(2**31)


async def list_groups(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    listing = ListGroupsRequest(field(request, "states_filter", ()), field(request, "types_filter", ()))
    try:
        response = await view.ask(listing, ListGroupsResponse, checked=True)
    except Refused as refused:
        response = ListGroupsResponse(refused.error)
    groups = [
        {
            "group_id": group.group_id,
            "protocol_type": group.protocol_type,
            "group_state": group.state,
            "group_type": group.group_type,
        }
        for group in response.groups
    ]
    return {"error_code": response.error, "groups": groups}


async def describe_groups(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    try:
        described = await view.ask(DescribeGroupsRequest(request.groups), DescribeGroupsResponse, checked=True)
        groups = list(described.groups)
    except Refused as refused:
        groups = [DescribedGroup(group, refused.error, message=str(refused)) for group in request.groups]
    wanted = field(request, "include_authorized_operations", False)
    return {"groups": [_classic(group, header.version, wanted) for group in groups]}


def _classic(group: DescribedGroup, version: int, operations: bool) -> Fields:
    """Versions below 6 are told that a group they do not find is dead, and of no error (KIP-1043)."""
    error, state = group.error, group.state
    if error is ErrorCode.GROUP_ID_NOT_FOUND:
        state = "Dead"
        error = error if version >= GROUP_ID_NOT_FOUND_SINCE else ErrorCode.NONE
    return {
        "error_code": error,
        "error_message": group.message or None,
        "group_id": group.group_id,
        "group_state": state,
        "protocol_type": group.protocol_type,
        "protocol_data": group.protocol_data,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.group_instance_id,
                "client_id": member.client_id,
                "client_host": _host(member.client_host),
                "member_metadata": member.metadata,
                "member_assignment": member.assignment,
            }
            for member in group.members
        ],
        "authorized_operations": ALL_GROUP_OPERATIONS if operations else UNKNOWN_OPERATIONS,
    }


async def delete_groups(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    names = request.groups_names
    try:
        response = await view.ask(DeleteGroupsRequest(names), DeleteGroupsResponse, checked=True)
        return {"results": [{"group_id": each.group_id, "error_code": each.error} for each in response.groups]}
    except Refused as refused:
        return {"results": [{"group_id": name, "error_code": refused.error} for name in names]}


async def consumer_group_describe(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """KIP-848."""
    asked = ConsumerGroupDescribeRequest(request.group_ids)
    try:
        described = await view.ask(asked, ConsumerGroupDescribeResponse, checked=True)
        groups = list(described.groups)
    except Refused as refused:
        error, message = failed(refused)
        groups = [DescribedConsumerGroup(group, error, message=message or "") for group in request.group_ids]
    operations = ALL_GROUP_OPERATIONS if request.include_authorized_operations else UNKNOWN_OPERATIONS
    return {"groups": [_consumer_group(view, group, operations) for group in groups]}


def _consumer_group(view: BrokerView, group: DescribedConsumerGroup, operations: int) -> Fields:
    return {
        "error_code": group.error,
        "error_message": group.message or None,
        "group_id": group.group_id,
        "group_state": group.state,
        "group_epoch": group.group_epoch,
        "assignment_epoch": group.assignment_epoch,
        "assignor_name": group.assignor,
        "members": [_consumer(view, member) for member in group.members],
        "authorized_operations": operations,
    }


def _consumer(view: BrokerView, member: DescribedConsumer) -> Fields:
    return {
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "rack_id": member.rack_id,
        "member_epoch": member.member_epoch,
        "client_id": member.client_id,
        "client_host": _host(member.client_host),
        "subscribed_topic_names": member.subscribed_topic_names,
        "subscribed_topic_regex": member.subscribed_topic_regex or None,
        "assignment": {"topic_partitions": _assigned(view, member.assignment)},
        "target_assignment": {"topic_partitions": _assigned(view, member.target_assignment)},
        "member_type": 0 if member.member_type == CLASSIC else 1,
    }


def _host(host: str) -> str:
    """As Java shows an address without a name."""
    return f"/{host}" if host else ""


def _assigned(view: BrokerView, assignment: tuple[TopicPartitions, ...]) -> list[Fields]:
    names = view.image.topic_names
    return [
        {
            "topic_id": uuid_of(each.topic_id),
            "topic_name": names.get(each.topic_id, ""),
            "partitions": each.partitions,
        }
        for each in assignment
    ]


HANDLERS = {
    ApiKey.LIST_GROUPS: list_groups,
    ApiKey.DESCRIBE_GROUPS: describe_groups,
    ApiKey.DELETE_GROUPS: delete_groups,
    ApiKey.CONSUMER_GROUP_DESCRIBE: consumer_group_describe,
}
