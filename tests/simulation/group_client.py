"""Members of groups that speak the protocol by hand, and remember what was acknowledged."""

import asyncio

import aiohttp

from ottla.client.assignors import ASSIGNORS, MemberSubscription
from ottla.client.connection import Connection, ConnectionLost
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    FindCoordinatorRequest,
    GroupRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    LeaveGroupRequest,
    LeavingMember,
    MemberAssignment,
    OffsetCommitRequest,
    OffsetFetchRequest,
    SyncGroupRequest,
    TopicPartitions,
)
from ottla.client.subscription_bytes import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.log.chance import SystemChance
from ottla.log.model import TopicId, TopicIdPartition, TopicPartition

RETRY_S = 0.1
TIMEOUT_S = 8.0
LOOK_ELSEWHERE = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


ASSIGNOR = ASSIGNORS["cooperative-sticky"]


class GroupClient:
    """Finds the coordinator of one group, and asks again until an answer is final."""

    def __init__(self, session: aiohttp.ClientSession, servers: list[str], group: str) -> None:
        self._session = session
        self._servers = servers
        self._turn = 0
        self.group = group
        self._connections: dict[str, Connection] = {}

    async def ask(self, request: GroupRequest, *, retry_lost: bool = True):
        """The coordinator's answer. Raises ConnectionLost where the outcome is unknown and ``retry_lost`` is not."""
        while True:
            address = await self._coordinator()
            try:
                response = (await (await self._connection(address)).request(request, timeout_s=TIMEOUT_S)).message
            except ConnectionLost:
                self._connections.pop(address, None)
                if not retry_lost:
                    raise
            else:
                if getattr(response, "error", None) not in LOOK_ELSEWHERE:
                    return response
                if not retry_lost and response.error is not ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                    raise ConnectionLost(response.message)  # it may have been written
            await asyncio.sleep(RETRY_S)

    async def _coordinator(self) -> str:
        while True:
            self._turn += 1
            address = self._servers[self._turn % len(self._servers)]
            try:
                connection = await self._connection(address)
                answer = await connection.request(FindCoordinatorRequest((self.group,)), timeout_s=TIMEOUT_S)
                (found,) = answer.message.coordinators
                if found.error is ErrorCode.NONE:
                    return f"{found.host}:{found.port}"
            except (ConnectionLost, AttributeError):
                self._connections.pop(address, None)
            await asyncio.sleep(RETRY_S)

    async def _connection(self, address: str) -> Connection:
        connection = self._connections.get(address)
        if connection is None or not connection.usable:
            host, _, port = address.rpartition(":")
            connection = self._connections[address] = await Connection.open(
                self._session, host, int(port), SystemChance()
            )
        return connection

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()

    async def commit(self, topic: str, partition: int, offset: int, member: "Member | None" = None) -> ErrorCode:
        """Raises ConnectionLost where it may or may not be stored."""
        response = await self.ask(
            OffsetCommitRequest(
                self.group,
                None if member is None else member.epoch,
                "" if member is None else member.member_id,
                (CommitPartition(topic, partition, offset),),
            ),
            retry_lost=False,
        )
        return response.error or response.partitions[0].error

    async def committed(self, topic: str) -> dict[int, int]:
        response = await self.ask(OffsetFetchRequest(self.group, None))
        assert response.error is ErrorCode.NONE, response
        return {found.partition: found.offset for found in response.partitions if found.topic == topic}


class Member:
    """A member of the consumer protocol. ``owned``: what it may work on now."""

    def __init__(self, client: GroupClient, topics: tuple[str, ...], name: str) -> None:
        self.client = client
        self.topics = topics
        self.member_id = name
        self.epoch = 0
        self.owned: frozenset[TopicIdPartition] = frozenset()
        self._full = True

    async def beat(self) -> ConsumerGroupHeartbeatResponse:
        """One heartbeat; what it takes away is let go of at once."""
        full = self._full or self.epoch == 0
        self._full = True  # until the answer is here
        response = await self.client.ask(
            ConsumerGroupHeartbeatRequest(
                self.client.group,
                self.member_id,
                self.epoch,
                rebalance_timeout_ms=30_000 if full else None,
                subscribed_topic_names=self.topics if full else None,
                topic_partitions=as_topics(self.owned),
            )
        )
        if response.error is ErrorCode.NONE:
            self.epoch, self._full = response.member_epoch, False
            if response.assignment is not None:
                self.owned = frozenset(
                    TopicIdPartition(topic.topic_id, n) for topic in response.assignment for n in topic.partitions
                )
        else:
            self.epoch, self.owned = 0, frozenset()
        return response

    async def leave(self) -> None:
        """What it had is others' now."""
        self.owned = frozenset()
        await self.client.ask(ConsumerGroupHeartbeatRequest(self.client.group, self.member_id, -1))


class ClassicMember:
    """A cooperative member of the classic protocol. ``owned``: what it may work on now."""

    def __init__(self, client: GroupClient, topics: dict[str, tuple[TopicId, int]], name: str) -> None:
        self.client = client
        self.topics = topics
        self.name = name
        self.member_id = ""
        self.generation = -1
        self.in_step = False  # it need not join
        self._owned: frozenset[TopicPartition] = frozenset()

    @property
    def owned(self) -> frozenset[TopicIdPartition]:
        return frozenset(TopicIdPartition(self.topics[topic][0], number) for topic, number in self._owned)

    async def beat(self) -> None:
        """A heartbeat, or all that a rebalance takes."""
        if self.in_step:
            answer = await self.client.ask(HeartbeatRequest(self.client.group, self.generation, self.member_id))
            self._check(answer.error)
            return
        told = encode_subscription(MemberSubscription(tuple(self.topics), self._owned, max(0, self.generation)))
        joined = await self.client.ask(
            JoinGroupRequest(
                self.client.group,
                8_000,
                8_000,
                self.member_id,
                None,
                "consumer",
                (JoinProtocol(ASSIGNOR.name, told),),
                client_id=self.name,
            )
        )
        if joined.error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = joined.member_id
        if not self._check(joined.error):
            return
        self.generation = joined.generation_id
        synced = await self.client.ask(
            SyncGroupRequest(
                self.client.group, joined.generation_id, self.member_id, assignments=self._assignments(joined)
            )
        )
        if self._check(synced.error):
            given = decode_assignment(synced.assignment)
            self.in_step = self._owned <= given  # what it lets go of it says with the next join
            self._owned = given

    def _assignments(self, joined: JoinGroupResponse) -> tuple[MemberAssignment, ...]:
        if joined.leader != self.member_id:
            return ()
        members = {member.member_id: decode_subscription(member.metadata) for member in joined.members}
        given = ASSIGNOR.assign(members, {name: count for name, (_, count) in self.topics.items()})
        return tuple(MemberAssignment(name, encode_assignment(given[name])) for name in members)

    def _check(self, error: ErrorCode) -> bool:
        if error is ErrorCode.NONE:
            return True
        self.in_step = False
        if error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._owned, self.generation = frozenset(), -1
        if error is ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        return False

    async def leave(self) -> None:
        """What it had is others' now."""
        self._owned = frozenset()
        await self.client.ask(LeaveGroupRequest(self.client.group, (LeavingMember(self.member_id),)))


def as_topics(partitions: frozenset[TopicIdPartition]) -> tuple[TopicPartitions, ...]:
    topics: dict[str, list[int]] = {}
    for topic_id, number in sorted(partitions):
        topics.setdefault(topic_id, []).append(number)
    return tuple(TopicPartitions(topic_id, tuple(numbers)) for topic_id, numbers in topics.items())
