"""Requests and responses of the cold paths, by kio's classes, which are generated from Kafka's own schemas.

A handler reads the request of any version by ``field`` and answers with one mapping that has every field of the newest;
what an older version lacks is left out here. Schemas are loaded when they are first met, away from the event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from functools import cache
from io import BytesIO
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin
from uuid import UUID

from ottla.log.model import TopicId

from .schema_reader import BoundedCursor, Read, reader_of
from .versions import ApiKey
from .wire import NO_TOPIC_ID, Malformed, topic_id_bytes, topic_id_of

Entity = Any
"""An instance of one of kio's classes."""
Fields = Mapping[str, Any]

NOT_THROTTLED = timedelta(0)
T = TypeVar("T")
TURN = 8
"""Elements that are worked at before others get their turn."""


_loaded: set[tuple[ApiKey, int]] = set()


def is_loaded(key: ApiKey, version: int) -> bool:
    """Whether the schemas of this request and its response are in memory."""
    return (key, version) in _loaded


def load(key: ApiKey, version: int) -> None:
    """Have them there. Blocks: the first takes a good part of a second, any other some milliseconds."""
    _reader(key, version)
    _writer(key, version)
    _loaded.add((key, version))


def decode(key: ApiKey, version: int, body: memoryview) -> Entity:
    """What is behind the request is not looked at, as in Kafka: there are clients that send more than they say.
    Raises Malformed."""
    try:
        return _reader(key, version)(BoundedCursor(body))
    except Malformed as error:
        raise Malformed(f"no {key.name} of version {version}: {error}") from error


def encode(key: ApiKey, version: int, answer: Fields) -> bytes:
    """The response's body."""
    build, write = _writer(key, version)
    buffer = BytesIO()
    write(buffer, build(answer))
    return buffer.getvalue()


def field(entity: Entity, name: str, default: Any = None) -> Any:
    """A field that only some versions of the request have."""
    return getattr(entity, name, default)


def milliseconds(duration: timedelta) -> int:
    """As the wire has it: a whole number."""
    return round(duration.total_seconds() * 1000)


def duration(ms: int) -> timedelta:
    """The other way."""
    return timedelta(milliseconds=ms)


def uuid_of(topic_id: TopicId | None) -> UUID | None:
    """As kio has it: None is the id that is all zeros."""
    return None if topic_id is None else UUID(bytes=topic_id_bytes(topic_id))


def id_of(uuid: UUID | None) -> TopicId | None:
    """The other way."""
    return None if uuid is None or uuid.bytes == NO_TOPIC_ID else topic_id_of(uuid.bytes)


async def in_turns(elements: Iterable[T]) -> AsyncIterator[T]:
    """The same elements; others get their turn now and then. For handlers that wait for nothing else."""
    for number, element in enumerate(elements, 1):
        yield element
        if number % TURN == 0:
            await asyncio.sleep(0)


@cache
def _reader(key: ApiKey, version: int) -> Read:
    from kio.index import load_request_schema

    return reader_of(load_request_schema(key, version))


@cache
def _writer(key: ApiKey, version: int) -> tuple[Callable[[Fields], Entity], Callable[[BytesIO, Entity], None]]:
    from kio.index import load_response_schema
    from kio.serial import entity_writer

    schema = load_response_schema(key, version)
    return _builder(schema), entity_writer(schema)


def _builder(schema: Any) -> Callable[[Fields], Entity]:
    """Makes an instance of ``schema`` from a mapping: of its fields, those it has, nested ones likewise."""
    nested = {each.name: _nested(each.type) for each in fields(schema)}
    required = {each.name for each in fields(schema) if each.default is MISSING and each.default_factory is MISSING}

    def build(answer: Fields) -> Entity:
        missing = required - answer.keys()
        assert not missing, f"{schema.__name__} needs {sorted(missing)}"
        chosen = {}
        for name, make in nested.items():
            if name in answer:
                value = answer[name]
                chosen[name] = value if make is None else make(value)
        return schema(**chosen)

    return build


def _nested(annotation: Any) -> Callable[[Any], Any] | None:
    """How the value of such a field is made; None for one that is taken as it is."""
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    for option in options:
        is_array = get_origin(option) is tuple
        inner = get_args(option)[0] if is_array else option
        if is_dataclass(inner):
            build = _builder(inner)
            return _array_of(build) if is_array else _maybe(build)
    return None


def _array_of(build: Callable[[Fields], Entity]) -> Callable[[Iterable[Fields] | None], Any]:
    return lambda values: None if values is None else tuple(build(value) for value in values)


def _maybe(build: Callable[[Fields], Entity]) -> Callable[[Fields | None], Any]:
    return lambda value: None if value is None else build(value)
