"""The port for Kafka's protocol: opens, counts what is in flight, and hangs up on who is silent or too much."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog

from ottla.log.errors import LogError

from ..api.fetch import LongPolls
from ..config import Settings
from ..http.streams import InflightBudget
from ..metrics import Metrics
from .api_versions import answer_api_versions
from .caller import Caller, Parts
from .connection import Connection
from .fetch import fetch
from .frames import SHARED_BYTES
from .header import Header, response_header
from .limits import limits_of
from .metadata import MetadataAnswers
from .produce import begin_produce
from .router import answer_cold, read_body
from .versions import ApiKey
from .view import BrokerView
from .wire import Malformed

log = structlog.get_logger(__name__)

T = TypeVar("T")

SWEEP_S = 1.0
"""How often is looked for connections whose time is up."""
CLOSE_WAIT_S = 1.0
"""How long a stopping node waits for clients to take their last answers and to close."""


@dataclass(frozen=True, slots=True)
class Served:
    """What is behind the door once the node serves clients."""

    view: BrokerView
    has_room: Callable[[], bool]
    wait_for_room: Callable[[], Awaitable[None]]


class KafkaDoor:
    """Listens early, so that a port that is taken is known at once, to whoever comes next too; lets clients in from
    ``serve`` on."""

    def __init__(self, settings: Settings, metrics: Metrics, inflight: InflightBudget) -> None:
        self._limits = limits_of(settings)
        self._connections_max = settings.connections_max
        self._small_bytes_max = settings.kafka_request_bytes_max
        self._partial_bytes_max = settings.inflight_bytes_max
        self._metrics = metrics
        self._inflight = inflight
        self._shared = bytearray(SHARED_BYTES)
        self._connections: dict[Connection, None] = {}
        self._polls = LongPolls()
        self._last_closed: asyncio.Future[None] | None = None  # waited for
        self._partial_bytes = 0
        self._unsent_bytes = 0
        self._unsent_bytes_max = settings.inflight_bytes_max
        self._listener: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._served: Served | None = None
        self._metadata: MetadataAnswers | None = None
        self._refused = 0
        self._worker = ThreadPoolExecutor(1, "kafka")
        metrics.add_gauges(self)

    # --- life --------------------------------------------------------------------------------------------------------

    async def bind(self, host: str, port: int) -> int:
        """Take the port; which one (for port 0). Raises OSError. It is listened on at once: two who have merely bound
        it do not learn of each other."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connection, host, port, backlog=1024)
        return int(self._listener.sockets[0].getsockname()[1])

    def serve(self, served: Served) -> None:
        """Let clients in."""
        assert self._listener is not None
        self._served = served
        self._metadata = MetadataAnswers(served.view)
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    def stop_listening(self) -> None:
        """Take no new connections."""
        if self._listener is not None:
            self._listener.close()

    def finish(self) -> None:
        """Let nobody in and take no more requests. Who waits for news is told that there are none, what was asked is
        answered, and connections end with their last answer."""
        self.stop_listening()
        self._polls.end()
        for connection in list(self._connections):
            connection.finish()

    async def close(self) -> None:
        """End every connection; those that finish have a moment to."""
        self.stop_listening()
        if self._polls.ended:
            await self._until_closed()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._connections):
            connection.hang_up()
        self._worker.shutdown(wait=False, cancel_futures=True)
        await asyncio.sleep(0)  # each hears of its own end

    async def _until_closed(self) -> None:
        if self._connections:
            self._last_closed = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WAIT_S):
                    await self._last_closed

    def _connection(self) -> Connection:
        return Connection(self, self._limits, self._shared)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            for connection in [each for each in self._connections if each.deadline_s < now_s and not each.busy]:
                connection.hang_up()

    def gauges(self) -> list[tuple[str, str, float]]:
        """For the metrics."""
        return [
            ("ottla_kafka_connections", "Connections to the Kafka port", float(len(self._connections))),
            ("ottla_kafka_connections_refused", "Connections above connections.max, so far", float(self._refused)),
            ("ottla_kafka_unsent_bytes", "Bytes of answers that clients are slow to take", float(self._unsent_bytes)),
            ("ottla_kafka_partial_bytes", "Bytes kept for requests that are not whole", float(self._partial_bytes)),
        ]

    # --- told by connections -----------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        if self._served is None or self._polls.ended:
            return False  # the node is not ready, or stops
        if len(self._connections) >= self._connections_max:
            self._refused += 1
            return False
        self._metrics.connections.labels(kind="kafka").inc()
        self._connections[connection] = None
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        if self._last_closed is not None and not self._connections and not self._last_closed.done():
            self._last_closed.set_result(None)

    def holds(self, change: int) -> bool:
        self._partial_bytes += change
        return change <= 0 or self._partial_bytes <= self._partial_bytes_max

    def unsent(self, change: int) -> None:
        self._unsent_bytes += change

    def taken(self, size: int) -> bool:
        self._inflight.take(size)
        assert self._served is not None
        return not self._inflight.full and self._served.has_room()

    async def room(self) -> None:
        assert self._served is not None
        await self._inflight.wait()
        with contextlib.suppress(LogError):  # a failed disk is told to each produce, not here
            await self._served.wait_for_room()

    def given(self, size: int) -> None:
        self._inflight.give(size)

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin_produce(self, caller: Caller, header: Header, frame: memoryview) -> Awaitable[Parts] | None:
        assert self._served is not None
        return begin_produce(self._served.view, caller, header, frame)

    async def answer(self, caller: Caller, header: Header, frame: memoryview) -> Parts:
        assert self._served is not None
        assert self._metadata is not None
        caller.client_id = header.client_id
        if len(frame) > self._small_bytes_max:
            raise Malformed(f"{header.key.name} of {len(frame)} bytes, {self._small_bytes_max} are taken")
        if header.key is ApiKey.FETCH:
            # Who takes answers slowly leaves the others less: at the end one batch each.
            room = max(1, self._unsent_bytes_max - self._unsent_bytes)
            return await fetch(self._served.view, caller, header, frame, room, self._run_aside, self._polls)
        if header.key is ApiKey.METADATA:
            body = await self._metadata.answer(caller, header.version, frame, header.body_at, self._run_aside)
            return (response_header(header.key, header.version, header.correlation_id), body)
        if header.key is ApiKey.API_VERSIONS:
            return answer_api_versions(self._served.view, caller, header, frame)
        request = await read_body(header, frame, self._run_aside)
        return await answer_cold(self._served.view, caller, header, request, self._run_aside)

    def _run_aside(self, call: Callable[[], T]) -> Awaitable[T]:
        """In a thread of this door's own: what is large must hold up neither the event loop nor the disks' threads."""
        return asyncio.get_running_loop().run_in_executor(self._worker, call)
