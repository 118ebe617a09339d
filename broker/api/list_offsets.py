"""ListOffsets: where a partition starts and ends for readers. Only its leader knows."""

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    EARLIEST,
    LATEST,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetQuery,
    OffsetResult,
)
from ottla.log.model import Offset

from ..reading import check_epoch
from ..replica import Refused
from ..replica_manager import ReplicaManager


def list_offsets(manager: ReplicaManager, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """One result per query, in order."""
    return ListOffsetsResponse(tuple(_answer(manager, query) for query in request.partitions))


def _answer(manager: ReplicaManager, query: OffsetQuery) -> OffsetResult:
    try:
        replica = manager.require(query.topic_id, query.partition)
        leader = check_epoch(replica, query.current_leader_epoch)
        if query.position == EARLIEST:
            offset = replica.log.log_start_offset
        elif query.position == LATEST:
            offset = _latest(leader.latest_is_known, leader.high_watermark)
        else:
            raise Refused(ErrorCode.INVALID_REQUEST, f"{query.position!r} is neither earliest nor latest")
    except Refused as refused:
        current, _ = manager.leader_of(query.topic_id, query.partition)
        return OffsetResult(query.topic_id, query.partition, refused.error, message=str(refused), leader=current)
    return OffsetResult(
        topic_id=query.topic_id,
        partition=query.partition,
        error=ErrorCode.NONE,
        offset=offset,
        leader_epoch=leader.leader_epoch,
        size_bytes=replica.log.size_bytes,
    )


def _latest(known: bool, high_watermark: Offset) -> Offset:
    if not known:
        raise Refused(ErrorCode.OFFSET_NOT_AVAILABLE, "a new leader has not committed up to the start of its epoch yet")
    return high_watermark
