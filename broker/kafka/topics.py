"""Topics made, grown and forgotten by clients of Kafka's protocol."""

from collections import Counter

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteTopicRequest,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    TopicChanged,
)
from ottla.log.model import BrokerId

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields, field, id_of, uuid_of
from .header import Header
from .sources import config_source
from .versions import ApiKey
from .view import BrokerView, failed


async def create_topics(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    twice = {name for name, times in Counter(topic.name for topic in request.topics).items() if times > 1}
    results = []
    for topic in request.topics:
        try:
            if topic.name in twice:
                raise Refused(ErrorCode.INVALID_REQUEST, "the topic stands in the request twice")
            wanted = _creation(topic, validate_only=request.validate_only)
            made = await view.ask(wanted, TopicChanged)
            results.append(await _created(view, made, wanted))
        except Refused as refused:
            results.append(_not_created(topic.name, refused))
    return {"topics": [result for result in results if result["name"] not in twice] + _once(results, twice)}


def _once(results: list[Fields], twice: set[str]) -> list[Fields]:
    """One answer for each name that was asked for more than once."""
    return list({result["name"]: result for result in results if result["name"] in twice}.values())


def _creation(topic: Entity, *, validate_only: bool) -> CreateTopicRequest:
    """Raises Refused."""
    assignments = None
    if topic.assignments:
        if topic.num_partitions != -1 or topic.replication_factor != -1:
            raise Refused(ErrorCode.INVALID_REQUEST, "partitions are assigned or counted, not both")
        given = {each.partition_index: tuple(map(BrokerId, each.broker_ids)) for each in topic.assignments}
        if sorted(given) != list(range(len(topic.assignments))):
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions are numbered from 0 without gaps, once each"
            )
        assignments = tuple(given[number] for number in range(len(given)))
    return CreateTopicRequest(
        name=topic.name,
        partitions=None if topic.num_partitions == -1 else topic.num_partitions,
        replication_factor=None if topic.replication_factor == -1 else topic.replication_factor,
        configs=_configs(topic.configs),
        assignments=assignments,
        validate_only=validate_only,
    )


def _configs(configs: tuple[Entity, ...]) -> dict[str, str]:
    missing = [config.name for config in configs if config.value is None]
    if missing:
        raise Refused(ErrorCode.INVALID_CONFIG, f"{', '.join(missing)} has no value")
    return {config.name: config.value for config in configs}


async def _created(view: BrokerView, made: TopicChanged, wanted: CreateTopicRequest) -> Fields:
    configs: list[Fields] = []  # never null: there are clients that fail on it
    if not wanted.validate_only:
        described = await view.ask(DescribeConfigsRequest(made.name), DescribeConfigsResponse)
        configs = [
            {
                "name": config.name,
                "value": config.value,
                "read_only": config.read_only,
                "config_source": config_source(config.source),
                "is_sensitive": False,
            }
            for config in described.configs
        ]
    return {
        "name": made.name,
        "topic_id": None if wanted.validate_only else uuid_of(made.topic_id),
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "num_partitions": made.partitions,
        "replication_factor": made.replication_factor,
        "configs": configs,
    }


def _not_created(name: str, refused: Refused) -> Fields:
    error, message = failed(refused)
    return {
        "name": name,
        "topic_id": None,
        "error_code": error,
        "error_message": message,
        "num_partitions": -1,
        "replication_factor": -1,
        "configs": [],
    }


async def delete_topics(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """By name, or from version 6 by id."""
    asked = field(request, "topics")
    places = [(name, None) for name in request.topic_names] if asked is None else [(t.name, t.topic_id) for t in asked]
    results = []
    for name, uuid in places:
        known = view.image.topic_by_id(id_of(uuid)) if uuid is not None else None  # type: ignore[arg-type]
        try:
            if (name is None) == (uuid is None):
                raise Refused(ErrorCode.INVALID_REQUEST, "a topic is either named or given by its id")
            if uuid is not None and known is None:
                raise Refused(ErrorCode.UNKNOWN_TOPIC_ID, "there is no topic of this id")
            gone = await view.ask(DeleteTopicRequest(name if known is None else known.name), TopicChanged)
            results.append(_deleted(gone.name, uuid_of(gone.topic_id), ErrorCode.NONE, None))
        except Refused as refused:
            results.append(_deleted(name, uuid, *failed(refused)))
    return {"responses": results}


def _deleted(name: str | None, uuid: object, error: ErrorCode, message: str | None) -> Fields:
    return {"name": name, "topic_id": uuid, "error_code": error, "error_message": message}


async def create_partitions(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    results = []
    for topic in request.topics:
        assignments = None
        if topic.assignments is not None:
            assignments = tuple(tuple(map(BrokerId, each.broker_ids)) for each in topic.assignments)
        wanted = CreatePartitionsRequest(
            topic.name, topic.count, assignments=assignments, validate_only=request.validate_only
        )
        error, message = ErrorCode.NONE, None
        try:
            await view.ask(wanted, TopicChanged)
        except Refused as refused:
            error, message = failed(refused)
        results.append({"name": topic.name, "error_code": error, "error_message": message})
    return {"results": results}


HANDLERS = {
    ApiKey.CREATE_TOPICS: create_topics,
    ApiKey.DELETE_TOPICS: delete_topics,
    ApiKey.CREATE_PARTITIONS: create_partitions,
}
