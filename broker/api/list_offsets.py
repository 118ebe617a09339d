"""ListOffsets: where a partition starts and ends for readers, and where a time is. Only its leader knows."""

import asyncio

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    AT_TIME,
    EARLIEST,
    LATEST,
    MAX_TIME,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetQuery,
    OffsetResult,
)
from ottla.log.errors import LogError
from ottla.log.model import Offset

from ..partition_leader import PartitionLeader
from ..reading import check_epoch
from ..replica import Refused, Replica
from ..replica_manager import ReplicaManager
from .time_lookup import Found, first_at_time, newest_time

TURN = 256


async def list_offsets(manager: ReplicaManager, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """One result per query, in order."""
    results = []
    for number, query in enumerate(request.partitions, 1):
        results.append(await _answer(manager, query))
        if number % TURN == 0:
            await asyncio.sleep(0)  # others get their turn
    return ListOffsetsResponse(tuple(results))


async def _answer(manager: ReplicaManager, query: OffsetQuery) -> OffsetResult:
    try:
        replica = manager.require(query.topic_id, query.partition)
        leader = check_epoch(replica, query.current_leader_epoch)
        found = await _find(manager, replica, leader, query)
    except Refused as refused:
        return _refusal(manager, query, refused.error, str(refused))
    except LogError as error:
        return _refusal(manager, query, ErrorCode.named(error.code), str(error))
    epoch = None if found is None else replica.log.epoch_of(found.offset)
    return OffsetResult(
        topic_id=query.topic_id,
        partition=query.partition,
        error=ErrorCode.NONE,
        offset=None if found is None else found.offset,
        leader_epoch=leader.leader_epoch if epoch is None else epoch,
        size_bytes=replica.log.size_bytes,
        timestamp_ms=None if found is None else found.timestamp_ms,
    )


def _refusal(manager: ReplicaManager, query: OffsetQuery, error: ErrorCode, message: str) -> OffsetResult:
    leader, _ = manager.leader_of(query.topic_id, query.partition)
    return OffsetResult(query.topic_id, query.partition, error, message=message, leader=leader)


async def _find(manager: ReplicaManager, replica: Replica, leader: PartitionLeader, query: OffsetQuery) -> Found | None:
    if query.position == EARLIEST:
        return Found(replica.log.log_start_offset, None)
    if query.position == LATEST:
        return Found(_latest(leader), None)
    if query.position == AT_TIME and query.timestamp_ms is not None:
        found = await first_at_time(replica, leader.high_watermark, query.timestamp_ms, manager.run_blocking)
    elif query.position == MAX_TIME:
        found = await newest_time(replica, leader.high_watermark, manager.run_blocking)
    else:
        raise Refused(ErrorCode.INVALID_REQUEST, f"{query.position!r} is neither earliest, latest nor a time")
    if found is None:
        _latest(leader)  # what is not seen yet may be committed already
    return found


def _latest(leader: PartitionLeader) -> Offset:
    if not leader.latest_is_known:
        raise Refused(ErrorCode.OFFSET_NOT_AVAILABLE, "a new leader has not committed up to the start of its epoch yet")
    return leader.high_watermark
