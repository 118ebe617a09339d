"""Reassignments, elections and directories of logs, for clients of Kafka's protocol."""

from collections.abc import Iterator
from typing import TypeVar

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    MAX_PLACES,
    AlterPartitionReassignmentsRequest,
    ElectLeadersRequest,
    PartitionMove,
    PartitionName,
    PartitionsChangedResponse,
)
from ottla.client.replica_protocol import DescribeLogDirsRequest, DescribeLogDirsResponse, LogDirectory
from ottla.log.model import BrokerId
from ottla.raft.image import MetadataImage

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields, field
from .header import Header
from .versions import ApiKey
from .view import BrokerView, failed

T = TypeVar("T")

_UNCLEAN = 1
Outcome = dict[tuple[str, int], tuple[ErrorCode, str | None]]


async def alter_partition_reassignments(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """KIP-455."""
    outcome: Outcome = {}
    moves = []
    for topic in request.topics:
        for asked in topic.partitions:
            if topic.name not in view.image.topics:
                outcome[topic.name, asked.partition_index] = _unknown(topic.name)
                continue
            replicas = None if asked.replicas is None else tuple(map(BrokerId, asked.replicas))
            moves.append(PartitionMove(topic.name, asked.partition_index, replicas))
    for some in _pieces(moves):
        wanted = AlterPartitionReassignmentsRequest(tuple(some))
        await _carry_out(view, wanted, [(move.topic, move.partition) for move in some], outcome)
    return {
        "allow_replication_factor_change": True,
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "responses": [
            {
                "name": topic.name,
                "partitions": [
                    _result("partition_index", outcome, topic.name, asked.partition_index) for asked in topic.partitions
                ],
            }
            for topic in request.topics
        ],
    }


async def list_partition_reassignments(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """What moves now."""
    image = view.image
    asked = None if request.topics is None else {topic.name: set(topic.partition_indexes) for topic in request.topics}
    topics = []
    for name, topic in sorted(image.topics.items()):
        if asked is not None and name not in asked:
            continue
        moving = [
            {
                "partition_index": number,
                "replicas": partition.replicas,
                "adding_replicas": partition.adding,
                "removing_replicas": partition.removing,
            }
            for number, partition in enumerate(topic.partitions)
            if partition.reassigning and (asked is None or number in asked[name])
        ]
        if moving:
            topics.append({"name": name, "partitions": moving})
    return {"error_code": ErrorCode.NONE, "error_message": None, "topics": topics}


async def elect_leaders(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """KIP-460. Null is every partition; then those that need no election are not told of."""
    everything = request.topic_partitions is None
    places = list(_every_partition(view.image)) if everything else _named(request.topic_partitions)
    outcome: Outcome = {}
    known = [place for place in places if place[0] in view.image.topics]
    outcome.update({place: _unknown(place[0]) for place in places if place[0] not in view.image.topics})
    for some in _pieces(known):
        wanted = ElectLeadersRequest(
            tuple(PartitionName(*place) for place in some), unclean=field(request, "election_type", 0) == _UNCLEAN
        )
        await _carry_out(view, wanted, some, outcome)
    topics: dict[str, list[Fields]] = {}
    for name, number in places:
        error = outcome.get((name, number), (ErrorCode.NONE, None))[0]
        if not (everything and error is ErrorCode.ELECTION_NOT_NEEDED):
            topics.setdefault(name, []).append(_result("partition_id", outcome, name, number))
    return {
        "error_code": ErrorCode.NONE,
        "replica_election_results": [{"topic": name, "partition_result": results} for name, results in topics.items()],
    }


def _every_partition(image: MetadataImage) -> Iterator[tuple[str, int]]:
    for name, topic in sorted(image.topics.items()):
        yield from ((name, number) for number in range(len(topic.partitions)))


def _named(topics: tuple[Entity, ...]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((topic.topic, number) for topic in topics for number in topic.partitions))


def _pieces(places: list[T]) -> Iterator[list[T]]:
    return (places[first : first + MAX_PLACES] for first in range(0, len(places), MAX_PLACES))


async def _carry_out(
    view: BrokerView,
    wanted: AlterPartitionReassignmentsRequest | ElectLeadersRequest,
    places: list[tuple[str, int]],
    outcome: Outcome,
) -> None:
    try:
        response = await view.ask(wanted, PartitionsChangedResponse)
    except Refused as refused:
        outcome.update(dict.fromkeys(places, failed(refused)))
        return
    outcome.update({(each.topic, each.partition): (each.error, each.message or None) for each in response.failed})


def _unknown(name: str) -> tuple[ErrorCode, str]:
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}"


def _result(key: str, outcome: Outcome, name: str, number: int) -> Fields:
    error, message = outcome.get((name, number), (ErrorCode.NONE, None))
    return {key: number, "error_code": error, "error_message": message}


async def describe_log_dirs(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Of the broker that is asked (KIP-113)."""
    response = await view.ask(DescribeLogDirsRequest(), DescribeLogDirsResponse)
    asked = None if request.topics is None else {topic.topic: set(topic.partitions) for topic in request.topics}
    return {
        "error_code": ErrorCode.NONE,
        "results": [_directory(directory, asked) for directory in response.directories],
    }


def _directory(directory: LogDirectory, asked: dict[str, set[int]] | None) -> Fields:
    topics: dict[str, list[Fields]] = {}
    for log in directory.logs:
        if asked is None or log.partition in asked.get(log.topic, ()):
            topics.setdefault(log.topic, []).append(
                {
                    "partition_index": log.partition,
                    "partition_size": log.size_bytes,
                    "offset_lag": log.offset_lag,
                    "is_future_key": False,
                }
            )
    return {
        "error_code": directory.error,
        "log_dir": directory.path,
        "topics": [{"name": name, "partitions": logs} for name, logs in sorted(topics.items())],
        "total_bytes": -1,
        "usable_bytes": -1 if directory.usable_bytes is None else directory.usable_bytes,
    }


HANDLERS = {
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: alter_partition_reassignments,
    ApiKey.LIST_PARTITION_REASSIGNMENTS: list_partition_reassignments,
    ApiKey.ELECT_LEADERS: elect_leaders,
    ApiKey.DESCRIBE_LOG_DIRS: describe_log_dirs,
}
