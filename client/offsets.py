"""Where partitions start and end, asked of their leaders."""

import asyncio
from collections.abc import Iterable

from ottla.log.model import BrokerId, TopicId

from .backoff import backoff_s
from .cluster import Cluster
from .connection import ConnectionLost
from .errors import OttlaError, error_for
from .protocol import ErrorResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetQuery, OffsetResult

REQUEST_TIMEOUT_S = 5.0

Answers = dict[int, OffsetResult | OttlaError]


async def list_offsets(
    cluster: Cluster, topic_id: TopicId, partitions: Iterable[int], position: str, *, timeout_s: float
) -> Answers:
    """``position`` (``earliest`` or ``latest``) of each partition, retried for ``timeout_s``; an error for those
    whose leader cannot be asked or refuses. Raises nothing itself."""
    deadline_s = cluster.clock.monotonic() + timeout_s
    answers: Answers = {}
    missing = set(partitions)
    attempt = 0
    while missing:
        answers.update(await _ask_leaders(cluster, topic_id, missing, position))
        missing = {number for number in missing if _may_pass(answers[number])}
        pause_s = backoff_s(attempt, cluster.chance)
        if not missing or cluster.clock.monotonic() + pause_s > deadline_s:
            break
        await asyncio.sleep(pause_s)
        attempt += 1
        try:
            await cluster.refresh()
        except OttlaError:
            continue
    return answers


def _may_pass(answer: OffsetResult | OttlaError) -> bool:
    return isinstance(answer, OttlaError) and answer.retriable


async def _ask_leaders(cluster: Cluster, topic_id: TopicId, partitions: Iterable[int], position: str) -> Answers:
    answers: Answers = {}
    by_leader: dict[BrokerId, list[OffsetQuery]] = {}
    for number in partitions:
        leader = cluster.leader(topic_id, number)
        if leader is None:
            answers[number] = OttlaError(
                f"partition {number} has no leader.", code="OTTLA-LEADER-NOT-AVAILABLE", retriable=True
            )
        else:
            by_leader.setdefault(leader.broker, []).append(OffsetQuery(topic_id, number, position, leader.epoch))
    for part in await asyncio.gather(*(_ask(cluster, *asked) for asked in by_leader.items())):
        answers.update(part)
    return answers


async def _ask(cluster: Cluster, broker: BrokerId, queries: list[OffsetQuery]) -> Answers:
    try:
        connection = await cluster.connection(broker, "main")
        request = ListOffsetsRequest(tuple(queries))
        response = (await connection.request(request, timeout_s=REQUEST_TIMEOUT_S)).message
    except ConnectionLost as lost:
        return {query.partition: lost for query in queries}
    if isinstance(response, ListOffsetsResponse):
        return {result.partition: _checked(result) for result in response.partitions}
    assert isinstance(response, ErrorResponse)
    return {query.partition: error_for(response.error, response.message) for query in queries}


def _checked(result: OffsetResult) -> OffsetResult | OttlaError:
    if not result.error:
        return result
    error = error_for(result.error, result.message)
    error.retriable = result.error.retriable
    return error
