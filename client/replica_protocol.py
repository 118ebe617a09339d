"""Requests to brokers about the logs they hold: where epochs end, who wrote, how large they are."""

from typing import Annotated

from ottla.log.model import BrokerId, LeaderEpoch, Offset, ProducerId, TopicId

from .error_codes import ErrorCode
from .message import Int32, Many, Message


class EpochQuery(Message):
    """``leader_epoch``: whose end is wanted. ``current_leader_epoch``: in which the reader believes (KIP-320)."""

    topic_id: TopicId
    partition: Int32
    leader_epoch: LeaderEpoch
    current_leader_epoch: LeaderEpoch | None = None


class OffsetForLeaderEpochRequest(Message, tag="offset_for_leader_epoch"):
    """Where leader epochs ended (KIP-101, KIP-320), so that a reader learns where its log leaves the leader's. Only a
    leader answers."""

    partitions: Annotated[tuple[EpochQuery, ...], Many]


class EpochEnd(Message):
    """The largest epoch that is not above the one asked for, and where it ends; None where the one asked for is above
    all that the leader knows."""

    topic_id: TopicId
    partition: int
    error: ErrorCode
    leader_epoch: LeaderEpoch | None = None
    end_offset: Offset | None = None
    message: str = ""
    leader: BrokerId | None = None


class OffsetForLeaderEpochResponse(Message, tag="offset_for_leader_epoch"):
    """In the request's order."""

    partitions: tuple[EpochEnd, ...]


class DescribeProducersRequest(Message, tag="describe_producers"):
    """Which idempotent producers these partitions remember (KIP-664). Any replica answers."""

    partitions: Annotated[tuple[tuple[TopicId, Int32], ...], Many]


class ActiveProducer(Message):
    """``last_timestamp_ms``: the largest of its last batch."""

    producer_id: ProducerId
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int


class PartitionProducers(Message):
    topic_id: TopicId
    partition: int
    error: ErrorCode
    producers: tuple[ActiveProducer, ...] = ()
    message: str = ""


class DescribeProducersResponse(Message, tag="describe_producers"):
    """In the request's order."""

    partitions: tuple[PartitionProducers, ...]


class DescribeLogDirsRequest(Message, tag="describe_log_dirs"):
    """What the answering broker's directories of logs hold (KIP-113)."""


class LogOnDisk(Message):
    """``offset_lag``: how far its end is below what this broker knows to be committed."""

    topic: str
    topic_id: TopicId
    partition: int
    size_bytes: int
    offset_lag: int = 0


class LogDirectory(Message):
    """KAFKA_STORAGE_ERROR: it is out of service. ``usable_bytes``: None where the file system does not tell."""

    path: str
    error: ErrorCode
    logs: tuple[LogOnDisk, ...] = ()
    usable_bytes: int | None = None


class DescribeLogDirsResponse(Message, tag="describe_log_dirs"):
    directories: tuple[LogDirectory, ...]


ReplicaRequest = OffsetForLeaderEpochRequest | DescribeProducersRequest | DescribeLogDirsRequest
ReplicaResponse = OffsetForLeaderEpochResponse | DescribeProducersResponse | DescribeLogDirsResponse
