"""Consumer groups: each request finds the coordinator's shard, which decides it."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CLASSIC,
    CONSUMER,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatRequest,
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
    GroupRequest,
    GroupResponse,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListGroupsRequest,
    ListGroupsResponse,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    SyncGroupRequest,
)

from ..controller_channel import ControllerUnavailable
from ..group import consumer_group
from ..group.classic_state import ClassicGroup
from ..group.consumer_state import ConsumerGroupState
from ..group.consumer_target import assignor_of
from ..group.coordinator import GroupCoordinator
from ..group.hosted import HostedShard
from ..group.outcome import GroupRefused, Outcome
from ..group.refusals import OneGroupRequest, refusal
from ..replica import Refused
from ..replica_manager import ReplicaManager

BARRIER_S = 5.0
"""How long a fetch of offsets waits to learn that this broker is still the coordinator."""

T = TypeVar("T")


class GroupsApi:
    """``barrier`` and ``wait_applied`` tell what was committed in the quorum before now, and that this node shows
    it."""

    def __init__(
        self,
        *,
        manager: ReplicaManager,
        coordinator: GroupCoordinator,
        barrier: Callable[[float], Awaitable[int]],
        wait_applied: Callable[[int, float], Awaitable[None]],
    ) -> None:
        self._manager = manager
        self._coordinator = coordinator
        self._barrier = barrier
        self._wait_applied = wait_applied

    async def answer(self, request: GroupRequest) -> GroupResponse:
        """Every refusal is in the response."""
        match request:
            case FindCoordinatorRequest():
                return await self._find(request)
            case ListGroupsRequest():
                return self._list(request)
            case DescribeGroupsRequest():
                found = [
                    self._described(group_id, self._describe_classic, DescribedGroup) for group_id in request.group_ids
                ]
                return DescribeGroupsResponse(tuple(found))
            case ConsumerGroupDescribeRequest():
                consumers = [
                    self._described(group_id, self._describe_consumer, DescribedConsumerGroup)
                    for group_id in request.group_ids
                ]
                return ConsumerGroupDescribeResponse(tuple(consumers))
            case DeleteGroupsRequest():
                deleted = [await self._delete(group_id, request.validate_only) for group_id in request.group_ids]
                return DeleteGroupsResponse(tuple(deleted))
            case _:
                return await self._of_one(request)

    # --- who coordinates ---------------------------------------------------------------------------------------------

    async def _find(self, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
        return FindCoordinatorResponse(tuple([await self._find_one(group_id) for group_id in request.group_ids]))

    async def _find_one(self, group_id: str) -> Coordinator:
        if not group_id:
            return Coordinator(group_id, ErrorCode.INVALID_GROUP_ID, message="a group has a name")
        try:
            topic = await self._coordinator.require_topic()
        except Refused as refused:
            return Coordinator(group_id, ErrorCode.COORDINATOR_NOT_AVAILABLE, message=str(refused))
        leader = self._coordinator.place_of(group_id, topic).leader
        broker = None if leader is None else self._manager.image.brokers.get(leader)
        if broker is None:
            return Coordinator(group_id, ErrorCode.COORDINATOR_NOT_AVAILABLE, message="its partition has no leader")
        return Coordinator(group_id, ErrorCode.NONE, broker.broker_id, broker.host, broker.port)

    # --- requests to one group ---------------------------------------------------------------------------------------

    async def _of_one(self, request: OneGroupRequest) -> GroupResponse:
        try:
            if isinstance(request, OffsetFetchRequest):
                await self._still_coordinator()
            shard = self._coordinator.shard_of(request.group_id)
        except GroupRefused as refused:
            return refusal(request, refused.error, str(refused))
        return await shard.answer(request, lambda waiter: self._decide(shard, request, waiter))

    async def _still_coordinator(self) -> None:
        """A coordinator that was deposed and has not heard of it must not tell what was committed: others may have
        acknowledged more since. Commits need no such care, they are fenced by the partition's epoch."""
        try:
            await self._wait_applied(await self._barrier(BARRIER_S), BARRIER_S)
        except (ControllerUnavailable, TimeoutError) as error:
            raise GroupRefused(
                ErrorCode.COORDINATOR_NOT_AVAILABLE, f"whether this is still the coordinator is not known: {error}"
            ) from error

    def _decide(self, shard: HostedShard, request: OneGroupRequest, waiter: object) -> Outcome:
        clock, state = self._coordinator.clock, shard.state
        now_s, now_ms = clock.monotonic(), clock.now_ms()
        match request:
            case OffsetCommitRequest():
                return state.commit(request, waiter, now_s, now_ms)
            case OffsetFetchRequest():
                return state.fetch(request, waiter)
            case OffsetDeleteRequest():
                return state.delete_offsets(request, waiter)
            case ConsumerGroupHeartbeatRequest():
                return state.answer_consumer(request, waiter, self._new_id(request), now_s)
            case JoinGroupRequest() | SyncGroupRequest() | HeartbeatRequest() | LeaveGroupRequest():
                return state.answer_classic(request, waiter, self._new_id(request), now_s, now_ms)

    def _new_id(self, request: OneGroupRequest) -> str:
        if isinstance(request, JoinGroupRequest | ConsumerGroupHeartbeatRequest) and not request.member_id:
            return self._coordinator.new_member_id(request.client_id)
        return ""

    # --- for people --------------------------------------------------------------------------------------------------

    def _list(self, request: ListGroupsRequest) -> ListGroupsResponse:
        shards = self._coordinator.shards()
        groups = [
            listed
            for shard in shards
            if shard.loaded
            for group_id in shard.state.all_ids()
            if _passes(listed := shard.state.listed(group_id), request)
        ]
        loading = any(not shard.loaded for shard in shards)
        error = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if loading else ErrorCode.NONE
        return ListGroupsResponse(error, tuple(sorted(groups, key=lambda group: group.group_id)))

    def _described(self, group_id: str, describe: Callable[[HostedShard, str], T], failed: Callable[..., T]) -> T:
        try:
            return describe(self._coordinator.shard_of(group_id), group_id)
        except GroupRefused as refused:
            return failed(group_id, refused.error, message=str(refused))

    @staticmethod
    def _describe_classic(shard: HostedShard, group_id: str) -> DescribedGroup:
        group = shard.state.groups.get(group_id)
        if group is None and group_id in shard.state.offsets:
            return DescribedGroup(group_id, ErrorCode.NONE, "Empty")
        if not isinstance(group, ClassicGroup):
            raise GroupRefused(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no {CLASSIC} group {group_id}")
        members = tuple(
            DescribedMember(
                m.member_id, m.instance_id, m.client_id, m.metadata(group.protocol), m.assignment, m.client_host
            )
            for m in group.members.values()
        )
        return DescribedGroup(
            group_id,
            ErrorCode.NONE,
            str(group.state),
            group.protocol_type,
            group.protocol or "",
            members,
            group.generation,
        )

    @staticmethod
    def _describe_consumer(shard: HostedShard, group_id: str) -> DescribedConsumerGroup:
        group = shard.state.groups.get(group_id)
        if not isinstance(group, ConsumerGroupState):
            raise GroupRefused(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no consumer group {group_id}")
        members = tuple(
            DescribedConsumer(
                member_id=member_id,
                member_epoch=member.current.epoch,
                instance_id=member.said.instance_id,
                rack_id=member.said.rack_id,
                client_id=member.said.client_id,
                client_host=member.said.client_host,
                subscribed_topic_names=member.said.topics,
                assignment=consumer_group.as_topics(member.held),
                target_assignment=consumer_group.as_topics(group.target.get(member_id, frozenset())),
                subscribed_topic_regex=member.said.regex,
                member_type=CLASSIC if member.classic else CONSUMER,
            )
            for member_id, member in sorted(group.members.items())
        )
        return DescribedConsumerGroup(
            group_id,
            ErrorCode.NONE,
            consumer_group.state_of(group),
            group.epoch,
            group.target_epoch,
            assignor_of(group),
            members,
        )

    async def _delete(self, group_id: str, validate_only: bool) -> DeletedGroup:
        request = OffsetDeleteRequest(group_id, ())
        try:
            shard = self._coordinator.shard_of(group_id)
        except GroupRefused as refused:
            return DeletedGroup(group_id, refused.error)

        def decide(waiter: Any) -> Outcome:
            records = shard.state.delete(group_id)
            return Outcome([] if validate_only else records, [(waiter, OffsetDeleteResponse(ErrorCode.NONE))])

        response = await shard.answer(request, decide)
        assert isinstance(response, OffsetDeleteResponse)
        return DeletedGroup(group_id, response.error)


def _passes(group: Any, request: ListGroupsRequest) -> bool:
    states, types = {s.lower() for s in request.states}, {t.lower() for t in request.types}
    return (not states or group.state.lower() in states) and (not types or group.group_type in types)
