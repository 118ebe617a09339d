"""From a typed request to its handler. Doors call this and nothing below it; handlers never know the door."""

from collections.abc import Awaitable, Callable

from ottla.client.error_codes import ErrorCode
from ottla.client.frames import split_batches
from ottla.client.group_protocol import GroupRequest
from ottla.client.protocol import (
    AlterConfigsRequest,
    AlterPartitionReassignmentsRequest,
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteRecordsRequest,
    DeleteTopicRequest,
    DescribeConfigsRequest,
    DescribeNodeRequest,
    DescribeNodeResponse,
    DescribeReplicasRequest,
    DrainBrokerRequest,
    ElectLeadersRequest,
    ErrorResponse,
    FetchRequest,
    FetchResponse,
    InitProducerIdRequest,
    ListOffsetsRequest,
    MetadataRequest,
    ProduceRequest,
    ProduceResponse,
    Request,
    Response,
)
from ottla.client.replica_protocol import ReplicaRequest
from ottla.wire.deadlines import Deadlines

from ..metrics import Metrics
from ..replica import Refused
from ..replica_manager import ReplicaManager
from .configs import ConfigsApi
from .delete_records import delete_records
from .fetch import LongPolls, fetch
from .groups import GroupsApi
from .key_gate import KeyGate
from .list_offsets import list_offsets
from .metadata import MetadataApi
from .partitions import PartitionsApi
from .produce import PendingProduce
from .producer_ids import ProducerIds
from .replicas import answer_of_replicas
from .topics import TopicsApi

Answer = tuple[Response, list[bytes]]


class Api:
    """Every request of the data plane."""

    def __init__(
        self,
        *,
        manager: ReplicaManager,
        metadata: MetadataApi,
        topics: TopicsApi,
        configs: ConfigsApi,
        partitions: PartitionsApi,
        producer_ids: ProducerIds,
        groups: GroupsApi,
        describe: Callable[[], DescribeNodeResponse],
        metrics: Metrics,
    ) -> None:
        self._manager = manager
        self._metadata = metadata
        self._topics = topics
        self._configs = configs
        self._partitions = partitions
        self._producer_ids = producer_ids
        self._groups = groups
        self._describe = describe
        self._metrics = metrics
        self._gate = KeyGate(manager.run_blocking)
        self._deadlines = Deadlines()
        self.polls = LongPolls()  # of the doors that have none of their own

    def begin(self, request: Request, body: memoryview) -> Awaitable[Answer]:
        """The answer of anything but a produce. Raises BadFrame where batches follow."""
        split_batches(body, ())
        name = type(request).__struct_config__.tag
        return self._timed(str(name), lambda: self._answer(request))

    # --- the hot paths, for a door that has its own frames -----------------------------------------------------------

    def begin_produce(
        self, request: ProduceRequest, batches: list[memoryview], *, may_be_forgotten: bool = False
    ) -> PendingProduce:
        """Append all that can be, at once and in order. ``batches``: one for each partition."""
        self._metrics.bytes_in += sum(map(len, batches))
        pending = PendingProduce(self._manager, self._gate, request, may_be_forgotten=may_be_forgotten)
        pending.append(batches)
        return pending

    def when_produced(self, pending: PendingProduce, tell: Callable[[ProduceResponse], None]) -> None:
        """Tell what became of it, once it is known: see ``PendingProduce.when_done``."""
        started_s = self._manager.clock.monotonic()

        def done(response: ProduceResponse) -> None:
            self._metrics.answered("produce", self._manager.clock.monotonic() - started_s)
            tell(response)

        pending.when_done(done, self._deadlines)

    async def finish_produce(self, pending: PendingProduce) -> ProduceResponse:
        """The same, for who awaits it."""
        started_s = self._manager.clock.monotonic()
        try:
            return await pending.response(self._deadlines)
        finally:
            self._metrics.answered("produce", self._manager.clock.monotonic() - started_s)

    async def fetch(self, request: FetchRequest, polls: LongPolls) -> tuple[FetchResponse, list[bytes]]:
        """Results and records, in the request's order. ``polls``: the door's own."""
        started_s = self._manager.clock.monotonic()
        try:
            return await self._fetch(request, polls)
        finally:
            self._metrics.answered("fetch", self._manager.clock.monotonic() - started_s)

    async def _fetch(self, request: FetchRequest, polls: LongPolls) -> tuple[FetchResponse, list[bytes]]:
        response, parts = await fetch(self._manager, request, polls)
        self._metrics.bytes_to_consumers += sum(map(len, parts))
        return response, parts

    # --- all requests ------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Answer:
        if isinstance(request, FetchRequest):
            return await self._fetch(request, self.polls)
        return await self._plain(request), []

    async def _plain(self, request: Request) -> Response:
        match request:
            case MetadataRequest():
                return await self._metadata.metadata(request)
            case ListOffsetsRequest():
                return await list_offsets(self._manager, request)
            case DeleteRecordsRequest():
                return await delete_records(self._manager, request)
            case InitProducerIdRequest():
                return await self._producer_ids.init_producer_id(request)
            case CreateTopicRequest():
                return await self._topics.create(request)
            case DeleteTopicRequest():
                return await self._topics.delete(request)
            case CreatePartitionsRequest():
                return await self._topics.grow(request)
            case AlterPartitionReassignmentsRequest():
                return await self._partitions.reassign(request)
            case ElectLeadersRequest():
                return await self._partitions.elect(request)
            case DrainBrokerRequest():
                return await self._partitions.drain(request)
            case DescribeReplicasRequest():
                return self._partitions.describe(request)
            case AlterConfigsRequest():
                return await self._configs.alter(request)
            case DescribeConfigsRequest():
                return await self._configs.describe(request)
            case DescribeNodeRequest():
                return self._describe()
        if isinstance(request, GroupRequest):
            return await self._groups.answer(request)
        if isinstance(request, ReplicaRequest):
            return await answer_of_replicas(self._manager, request)
        raise Refused(ErrorCode.INVALID_REQUEST, f"{type(request).__name__} does not belong on this stream")

    async def _timed(self, api: str, answer: Callable[[], Awaitable[Answer]]) -> Answer:
        started_s = self._manager.clock.monotonic()
        try:
            return await answer()
        except Refused as refused:
            self._metrics.request_errors.labels(error=refused.error.name).inc()
            return ErrorResponse(refused.error, str(refused)), []
        finally:
            self._metrics.answered(api, self._manager.clock.monotonic() - started_s)
