"""Where partitions start and end, where a time or an epoch is, and trimming: what only a partition's leader knows."""

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    AT_TIME,
    EARLIEST,
    LATEST,
    MAX_TIME,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetQuery,
    OffsetResult,
)
from ottla.client.replica_protocol import EpochQuery, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse
from ottla.log.model import LeaderEpoch

from .caller import Caller
from .entities import Entity, Fields, field, milliseconds
from .header import Header
from .produce import NO_TOPIC
from .versions import ApiKey
from .view import BrokerView

_LATEST, _EARLIEST, _MAX_TIME, _EARLIEST_LOCAL, _LATEST_TIERED = -1, -2, -3, -4, -5
"""What timestamps below zero ask for (KIP-734, KIP-405, KIP-1005)."""
NOT_AVAILABLE_SINCE = 5
"""Clients of older versions know of no OFFSET_NOT_AVAILABLE, and would not ask again."""
_POSITIONS = {_LATEST: LATEST, _EARLIEST: EARLIEST, _MAX_TIME: MAX_TIME, _EARLIEST_LOCAL: EARLIEST}


async def list_offsets(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    queries = tuple(_query(view, topic.name, asked) for topic in request.topics for asked in topic.partitions)
    response = await view.ask(ListOffsetsRequest(queries), ListOffsetsResponse)
    results = iter(response.partitions)
    return {
        "topics": [
            {"name": topic.name, "partitions": [_offset(asked, next(results), header) for asked in topic.partitions]}
            for topic in request.topics
        ]
    }


def _query(view: BrokerView, topic: str, asked: Entity) -> OffsetQuery:
    known = view.image.topics.get(topic)
    epoch = field(asked, "current_leader_epoch", -1)
    position = AT_TIME if asked.timestamp >= 0 else _POSITIONS.get(asked.timestamp, "")
    return OffsetQuery(
        topic_id=NO_TOPIC if known is None else known.topic_id,
        partition=asked.partition_index,
        position=position,
        current_leader_epoch=None if epoch < 0 else LeaderEpoch(epoch),
        timestamp_ms=asked.timestamp if asked.timestamp >= 0 else None,
    )


def _offset(asked: Entity, result: OffsetResult, header: Header) -> Fields:
    found = result.offset is not None
    told = result.timestamp_ms is not None and (asked.timestamp >= 0 or asked.timestamp == _MAX_TIME)
    return {
        "partition_index": result.partition,
        "error_code": _error(asked, result, header),
        "timestamp": result.timestamp_ms if told else -1,
        "offset": result.offset if found else -1,
        "leader_epoch": result.leader_epoch if found and result.leader_epoch is not None else -1,
    }


def _error(asked: Entity, result: OffsetResult, header: Header) -> ErrorCode:
    """Nothing is tiered, so that is found nowhere; what else is below zero is not known here."""
    if result.error is ErrorCode.INVALID_REQUEST and asked.timestamp < 0:
        return ErrorCode.NONE if asked.timestamp == _LATEST_TIERED else ErrorCode.UNSUPPORTED_VERSION
    if result.error is ErrorCode.OFFSET_NOT_AVAILABLE and header.version < NOT_AVAILABLE_SINCE:
        return ErrorCode.LEADER_NOT_AVAILABLE
    return by_name(result.error)


def by_name(error: ErrorCode) -> ErrorCode:
    """Of a request that names topics, which does not know them by id."""
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if error is ErrorCode.UNKNOWN_TOPIC_ID else error


async def offset_for_leader_epoch(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Where an epoch ended (KIP-320)."""
    queries = []
    for topic in request.topics:
        known = view.image.topics.get(topic.topic)
        topic_id = NO_TOPIC if known is None else known.topic_id
        for asked in topic.partitions:
            current = field(asked, "current_leader_epoch", -1)
            queries.append(
                EpochQuery(
                    topic_id,
                    asked.partition,
                    LeaderEpoch(asked.leader_epoch),
                    None if current < 0 else LeaderEpoch(current),
                )
            )
    response = await view.ask(OffsetForLeaderEpochRequest(tuple(queries)), OffsetForLeaderEpochResponse)
    results = iter(response.partitions)
    return {
        "topics": [
            {
                "topic": topic.topic,
                "partitions": [
                    {
                        "error_code": by_name(result.error),
                        "partition": result.partition,
                        "leader_epoch": -1 if result.leader_epoch is None else result.leader_epoch,
                        "end_offset": -1 if result.end_offset is None else result.end_offset,
                    }
                    for result in (next(results) for _ in topic.partitions)
                ],
            }
            for topic in request.topics
        ]
    }


async def delete_records(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Offset -1: up to the high watermark (KIP-107)."""
    targets: list[DeleteRecordsPartition] = []
    for topic in request.topics:
        known = view.image.topics.get(topic.name)
        topic_id = NO_TOPIC if known is None else known.topic_id
        targets += (
            DeleteRecordsPartition(topic_id, asked.partition_index, None if asked.offset == -1 else asked.offset)
            for asked in topic.partitions
        )
    timeout_ms = max(0, milliseconds(request.timeout))
    response = await view.ask(DeleteRecordsRequest(timeout_ms, tuple(targets)), DeleteRecordsResponse)
    results = iter(response.partitions)
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": result.partition,
                        "low_watermark": -1 if result.low_watermark is None else result.low_watermark,
                        "error_code": by_name(result.error),
                    }
                    for result in (next(results) for _ in topic.partitions)
                ],
            }
            for topic in request.topics
        ]
    }


HANDLERS = {
    ApiKey.LIST_OFFSETS: list_offsets,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch,
    ApiKey.DELETE_RECORDS: delete_records,
}
