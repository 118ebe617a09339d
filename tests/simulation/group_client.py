"""Members of groups that speak the protocol by hand, and remember what was acknowledged."""

import asyncio

import aiohttp

from ottla.client.connection import Connection, ConnectionLost
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    FindCoordinatorRequest,
    GroupRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    TopicPartitions,
)
from ottla.log.model import TopicIdPartition

RETRY_S = 0.1
TIMEOUT_S = 8.0
LOOK_ELSEWHERE = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


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
            connection = self._connections[address] = await Connection.open(self._session, host, int(port))
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


def as_topics(partitions: frozenset[TopicIdPartition]) -> tuple[TopicPartitions, ...]:
    topics: dict[str, list[int]] = {}
    for topic_id, number in sorted(partitions):
        topics.setdefault(topic_id, []).append(number)
    return tuple(TopicPartitions(topic_id, tuple(numbers)) for topic_id, numbers in topics.items())
