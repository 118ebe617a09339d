"""Fetch: the response, with the file's bytes as parts of their own.

    response   | throttle ms: i32 | error: i16 (7+) | session id: i32 (7+) | topics: array of
                 | name: string, or id: 16 bytes (13+) | partitions: array of
                   | index: i32 | error: i16 | high watermark: i64 | last stable offset: i64 | log start: i64 (5+) |
                     aborted transactions: array or null | preferred read replica: i32 (11+) | records: bytes |
                     tags: 0 diverging epoch (12+), 1 current leader (12+) | | tags | | tags: 0 node endpoints (16+) |

Fetch sessions (KIP-227) are declined: every answer has session id 0, and a client names all it wants each time.
"""

from collections.abc import Sequence
from functools import partial

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchResponse, FetchResult
from ottla.log.model import Offset

from ..api.fetch import LongPolls
from .aside import LARGE_REQUEST_BYTES, RunAside
from .caller import Caller, Parts
from .fetch_request import TOPIC_IDS_SINCE, decode_fetch
from .header import Header, response_header
from .leaders import current_leader, node_endpoints
from .versions import ApiKey, is_flexible
from .view import BrokerView
from .wire import INT16, INT32, INT64, NO_TAGS, count, size, uvarint

_FETCH_SESSION_ID_NOT_FOUND = 70
_NULL_ARRAY = {False: INT32.pack(-1), True: b"\x00"}


async def fetch(
    view: BrokerView,
    caller: Caller,
    header: Header,
    frame: memoryview,
    bytes_max: int,
    run_aside: RunAside,
    polls: LongPolls,
) -> Parts:
    """Answer a consumer; there are no followers behind this door. Raises Malformed."""
    read = partial(decode_fetch, frame, header.body_at, header.version, view.image.topics, bytes_max)
    is_large = len(frame) > LARGE_REQUEST_BYTES
    asked = await run_aside(read) if is_large else read()
    if asked.session_id:
        return _refusal(header, _FETCH_SESSION_ID_NOT_FOUND)
    response, parts = await view.api.fetch(asked.request, polls)
    leaders = (each.leader for each in response.partitions if each.leader is not None and each.error)
    end_tags = node_endpoints(view, caller, leaders) if header.version >= 16 else NO_TAGS
    head = response_header(header.key, header.version, header.correlation_id)
    write = partial(encode_fetch, head, header.version, asked.labels, response, parts, end_tags)
    return await run_aside(write) if is_large else write()


def encode_fetch(
    head: bytes,
    version: int,
    labels: Sequence[bytes],
    response: FetchResponse,
    parts: Sequence[bytes],
    end_tags: bytes,
) -> Parts:
    """The whole response. ``labels``: each partition's topic, encoded; ``parts``: each partition's records."""
    flexible = is_flexible(ApiKey.FETCH, version)
    topics: dict[bytes, list[int]] = {}
    for index, label in enumerate(labels):
        topics.setdefault(label, []).append(index)
    pieces: list[bytes] = []
    text = bytearray(head + INT32.pack(0))
    if version >= 7:
        text += INT16.pack(0) + INT32.pack(0)
    text += count(len(topics), flexible)
    for label, indices in topics.items():
        text += label + count(len(indices), flexible)
        for index in indices:
            text += _before_records(response.partitions[index], version, flexible, len(parts[index]))
            if parts[index]:
                pieces += (bytes(text), parts[index])
                text = bytearray()
            if flexible:
                text += _tags(response.partitions[index])
        if flexible:
            text += NO_TAGS
    if flexible:
        text += end_tags
    pieces.append(bytes(text))
    return pieces


def _before_records(result: FetchResult, version: int, flexible: bool, length: int) -> bytes:
    error = _named(result.error, version)
    high_watermark = INT64.pack(-1 if result.high_watermark is None else result.high_watermark)
    pieces = [INT32.pack(result.partition), INT16.pack(error), high_watermark, high_watermark]
    if version >= 5:
        pieces.append(INT64.pack(-1 if result.log_start_offset is None else result.log_start_offset))
    pieces.append(_NULL_ARRAY[flexible])  # aborted transactions: there are none yet
    if version >= 11:
        pieces.append(INT32.pack(-1 if result.preferred_read_replica is None else result.preferred_read_replica))
    pieces.append(size(length, flexible))
    return b"".join(pieces)


def _named(error: ErrorCode, version: int) -> ErrorCode:
    """Versions that name topics do not know topics by id."""
    unknown = error is ErrorCode.UNKNOWN_TOPIC_ID and version < TOPIC_IDS_SINCE
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if unknown else error


def _tags(result: FetchResult) -> bytes:
    leader = current_leader(result.error, result.leader, result.leader_epoch, 1)
    if result.diverging is None:
        return leader
    end: Offset = result.diverging.end_offset
    value = INT32.pack(result.diverging.leader_epoch) + INT64.pack(end) + NO_TAGS
    diverging = b"\x00" + uvarint(len(value)) + value
    return b"\x01" + diverging if leader == NO_TAGS else b"\x02" + diverging + leader[1:]


def _refusal(header: Header, error: int) -> Parts:
    flexible = is_flexible(ApiKey.FETCH, header.version)
    head = response_header(header.key, header.version, header.correlation_id)
    body = INT32.pack(0) + INT16.pack(error) + INT32.pack(0) + count(0, flexible)
    return (head, body + (NO_TAGS if flexible else b""))
