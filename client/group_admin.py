"""Looking after consumer groups: which there are, how far they are, and setting them to another place."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ottla.log.model import BrokerId, Offset, TopicId

from .backoff import backoff_s
from .cluster import Cluster
from .connection import ConnectionLost
from .error_codes import ErrorCode
from .errors import OttlaError, RequestFailed, TopicNotFound, error_for
from .group_protocol import (
    CONSUMER,
    CommitPartition,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    GroupRequest,
    GroupResponse,
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from .offsets import list_offsets
from .protocol import EARLIEST, LATEST, ErrorResponse, OffsetResult

TIMEOUT_S = 15.0
ATTEMPT_S = 8.0
_TRY_AGAIN = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
)

Place = tuple[str, int]
"""A topic and the number of a partition."""


@dataclass(frozen=True, slots=True)
class GroupPartition:
    """How far a group is with one partition. ``committed``: the offset of the next record to read; None: nothing yet.
    ``end``: the high watermark, None where the leader could not be asked. ``lag``: records between them, None where
    one of them is not known. ``member``: who reads it, where the coordinator gives partitions out (KIP-848)."""

    topic: str
    partition: int
    committed: Offset | None
    end: Offset | None
    lag: int | None
    member: str | None
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """``epoch``: None in a classic group. ``partitions``: None where only the members know. ``protocol``: "consumer",
    or "classic", also of some in a consumer group that is changing over. ``pattern``: topics by regular expression."""

    member_id: str
    instance_id: str | None
    client_id: str
    epoch: int | None
    partitions: tuple[Place, ...] | None
    protocol: str = "classic"
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """``group_type``: ``classic`` or ``consumer``. ``epoch``: its generation, or its epoch (KIP-848)."""

    group_id: str
    group_type: str
    state: str
    epoch: int
    assignor: str
    members: tuple[GroupMember, ...]
    partitions: tuple[GroupPartition, ...]

    @property
    def lag(self) -> int:
        """Of all partitions whose lag is known."""
        return sum(partition.lag or 0 for partition in self.partitions)


class GroupAdmin:
    """For people and their tools; members use a consumer. ``cluster``: a Client's."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def list_groups(self) -> list[ListedGroup]:
        """Every group, asked of every broker that is there. Raises OttlaError where one of them does not answer: its
        groups would be missing."""
        await self._cluster.refresh()
        brokers = [broker.broker_id for broker in self._cluster.brokers.values() if not broker.fenced]
        answers = await asyncio.gather(*(self._list(broker) for broker in brokers))
        return sorted((group for answer in answers for group in answer), key=lambda group: group.group_id)

    async def _list(self, broker: BrokerId) -> tuple[ListedGroup, ...]:
        attempt, deadline_s = 0, self._cluster.clock.monotonic() + TIMEOUT_S
        while True:
            connection = await self._cluster.connection(broker, "main")
            response = (await connection.request(ListGroupsRequest(), timeout_s=ATTEMPT_S)).message
            if isinstance(response, ErrorResponse):
                raise error_for(response.error, response.message)
            assert isinstance(response, ListGroupsResponse)
            if response.error is ErrorCode.NONE or self._cluster.clock.monotonic() > deadline_s:
                return response.groups
            await asyncio.sleep(backoff_s(attempt, self._cluster.chance))
            attempt += 1

    async def describe_group(self, group: str) -> GroupDescription:
        """A group with its members, its offsets and its lag. Raises RequestFailed: GROUP_ID_NOT_FOUND."""
        described = await self._describe_consumer(group) or await self._describe_classic(group)
        owners = {place: member.member_id for member in described.members for place in member.partitions or ()}
        fetched = await self._committed(group)
        committed = {(found.topic, found.partition): found for found in fetched.partitions}
        places = sorted({*committed, *owners})
        ends = await self.ends(places)
        partitions = []
        for place in places:
            found, end = committed.get(place), ends.get(place)
            offset = None if found is None else found.offset
            lag = None if offset is None or end is None else max(0, end - offset)
            text = "" if found is None else found.metadata
            partitions.append(GroupPartition(*place, offset, end, lag, owners.get(place), text))
        return GroupDescription(
            described.group_id,
            described.group_type,
            described.state,
            described.epoch,
            described.assignor,
            described.members,
            tuple(partitions),
        )

    async def _describe_consumer(self, group: str) -> GroupDescription | None:
        response = await self._ask(group, ConsumerGroupDescribeRequest((group,)))
        assert isinstance(response, ConsumerGroupDescribeResponse)
        (found,) = response.groups
        if found.error is ErrorCode.GROUP_ID_NOT_FOUND:
            return None
        _check(found.error, found.message)
        await self._cluster.refresh()
        names = await self._topic_names(topic.topic_id for member in found.members for topic in member.assignment)
        members = tuple(
            GroupMember(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.member_epoch,
                tuple((names.get(t.topic_id, t.topic_id), n) for t in member.assignment for n in t.partitions),
                member.member_type,
                member.subscribed_topic_regex,
            )
            for member in found.members
        )
        return GroupDescription(group, CONSUMER, found.state, found.group_epoch, found.assignor, members, ())

    async def _describe_classic(self, group: str) -> GroupDescription:
        response = await self._ask(group, DescribeGroupsRequest((group,)))
        assert isinstance(response, DescribeGroupsResponse)
        (found,) = response.groups
        _check(found.error, found.message)
        members = tuple(
            GroupMember(member.member_id, member.group_instance_id, member.client_id, None, None)
            for member in found.members
        )
        return GroupDescription(group, "classic", found.state, found.generation_id, found.protocol_data, members, ())

    async def _topic_names(self, topic_ids: Iterable[TopicId]) -> dict[TopicId, str]:
        if not set(topic_ids):
            return {}
        from .admin import Admin  # which has the rest of what an administrator asks

        return {
            topic.topic_id: topic.name
            for topic in await Admin(self._cluster).list_topics()
            if topic.topic_id is not None
        }

    async def _committed(self, group: str) -> OffsetFetchResponse:
        response = await self._ask(group, OffsetFetchRequest(group, None))
        assert isinstance(response, OffsetFetchResponse)
        _check(response.error, response.message)
        return response

    async def ends(self, places: Iterable[Place], position: str = LATEST) -> dict[Place, Offset | None]:
        """Where partitions end, or start; None where the leader does not say."""
        topics: dict[str, list[int]] = {}
        for topic, number in places:
            topics.setdefault(topic, []).append(number)
        found: dict[Place, Offset | None] = {}
        for topic, numbers in topics.items():
            try:
                topic_id = (await self._cluster.topic(topic)).topic_id
            except TopicNotFound:
                continue
            if topic_id is not None:
                answers = await list_offsets(self._cluster, topic_id, numbers, position, timeout_s=ATTEMPT_S)
                for number, answer in answers.items():
                    found[topic, number] = answer.offset if isinstance(answer, OffsetResult) else None
        return found

    async def starts(self, places: Iterable[Place]) -> dict[Place, Offset | None]:
        """Where partitions start."""
        return await self.ends(places, EARLIEST)

    async def set_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commit for a group that has no members now. Raises RequestFailed: UNKNOWN_MEMBER_ID where it has some."""
        partitions = tuple(CommitPartition(*place, offset) for place, offset in sorted(offsets.items()))
        response = await self._ask(group, OffsetCommitRequest(group, None, "", partitions))
        assert isinstance(response, OffsetCommitResponse)
        if response.error is ErrorCode.UNKNOWN_MEMBER_ID:
            raise RequestFailed(ErrorCode.NON_EMPTY_GROUP, f"{group} has members: stop them first")
        _check(response.error, response.message)
        for result in response.partitions:
            _check(result.error, f"{result.topic}-{result.partition}: {result.error.name}")

    async def delete_group(self, group: str) -> None:
        """Forget a group that has no members now, and all it committed. Raises RequestFailed: GROUP_ID_NOT_FOUND,
        NON_EMPTY_GROUP."""
        response = await self._ask(group, DeleteGroupsRequest((group,)))
        assert isinstance(response, DeleteGroupsResponse)
        (deleted,) = response.groups
        texts = {
            ErrorCode.NON_EMPTY_GROUP: f"{group} has members: stop them first",
            ErrorCode.GROUP_ID_NOT_FOUND: f"there is no group {group}",
        }
        _check(deleted.error, texts.get(deleted.error, deleted.error.name))

    # --- the coordinator ---------------------------------------------------------------------------------------------

    async def _ask(self, group: str, request: GroupRequest) -> GroupResponse:
        """The coordinator's answer, found and asked until it is one. Raises OttlaError."""
        deadline_s = self._cluster.clock.monotonic() + TIMEOUT_S
        attempt = 0
        while True:
            try:
                response = await self._ask_once(group, request)
                error, message = _error_in(response)
                if error not in _TRY_AGAIN:
                    return response
                problem: OttlaError = error_for(error, message)
            except ConnectionLost as lost:
                problem = lost
            pause_s = backoff_s(attempt, self._cluster.chance)
            if self._cluster.clock.monotonic() + pause_s > deadline_s:
                raise problem
            await asyncio.sleep(pause_s)
            attempt += 1

    async def _ask_once(self, group: str, request: GroupRequest) -> GroupResponse:
        found = (await self._cluster.ask_any(FindCoordinatorRequest((group,)), timeout_s=TIMEOUT_S)).response
        if not isinstance(found, FindCoordinatorResponse):
            assert isinstance(found, ErrorResponse)
            raise error_for(found.error, found.message)
        (coordinator,) = found.coordinators
        if coordinator.error is not ErrorCode.NONE or coordinator.node_id is None:
            raise (
                ConnectionLost(coordinator.message)
                if coordinator.error in _TRY_AGAIN
                else error_for(coordinator.error, coordinator.message)
            )
        if coordinator.node_id not in self._cluster.brokers:
            await self._cluster.refresh()
        connection = await self._cluster.connection(coordinator.node_id, "main")
        response = (await connection.request(request, timeout_s=ATTEMPT_S)).message
        if isinstance(response, ErrorResponse):
            raise error_for(response.error, response.message)
        return response  # type: ignore[return-value]


def _error_in(response: GroupResponse) -> tuple[ErrorCode, str]:
    """The error of the response, or of the one group in it."""
    groups = getattr(response, "groups", ())
    holder = groups[0] if groups else response
    return getattr(holder, "error", ErrorCode.NONE), getattr(holder, "message", "")


def _check(error: ErrorCode, message: str) -> None:
    if error is not ErrorCode.NONE:
        raise error_for(error, message)
