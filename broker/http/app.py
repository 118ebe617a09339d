"""The one HTTP port: its routes, its gate, and which of them answer before the node is ready."""

import asyncio
import contextlib
from typing import Protocol

import msgspec
from aiohttp import web

from ottla.raft.forming import FormingDesk
from ottla.raft.joining import JOIN_PATH, JoinDesk
from ottla.raft.snapshot_transfer import SNAPSHOT_PATH
from ottla.raft.tail import TAIL_PATH
from ottla.raft.transport import RAFT_PATH
from ottla.wire.upgrade import accept_stream

from ..assembly import Parts
from ..config import Settings
from ..links import CONTROL_PATH, REPLICA_PATH
from ..metrics import CONTENT_TYPE, Metrics
from ..self_report import SelfReport
from .guard import Guard, note_speech
from .problem import problem, problems
from .streams import STREAM_PATH, DataStream, InflightBudget

CLOSE_WAIT_S = 1.0
PING_INTERVAL_S = 30.0
"""A client that has gone without a word is noticed after this and half of it again."""


class NodeView(Protocol):
    """What the door needs to know of the node behind it: parts and report are None until it is formed."""

    state: str
    parts: Parts | None
    report: SelfReport | None
    version: str

    @property
    def ready(self) -> bool: ...


class HttpDoor:
    """Opens early, so that nodes can form; says NOT_READY where the node is not."""

    def __init__(
        self, node: NodeView, settings: Settings, metrics: Metrics, desk: FormingDesk, joining: JoinDesk
    ) -> None:
        self._node = node
        self._settings = settings
        self._metrics = metrics
        self._total = InflightBudget(settings.inflight_bytes_max)
        self._guard: Guard | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._streams: dict[DataStream, None] = {}
        self._app = self._make_app(desk, joining)

    def _make_app(self, desk: FormingDesk, joining: JoinDesk) -> web.Application:
        app = web.Application(
            middlewares=[note_speech(lambda: self._guard), problems],
            client_max_size=self._settings.frame_bytes_max,
        )
        desk.add_routes(app)
        app.router.add_post(JOIN_PATH, joining.handle)
        app.router.add_get(RAFT_PATH, self._raft)
        app.router.add_get(SNAPSHOT_PATH, self._snapshot)
        app.router.add_get(TAIL_PATH, self._tail)
        app.router.add_get(CONTROL_PATH, self._control)
        app.router.add_get(REPLICA_PATH, self._replica)
        app.router.add_get(STREAM_PATH, self._stream)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._scrape)
        app.router.add_get("/v1/node", self._describe)
        app.router.add_post("/v3/clusters/{cluster}/topics/{topic}/records", self._produce)
        app.router.add_get("/v1/topics/{topic}/records", self._consume)
        app.router.add_get("/v1/groups", self._list_groups)
        app.router.add_get("/v1/groups/{group}", self._show_group)
        return app

    async def open(self, host: str, port: int) -> int:
        """Listen; the port that was taken (for port 0). Raises OSError."""
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, keepalive_timeout=75, shutdown_timeout=1
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._guard = Guard(
            server,
            connections_max=self._settings.connections_max,
            handshake_s=self._settings.handshake_timeout_ms / 1000,
        )
        listener = await asyncio.get_running_loop().create_server(self._guard, host, port, backlog=1024)
        self._listener = listener
        return int(listener.sockets[0].getsockname()[1])

    @property
    def inflight(self) -> InflightBudget:
        """Bytes of unanswered requests, which all doors share."""
        return self._total

    def stop_listening(self) -> None:
        """Take no new connections: whoever probes the port learns that this node is gone."""
        if self._listener is not None:
            self._listener.close()

    def finish(self) -> None:
        """Begin no more requests of clients' streams; whoever waits for news is answered with what there is."""
        for stream in self._streams:
            stream.finish()
        if self._node.parts is not None:
            self._node.parts.api.polls.end()

    async def answered(self) -> None:
        """Until no request is without an answer."""
        await self._total.idle()

    async def close(self) -> None:
        """End every connection."""
        leaving = (stream.leave() for stream in list(self._streams))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                await asyncio.gather(*leaving, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    # --- between nodes -----------------------------------------------------------------------------------------------

    async def _raft(self, request: web.Request) -> web.StreamResponse:
        parts = self._node.parts
        return self._not_ready() if parts is None else await parts.quorum.raft_handler(request)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        parts = self._node.parts
        return self._not_ready() if parts is None else await parts.quorum.snapshot_handler(request)

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        parts = self._node.parts
        return self._not_ready() if parts is None else await parts.quorum.tail_handler(request)

    async def _control(self, request: web.Request) -> web.StreamResponse:
        parts = self._node.parts
        return self._not_ready() if parts is None else await parts.internal.control(request)

    async def _replica(self, request: web.Request) -> web.StreamResponse:
        parts = self._node.parts
        return self._not_ready() if parts is None else await parts.internal.replica(request)

    # --- clients -----------------------------------------------------------------------------------------------------

    def _ready_parts(self) -> Parts | None:
        return self._node.parts if self._node.ready else None

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        parts = self._ready_parts()
        if parts is None:
            return self._not_ready()
        response, stream = await accept_stream(
            request, message_bytes_max=self._settings.frame_bytes_max, ping_interval_s=PING_INTERVAL_S
        )
        self._metrics.connections.labels(kind="data").inc()
        data = DataStream(stream, parts.api, self._settings, self._total, parts.logs)
        self._streams[data] = None
        try:
            await data.run()
        finally:
            self._streams.pop(data, None)
            await stream.close()
        return response

    async def _produce(self, request: web.Request) -> web.StreamResponse:
        parts = self._ready_parts()
        return self._not_ready() if parts is None else await (await parts.sdk_doors.records()).produce(request)

    async def _consume(self, request: web.Request) -> web.StreamResponse:
        parts = self._ready_parts()
        return self._not_ready() if parts is None else await (await parts.sdk_doors.records()).consume(request)

    async def _list_groups(self, request: web.Request) -> web.StreamResponse:
        parts = self._ready_parts()
        return self._not_ready() if parts is None else await (await parts.sdk_doors.groups()).list(request)

    async def _show_group(self, request: web.Request) -> web.StreamResponse:
        parts = self._ready_parts()
        return self._not_ready() if parts is None else await (await parts.sdk_doors.groups()).show(request)

    # --- operators ---------------------------------------------------------------------------------------------------

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live", "state": self._node.state})

    async def _ready(self, request: web.Request) -> web.Response:
        if self._node.state != "ready":  # a draining node still answers, but should get nothing new
            return self._not_ready()
        return web.json_response({"status": "ready", "state": self._node.state})

    async def _scrape(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _describe(self, request: web.Request) -> web.Response:
        report = self._node.report
        described: object = {"state": self._node.state, "version": self._node.version}
        if report is not None:
            answer = report.describe(self._node.state)
            described = {name: getattr(answer, name) for name in answer.__struct_fields__}
        return web.Response(body=msgspec.json.encode(described), content_type="application/json")

    def _not_ready(self) -> web.Response:
        detail = f"this node is {self._node.state}"
        if self._node.parts is not None and (left := self._node.parts.manager.recovering):
            detail += f" ({left} logs are still to be opened)"
        return problem(503, "OTTLA-NOT-READY", detail, hint="Try again in a moment, or another node.", retriable=True)
