"""Moving partitions, electing leaders and draining brokers, and how far it has come."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ottla.log.chance import new_id
from ottla.log.model import BrokerId, Offset, TopicId

from .cluster import Cluster
from .configs import CHANGE_TIMEOUT_S, TIMEOUT_S, refusal
from .errors import OttlaError, RequestFailed
from .protocol import (
    MAX_PLACES,
    AlterPartitionReassignmentsRequest,
    ConfigsAltered,
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    DrainBrokerRequest,
    ElectLeadersRequest,
    PartitionFailure,
    PartitionMove,
    PartitionName,
    PartitionsChangedResponse,
    ReplicasResult,
    Request,
    TopicMetadata,
)

DESCRIBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Changed:
    """``changed``: so many partitions were; those in ``failed`` could not be, the others were as asked already."""

    changed: int
    failed: tuple[PartitionFailure, ...]


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica as the partition's leader knows it. ``lag``: records it lacks; ``lag_bytes``: about so much of the
    log. Both None where the leader has not heard of it, or could not be asked."""

    broker: BrokerId
    in_sync: bool
    log_end: Offset | None
    lag: int | None
    lag_bytes: int | None


async def move(cluster: Cluster, moves: Mapping[tuple[str, int], Sequence[int] | None]) -> Changed:
    """Ask partitions to move; None calls off what was asked before. Raises TopicNotFound, RequestFailed."""
    asked = [
        PartitionMove(topic, partition, None if to is None else tuple(map(BrokerId, to)))
        for (topic, partition), to in moves.items()
    ]
    parts = [
        AlterPartitionReassignmentsRequest(tuple(asked[first : first + MAX_PLACES]), new_id(cluster.chance))
        for first in range(0, len(asked), MAX_PLACES)
    ]
    return await _change(cluster, parts)


async def elect(
    cluster: Cluster, partitions: Iterable[tuple[str, int]], *, unclean: bool, leader: BrokerId | None
) -> Changed:
    """Have the preferred replicas lead, or where nobody can and ``unclean`` is ordered, anybody."""
    names = [PartitionName(topic, partition) for topic, partition in partitions]
    parts = [
        ElectLeadersRequest(tuple(names[first : first + MAX_PLACES]), unclean, leader, new_id(cluster.chance))
        for first in range(0, len(names), MAX_PLACES)
    ]
    return await _change(cluster, parts)


async def drain(cluster: Cluster, broker: BrokerId, *, drained: bool) -> None:
    """A broker gives its leaderships away and gets none, until told otherwise. Raises RequestFailed."""
    request = DrainBrokerRequest(broker, drained, new_id(cluster.chance))
    response, _ = await cluster.ask_any(request, timeout_s=TIMEOUT_S, attempt_s=CHANGE_TIMEOUT_S)
    if not isinstance(response, ConfigsAltered):
        raise refusal(response)
    cluster.saw_index(response.metadata_index)


async def replica_states(
    cluster: Cluster, topics: Iterable[TopicMetadata]
) -> dict[tuple[str, int], list[ReplicaState]]:
    """By topic and partition, every replica in the order of metadata, with what its leader tells of it."""
    topics = list(topics)
    by_leader: dict[BrokerId, list[tuple[TopicId, int]]] = {}
    for topic in topics:
        for state in topic.partitions:
            if state.leader is not None and topic.topic_id is not None:
                by_leader.setdefault(state.leader, []).append((topic.topic_id, state.partition))
    answers: dict[tuple[TopicId, int], ReplicasResult] = {}
    for part in await asyncio.gather(*(_ask_leader(cluster, *asked) for asked in by_leader.items())):
        answers.update({(result.topic_id, result.partition): result for result in part})
    return {
        (topic.name, state.partition): [
            _state(broker, broker in state.isr, answers.get((topic.topic_id, state.partition)))
            for broker in state.replicas
        ]
        for topic in topics
        if topic.topic_id is not None
        for state in topic.partitions
    }


async def _ask_leader(
    cluster: Cluster, leader: BrokerId, partitions: list[tuple[TopicId, int]]
) -> tuple[ReplicasResult, ...]:
    try:
        connection = await cluster.connection(leader, "main")
        request = DescribeReplicasRequest(tuple(partitions))
        response = (await connection.request(request, timeout_s=DESCRIBE_TIMEOUT_S)).message
    except OttlaError:
        return ()
    return response.partitions if isinstance(response, DescribeReplicasResponse) else ()


def _state(broker: BrokerId, in_sync: bool, told: ReplicasResult | None) -> ReplicaState:
    known = None if told is None else next((r.log_end for r in told.replicas if r.broker == broker), None)
    if told is None or known is None or told.log_end is None:
        return ReplicaState(broker, in_sync, known, None, None)
    lag = max(0, told.log_end - known)
    held = told.log_end - (told.log_start or 0)
    return ReplicaState(broker, in_sync, known, lag, round(told.size_bytes * lag / held) if held else 0)


async def _change(cluster: Cluster, requests: Sequence[Request]) -> Changed:
    changed = 0
    failed: list[PartitionFailure] = []
    for request in requests:
        response, _ = await cluster.ask_any(request, timeout_s=TIMEOUT_S, attempt_s=CHANGE_TIMEOUT_S)
        if not isinstance(response, PartitionsChangedResponse):
            raise refusal(response)
        cluster.saw_index(response.metadata_index)
        changed += response.changed
        failed += response.failed
    return Changed(changed, tuple(failed))


def failure_of(failure: PartitionFailure) -> RequestFailed:
    """The error for a partition that was left as it is."""
    return RequestFailed(failure.error, f"{failure.topic}-{failure.partition}: {failure.message or failure.error.name}")
