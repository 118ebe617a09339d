"""Records for people: produce JSON by `curl`, read as JSON or as server-sent events.

This door is a client like any other: it speaks to the cluster through the SDK, which finds the leaders, so any node
answers any request.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web

from ottla.client.client import Client
from ottla.client.consumer import Consumer, ConsumerRecord
from ottla.client.producer import Producer
from ottla.client.protocol import EARLIEST, LATEST
from ottla.client.times import parse_time
from ottla.log.clock import Clock

from .event_ids import BadEventId, positions_of
from .events import READ_AHEAD, SSE, EventStream
from .problem import problem

LAST_EVENT_ID = "Last-Event-ID"
GROUP_MAX = 255
READ_LIMIT_MAX = 10_000
READ_LIMIT_DEFAULT = 100
READ_BYTES_MAX = 8 << 20
DIGITS_MAX = 20
SSE_STREAMS_MAX = 200


class _Data(msgspec.Struct):
    """A key or value: ``JSON`` any JSON, ``STRING`` text, ``BINARY`` base64."""

    data: Any
    type: Literal["JSON", "STRING", "BINARY"] = "JSON"


class _Header(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=255)]
    value: str | None = None  # base64


class _ProduceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Confluent's v3 body of one record."""

    value: _Data | None = None
    key: _Data | None = None
    partition_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    headers: list[_Header] = []
    timestamp: int | None = None  # milliseconds


class RecordsDoor:
    """``connect`` opens the client on first use."""

    def __init__(self, connect: Callable[[], Client], cluster_id: str, clock: Clock) -> None:
        self._clock = clock
        self._connect = connect
        self._cluster_id = cluster_id
        self._client: Client | None = None
        self._producer: Producer | None = None
        self._opening = asyncio.Lock()
        self._sse = 0

    async def close(self) -> None:
        """Let go of the client."""
        if self._producer is not None:
            await self._producer.close()
        if self._client is not None:
            await self._client.close()

    async def _get_client(self) -> Client:
        async with self._opening:
            if self._client is None:
                self._client = self._connect()
            return self._client

    async def client(self) -> Client:
        """The client that this node speaks to the cluster with."""
        return await self._get_client()

    async def _get_producer(self) -> Producer:
        client = await self._get_client()
        async with self._opening:
            if self._producer is None:
                self._producer = client.producer(linger_ms=0, delivery_timeout_s=30)
                await self._producer.start()
            return self._producer

    # --- produce -----------------------------------------------------------------------------------------------------

    async def produce(self, request: web.Request) -> web.Response:
        """One record, acknowledged by all in-sync replicas before the answer."""
        cluster = request.match_info["cluster"]
        if cluster not in ("-", self._cluster_id):
            return problem(
                404, "OTTLA-WRONG-CLUSTER", f"this is cluster {self._cluster_id}, not {cluster}", hint="Use -."
            )
        if request.content_type != "application/json":
            return problem(
                415,
                "OTTLA-UNSUPPORTED-MEDIA-TYPE",
                f"the body is {request.content_type}, not application/json",
                hint="Send -H 'content-type: application/json'.",
            )
        data = await request.read()
        if not data.strip():
            return problem(
                400, "OTTLA-INVALID-REQUEST", "the body is empty", hint='Send a record, such as {"value":{"data":1}}.'
            )
        try:
            body = msgspec.json.decode(data, type=_ProduceBody)
            key, value = _encode(body.key), _encode(body.value)
            headers = [(header.name, _base64(header.value)) for header in body.headers]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            return problem(400, "OTTLA-INVALID-REQUEST", f"the body is not a record: {error}", hint="See docs/http.md.")
        producer = await self._get_producer()
        stored = await producer.send(
            request.match_info["topic"],
            value=value,
            key=key,
            headers=headers,
            partition=body.partition_id,
            timestamp_ms=body.timestamp,
        )
        document = {
            "error_code": 200,
            "cluster_id": self._cluster_id,
            "topic_name": stored.topic,
            "partition_id": stored.partition,
            "offset": stored.offset,
            "timestamp": stored.timestamp_ms,
        }
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    # --- consume -----------------------------------------------------------------------------------------------------

    async def consume(self, request: web.Request) -> web.StreamResponse:
        """Records of one or all partitions, as JSON up to ``limit``, or as a stream of events, endless without one."""
        try:
            options = _read_options(request, self._clock.now_ms())
        except ValueError as error:
            return problem(400, "OTTLA-INVALID-REQUEST", str(error), hint="See docs/http.md.")
        topic = request.match_info["topic"]
        client = await self._get_client()
        if SSE in request.headers.get("accept", ""):
            return await self._stream(request, client, topic, options)
        records: list[dict[str, Any]] = []
        size = 0
        async with _consumer(client, topic, options) as consumer:
            async for record in consumer.read_to_end():
                records.append(_show(record))
                size += len(record.value or b"") + len(record.key or b"")
                if len(records) >= (options["limit"] or READ_LIMIT_DEFAULT) or size >= READ_BYTES_MAX:
                    break
        return web.Response(body=msgspec.json.encode(records), content_type="application/json")

    async def _stream(
        self, request: web.Request, client: Client, topic: str, options: dict[str, Any]
    ) -> web.StreamResponse:
        if self._sse >= SSE_STREAMS_MAX:
            return problem(503, "OTTLA-TOO-MANY-STREAMS", "this node serves its most event streams already")
        self._sse += 1
        try:
            known = await client.cluster.topic(topic)
            assert known.topic_id is not None
            seen = request.headers.get(LAST_EVENT_ID)
            one = None if options["partitions"] is None else options["partitions"][0]
            resumed = {} if not seen else positions_of(seen, known.topic_id, one, len(known.partitions))
            async with _consumer(client, topic, options, resumed, **READ_AHEAD) as consumer:
                gaps = await _begin_at(consumer, topic, resumed) if resumed else []
                stream = EventStream(request, consumer, known.topic_id, one=one is not None, show=_show)
                await stream.run(options["limit"], gaps)
                return stream.response
        except BadEventId as error:
            hint = f"Connect without {LAST_EVENT_ID}, or with one that this stream has sent."
            return problem(400, "OTTLA-INVALID-EVENT-ID", str(error), hint=hint)
        finally:
            self._sse -= 1


class _Moment(NamedTuple):
    """A place in a log by its time: milliseconds since 1970."""

    timestamp_ms: int


@asynccontextmanager
async def _consumer(
    client: Client, topic: str, options: dict[str, Any], resumed: Mapping[int, int] | None = None, **reading: Any
) -> AsyncIterator[Consumer]:
    """One that begins where the options say; ``resumed``: where a reader was, by partition, which goes before."""
    start = EARLIEST if resumed else options["from"]
    first = EARLIEST if isinstance(start, _Moment) else start
    group = None if resumed else options["group"]
    committed = {} if group is None else await _committed(client, group, topic)
    async with client.consumer(topic, start=first, partitions=options["partitions"], **reading) as consumer:
        if isinstance(start, _Moment):
            await consumer.seek_to_time(start.timestamp_ms)
        elif first == LATEST:  # known now, so that a reader that comes back misses nothing
            for number, end in (await consumer.end_offsets()).items():
                await consumer.seek(topic, number, end)
        for number in consumer.partitions:
            if number in committed:
                await consumer.seek(topic, number, committed[number])
        yield consumer


async def _committed(client: Client, group: str, topic: str) -> dict[int, int]:
    """Where a group has got to, by partition. Raises RequestFailed."""
    described = await client.admin.describe_group(group)
    return {p.partition: p.committed for p in described.partitions if p.topic == topic and p.committed is not None}


async def _begin_at(consumer: Consumer, topic: str, positions: Mapping[int, int]) -> list[dict[str, int]]:
    """Go on where a reader was, or at the beginning of the log where that is later: then some records are gone, and
    the gaps are told."""
    begins = await consumer.beginning_offsets()
    gaps = []
    for number, position in positions.items():
        begin = begins[number]
        if position < begin:
            gaps.append({"partition": number, "from": position, "to": begin})
        await consumer.seek(topic, number, max(position, begin))
    return gaps


def _read_options(request: web.Request, now_ms: int) -> dict[str, Any]:
    for name in sorted(request.query):
        if name not in ("from", "group", "limit", "partition"):
            raise ValueError(f"unknown parameter {name!r}; there are from, group, limit and partition")
        if len(request.query.getall(name)) > 1:
            raise ValueError(f"{name} is there twice; give it once")
    return {
        "from": _start(request.query.get("from", "start"), now_ms),
        "group": _group(request.query),
        "limit": _limit(request.query),
        "partitions": [_whole(request.query["partition"], "partition", 1 << 30)]
        if "partition" in request.query
        else None,
    }


def _group(query: Mapping[str, str]) -> str | None:
    group = query.get("group")
    if group is not None and not 1 <= len(group) <= GROUP_MAX:
        raise ValueError(f"group has {len(group)} characters, not 1 to {GROUP_MAX}")
    return group


def _limit(query: Mapping[str, str]) -> int | None:
    return _whole(query["limit"], "limit", READ_LIMIT_MAX, smallest=1) if "limit" in query else None


def _start(text: str, now_ms: int) -> str | int | _Moment:
    if text in ("start", "end"):
        return {"start": "earliest", "end": "latest"}[text]
    if text.startswith("@"):
        return _Moment(parse_time(text, now_ms))
    return _whole(text, "from", 1 << 62)


def _whole(text: str, name: str, largest: int, *, smallest: int = 0) -> int:
    is_whole = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    if not is_whole or not smallest <= int(text) <= largest:
        raise ValueError(f"{name} is {text[:50]!r}, not a whole number from {smallest} to {largest}")
    return int(text)


def _encode(data: _Data | None) -> bytes | None:
    if data is None or data.data is None:
        return None
    if data.type == "JSON":
        return msgspec.json.encode(data.data)
    if not isinstance(data.data, str):
        raise ValueError(f"{data.type} data is a string, not {type(data.data).__name__}")
    return data.data.encode() if data.type == "STRING" else _base64(data.data)


def _base64(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def _show(record: ConsumerRecord) -> dict[str, Any]:
    """A record as JSON: what is JSON as itself, what is text as a string, the rest as base64."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": _show_bytes(record.key),
        "value": _show_bytes(record.value),
        "headers": [{"name": name, "value": _show_bytes(value)} for name, value in record.headers],
    }


def _show_bytes(data: bytes | None) -> dict[str, Any] | None:
    if data is None:
        return None
    try:
        return {"type": "JSON", "data": msgspec.json.decode(data)}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return {"type": "STRING", "data": data.decode()}
    except UnicodeDecodeError:
        return {"type": "BINARY", "data": base64.b64encode(data).decode()}
