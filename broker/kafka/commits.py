"""Committed offsets: written, read and forgotten by clients of Kafka's protocol."""

from collections.abc import Sequence
from typing import NamedTuple

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    CommittedPartition,
    FetchedOffset,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetPartition,
)
from ottla.log.model import LeaderEpoch

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields, field, id_of, uuid_of
from .header import Header
from .versions import ApiKey
from .view import BrokerView

NO_GROUP_SINCE = 9
"""Of OffsetCommit: GROUP_ID_NOT_FOUND is known."""


class _Place(NamedTuple):
    """A topic of the request, by the name it has now; None where its id is nobody's."""

    name: str | None
    label: Fields


def _place(view: BrokerView, topic: Entity) -> _Place:
    """Topics are named, or from version 10 on given by their id."""
    if not hasattr(topic, "topic_id"):
        return _Place(topic.name, {"name": topic.name})
    known = view.image.topic_by_id(id_of(topic.topic_id) or "")  # type: ignore[arg-type]
    return _Place(None if known is None else known.name, {"topic_id": topic.topic_id})


async def offset_commit(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    places = [_place(view, topic) for topic in request.topics]
    partitions = tuple(
        _commit(place.name, topic, asked)
        for place, topic in zip(places, request.topics, strict=True)
        if place.name is not None
        for asked in topic.partitions
    )
    generation = request.generation_id_or_member_epoch
    commit = OffsetCommitRequest(
        group_id=request.group_id,
        generation_id_or_member_epoch=None if generation < 0 else generation,
        member_id=request.member_id,
        partitions=partitions,
        group_instance_id=field(request, "group_instance_id"),
    )
    try:
        response = await view.ask(commit, OffsetCommitResponse, checked=True)
    except Refused as refused:
        response = OffsetCommitResponse(refused.error)
    error = _known_to_commits(response.error, header.version)
    return {"topics": _outcomes(request.topics, places, error, response.partitions)}


def _known_to_commits(error: ErrorCode, version: int) -> ErrorCode:
    """The clients of older versions know only that they are no members any more."""
    missing = error is ErrorCode.GROUP_ID_NOT_FOUND and version < NO_GROUP_SINCE
    return ErrorCode.ILLEGAL_GENERATION if missing else error


def _commit(name: str, topic: Entity, asked: Entity) -> CommitPartition:
    epoch = field(asked, "committed_leader_epoch", -1)
    return CommitPartition(
        topic=name,
        partition=asked.partition_index,
        offset=asked.committed_offset,
        leader_epoch=None if epoch < 0 else LeaderEpoch(epoch),
        metadata=asked.committed_metadata or "",
        topic_id=id_of(field(topic, "topic_id")),
    )


def _outcomes(
    topics: Sequence[Entity], places: Sequence[_Place], error: ErrorCode, done: Sequence[CommittedPartition]
) -> list[Fields]:
    """Each partition's own outcome, or that of the request as a whole."""
    own = {(each.topic, each.partition): each.error for each in done}

    def outcome(place: _Place, number: int) -> ErrorCode:
        if place.name is None:
            return ErrorCode.UNKNOWN_TOPIC_ID
        return error if error is not ErrorCode.NONE else own.get((place.name, number), ErrorCode.NONE)

    return [
        {
            **place.label,
            "partitions": [
                {"partition_index": asked.partition_index, "error_code": outcome(place, asked.partition_index)}
                for asked in topic.partitions
            ],
        }
        for place, topic in zip(places, topics, strict=True)
    ]


async def offset_fetch(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """One group, or from version 8 several (KIP-709). No topics: all that are committed."""
    groups = field(request, "groups")
    if groups is None:
        fetched = await _fetched(view, header, request, request.group_id, "", -1)
        return {key: value for key, value in fetched.items() if key != "group_id"}
    return {
        "groups": [
            await _fetched(
                view, header, group, group.group_id, field(group, "member_id"), field(group, "member_epoch", -1)
            )
            for group in groups
        ]
    }


async def _fetched(
    view: BrokerView, header: Header, asked: Entity, group_id: str, member_id: str | None, epoch: int
) -> Fields:
    places = None if asked.topics is None else [_place(view, topic) for topic in asked.topics]
    wanted = None
    if places is not None:
        wanted = tuple(
            OffsetPartition(place.name, number)
            for place, topic in zip(places, asked.topics, strict=True)
            if place.name is not None
            for number in topic.partition_indexes
        )
    fetch = OffsetFetchRequest(group_id, wanted, member_id or "", None if epoch < 0 else epoch)
    try:
        response = await view.ask(fetch, OffsetFetchResponse, checked=True)
    except Refused as refused:
        response = OffsetFetchResponse(refused.error)
    by_id = header.version >= 10
    if places is None:
        topics = _everything(view, response.partitions, by_id)
    else:
        topics = _asked_for(places, asked.topics, response)
    return {"group_id": group_id, "error_code": response.error, "topics": topics}


def _everything(view: BrokerView, offsets: Sequence[FetchedOffset], by_id: bool) -> list[Fields]:
    topics: dict[str, list[Fields]] = {}
    for offset in offsets:
        topics.setdefault(offset.topic, []).append(_offset(offset))
    known = view.image.topics
    if by_id:
        return [
            {"topic_id": uuid_of(known[name].topic_id), "partitions": found}
            for name, found in topics.items()
            if name in known
        ]
    return [{"name": name, "partitions": found} for name, found in topics.items()]


def _asked_for(places: Sequence[_Place], topics: Sequence[Entity], response: OffsetFetchResponse) -> list[Fields]:
    found = {(offset.topic, offset.partition): offset for offset in response.partitions}

    def offset(place: _Place, number: int) -> Fields:
        if place.name is None:
            return _offset(FetchedOffset("", number, error=ErrorCode.UNKNOWN_TOPIC_ID))
        nothing = FetchedOffset(place.name, number, error=response.error)
        return _offset(found.get((place.name, number), nothing))

    return [
        {**place.label, "partitions": [offset(place, number) for number in topic.partition_indexes]}
        for place, topic in zip(places, topics, strict=True)
    ]


def _offset(found: FetchedOffset) -> Fields:
    return {
        "partition_index": found.partition,
        "committed_offset": -1 if found.offset is None else found.offset,
        "committed_leader_epoch": -1 if found.leader_epoch is None else found.leader_epoch,
        "metadata": found.metadata,
        "error_code": found.error,
    }


async def offset_delete(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """KIP-496."""
    places = [_place(view, topic) for topic in request.topics]
    partitions = tuple(OffsetPartition(t.name, p.partition_index) for t in request.topics for p in t.partitions)
    try:
        response = await view.ask(OffsetDeleteRequest(request.group_id, partitions), OffsetDeleteResponse, checked=True)
    except Refused as refused:
        response = OffsetDeleteResponse(refused.error)
    topics = _outcomes(request.topics, places, ErrorCode.NONE, response.partitions)
    return {"error_code": response.error, "topics": [] if response.error else topics}


HANDLERS = {
    ApiKey.OFFSET_COMMIT: offset_commit,
    ApiKey.OFFSET_FETCH: offset_fetch,
    ApiKey.OFFSET_DELETE: offset_delete,
}
