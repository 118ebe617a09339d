"""Requests and responses: the one vocabulary that every door translates to and from, named after Kafka's.

All are msgspec structs encoded as arrays, so a field appended at the end with a default is readable by old and
new alike. Record batches are never inside: a struct names a batch by its ``size`` and the bytes follow the header
in the same frame, in the order of the structs (see frames.py).
"""

from typing import Annotated

import msgspec

from ottla.log.model import (
    BrokerEpoch,
    BrokerId,
    LeaderEpoch,
    Offset,
    PartitionEpoch,
    ProducerEpoch,
    ProducerId,
    TopicId,
)

from .admin_protocol import (
    MAX_PLACES as MAX_PLACES,
    AlterConfigsRequest as AlterConfigsRequest,
    AlterPartitionReassignmentsRequest as AlterPartitionReassignmentsRequest,
    BrokerName as BrokerName,
    ChangeId as ChangeId,
    ConfigEntry as ConfigEntry,
    ConfigOp as ConfigOp,
    ConfigsAltered as ConfigsAltered,
    CreatePartitionsRequest as CreatePartitionsRequest,
    CreateTopicRequest as CreateTopicRequest,
    DeleteTopicRequest as DeleteTopicRequest,
    DescribeConfigsRequest as DescribeConfigsRequest,
    DescribeConfigsResponse as DescribeConfigsResponse,
    DescribeReplicasRequest as DescribeReplicasRequest,
    DescribeReplicasResponse as DescribeReplicasResponse,
    DrainBrokerRequest as DrainBrokerRequest,
    ElectLeadersRequest as ElectLeadersRequest,
    PartitionFailure as PartitionFailure,
    PartitionMove as PartitionMove,
    PartitionName as PartitionName,
    PartitionsChangedResponse as PartitionsChangedResponse,
    ReplicaProgress as ReplicaProgress,
    Replicas as Replicas,
    ReplicasResult as ReplicasResult,
    TopicChanged as TopicChanged,
)
from .error_codes import ErrorCode
from .group_protocol import GroupRequest, GroupResponse
from .message import MAX_REQUEST_PARTITIONS as MAX_REQUEST_PARTITIONS, FetchOffset, Int32, Many, Message, Name
from .replica_protocol import ReplicaRequest, ReplicaResponse

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1
EARLIEST, LATEST = "earliest", "latest"
AT_TIME, MAX_TIME = "time", "max_time"


# --- metadata --------------------------------------------------------------------------------------------------------


class MetadataRequest(Message, tag="metadata"):
    """Who leads what. ``topics`` None means all; a missing one is made where ``allow_auto_create`` and the broker's
    ``auto.create.topics.enable`` say so. The answer waits (bounded) until the node knows ``min_metadata_index``;
    with ``current``, until it knows all that was committed before the request came."""

    topics: Annotated[tuple[Name, ...], Many] | None
    allow_auto_create: bool = False
    min_metadata_index: FetchOffset = 0
    current: bool = False


class BrokerEndpoint(Message):
    """A registered broker."""

    broker_id: BrokerId
    host: str
    port: int
    rack: str | None = None
    fenced: bool = False
    draining: bool = False
    broker_epoch: BrokerEpoch = BrokerEpoch(0)
    drained: bool = False  # by an operator: it leads nothing that another can
    kafka_port: int | None = None  # of its listener for Kafka's protocol; None: it has none
    kafka_host: str = ""  # "": the host that the client reaches it by


class PartitionMetadata(Message):
    """One partition's state in the image of the answering node."""

    partition: int
    leader: BrokerId | None
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    replicas: tuple[BrokerId, ...]
    isr: tuple[BrokerId, ...]
    elr: tuple[BrokerId, ...] = ()
    last_known_leader: BrokerId | None = None
    adding: tuple[BrokerId, ...] = ()  # of the replicas, those that a reassignment brings
    removing: tuple[BrokerId, ...] = ()  # and those that go when it is over


class TopicMetadata(Message):
    """One topic, or why it cannot be named."""

    error: ErrorCode
    name: str
    topic_id: TopicId | None
    partitions: tuple[PartitionMetadata, ...] = ()
    configs: dict[str, str] = msgspec.field(default_factory=dict)
    message: str = ""


class MetadataResponse(Message, tag="metadata"):
    """``metadata_index``: the quorum index this view holds; name it as ``min_metadata_index`` to never look back."""

    cluster_id: str
    metadata_index: int
    node_id: BrokerId
    quorum_leader: BrokerId | None
    quorum_term: int
    brokers: tuple[BrokerEndpoint, ...]
    topics: tuple[TopicMetadata, ...]


# --- produce ---------------------------------------------------------------------------------------------------------


class ProducePartition(Message):
    """One record batch of ``size`` bytes for one partition."""

    topic_id: TopicId
    partition: Int32
    size: Int32


class ProduceRequest(Message, tag="produce"):
    """``acks``: 0 none (and no response), 1 the leader, -1 the in-sync replicas. Batches follow the header."""

    acks: int
    timeout_ms: Int32
    partitions: Annotated[tuple[ProducePartition, ...], Many]


class ProduceResult(Message):
    """``leader``/``leader_epoch``: where to go instead, when the error is about leadership (KIP-951)."""

    topic_id: TopicId
    partition: int
    error: ErrorCode
    base_offset: Offset | None = None
    log_start_offset: Offset | None = None
    message: str = ""
    leader: BrokerId | None = None
    leader_epoch: LeaderEpoch | None = None
    log_append_time_ms: int | None = None  # None: the records' own timestamps stand


class ProduceResponse(Message, tag="produce"):
    """One result per partition, in the request's order."""

    partitions: tuple[ProduceResult, ...]


# --- fetch -----------------------------------------------------------------------------------------------------------


class FetchPartition(Message):
    """Where to read. The epochs fence a stale leader or a stale reader (KIP-320); None where unknown.
    ``last_fetched_epoch`` also lets a follower learn that its log diverges (KIP-595's fetch). ``log_start_offset``: a
    follower's own. ``damaged``: what came for this offset before was: whoever answers looks into its log."""

    topic_id: TopicId
    partition: Int32
    fetch_offset: FetchOffset
    current_leader_epoch: LeaderEpoch | None = None
    last_fetched_epoch: LeaderEpoch | None = None
    max_bytes: Int32 = 1 << 20
    log_start_offset: FetchOffset | None = None
    damaged: bool = False


class FetchRequest(Message, tag="fetch"):
    """Read whole batches below the high watermark. Answers at once with an error or ``min_bytes``, else after
    ``max_wait_ms``."""

    max_wait_ms: Int32
    min_bytes: Int32
    max_bytes: Int32
    partitions: Annotated[tuple[FetchPartition, ...], Many]
    rack: Annotated[str, msgspec.Meta(max_length=255)] = ""  # the reader's: a follower there may answer (KIP-392)


class ReplicaFetchRequest(Message, tag="replica_fetch"):
    """A follower's fetch on its stream to a leader, which is also an incremental session (KIP-227): the stream
    remembers what was named, so ``changed`` holds only what is new or moved and ``forgotten`` what is over.
    Each ``fetch_offset`` acknowledges everything below it."""

    max_wait_ms: Int32
    max_bytes: Int32
    changed: Annotated[tuple[FetchPartition, ...], Many] = ()
    forgotten: Annotated[tuple[tuple[TopicId, int], ...], Many] = ()


class DivergingEpoch(Message):
    """The leader's largest epoch at or below the one asked about, and where it ends (KIP-101)."""

    leader_epoch: LeaderEpoch
    end_offset: Offset


class FetchResult(Message):
    """``size`` bytes of batches follow the header. ``diverging``: truncate to the end of the common epoch first."""

    topic_id: TopicId
    partition: int
    error: ErrorCode
    high_watermark: Offset | None = None
    log_start_offset: Offset | None = None
    size: int = 0
    diverging: DivergingEpoch | None = None
    message: str = ""
    leader: BrokerId | None = None
    leader_epoch: LeaderEpoch | None = None
    preferred_read_replica: BrokerId | None = None  # read on there: it is in the reader's rack and in sync (KIP-392)


class FetchResponse(Message, tag="fetch"):
    """Results in the request's order; to a replica, only those with something to say."""

    partitions: tuple[FetchResult, ...]


# --- offsets and producer ids ----------------------------------------------------------------------------------------


class OffsetQuery(Message):
    """``position``: ``earliest``, ``latest`` (the high watermark), ``time`` (the first record of ``timestamp_ms`` or
    later) or ``max_time`` (the first record with the largest timestamp: KIP-734)."""

    topic_id: TopicId
    partition: Int32
    position: str
    current_leader_epoch: LeaderEpoch | None = None
    timestamp_ms: int | None = None


class ListOffsetsRequest(Message, tag="list_offsets"):
    """Where partitions start and end for readers. Only a leader answers."""

    partitions: Annotated[tuple[OffsetQuery, ...], Many]


class OffsetResult(Message):
    """``offset``: None where no record is so late. ``leader_epoch``: in which it was, or will be, written.
    ``timestamp_ms``: of the record found by its time. ``size_bytes``: of the leader's log, for people."""

    topic_id: TopicId
    partition: int
    error: ErrorCode
    offset: Offset | None = None
    leader_epoch: LeaderEpoch | None = None
    size_bytes: int = 0
    message: str = ""
    leader: BrokerId | None = None
    timestamp_ms: int | None = None


class ListOffsetsResponse(Message, tag="list_offsets"):
    partitions: tuple[OffsetResult, ...]


class DeleteRecordsPartition(Message):
    """``offset``: nothing below it is to be read any more; None: nothing that is committed now."""

    topic_id: TopicId
    partition: Int32
    offset: FetchOffset | None


class DeleteRecordsRequest(Message, tag="delete_records"):
    """Let partitions start later. Only a leader answers, once all live replicas have followed."""

    timeout_ms: Int32
    partitions: Annotated[tuple[DeleteRecordsPartition, ...], Many]


class DeleteRecordsResult(Message):
    """``low_watermark``: from where on the partition can be read now."""

    topic_id: TopicId
    partition: int
    error: ErrorCode
    low_watermark: Offset | None = None
    message: str = ""
    leader: BrokerId | None = None


class DeleteRecordsResponse(Message, tag="delete_records"):
    partitions: tuple[DeleteRecordsResult, ...]


class InitProducerIdRequest(Message, tag="init_producer_id"):
    """A new idempotent producer (KIP-98). A producer that gives a batch up asks for a new id: a fresh sequence."""


class InitProducerIdResponse(Message, tag="init_producer_id"):
    producer_id: ProducerId
    producer_epoch: ProducerEpoch


# --- the node itself -------------------------------------------------------------------------------------------------


class DescribeNodeRequest(Message, tag="describe_node"):
    """What this node is doing."""


class DescribeNodeResponse(Message, tag="describe_node"):
    node_id: BrokerId
    state: str
    version: str
    quorum_leader: BrokerId | None
    quorum_term: int
    commit_index: int
    applied_index: int
    voters: tuple[tuple[int, str, int], ...]
    partitions_led: int
    partitions_held: int
    log_bytes: int
    free_bytes: int
    uptime_s: float


class ErrorResponse(Message, tag="error"):
    """The request as a whole was refused."""

    error: ErrorCode
    message: str
    hint: str = ""


Request = (
    MetadataRequest
    | ProduceRequest
    | FetchRequest
    | ReplicaFetchRequest
    | ListOffsetsRequest
    | DeleteRecordsRequest
    | InitProducerIdRequest
    | CreateTopicRequest
    | DeleteTopicRequest
    | CreatePartitionsRequest
    | AlterConfigsRequest
    | AlterPartitionReassignmentsRequest
    | ElectLeadersRequest
    | DrainBrokerRequest
    | DescribeReplicasRequest
    | DescribeConfigsRequest
    | DescribeNodeRequest
    | GroupRequest
    | ReplicaRequest
)

Response = (
    MetadataResponse
    | ProduceResponse
    | FetchResponse
    | ListOffsetsResponse
    | DeleteRecordsResponse
    | InitProducerIdResponse
    | TopicChanged
    | ConfigsAltered
    | PartitionsChangedResponse
    | DescribeReplicasResponse
    | DescribeConfigsResponse
    | DescribeNodeResponse
    | GroupResponse
    | ReplicaResponse
    | ErrorResponse
)
