"""Ids of idempotent producers, and who has written to a partition lately."""

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import InitProducerIdRequest, InitProducerIdResponse
from ottla.client.replica_protocol import DescribeProducersRequest, DescribeProducersResponse, PartitionProducers
from ottla.log.model import TopicId

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields
from .header import Header
from .offsets import by_name
from .produce import NO_TOPIC
from .versions import ApiKey
from .view import BrokerView


async def init_producer_id(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Always a new id at epoch 0: who names the id it has bumps the epoch itself (KIP-360), without transactions."""
    if request.transactional_id is not None:
        return _identity(ErrorCode.INVALID_REQUEST, -1, -1)
    try:
        given = await view.ask(InitProducerIdRequest(), InitProducerIdResponse)
    except Refused as refused:
        return _identity(refused.error, -1, -1)
    return _identity(ErrorCode.NONE, given.producer_id, given.producer_epoch)


def _identity(error: ErrorCode, producer_id: int, epoch: int) -> Fields:
    return {"error_code": error, "producer_id": producer_id, "producer_epoch": epoch}


async def describe_producers(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """KIP-664."""
    asked: list[tuple[TopicId, int]] = []
    for topic in request.topics:
        known = view.image.topics.get(topic.name)
        asked += ((NO_TOPIC if known is None else known.topic_id, number) for number in topic.partition_indexes)
    response = await view.ask(DescribeProducersRequest(tuple(asked)), DescribeProducersResponse)
    results = iter(response.partitions)
    return {
        "topics": [
            {"name": topic.name, "partitions": [_producers(next(results)) for _ in topic.partition_indexes]}
            for topic in request.topics
        ]
    }


def _producers(result: PartitionProducers) -> Fields:
    return {
        "partition_index": result.partition,
        "error_code": by_name(result.error),
        "error_message": result.message or None,
        "active_producers": [
            {
                "producer_id": producer.producer_id,
                "producer_epoch": producer.producer_epoch,
                "last_sequence": producer.last_sequence,
                "last_timestamp": producer.last_timestamp_ms,
                "coordinator_epoch": -1,
                "current_txn_start_offset": -1,
            }
            for producer in result.producers
        ],
    }


HANDLERS = {ApiKey.INIT_PRODUCER_ID: init_producer_id, ApiKey.DESCRIBE_PRODUCERS: describe_producers}
