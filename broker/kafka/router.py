"""From a request of the cold paths to its handler, which is written for the newest version and serves all."""

from collections.abc import Awaitable, Callable
from functools import cache

from ..replica import Refused
from .connection import Caller, Hangup, Parts
from .entities import NOT_THROTTLED, Entity, Fields, decode, encode, load
from .header import Header, response_header
from .versions import ApiKey
from .view import BrokerView

Handler = Callable[[BrokerView, Caller, Header, Entity], Awaitable[Fields]]
"""Answers with every field of the response's newest version, but for the throttle time, which is always none."""


UNKNOWN_VERSION = 0
"""In which a client is answered that asks for ApiVersions in a version that is not served: anybody can read it."""


def prepare(key: ApiKey, version: int) -> None:
    """Load all that such a request needs. Blocks, the first time for a good part of a second."""
    _handlers()
    load(key, version)


def read_body(header: Header, frame: memoryview) -> Entity:
    """The request behind the header; None for one in a version that is not served. Raises Malformed."""
    return decode(header.key, header.version, frame[header.body_at :]) if header.served else None


async def answer_cold(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Parts:
    """The whole response. Raises Hangup."""
    try:
        answer = await _handlers()[header.key](view, caller, header, request)
    except Refused as refused:  # as a whole, where the response has no place for it
        raise Hangup(f"{header.key.name}: {refused}") from refused
    version = header.version if header.served else UNKNOWN_VERSION
    body = encode(header.key, version, {"throttle_time": NOT_THROTTLED, **answer})
    return (response_header(header.key, version, header.correlation_id), body)


@cache
def _handlers() -> dict[ApiKey, Handler]:
    """Loaded when the first such request comes: a node that no Kafka client talks to needs none of it."""
    from . import api_versions, cluster, configs, group_admin, groups, offsets, partitions, producers, topics

    modules = (api_versions, cluster, configs, groups, group_admin, offsets, partitions, producers, topics)
    return {key: handler for module in modules for key, handler in module.HANDLERS.items()}
