"""Topics: create, delete, grow. Any broker takes the request and has the quorum decide it."""

from functools import partial

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest, TopicChanged
from ottla.log.chance import Chance, new_id
from ottla.log.model import TopicId
from ottla.raft.commands import CreatePartitions, CreatePartitionsAssigned, CreateTopicWithConfigs, DeleteTopic
from ottla.raft.results import TopicCreation
from ottla.raft.topic_decisions import create_partitions, create_topic, delete_topic

from ..group.internal_topic import is_internal
from ..replica import Refused
from .quorum_door import QuorumDoor


class TopicsApi:
    """An answer is given once this node's own image shows the change."""

    def __init__(
        self,
        *,
        door: QuorumDoor,
        chance: Chance,
        default_partitions: int,
        default_replication_factor: int | None,
    ) -> None:
        self._door = door
        self._chance = chance
        self._default_partitions = default_partitions
        self._default_replication_factor = default_replication_factor

    async def create(self, request: CreateTopicRequest, *, auto_created: bool = False) -> TopicChanged:
        """Make a topic. Raises Refused: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_CONFIG ..."""
        if is_internal(request.name):
            raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{request.name} is made by the brokers when it is needed")
        return await self._create(request, auto_created)

    async def create_internal(self, request: CreateTopicRequest) -> TopicChanged:
        """Make a topic of ours, or take it as it is. Raises Refused."""
        return await self._create(request, True)

    async def _create(self, request: CreateTopicRequest, auto_created: bool) -> TopicChanged:
        body = self._creation(request, auto_created)
        if request.validate_only:
            result, index = self._door.rehearse(partial(create_topic, body=body))
        else:
            result, index = await self._door.decide(body, request.change_id)
        assert isinstance(result, TopicCreation)
        return TopicChanged(result.name, result.topic_id, index, result.partition_count, result.replication_factor)

    def _creation(self, request: CreateTopicRequest, auto_created: bool) -> CreateTopicWithConfigs:
        partitions, factor = request.partitions, request.replication_factor
        if request.assignments is None:
            partitions = self._default_partitions if partitions is None else partitions
            factor = self._default_replication_factor if factor is None else factor
        return CreateTopicWithConfigs(
            name=request.name,
            topic_id=TopicId(new_id(self._chance)),
            partition_count=partitions,
            replication_factor=factor,
            assignments=request.assignments,
            configs=dict(request.configs),
            placement_seed=self._chance.randbelow(1 << 31),
            auto_created=auto_created,
        )

    async def delete(self, request: DeleteTopicRequest) -> TopicChanged:
        """Forget a topic. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION."""
        if is_internal(request.name):
            raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{request.name} holds what all groups have committed")
        topic = await self._door.topic(request.name)
        body = DeleteTopic(topic.topic_id)
        if request.validate_only:
            _, index = self._door.rehearse(partial(delete_topic, body=body))
        else:
            _, index = await self._door.decide(body, request.change_id)
        return TopicChanged(topic.name, topic.topic_id, index)

    async def grow(self, request: CreatePartitionsRequest) -> TopicChanged:
        """Add partitions. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS."""
        if is_internal(request.name):
            raise Refused(
                ErrorCode.INVALID_PARTITIONS, f"groups would not be found in another number of {request.name}"
            )
        topic = await self._door.topic(request.name)
        seed = self._chance.randbelow(1 << 31)
        body = (
            CreatePartitions(topic.topic_id, request.count, seed)
            if request.assignments is None
            else CreatePartitionsAssigned(topic.topic_id, request.count, seed, request.assignments)
        )
        if request.validate_only:
            _, index = self._door.rehearse(partial(create_partitions, body=body))
        else:
            _, index = await self._door.decide(body, request.change_id)
        return TopicChanged(topic.name, topic.topic_id, index, request.count, topic.replication_factor)
