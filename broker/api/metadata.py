"""Metadata: who leads what, from one image; missing topics are made where that is wanted."""

from collections.abc import Awaitable, Callable

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    BrokerEndpoint,
    CreateTopicRequest,
    MetadataRequest,
    MetadataResponse,
    PartitionMetadata,
    TopicMetadata,
)
from ottla.raft.image import KAFKA, Broker, MetadataImage, Topic
from ottla.raft.topic_rules import why_illegal_name

from ..controller_channel import ControllerUnavailable
from ..replica import Refused
from ..replica_manager import ReplicaManager
from .topics import TopicsApi

INDEX_WAIT_S = 5.0
"""How long a request that names a metadata index waits for this node to get there."""


class MetadataApi:
    """``quorum``: the quorum leader's number or None, and its term. ``wait_applied`` raises TimeoutError;
    ``barrier`` is ControllerChannel's."""

    def __init__(
        self,
        *,
        manager: ReplicaManager,
        topics: TopicsApi,
        quorum: Callable[[], tuple[int | None, int]],
        wait_applied: Callable[[int, float], Awaitable[None]],
        barrier: Callable[[float], Awaitable[int]],
        auto_create: bool,
    ) -> None:
        self._manager = manager
        self._topics = topics
        self._quorum = quorum
        self._wait_applied = wait_applied
        self._barrier = barrier
        self._auto_create = auto_create

    async def metadata(self, request: MetadataRequest) -> MetadataResponse:
        """Raises Refused where this node cannot reach the index asked for, or learn what is current, in time."""
        wanted = request.min_metadata_index
        if request.current:
            try:
                wanted = max(wanted, await self._barrier(INDEX_WAIT_S))
            except ControllerUnavailable as unavailable:
                raise Refused(ErrorCode.REQUEST_TIMED_OUT, str(unavailable)) from None
        if wanted > self._manager.image.index:
            try:
                await self._wait_applied(wanted, INDEX_WAIT_S)
            except TimeoutError:
                raise Refused(ErrorCode.REQUEST_TIMED_OUT, "this node is behind the metadata asked for") from None
        failures = await self._create_missing(request)
        return self._response(request, self._manager.image, failures)

    async def _create_missing(self, request: MetadataRequest) -> dict[str, Refused]:
        failures: dict[str, Refused] = {}
        if not (self._auto_create and request.allow_auto_create) or request.topics is None:
            return failures
        for name in request.topics:
            if name not in self._manager.image.topics:
                try:
                    await self._topics.create(CreateTopicRequest(name), auto_created=True)
                except Refused as refused:
                    failures[name] = refused
                    if refused.error is ErrorCode.REQUEST_TIMED_OUT:
                        break  # no controller: the others would each wait as long
        return failures

    def _response(
        self, request: MetadataRequest, image: MetadataImage, failures: dict[str, Refused]
    ) -> MetadataResponse:
        leader, term = self._quorum()
        names = sorted(image.topics) if request.topics is None else request.topics
        return MetadataResponse(
            cluster_id=image.cluster_id or "",
            metadata_index=image.index,
            node_id=self._manager.local,
            quorum_leader=leader,  # type: ignore[arg-type]
            quorum_term=term,
            brokers=tuple(_endpoint(broker) for _, broker in sorted(image.brokers.items())),
            topics=tuple(self._topic(image, name, failures.get(name)) for name in names),
        )

    @staticmethod
    def _topic(image: MetadataImage, name: str, failure: Refused | None) -> TopicMetadata:
        topic = image.topics.get(name)
        if topic is not None:
            return describe_topic(topic)
        if failure is not None:
            return TopicMetadata(failure.error, name, None, message=str(failure))
        if (reason := why_illegal_name(name)) is not None:
            return TopicMetadata(ErrorCode.INVALID_TOPIC_EXCEPTION, name, None, message=reason)
        return TopicMetadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name, None, message=f"there is no topic {name}")


def _endpoint(broker: Broker) -> BrokerEndpoint:
    kafka = broker.listener(KAFKA)
    return BrokerEndpoint(
        broker_id=broker.broker_id,
        host=broker.host,
        port=broker.port,
        rack=broker.rack,
        fenced=broker.fenced,
        draining=broker.draining,
        broker_epoch=broker.broker_epoch,
        drained=broker.drained,
        kafka_port=None if kafka is None else kafka.port,
        kafka_host="" if kafka is None else kafka.host,
    )


def describe_topic(topic: Topic) -> TopicMetadata:
    """One topic as clients see it."""
    return TopicMetadata(
        error=ErrorCode.NONE,
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=tuple(
            PartitionMetadata(
                partition=number,
                leader=state.leader,
                leader_epoch=state.leader_epoch,
                partition_epoch=state.partition_epoch,
                replicas=state.replicas,
                isr=state.isr,
                elr=state.elr,
                last_known_leader=state.last_known_leader,
                adding=state.adding,
                removing=state.removing,
            )
            for number, state in enumerate(topic.partitions)
        ),
        configs=dict(topic.configs),
    )
