"""Topics: create, delete, grow. Any broker takes the request and has the quorum decide it."""

import asyncio
from collections.abc import Awaitable, Callable

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest, TopicChanged
from ottla.log.chance import Chance, new_id
from ottla.log.model import TopicId
from ottla.raft.commands import Body, CreatePartitions, CreateTopic, DeleteTopic
from ottla.raft.image import Topic
from ottla.raft.results import Refused as QuorumRefused
from ottla.raft.results import Result, TopicCreation

from ..controller_channel import ControllerChannel, ControllerUnavailable
from ..replica import Refused
from ..replica_manager import ReplicaManager


class TopicsApi:
    """An answer is given once this node's own image shows the change."""

    def __init__(
        self,
        *,
        manager: ReplicaManager,
        channel: ControllerChannel,
        chance: Chance,
        wait_applied: Callable[[int, float], Awaitable[None]],
        timeout_s: float,
        default_partitions: int,
        default_replication_factor: int | None,
    ) -> None:
        self._manager = manager
        self._channel = channel
        self._chance = chance
        self._wait_applied = wait_applied
        self._timeout_s = timeout_s
        self._default_partitions = default_partitions
        self._default_replication_factor = default_replication_factor

    async def create(self, request: CreateTopicRequest, *, auto_created: bool = False) -> TopicChanged:
        """Make a topic. Raises Refused: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_CONFIG ..."""
        result, index = await self._decide(
            CreateTopic(
                name=request.name,
                topic_id=TopicId(new_id(self._chance)),
                partition_count=self._default_partitions if request.partitions is None else request.partitions,
                replication_factor=self._default_replication_factor
                if request.replication_factor is None
                else request.replication_factor,
                configs=dict(request.configs),
                placement_seed=self._chance.randbelow(1 << 31),
                auto_created=auto_created,
            ),
            request.change_id,
        )
        assert isinstance(result, TopicCreation)
        return TopicChanged(result.name, result.topic_id, index)

    async def delete(self, request: DeleteTopicRequest) -> TopicChanged:
        """Forget a topic. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION."""
        topic = await self._topic(request.name)
        _, index = await self._decide(DeleteTopic(topic.topic_id), request.change_id)
        return TopicChanged(topic.name, topic.topic_id, index)

    async def grow(self, request: CreatePartitionsRequest) -> TopicChanged:
        """Add partitions. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS."""
        topic = await self._topic(request.name)
        seed = self._chance.randbelow(1 << 31)
        _, index = await self._decide(CreatePartitions(topic.topic_id, request.count, seed), request.change_id)
        return TopicChanged(topic.name, topic.topic_id, index)

    async def _topic(self, name: str) -> Topic:
        """The topic, in an image that holds all that was committed when we were asked: an old one must neither deny
        a topic that has been made nor name one that has been made again since."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._wait_applied(await self._channel.commit_index(), self._timeout_s)
        except TimeoutError:
            raise Refused(
                ErrorCode.REQUEST_TIMED_OUT, "the metadata quorum does not answer; this node may not know every topic"
            ) from None
        topic = self._manager.image.topics.get(name)
        if topic is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")
        return topic

    async def _decide(self, body: Body, change_id: str) -> tuple[Result, int]:
        try:
            result, index = await self._channel.submit(body, self._timeout_s, change_id=change_id or None)
            if isinstance(result, QuorumRefused):
                raise Refused(ErrorCode.named(result.code), result.message)
            await self._wait_applied(index, self._timeout_s)
        except (ControllerUnavailable, TimeoutError):
            raise Refused(
                ErrorCode.REQUEST_TIMED_OUT, "the metadata quorum did not decide in time; the change may still happen"
            ) from None
        return result, index
