"""Looking after topics and groups, and looking at the cluster."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ottla.log.chance import new_id
from ottla.log.model import BrokerId, Offset, TopicId

from .cluster import check_topic_name
from .configs import alter_configs, describe_configs, refusal, text_of
from .error_codes import ErrorCode
from .errors import OttlaError, TopicNotFound, error_for
from .group_admin import GroupAdmin
from .moves import Changed, ReplicaState, drain, elect, move, replica_states
from .offsets import list_offsets, offsets_for_time
from .protocol import (
    EARLIEST,
    LATEST,
    BrokerEndpoint,
    ConfigEntry,
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteRecordsResult,
    DeleteTopicRequest,
    DescribeNodeRequest,
    DescribeNodeResponse,
    ErrorResponse,
    MetadataRequest,
    MetadataResponse,
    OffsetResult,
    PartitionMetadata,
    Request,
    TopicChanged,
    TopicMetadata,
)
from .trims import delete_records, start_of

TIMEOUT_S = 30.0
OFFSETS_TIMEOUT_S = 3.0
NODE_TIMEOUT_S = 2.0
CHANGE_TIMEOUT_S = 12.0


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """``state``: as the quorum sees it. ``start_offset`` and ``end_offset`` (the high watermark) and ``size_bytes``,
    of the leader's log, are None where it could not be asked; ``problem`` then says why."""

    state: PartitionMetadata
    start_offset: Offset | None
    end_offset: Offset | None
    size_bytes: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic with its partitions in order. ``configs``: only what was set on the topic."""

    name: str
    topic_id: TopicId
    configs: dict[str, str]
    partitions: tuple[PartitionDescription, ...]


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """``details`` is what the node says of itself, None where it could not be asked; ``problem`` then says why."""

    endpoint: BrokerEndpoint
    details: DescribeNodeResponse | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """``answered_by``: the node whose view of the quorum this is."""

    cluster_id: str
    metadata_index: int
    answered_by: BrokerId
    quorum_leader: BrokerId | None
    quorum_term: int
    nodes: tuple[NodeDescription, ...]


class Admin(GroupAdmin):
    """Part of a Client. A change is visible to every later request of the same client."""

    # --- topics ------------------------------------------------------------------------------------------------------

    async def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        replication: int | None = None,
        config: Mapping[str, object] | None = None,
    ) -> TopicMetadata:
        """Make a topic. None means the cluster's default. Raises TopicExists, ConfigError, RequestFailed."""
        check_topic_name(name)
        configs = {key: text_of(value) for key, value in (config or {}).items()}
        request = CreateTopicRequest(name, partitions, replication, configs, self._change_id())
        await self._change(request, done_already=ErrorCode.TOPIC_ALREADY_EXISTS)
        return await self._cluster.topic(name)

    async def delete_topic(self, name: str, *, validate_only: bool = False) -> None:
        """Delete a topic with all its records. ``validate_only``: see whether that would be refused.
        Raises TopicNotFound, RequestFailed."""
        await self._change(
            DeleteTopicRequest(name, self._change_id(), validate_only),
            done_already=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        )
        await self._cluster.refresh((name,))

    async def grow_topic(self, name: str, partitions: int) -> TopicMetadata:
        """Raise a topic's partition count; keys map to other partitions from then on. Raises TopicNotFound,
        RequestFailed."""
        await self._change(
            CreatePartitionsRequest(name, partitions, self._change_id()), done_already=ErrorCode.INVALID_PARTITIONS
        )
        await self._cluster.refresh((name,))
        return await self._cluster.topic(name)

    async def alter_topic_config(self, name: str, config: Mapping[str, object], *, validate_only: bool = False) -> None:
        """Change these settings of a topic, all or none; None as a value unsets one. Lists may be sequences.
        Raises ConfigError, TopicNotFound, RequestFailed."""
        await alter_configs(self._cluster, topic=name, broker=None, changes=config, validate_only=validate_only)

    async def alter_broker_config(
        self, broker: BrokerId | None, config: Mapping[str, object], *, validate_only: bool = False
    ) -> None:
        """Change these settings of a broker, or with None of all brokers that do not set their own.
        Raises ConfigError, RequestFailed."""
        await alter_configs(self._cluster, topic=None, broker=broker, changes=config, validate_only=validate_only)

    async def topic_config(self, name: str) -> tuple[ConfigEntry, ...]:
        """All settings of a topic as they hold, and who set them. Raises TopicNotFound, RequestFailed."""
        return await describe_configs(self._cluster, topic=name, broker=None)

    async def broker_config(self, broker: BrokerId | None = None) -> tuple[ConfigEntry, ...]:
        """The same of a broker, or with None of the cluster. Raises RequestFailed, ConnectFailed."""
        return await describe_configs(self._cluster, topic=None, broker=broker)

    async def list_topics(self, *, current: bool = False) -> tuple[TopicMetadata, ...]:
        """Every topic, by name: as the node that answers knows them, never older than what this client has seen.
        ``current``: all that was committed before the call; it needs the quorum. Raises RequestFailed."""
        return (await self._metadata(None, current=current)).topics

    async def describe_topic(self, name: str, *, current: bool = False) -> TopicDescription:
        """A topic with the offsets and sizes that its leaders tell; ``current`` as in ``list_topics``.
        Raises TopicNotFound, RequestFailed."""
        (topic,) = (await self._metadata((name,), current=current)).topics
        if topic.error or topic.topic_id is None:
            raise error_for(topic.error, topic.message)
        await self._cluster.refresh((name,))
        topic_id, numbers = topic.topic_id, [state.partition for state in topic.partitions]
        starts, ends = await asyncio.gather(
            list_offsets(self._cluster, topic_id, numbers, EARLIEST, timeout_s=OFFSETS_TIMEOUT_S),
            list_offsets(self._cluster, topic_id, numbers, LATEST, timeout_s=OFFSETS_TIMEOUT_S),
        )
        described = (_describe(state, starts[state.partition], ends[state.partition]) for state in topic.partitions)
        return TopicDescription(topic.name, topic_id, dict(topic.configs), tuple(described))

    async def delete_records(self, topic: str, offsets: Mapping[int, int | None]) -> dict[int, int]:
        """Let partitions start at these offsets: what is below is not read any more, and its space is freed in time.
        None is the end, as it is committed then. By partition, the first offset that can still be read.

        Raises TopicNotFound; RequestFailed with OFFSET_OUT_OF_RANGE above the end, with POLICY_VIOLATION for a topic
        that is only compacted; the other partitions are then trimmed all the same.
        """
        found = await self._cluster.topic(topic)
        assert found.topic_id is not None
        for number in offsets:
            if not 0 <= number < len(found.partitions):
                raise TopicNotFound(f"{topic} has partitions 0 to {len(found.partitions) - 1}, not {number}.")
        answers = await delete_records(self._cluster, found.topic_id, offsets, timeout_s=TIMEOUT_S)
        for answer in answers.values():
            if isinstance(answer, OttlaError):
                raise answer
        return {
            number: start_of(answer) for number, answer in answers.items() if isinstance(answer, DeleteRecordsResult)
        }

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> dict[int, int]:
        """By partition, the offset of the first record of ``timestamp_ms`` (since 1970) or later, or the end where
        there is none. Raises TopicNotFound, RequestFailed."""
        found = await self._cluster.topic(topic)
        assert found.topic_id is not None
        return await offsets_for_time(
            self._cluster, found.topic_id, range(len(found.partitions)), timestamp_ms, timeout_s=TIMEOUT_S
        )

    # --- partitions and nodes ----------------------------------------------------------------------------------------

    async def move_partitions(self, moves: Mapping[tuple[str, int], Sequence[int] | None]) -> Changed:
        """Ask partitions (topic, number) to move to these brokers, the preferred leader first; None calls off what
        was asked before. Returns once it is decided; ``list_topics`` tells what is being added and removed.
        Raises TopicNotFound, RequestFailed."""
        return await move(self._cluster, moves)

    async def elect_leaders(
        self, partitions: Iterable[tuple[str, int]], *, unclean: bool = False, leader: int | None = None
    ) -> Changed:
        """Have the preferred replicas lead. ``unclean``: where nobody can lead, ``leader`` or any live replica does,
        and **records that were acknowledged may be lost**. Raises TopicNotFound, RequestFailed."""
        wanted = None if leader is None else BrokerId(leader)
        return await elect(self._cluster, partitions, unclean=unclean, leader=wanted)

    async def drain_node(self, node: int) -> None:
        """Its leaderships go to others and stay away until ``undrain_node``, over restarts. Raises RequestFailed."""
        await drain(self._cluster, BrokerId(node), drained=True)

    async def undrain_node(self, node: int) -> None:
        """It may lead again; its preferred partitions come back by themselves. Raises RequestFailed."""
        await drain(self._cluster, BrokerId(node), drained=False)

    async def replica_states(self, topics: Iterable[TopicMetadata]) -> dict[tuple[str, int], list[ReplicaState]]:
        """By topic and partition, its replicas and how far behind each is, as the leaders know."""
        await self._cluster.refresh(topic.name for topic in topics)
        return await replica_states(self._cluster, topics)

    async def describe_cluster(self) -> ClusterDescription:
        """The nodes, the quorum, and what each node that can be reached says of itself."""
        metadata = await self._metadata(())
        await self._cluster.refresh()
        nodes = await asyncio.gather(*(self._describe_node(endpoint) for endpoint in metadata.brokers))
        return ClusterDescription(
            cluster_id=metadata.cluster_id,
            metadata_index=metadata.metadata_index,
            answered_by=metadata.node_id,
            quorum_leader=metadata.quorum_leader,
            quorum_term=metadata.quorum_term,
            nodes=tuple(nodes),
        )

    async def _describe_node(self, endpoint: BrokerEndpoint) -> NodeDescription:
        try:
            connection = await self._cluster.connection(endpoint.broker_id, "main")
            response = (await connection.request(DescribeNodeRequest(), timeout_s=NODE_TIMEOUT_S)).message
        except OttlaError as error:
            return NodeDescription(endpoint, None, str(error))
        if isinstance(response, DescribeNodeResponse):
            return NodeDescription(endpoint, response, None)
        return NodeDescription(endpoint, None, response.message if isinstance(response, ErrorResponse) else "no answer")

    async def _metadata(self, topics: tuple[str, ...] | None, *, current: bool = False) -> MetadataResponse:
        for name in topics or ():
            check_topic_name(name)
        request = MetadataRequest(topics, False, self._cluster.metadata_index, current)
        response = (await self._cluster.ask_any(request, timeout_s=TIMEOUT_S)).response
        if isinstance(response, MetadataResponse):
            self._cluster.saw_index(response.metadata_index)
            return response
        raise refusal(response)

    def _change_id(self) -> str:
        return new_id(self._cluster.chance)

    async def _change(self, request: Request, *, done_already: ErrorCode) -> None:
        """``done_already``: what a second attempt meets if the first, unanswered, was carried out after all."""
        response, unsure = await self._cluster.ask_any(request, timeout_s=TIMEOUT_S, attempt_s=CHANGE_TIMEOUT_S)
        if isinstance(response, TopicChanged):
            self._cluster.saw_index(response.metadata_index)
        elif not (unsure and isinstance(response, ErrorResponse) and response.error is done_already):
            raise refusal(response)


def _describe(
    state: PartitionMetadata, start: OffsetResult | OttlaError, end: OffsetResult | OttlaError
) -> PartitionDescription:
    problem = next((str(answer) for answer in (start, end) if isinstance(answer, OttlaError)), None)
    return PartitionDescription(
        state=state,
        start_offset=start.offset if isinstance(start, OffsetResult) else None,
        end_offset=end.offset if isinstance(end, OffsetResult) else None,
        size_bytes=start.size_bytes if isinstance(start, OffsetResult) else None,
        problem=problem,
    )
