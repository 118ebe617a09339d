"""Produce, by hand: batches stay views into the request, and nothing is copied before the log writes it. Pure but for
the waiting.

    request    | transactional id: string or null (3+) | acks: i16 | timeout ms: i32 | topics: array of
                 | name: string | partitions: array of | index: i32 | records: bytes or null | tags | | tags | | tags |
    response   | topics: array of | name | partitions: array of | index: i32 | error: i16 | base offset: i64 |
                 log append time ms: i64 | log start offset: i64 (5+) | record errors: array (8+) |
                 error message: string or null (8+) | tags: 0 current leader (10+) | | tags |
                 | throttle ms: i32 | tags: 0 node endpoints (10+) |
"""

from collections.abc import Awaitable, Iterable, Sequence
from typing import NamedTuple

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import ACKS_NONE, ProducePartition, ProduceRequest, ProduceResult
from ottla.log.model import TopicId

from ..api.produce import PendingProduce
from .caller import Caller, Hangup, Parts
from .header import Header, response_header
from .leaders import current_leader, node_endpoints
from .schema_reader import BoundedCursor
from .versions import ApiKey, is_flexible
from .view import BrokerView
from .wire import INT16, INT32, INT64, NO_TAGS, count, nullable_string, string

CODEC_AT = 22
"""Where in a batch the low byte of its attributes is, whose lowest three bits name the codec."""
ZSTD = 4
ZSTD_SINCE = 7
NO_TOPIC = TopicId("")


class Named(NamedTuple):
    """One partition of the request, as the client named it. ``records``: None where there were none."""

    topic: str
    partition: int
    records: memoryview | None


class Decoded(NamedTuple):
    transactional_id: str | None
    acks: int
    timeout_ms: int
    partitions: list[Named]


def decode_produce(frame: memoryview, position: int, version: int) -> Decoded:
    """Raises Malformed."""
    flexible = is_flexible(ApiKey.PRODUCE, version)
    cursor = BoundedCursor(frame, position)
    transactional_id = cursor.string(flexible)
    acks, timeout_ms = cursor.int16(), cursor.int32()
    partitions: list[Named] = []
    for _ in range(cursor.counted(flexible) or 0):
        topic = cursor.string(flexible) or ""
        for _ in range(cursor.counted(flexible) or 0):
            partitions.append(Named(topic, cursor.int32(), cursor.bytes_(flexible)))
            cursor.tags(flexible)
        cursor.tags(flexible)
    cursor.tags(flexible)
    return Decoded(transactional_id, acks, timeout_ms, partitions)


def begin_produce(view: BrokerView, caller: Caller, header: Header, frame: memoryview) -> Awaitable[Parts] | None:
    """Append all that can be, in order; the rest is in the awaitable. None: no answer is wanted. Raises Malformed;
    Hangup where something failed and no answer is wanted: a client that only sees its connection close looks for
    the leader again, as Kafka would have it."""
    asked = decode_produce(frame, header.body_at, header.version)
    refused = {index: why for index, why in enumerate(_refusals(asked, header.version)) if why is not None}
    wanted = [index for index in range(len(asked.partitions)) if index not in refused]
    topics = view.image.topics
    request = ProduceRequest(
        acks=asked.acks,
        timeout_ms=max(0, asked.timeout_ms),
        partitions=tuple(_target(topics, asked.partitions[index]) for index in wanted),
    )
    batches = [_records(asked.partitions[index]) for index in wanted]
    pending = view.api.begin_produce(request, batches, may_be_forgotten=True)
    if asked.acks == ACKS_NONE:
        if refused or pending.failed:
            raise Hangup("a produce that wants no answer failed")
        return None
    return _answer(view, caller, header, asked, refused, pending)


def _target(topics: object, named: Named) -> ProducePartition:
    topic = topics.get(named.topic)  # type: ignore[attr-defined]
    return ProducePartition(NO_TOPIC if topic is None else topic.topic_id, named.partition, len(_records(named)))


def _records(named: Named) -> memoryview:
    assert named.records is not None
    return named.records


def _refusals(asked: Decoded, version: int) -> Iterable[tuple[ErrorCode, str] | None]:
    """What of each partition can be refused before its log is asked."""
    for named in asked.partitions:
        if asked.transactional_id is not None:
            yield ErrorCode.INVALID_REQUEST, "transactions are not there yet"
        elif not named.records:
            yield ErrorCode.INVALID_RECORD, "a produce request holds one record batch for each partition"
        elif version < ZSTD_SINCE and len(named.records) > CODEC_AT and named.records[CODEC_AT] & 7 == ZSTD:
            yield ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd needs version {ZSTD_SINCE} of Produce"
        else:
            yield None


async def _answer(
    view: BrokerView,
    caller: Caller,
    header: Header,
    asked: Decoded,
    refused: dict[int, tuple[ErrorCode, str]],
    pending: PendingProduce,
) -> Parts:
    response = await view.api.finish_produce(pending)
    done = iter(response.partitions)
    results = [
        ProduceResult(NO_TOPIC, named.partition, refused[index][0], message=refused[index][1])
        if index in refused
        else _by_name(next(done))
        for index, named in enumerate(asked.partitions)
    ]
    body = encode_produce(
        [(named.topic, result) for named, result in zip(asked.partitions, results, strict=True)],
        header.version,
        node_endpoints(view, caller, (result.leader for result in results if result.leader is not None))
        if header.version >= 10
        else NO_TAGS,
    )
    return (response_header(header.key, header.version, header.correlation_id), body)


def _by_name(result: ProduceResult) -> ProduceResult:
    """Versions that name topics do not know topics by id."""
    if result.error is ErrorCode.UNKNOWN_TOPIC_ID:
        result.error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return result


def encode_produce(results: Sequence[tuple[str, ProduceResult]], version: int, end_tags: bytes) -> bytes:
    """The response's body. ``results``: with the topics' names, those of one topic together."""
    flexible = is_flexible(ApiKey.PRODUCE, version)
    topics: dict[str, list[bytes]] = {}
    for name, result in results:
        topics.setdefault(name, []).append(_encode_result(result, version, flexible))
    pieces = [count(len(topics), flexible)]
    for name, partitions in topics.items():
        pieces += (string(name, flexible), count(len(partitions), flexible), *partitions)
        if flexible:
            pieces.append(NO_TAGS)
    pieces.append(INT32.pack(0))
    if flexible:
        pieces.append(end_tags)
    return b"".join(pieces)


def _encode_result(result: ProduceResult, version: int, flexible: bool) -> bytes:
    pieces = [
        INT32.pack(result.partition),
        INT16.pack(result.error),
        INT64.pack(-1 if result.base_offset is None else result.base_offset),
        INT64.pack(-1 if result.log_append_time_ms is None else result.log_append_time_ms),
    ]
    if version >= 5:
        pieces.append(INT64.pack(-1 if result.log_start_offset is None else result.log_start_offset))
    if version >= 8:
        pieces += (count(0, flexible), nullable_string(result.message or None, flexible))
    if flexible:
        pieces.append(current_leader(result.error, result.leader, result.leader_epoch, 0) if version >= 10 else NO_TAGS)
    return b"".join(pieces)
