"""DeleteRecords, asked of the leaders: partitions that are to start later."""

from collections.abc import Mapping

from ottla.log.model import BrokerId, Offset, TopicId

from .cluster import Cluster
from .connection import ConnectionLost
from .error_codes import ErrorCode
from .errors import OttlaError, error_for
from .offsets import ask_leaders
from .protocol import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsResult,
    ErrorResponse,
)

ANSWER_SLACK_S = 5.0
"""How much longer than the broker waits for its followers is waited for the broker."""

Answers = dict[int, DeleteRecordsResult | OttlaError]


async def delete_records(
    cluster: Cluster, topic_id: TopicId, offsets: Mapping[int, int | None], *, timeout_s: float
) -> Answers:
    """By partition, the first offset that can still be read, or why nothing is sure. Asking twice does no harm."""

    async def ask(broker: BrokerId, numbers: list[int]) -> Answers:
        targets = tuple(DeleteRecordsPartition(topic_id, number, offsets[number]) for number in numbers)
        return await _ask(cluster, broker, DeleteRecordsRequest(int(timeout_s * 1000), targets))

    return await ask_leaders(cluster, topic_id, offsets, ask, timeout_s=timeout_s)


async def _ask(cluster: Cluster, broker: BrokerId, request: DeleteRecordsRequest) -> Answers:
    try:
        connection = await cluster.connection(broker, "main")
        timeout_s = request.timeout_ms / 1000 + ANSWER_SLACK_S
        response = (await connection.request(request, timeout_s=timeout_s)).message
    except ConnectionLost as lost:
        return {target.partition: lost for target in request.partitions}
    if isinstance(response, DeleteRecordsResponse):
        return {result.partition: _checked(result) for result in response.partitions}
    assert isinstance(response, ErrorResponse)
    return {target.partition: error_for(response.error, response.message) for target in request.partitions}


def _checked(result: DeleteRecordsResult) -> DeleteRecordsResult | OttlaError:
    if not result.error:
        return result
    error = error_for(result.error, result.message)
    # What has waited for the followers as long as it may is not begun again.
    error.retriable = result.error.retriable and result.error is not ErrorCode.REQUEST_TIMED_OUT
    return error


def start_of(answer: DeleteRecordsResult) -> Offset:
    """The first offset that can still be read."""
    assert answer.low_watermark is not None
    return answer.low_watermark
