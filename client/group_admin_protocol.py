"""Finding, listing, describing and deleting groups."""

from typing import Annotated

from ottla.log.model import BrokerId

from .consumer_protocol import TopicPartitions
from .error_codes import ErrorCode
from .group_names import FEW, GroupId
from .message import Message


class FindCoordinatorRequest(Message, tag="find_coordinator"):
    """Which broker coordinates these groups (KIP-699: many at once). Any broker answers."""

    group_ids: Annotated[tuple[GroupId, ...], FEW]


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


class ConsumerGroupDescribeRequest(Message, tag="consumer_group_describe"):
    """What these groups of the consumer protocol are doing. Only their coordinator answers."""

    group_ids: Annotated[tuple[GroupId, ...], FEW]


class DescribedConsumer(Message):
    """``assignment``: what it owns; ``target_assignment``: what it will own once all have let go. ``member_type``:
    ``consumer``, or ``classic`` for one that speaks the classic protocol."""

    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    subscribed_topic_names: tuple[str, ...] = ()
    assignment: tuple[TopicPartitions, ...] = ()
    target_assignment: tuple[TopicPartitions, ...] = ()
    subscribed_topic_regex: str | None = None
    member_type: str = "consumer"
    client_host: str = ""


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


class ListGroupsRequest(Message, tag="list_groups"):
    """The groups that the answering broker coordinates: ask every broker. Empty filters let everything through."""

    states: Annotated[tuple[str, ...], FEW] = ()
    types: Annotated[tuple[str, ...], FEW] = ()


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

    group_ids: Annotated[tuple[GroupId, ...], FEW]


class DescribedMember(Message):
    member_id: str
    group_instance_id: str | None = None
    client_id: str = ""
    metadata: bytes = b""
    assignment: bytes = b""
    client_host: str = ""


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
    """Forget groups and all that they committed. Only their coordinator does. ``validate_only``: what would be
    answered; nothing is forgotten."""

    group_ids: Annotated[tuple[GroupId, ...], FEW]
    validate_only: bool = False


class DeletedGroup(Message):
    """NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, or none."""

    group_id: str
    error: ErrorCode


class DeleteGroupsResponse(Message, tag="delete_groups"):
    """In the request's order."""

    groups: tuple[DeletedGroup, ...]
