"""Where partitions start and end, asked of their leaders."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from ottla.log.model import BrokerId, TopicId

from .backoff import backoff_s
from .cluster import Cluster
from .connection import ConnectionLost
from .errors import OttlaError, error_for
from .protocol import AT_TIME, LATEST, ErrorResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetQuery, OffsetResult

REQUEST_TIMEOUT_S = 5.0

Result = TypeVar("Result")
Answers = dict[int, OffsetResult | OttlaError]


async def list_offsets(
    cluster: Cluster,
    topic_id: TopicId,
    partitions: Iterable[int],
    position: str,
    *,
    timeout_s: float,
    timestamp_ms: int | None = None,
) -> Answers:
    """``position`` (``earliest``, ``latest``, ``max_time``, or ``time`` with a ``timestamp_ms``) of each partition,
    retried for ``timeout_s``; an error for those whose leader cannot be asked or refuses. Raises nothing itself."""

    async def ask(broker: BrokerId, numbers: list[int]) -> Answers:
        epochs = ((number, cluster.leader(topic_id, number)) for number in numbers)
        queries = [
            OffsetQuery(topic_id, number, position, None if leader is None else leader.epoch, timestamp_ms)
            for number, leader in epochs
        ]
        return await _ask(cluster, broker, queries)

    return await ask_leaders(cluster, topic_id, partitions, ask, timeout_s=timeout_s)


async def offsets_for_time(
    cluster: Cluster, topic_id: TopicId, partitions: Iterable[int], timestamp_ms: int, *, timeout_s: float
) -> dict[int, int]:
    """By partition, the first record of ``timestamp_ms`` or later, or the end where there is none: looked up before
    the times, so that no record that comes meanwhile is passed over. Raises OttlaError."""
    numbers = list(partitions)
    ends = await list_offsets(cluster, topic_id, numbers, LATEST, timeout_s=timeout_s)
    found = await list_offsets(
        cluster, topic_id, numbers, AT_TIME, timeout_s=timeout_s, timestamp_ms=max(0, timestamp_ms)
    )
    return {number: _first_of(found[number], ends[number]) for number in numbers}


def _first_of(*answers: OffsetResult | OttlaError) -> int:
    for answer in answers:
        if isinstance(answer, OttlaError):
            raise answer
        if answer.offset is not None:
            return answer.offset
    raise AssertionError("a partition has an end")


async def ask_leaders(
    cluster: Cluster,
    topic_id: TopicId,
    partitions: Iterable[int],
    ask: Callable[[BrokerId, list[int]], Awaitable[dict[int, Result | OttlaError]]],
    *,
    timeout_s: float,
) -> dict[int, Result | OttlaError]:
    """What each partition's leader answers to ``ask``, again for ``timeout_s`` where the error may pass."""
    deadline_s = cluster.clock.monotonic() + timeout_s
    answers: dict[int, Result | OttlaError] = {}
    missing = set(partitions)
    attempt = 0
    while missing:
        answers.update(await _ask_once(cluster, topic_id, missing, ask))
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


def _may_pass(answer: object) -> bool:
    return isinstance(answer, OttlaError) and answer.retriable


async def _ask_once(
    cluster: Cluster,
    topic_id: TopicId,
    partitions: Iterable[int],
    ask: Callable[[BrokerId, list[int]], Awaitable[dict[int, Result | OttlaError]]],
) -> dict[int, Result | OttlaError]:
    answers: dict[int, Result | OttlaError] = {}
    by_leader: dict[BrokerId, list[int]] = {}
    for number in partitions:
        leader = cluster.leader(topic_id, number)
        if leader is None:
            answers[number] = OttlaError(
                f"partition {number} has no leader.", code="OTTLA-LEADER-NOT-AVAILABLE", retriable=True
            )
        else:
            by_leader.setdefault(leader.broker, []).append(number)
    for part in await asyncio.gather(*(ask(*asked) for asked in by_leader.items())):
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
