"""Looking at consumer groups: which there are, and how far they are."""

import asyncio
from collections.abc import Iterable

from ottla.log.model import BrokerId, Offset, TopicId

from .backoff import backoff_s
from .cluster import Cluster
from .error_codes import ErrorCode
from .errors import OttlaError, RequestFailed, TopicNotFound, error_for
from .group_asking import ask, check_answer
from .group_descriptions import GroupDescription, GroupList, GroupMember, GroupPartition, Place
from .group_protocol import (
    CONSUMER,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from .offsets import list_offsets
from .protocol import LATEST, ErrorResponse, MetadataRequest, MetadataResponse, OffsetResult

LIST_TIMEOUT_S = 15.0
LIST_ATTEMPT_S = 3.0
ENDS_TIMEOUT_S = 8.0
NAMES_TIMEOUT_S = 15.0


class GroupViews:
    """The part of ``Admin`` that looks at groups."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    # --- which there are ---------------------------------------------------------------------------------------------

    async def list_groups(self) -> GroupList:
        """Every group, asked of every broker that is there: ``groups``, and in ``unanswered`` the brokers that did not
        tell theirs, whose groups are missing. Raises ConnectFailed."""
        await self._cluster.refresh()
        brokers = [broker.broker_id for broker in self._cluster.brokers.values() if not broker.fenced]
        answers = await asyncio.gather(*(self._list(broker) for broker in brokers))
        groups = sorted((group for found, _ in answers for group in found), key=lambda group: group.group_id)
        problems = {broker: problem for broker, (_, problem) in zip(brokers, answers, strict=True) if problem}
        return GroupList(tuple(groups), problems)

    async def _list(self, broker: BrokerId) -> tuple[tuple[ListedGroup, ...], str]:
        """What it tells, and why that is not all."""
        attempt, deadline_s = 0, self._cluster.clock.monotonic() + LIST_TIMEOUT_S
        while True:
            try:
                connection = await self._cluster.connection(broker, "main")
                response = (await connection.request(ListGroupsRequest(), timeout_s=LIST_ATTEMPT_S)).message
                if isinstance(response, ErrorResponse):
                    raise error_for(response.error, response.message)
            except OttlaError as error:
                return (), str(error)
            assert isinstance(response, ListGroupsResponse)
            if response.error is ErrorCode.NONE:
                return response.groups, ""
            if self._cluster.clock.monotonic() > deadline_s:
                return response.groups, "it is still reading what its groups have stored."
            await asyncio.sleep(backoff_s(attempt, self._cluster.chance))
            attempt += 1

    # --- how far one is ----------------------------------------------------------------------------------------------

    async def describe_group(self, group: str) -> GroupDescription:
        """A group with its members, its offsets and its lag. Raises RequestFailed: GROUP_ID_NOT_FOUND."""
        described = await self._describe_consumer(group) or await self._describe_classic(group)
        owners = {place: member.member_id for member in described.members for place in member.partitions or ()}
        fetched = await self._fetched(group)
        committed = {(found.topic, found.partition): found for found in fetched.partitions}
        places = sorted({*committed, *owners})
        ends = await self._ends(places)
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
        request = ConsumerGroupDescribeRequest((group,))
        (found,) = (await ask(self._cluster, group, request, ConsumerGroupDescribeResponse)).groups
        if found.error is ErrorCode.GROUP_ID_NOT_FOUND:
            return None
        check_answer(found.error, found.message)
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
        request = DescribeGroupsRequest((group,))
        (found,) = (await ask(self._cluster, group, request, DescribeGroupsResponse)).groups
        if found.error is ErrorCode.GROUP_ID_NOT_FOUND:
            raise no_group(group)
        check_answer(found.error, found.message)
        members = tuple(
            GroupMember(member.member_id, member.group_instance_id, member.client_id, None, None)
            for member in found.members
        )
        return GroupDescription(group, "classic", found.state, found.generation_id, found.protocol_data, members, ())

    async def _topic_names(self, topic_ids: Iterable[TopicId]) -> dict[TopicId, str]:
        if not set(topic_ids):
            return {}
        request = MetadataRequest(None, False, self._cluster.metadata_index)
        response = (await self._cluster.ask_any(request, timeout_s=NAMES_TIMEOUT_S)).response
        if isinstance(response, ErrorResponse):
            raise error_for(response.error, response.message)
        assert isinstance(response, MetadataResponse)
        return {topic.topic_id: topic.name for topic in response.topics if topic.topic_id is not None}

    async def _fetched(self, group: str) -> OffsetFetchResponse:
        response = await ask(self._cluster, group, OffsetFetchRequest(group, None), OffsetFetchResponse)
        check_answer(response.error, response.message)
        return response

    async def _committed(self, group: str) -> dict[Place, Offset]:
        fetched = await self._fetched(group)
        return {
            (found.topic, found.partition): found.offset for found in fetched.partitions if found.offset is not None
        }

    async def _ends(self, places: Iterable[Place]) -> dict[Place, Offset | None]:
        """Where partitions end; None where the leader does not say."""
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
                answers = await list_offsets(self._cluster, topic_id, numbers, LATEST, timeout_s=ENDS_TIMEOUT_S)
                for number, answer in answers.items():
                    found[topic, number] = answer.offset if isinstance(answer, OffsetResult) else None
        return found


def no_group(group: str) -> RequestFailed:
    """Whose name nobody knows."""
    return RequestFailed(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {group}.")
