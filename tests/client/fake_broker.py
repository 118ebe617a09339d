"""A small in-memory cluster that speaks our frames, with failures by script. Its producer state is the real one."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from ottla.client.error_codes import ErrorCode
from ottla.client.frames import decode_request, encode_frame, split_batches
from ottla.client.protocol import (
    BrokerEndpoint,
    CreateTopicRequest,
    DeleteTopicRequest,
    DescribeNodeRequest,
    DescribeNodeResponse,
    DivergingEpoch,
    ErrorResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchResult,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    OffsetResult,
    PartitionMetadata,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceResult,
    Request,
    Response,
    TopicChanged,
    TopicMetadata,
)
from ottla.log.errors import LogError
from ottla.log.model import BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, ProducerId, TopicId
from ottla.log.producer_state import ProducerStateManager
from ottla.log.records import Record, RecordBatch
from tests.client.fake_groups import FakeGroups


@dataclass
class Partition:
    """One partition, shared by all nodes as if replication were instant."""

    leader: int | None
    epoch: int = 0
    start: int = 0
    batches: list[RecordBatch] = field(default_factory=list)
    producers: ProducerStateManager = field(default_factory=ProducerStateManager)

    @property
    def end(self) -> int:
        return self.batches[-1].next_offset if self.batches else self.start

    def parted(self, epoch: LeaderEpoch | None, offset: int) -> DivergingEpoch | None:
        """Where a log ends that has the record before ``offset`` from this epoch, if we have another."""
        if epoch is None:
            return None
        if not self.batches or epoch > (self.batches[-1].leader_epoch or 0):
            return DivergingEpoch(epoch, Offset(self.start))
        after = [batch.base_offset for batch in self.batches if (batch.leader_epoch or 0) > epoch]
        known = [batch.leader_epoch or LeaderEpoch(0) for batch in self.batches if (batch.leader_epoch or 0) <= epoch]
        ours, end = known[-1] if known else epoch, after[0] if after else self.end
        return DivergingEpoch(ours, Offset(end)) if ours < epoch or end < offset else None

    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch.records()]

    def append(self, data: bytes) -> int:
        """The base offset. Raises LogError."""
        batch = RecordBatch.parse(data)
        batch.verify_crc()
        duplicate = self.producers.check(batch)
        if duplicate is not None:
            return duplicate.base_offset
        header = batch.stamped_header(Offset(self.end), LeaderEpoch(self.epoch))
        stored = RecordBatch.parse(header + bytes(data[len(header) :]))
        self.batches.append(stored)
        self.producers.update(stored, now_ms=0)
        return stored.base_offset


@dataclass
class Topic:
    topic_id: TopicId
    partitions: list[Partition]
    configs: dict[str, str] = field(default_factory=dict)


Script = Callable[["Node", ProducePartition], "ErrorCode | str | None"]
"""What happens to one partition of a produce: an error instead of the append; "drop": append, then break the stream
before the answer; "drop_first": break it before the append; "mute": append, never answer; "late": append and refuse;
None: nothing special."""


class FakeCluster:
    """Nodes that share one truth. ``index`` rises with every change of metadata."""

    def __init__(self, size: int = 1) -> None:
        self.topics: dict[str, Topic] = {}
        self.index = 1
        self.next_producer_id = 0
        self.script: deque[ErrorCode | str | None] = deque()
        self.requests: list[Request] = []
        self.metadata_indexes_asked: list[int] = []
        self.news = asyncio.Event()
        self.hints = True
        self.near: dict[str, int] = {}  # the follower in each rack
        self.near_error: ErrorCode | None = None  # what it answers
        self.nodes = {number: Node(self, number) for number in range(1, size + 1)}
        self.groups = FakeGroups(lambda: {n: (t.topic_id, len(t.partitions)) for n, t in self.topics.items()})

    async def __aenter__(self) -> "FakeCluster":
        for node in self.nodes.values():
            await node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    @property
    def servers(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.nodes.values()]

    def create(self, name: str, partitions: int = 1, **configs: str) -> Topic:
        leaders = list(self.nodes)
        made = [Partition(leaders[number % len(leaders)]) for number in range(partitions)]
        topic = self.topics[name] = Topic(TopicId(f"id-{name}-{self.index}"), made, configs)
        self.index += 1
        return topic

    def move(self, name: str, partition: int, leader: int | None) -> None:
        state = self.topics[name].partitions[partition]
        state.leader = leader
        state.epoch += 1
        self.index += 1
        self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    def find(self, topic_id: str, partition: int) -> Partition | None:
        for topic in self.topics.values():
            if topic.topic_id == topic_id and partition < len(topic.partitions):
                return topic.partitions[partition]
        return None

    def asked(self, kind: type) -> list[Request]:
        return [request for request in self.requests if isinstance(request, kind)]


class Node:
    """One broker of the cluster. ``stale``: answer metadata as of this response, whatever is asked."""

    def __init__(self, cluster: FakeCluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.port = 0
        self.stale: MetadataResponse | None = None
        self.frozen = False  # takes requests, answers nothing
        self._runner: web.AppRunner | None = None
        self._streams: set[web.WebSocketResponse] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/stream", self._stream)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self.break_streams()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def break_streams(self) -> None:
        for ws in list(self._streams):
            if ws._req is not None and ws._req.transport is not None:
                ws._req.transport.abort()

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=32 << 20, compress=False)
        await ws.prepare(request)
        self._streams.add(ws)
        try:
            async for message in ws:
                if message.type is not WSMsgType.BINARY:
                    break
                frame = decode_request(message.data)
                self.cluster.requests.append(frame.message)
                await self._begin(ws, frame.correlation_id, frame.message, frame.body)
        finally:
            self._streams.discard(ws)
        return ws

    async def _begin(self, ws: web.WebSocketResponse, number: int, request: Request, body: memoryview) -> None:
        if self.frozen:
            return
        if isinstance(request, ProduceRequest):
            response = await self._produce(request, body)
            if response is not None and request.acks != 0:
                await ws.send_bytes(encode_frame(number, response))
            return
        task = asyncio.create_task(self._answer(ws, number, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ws: web.WebSocketResponse, number: int, request: Request) -> None:
        parts: list[bytes] = []
        response: Response
        match request:
            case MetadataRequest():
                response = self._metadata(request)
            case InitProducerIdRequest():
                self.cluster.next_producer_id += 1
                response = InitProducerIdResponse(ProducerId(self.cluster.next_producer_id), ProducerEpoch(0))
            case ListOffsetsRequest():
                response = ListOffsetsResponse(tuple(map(self._offset, request.partitions)))
            case FetchRequest():
                response, parts = await self._fetch(request)
            case CreateTopicRequest():
                response = self._create(request)
            case DeleteTopicRequest():
                response = self._delete(request)
            case DescribeNodeRequest():
                response = DescribeNodeResponse(
                    BrokerId(self.number), "ready", "0", BrokerId(1), 1, 1, 1, (), 0, 0, 0, 0, 0.0
                )
            case _:
                of_group = self.cluster.groups.answer(self.number, request)
                response = of_group or ErrorResponse(ErrorCode.INVALID_REQUEST, "not here")
        if not ws.closed:
            await ws.send_bytes(encode_frame(number, response, parts))

    def view(self, request: MetadataRequest) -> MetadataResponse:
        cluster = self.cluster
        names = sorted(cluster.topics) if request.topics is None else request.topics
        return MetadataResponse(
            cluster_id="fake",
            metadata_index=cluster.index,
            node_id=BrokerId(self.number),
            quorum_leader=BrokerId(1),
            quorum_term=1,
            brokers=tuple(BrokerEndpoint(BrokerId(n), "127.0.0.1", node.port) for n, node in cluster.nodes.items()),
            topics=tuple(map(self._topic, names)),
        )

    def _topic(self, name: str) -> TopicMetadata:
        topic = self.cluster.topics.get(name)
        if topic is None:
            return TopicMetadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name, None, message=f"there is no topic {name}")
        states = tuple(
            PartitionMetadata(
                number,
                None if state.leader is None else BrokerId(state.leader),
                LeaderEpoch(state.epoch),
                PartitionEpoch(state.epoch),
                (),
                (),
            )
            for number, state in enumerate(topic.partitions)
        )
        return TopicMetadata(ErrorCode.NONE, name, topic.topic_id, states, topic.configs)

    def _metadata(self, request: MetadataRequest) -> Response:
        self.cluster.metadata_indexes_asked.append(request.min_metadata_index)
        if self.stale is not None:
            if self.stale.metadata_index < request.min_metadata_index:
                return ErrorResponse(ErrorCode.REQUEST_TIMED_OUT, "this node is behind the metadata asked for")
            return self.stale
        if request.allow_auto_create:
            for name in request.topics or ():
                if name not in self.cluster.topics:
                    self.cluster.create(name)
        return self.view(request)

    def _create(self, request: CreateTopicRequest) -> Response:
        if request.name in self.cluster.topics:
            return ErrorResponse(ErrorCode.TOPIC_ALREADY_EXISTS, f"{request.name} exists")
        topic = self.cluster.create(request.name, request.partitions or 1, **request.configs)
        return TopicChanged(request.name, topic.topic_id, self.cluster.index)

    def _delete(self, request: DeleteTopicRequest) -> Response:
        topic = self.cluster.topics.pop(request.name, None)
        if topic is None:
            return ErrorResponse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {request.name}")
        self.cluster.index += 1
        self.cluster.wake()
        return TopicChanged(request.name, topic.topic_id, self.cluster.index)

    async def _produce(self, request: ProduceRequest, body: memoryview) -> ProduceResponse | None:
        results: list[ProduceResult] = []
        batches = split_batches(body, [target.size for target in request.partitions])
        for target, data in zip(request.partitions, batches, strict=True):
            event = self.cluster.script.popleft() if self.cluster.script else None
            if event == "drop_first":
                await self.break_streams()
                return None
            result = self._produce_one(target, bytes(data), event)
            results.append(result)
            if event == "drop":
                await self.break_streams()
                return None
            if event == "mute":
                return None
        self.cluster.wake()
        return ProduceResponse(tuple(results))

    def _produce_one(self, target: ProducePartition, data: bytes, event: ErrorCode | str | None) -> ProduceResult:
        def refuse(error: ErrorCode) -> ProduceResult:
            return ProduceResult(target.topic_id, target.partition, error, message=error.name)

        state = self.cluster.find(target.topic_id, target.partition)
        if state is None:
            return refuse(ErrorCode.UNKNOWN_TOPIC_ID)
        if state.leader != self.number:
            result = refuse(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            if self.cluster.hints and state.leader is not None:
                result.leader, result.leader_epoch = BrokerId(state.leader), LeaderEpoch(state.epoch)
            return result
        if isinstance(event, ErrorCode):
            return refuse(event)
        try:
            base_offset = state.append(data)
        except LogError as error:
            return refuse(ErrorCode.named(error.code))
        if event == "late":
            return refuse(ErrorCode.REQUEST_TIMED_OUT)
        return ProduceResult(target.topic_id, target.partition, ErrorCode.NONE, Offset(base_offset))

    def _offset(self, query: object) -> OffsetResult:
        state = self.cluster.find(query.topic_id, query.partition)  # type: ignore[attr-defined]
        result = OffsetResult(query.topic_id, query.partition, ErrorCode.NONE)  # type: ignore[attr-defined]
        if state is None or state.leader != self.number:
            result.error = ErrorCode.NOT_LEADER_OR_FOLLOWER
        else:
            result.offset = Offset(state.start if query.position == "earliest" else state.end)  # type: ignore[attr-defined]
        return result

    async def _fetch(self, request: FetchRequest) -> tuple[FetchResponse, list[bytes]]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.max_wait_ms / 1000
        while True:
            news = self.cluster.news
            budget = request.max_bytes
            results: list[FetchResult] = []
            parts: list[bytes] = []
            for asked in request.partitions:
                result, data = self._fetch_one(asked, budget, request.rack)
                budget -= len(data)
                results.append(result)
                parts.append(data)
            said = any(parts) or any(
                result.error or result.diverging or result.preferred_read_replica for result in results
            )
            if said or loop.time() >= deadline:
                return FetchResponse(tuple(results)), parts
            try:
                async with asyncio.timeout_at(deadline):
                    await news.wait()
            except TimeoutError:
                continue

    def _fetch_one(self, asked: FetchPartition, budget: int, rack: str) -> tuple[FetchResult, bytes]:
        result = FetchResult(asked.topic_id, asked.partition, ErrorCode.NONE)
        state = self.cluster.find(asked.topic_id, asked.partition)
        if state is None:
            result.error = ErrorCode.UNKNOWN_TOPIC_ID
            return result, b""
        result.log_start_offset, result.high_watermark = Offset(state.start), Offset(state.end)
        near = self.cluster.near.get(rack)
        if near == self.number and self.cluster.near_error is not None:
            result.error = self.cluster.near_error
        elif state.leader == self.number and near not in (None, self.number):
            result.preferred_read_replica = BrokerId(near)
        elif state.leader != self.number and near != self.number:
            result.error = ErrorCode.NOT_LEADER_OR_FOLLOWER
            if state.leader is not None:
                result.leader, result.leader_epoch = BrokerId(state.leader), LeaderEpoch(state.epoch)
        elif asked.current_leader_epoch is not None and asked.current_leader_epoch != state.epoch:
            fenced = asked.current_leader_epoch < state.epoch
            result.error = ErrorCode.FENCED_LEADER_EPOCH if fenced else ErrorCode.UNKNOWN_LEADER_EPOCH
        elif parted := state.parted(asked.last_fetched_epoch, asked.fetch_offset):
            result.diverging = parted
        elif not state.start <= asked.fetch_offset <= state.end:
            result.error = ErrorCode.OFFSET_OUT_OF_RANGE
        else:
            data = b""
            for batch in state.batches:
                fits = not data or len(data) + batch.size_bytes <= min(budget, asked.max_bytes)
                if batch.next_offset > asked.fetch_offset and budget > 0 and fits:
                    data += bytes(batch.buffer)
                elif data:
                    break
            return replace_size(result, len(data)), data
        return result, b""


def replace_size(result: FetchResult, size: int) -> FetchResult:
    result.size = size
    return result
