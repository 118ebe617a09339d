"""What a broker knows of the logs it holds: ends of epochs, producers, sizes."""

from ottla.client.error_codes import ErrorCode
from ottla.client.replica_protocol import (
    ActiveProducer,
    DescribeLogDirsResponse,
    DescribeProducersRequest,
    DescribeProducersResponse,
    EpochEnd,
    EpochQuery,
    LogDirectory,
    LogOnDisk,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    PartitionProducers,
    ReplicaRequest,
    ReplicaResponse,
)
from ottla.log.directories import LogDirectories, Logs
from ottla.log.manager import LogManager
from ottla.log.model import ProducerId, TopicId, TopicIdPartition

from ..reading import check_epoch
from ..replica import Refused
from ..replica_manager import ReplicaManager


async def answer_of_replicas(manager: ReplicaManager, request: ReplicaRequest) -> ReplicaResponse:
    """One result per partition, in order; of log directories, every one."""
    match request:
        case OffsetForLeaderEpochRequest():
            return OffsetForLeaderEpochResponse(tuple(_epoch_end(manager, query) for query in request.partitions))
        case DescribeProducersRequest():
            return DescribeProducersResponse(tuple(_producers(manager, *place) for place in request.partitions))
        case _:
            # Free space is a question to the file system, which may make us wait.
            listed = [(directory, _logs_in(manager, directory)) for directory in _directories_of(manager.logs)]
            return await manager.run_blocking(lambda: _directories(manager, listed))


def _epoch_end(manager: ReplicaManager, query: EpochQuery) -> EpochEnd:
    try:
        replica = manager.require(query.topic_id, query.partition)
        check_epoch(replica, query.current_leader_epoch)
    except Refused as refused:
        leader, _ = manager.leader_of(query.topic_id, query.partition)
        return EpochEnd(query.topic_id, query.partition, refused.error, message=str(refused), leader=leader)
    end = replica.log.end_offset_for_epoch(query.leader_epoch)
    if end is None:
        return EpochEnd(query.topic_id, query.partition, ErrorCode.NONE)
    return EpochEnd(query.topic_id, query.partition, ErrorCode.NONE, end.leader_epoch, end.offset)


def _producers(manager: ReplicaManager, topic_id: TopicId, partition: int) -> PartitionProducers:
    try:
        replica = manager.require(topic_id, partition)
    except Refused as refused:
        return PartitionProducers(topic_id, partition, refused.error, message=str(refused))
    newest = {entry.producer_id: entry for entry in replica.log.producers()}  # of each, its last batch comes last
    active = tuple(
        ActiveProducer(ProducerId(entry.producer_id), entry.producer_epoch, entry.last_sequence, entry.timestamp)
        for _, entry in sorted(newest.items())
    )
    return PartitionProducers(topic_id, partition, ErrorCode.NONE, active)


def _directories_of(logs: Logs) -> list[LogManager]:
    return logs.managers if isinstance(logs, LogDirectories) else [logs]


def _logs_in(manager: ReplicaManager, directory: LogManager) -> tuple[LogOnDisk, ...]:
    found = []
    for log in directory.logs():
        replica = manager.find(TopicIdPartition(log.topic_id, log.topic_partition.partition))
        if replica is None or replica.log is not log:
            continue
        lag = max(0, replica.high_watermark - log.log_end_offset)
        topic, partition = log.topic_partition
        found.append(LogOnDisk(topic, log.topic_id, partition, log.size_bytes, lag))
    return tuple(found)


def _directories(
    manager: ReplicaManager, listed: list[tuple[LogManager, tuple[LogOnDisk, ...]]]
) -> DescribeLogDirsResponse:
    directories = []
    for directory, logs in listed:
        if directory.failed is not None:
            directories.append(LogDirectory(str(directory.path), ErrorCode.KAFKA_STORAGE_ERROR))
            continue
        try:
            usable = directory.free_bytes()
        except OSError:
            usable = None
        directories.append(LogDirectory(str(directory.path), ErrorCode.NONE, logs, usable))
    paths = manager.logs.broken if isinstance(manager.logs, LogDirectories) else ()
    broken = (LogDirectory(str(path), ErrorCode.KAFKA_STORAGE_ERROR) for path in paths)
    return DescribeLogDirsResponse((*directories, *broken))
