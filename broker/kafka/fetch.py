"""Fetch: requests through kio, responses by hand, with the file's bytes as parts of their own.

    response   | throttle ms: i32 | error: i16 (7+) | session id: i32 (7+) | topics: array of
                 | name: string, or id: 16 bytes (13+) | partitions: array of
                   | index: i32 | error: i16 | high watermark: i64 | last stable offset: i64 | log start: i64 (5+) |
                     aborted transactions: array or null | preferred read replica: i32 (11+) | records: bytes |
                     tags: 0 diverging epoch (12+), 1 current leader (12+) | | tags | | tags: 0 node endpoints (16+) |

Fetch sessions (KIP-227) are declined: every answer has session id 0, and a client names all it wants each time.
"""

from collections.abc import Mapping, Sequence

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchRequest, FetchResponse, FetchResult
from ottla.log.model import LeaderEpoch, Offset, TopicId
from ottla.raft.image import Topic

from .connection import Caller, Parts
from .entities import Entity, field, id_of, milliseconds
from .header import Header, response_header
from .leaders import current_leader, node_endpoints
from .produce import NO_TOPIC
from .versions import ApiKey, is_flexible
from .view import BrokerView
from .wire import INT16, INT32, INT64, NO_TAGS, NO_TOPIC_ID, count, size, string, uvarint

TOPIC_IDS_SINCE = 13
INT32_MAX = 2**31 - 1
_FETCH_SESSION_ID_NOT_FOUND = 70
_NULL_ARRAY = {False: INT32.pack(-1), True: b"\x00"}


async def fetch(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Parts:
    """Answer a consumer; there are no followers behind this door."""
    caller_wants_session = field(request, "session_id", 0)
    if caller_wants_session:
        return _refusal(header, _FETCH_SESSION_ID_NOT_FOUND)
    asked = partitions_of(request, view.image.topics)
    response, parts = await view.api.fetch(
        FetchRequest(
            max_wait_ms=max(0, milliseconds(request.max_wait)),
            min_bytes=max(0, request.min_bytes),
            max_bytes=max(0, request.max_bytes),
            partitions=tuple(asked),
            rack=field(request, "rack_id", "") or "",
        )
    )
    names = [_label(topic, header.version) for topic in request.topics for _ in topic.partitions]
    leaders = (each.leader for each in response.partitions if each.leader is not None and each.error)
    end_tags = node_endpoints(view, caller, leaders) if header.version >= 16 else NO_TAGS
    head = response_header(header.key, header.version, header.correlation_id)
    return encode_fetch(head, header.version, names, response, parts, end_tags)


def partitions_of(request: Entity, topics: Mapping[str, Topic]) -> list[FetchPartition]:
    """What is asked for, by topic id; an unknown name gets an id that no topic has."""
    asked: list[FetchPartition] = []
    for topic in request.topics:
        if hasattr(topic, "topic_id"):
            topic_id = id_of(topic.topic_id) or NO_TOPIC
        else:
            known = topics.get(topic.topic)
            topic_id = NO_TOPIC if known is None else known.topic_id
        asked += (_partition(topic_id, partition) for partition in topic.partitions)
    return asked


def _partition(topic_id: TopicId, asked: Entity) -> FetchPartition:
    current, last = field(asked, "current_leader_epoch", -1), field(asked, "last_fetched_epoch", -1)
    return FetchPartition(
        topic_id=topic_id,
        partition=asked.partition,
        fetch_offset=asked.fetch_offset,
        current_leader_epoch=None if current < 0 else LeaderEpoch(current),
        last_fetched_epoch=None if last < 0 else LeaderEpoch(last),
        max_bytes=max(0, asked.partition_max_bytes),
    )


def _label(topic: Entity, version: int) -> bytes:
    """How the answer calls a topic: as the request did."""
    if version >= TOPIC_IDS_SINCE:
        return NO_TOPIC_ID if topic.topic_id is None else bytes(topic.topic_id.bytes)
    return string(topic.topic, is_flexible(ApiKey.FETCH, version))


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
