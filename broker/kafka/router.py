"""From a request of the cold paths to its handler, which is written for the newest version and serves all."""

from collections.abc import Awaitable, Callable
from functools import cache, partial

from ..replica import Refused
from .aside import LARGE_REQUEST_BYTES, RunAside, is_large
from .caller import Caller, Hangup, Parts
from .entities import NOT_THROTTLED, Entity, Fields, decode, encode, is_loaded, load
from .header import Header, response_header
from .versions import ApiKey
from .view import BrokerView

Handler = Callable[[BrokerView, Caller, Header, Entity], Awaitable[Fields]]
"""Answers with every field of the response's newest version, but for the throttle time, which is always none."""


async def read_body(header: Header, frame: memoryview, run_aside: RunAside) -> Entity:
    """The request behind the header. Raises Malformed."""
    if not is_loaded(header.key, header.version):
        await run_aside(partial(_prepare, header.key, header.version))
    read = partial(decode, header.key, header.version, frame[header.body_at :])
    return read() if len(frame) <= LARGE_REQUEST_BYTES else await run_aside(read)


def _prepare(key: ApiKey, version: int) -> None:
    """Load all that such a request needs. Blocks, the first time for a good part of a second."""
    _handlers()
    load(key, version)


async def answer_cold(view: BrokerView, caller: Caller, header: Header, request: Entity, run_aside: RunAside) -> Parts:
    """The whole response. Raises Hangup."""
    try:
        answer = await _handlers()[header.key](view, caller, header, request)
    except Refused as refused:  # as a whole, where the response has no place for it
        raise Hangup(f"{header.key.name}: {refused}") from refused
    write = partial(encode, header.key, header.version, {"throttle_time": NOT_THROTTLED, **answer})
    body = await run_aside(write) if is_large(answer) else write()
    return (response_header(header.key, header.version, header.correlation_id), body)


@cache
def _handlers() -> dict[ApiKey, Handler]:
    """Loaded when the first such request comes: a node that no Kafka client talks to needs none of it."""
    from . import cluster, commits, configs, group_admin, groups, offsets, partitions, producers, topics

    modules = (cluster, commits, configs, groups, group_admin, offsets, partitions, producers, topics)
    return {key: handler for module in modules for key, handler in module.HANDLERS.items()}
