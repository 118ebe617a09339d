"""A node's life: start, form, recover, register, be ready, drain, stop (docs/architecture.md)."""

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import structlog

from ottla.client.errors import OttlaError
from ottla.log.chance import Chance, SystemChance, new_id
from ottla.log.clock import Clock, SystemClock
from ottla.log.errors import CorruptCheckpoint, LogError
from ottla.log.storage import Storage, SystemStorage
from ottla.raft.forming import Formed, FormingDesk, FormingRefused, form
from ottla.raft.handshake import PeerIdentity
from ottla.raft.joining import JoinDesk
from ottla.raft.snapshot import SnapshotDamaged
from ottla.raft.wal_format import WalDamaged

from .assembly import Parts
from .checkpoints import checkpoint_forever
from .config import Settings
from .departure import NO_QUORUM_S, Departure
from .doors import Doors
from .http.app import HttpDoor
from .kafka.listener import KafkaListener, open_kafka
from .metrics import Metrics
from .node_ids import NodeIds
from .run_registration import RunRegistration
from .self_report import SelfReport
from .startup import NodeStopped, lock_directory, make_desk, read_secret
from .workers import Workers

log = structlog.get_logger(__name__)

SETTLE_S = 5.0
"""How long a stopping node waits for logs that are just being opened or set aside."""


class Node:
    """One node. ``start`` returns once it is ready; ``stop`` drains unless told not to; ``failed`` resolves if it
    must stop by itself."""

    def __init__(
        self,
        settings: Settings,
        *,
        version: str,
        storage: Storage | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        report: Callable[[str], None] = lambda line: None,
        set_log_level: Callable[[str], None] = lambda level: None,
    ) -> None:
        self.settings = settings
        self.storage = storage or SystemStorage()
        self.clock = clock or SystemClock()
        self.chance = chance or SystemChance()
        self.path = Path(settings.data)
        self.state = "starting"
        self.metrics = Metrics()
        self.port = 0
        self.parts: Parts | None = None
        self.report: SelfReport | None = None
        self.version = version
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._tell = report
        self._set_log_level = set_log_level
        self._incarnation = new_id(self.chance)
        self._stack = contextlib.ExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers = Workers()
        self._started_s = self.clock.monotonic()
        self._run: RunRegistration | None = None
        self._session: aiohttp.ClientSession | None = None
        self._http: HttpDoor | None = None
        self._kafka: KafkaListener | None = None

    @property
    def kafka_port(self) -> int | None:
        """Where Kafka's protocol is spoken; None: nowhere, or not yet."""
        return None if self._kafka is None else self._kafka.port

    @property
    def ready(self) -> bool:
        """Whether clients are served."""
        return self.state in ("ready", "draining")

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up and be ready. Raises OttlaError with a code where that cannot be."""
        secret = read_secret(self.settings, self.storage)
        directory = lock_directory(self._stack, self.path, self.storage, self.chance)
        desk = make_desk(self.settings, directory, secret, self.chance)
        joining = JoinDesk(secret)
        self._http = HttpDoor(self, self.settings, self.metrics, desk, joining)
        await self._listen(self._http)
        self._kafka = await open_kafka(self.settings, self.metrics, self._http.inflight)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
        )
        self.state = "forming"
        formed = await self._form(desk, self._session)
        structlog.contextvars.bind_contextvars(node=formed.node_id)
        self.state = "recovering"
        local = PeerIdentity(
            node_id=formed.node_id,
            cluster_id=formed.cluster_id,
            directory_id=directory.identity.directory_id,
            incarnation=self._incarnation,
        )
        parts = await self._start_raft(formed, local, secret, self._session)
        self._spawn(parts.controller.run(), "controller")
        await self._catch_up(parts)
        run = self._run = RunRegistration(parts, local, self.settings, self.storage, self._workers.run_for_logs)
        unclean = await run.recover()
        self.state = "registering"
        run.on_directory_failed = lambda: self._spawn(run.note_directory_failed(), "record")
        await run.register(self.port, () if self._kafka is None else (self._kafka.listener,), unclean)
        joining.assign = NodeIds(parts.channel, formed).assign
        self._serve(parts, run)
        await self._until_unfenced(parts)
        if self._kafka is not None:
            self._kafka.serve(parts)
        self.state = "ready"
        log.info("node.ready", seconds=round(self.clock.monotonic() - self._started_s, 3))

    async def _listen(self, http: HttpDoor) -> None:
        host, port = self.settings.http_address
        try:
            self.port = await http.open(host, port)
        except OSError as error:
            raise NodeStopped(
                f"{host}:{port} cannot be listened on: {error.strerror or error}.",
                code="OTTLA-PORT-IN-USE" if error.errno == errno.EADDRINUSE else "OTTLA-CANNOT-LISTEN",
                hint="Use --http HOST:PORT, or stop whoever has it.",
            ) from error

    async def _form(self, desk: FormingDesk, session: aiohttp.ClientSession) -> Formed:
        try:
            return await form(
                desk,
                host=self.settings.advertised_host,
                port=self.port,
                session=session,
                run_blocking=self._workers.run_for_raft,
                report=lambda line: self._tell(f"OTTLA-FORMING: {line}"),
            )
        except FormingRefused as refused:
            raise NodeStopped(refused.message, code=refused.code) from refused

    async def _start_raft(
        self, formed: Formed, local: PeerIdentity, secret: bytes | None, session: aiohttp.ClientSession
    ) -> Parts:
        known = formed.voter
        if known is not None and len(formed.voters) > 1 and known.port != self.port:
            self._tell(
                f"OTTLA-ADDRESS-CHANGED: the cluster knows this node as {known.address}, and it listens on port "
                f"{self.port}. Unless something forwards that address, the others will not find it."
            )
        try:
            parts = self._assemble(formed, local, secret, session)
            await parts.quorum.start()
        except (WalDamaged, SnapshotDamaged) as damage:
            raise NodeStopped(damage.message, code=damage.code) from damage
        except CorruptCheckpoint as damage:
            raise NodeStopped(f"{damage}.", code="OTTLA-CHECKPOINT-DAMAGED") from damage
        except LogError as error:  # a directory of logs is another's, or none works
            raise NodeStopped(f"{error}.", code="OTTLA-LOG-DIRECTORY") from error
        return parts

    async def _catch_up(self, parts: Parts) -> None:
        """Apply what the quorum had committed when we asked: it tells which logs are ours. Says for whom it waits."""
        others = [f"{voter.host}:{voter.port}" for number, voter in parts.voters.items() if number != parts.node_id]
        line = f"OTTLA-NO-QUORUM: waiting for a majority of the voters; the others are {', '.join(others)}"
        reminder = asyncio.get_running_loop().call_later(NO_QUORUM_S, self._tell, line)
        try:
            await parts.wait_applied(await parts.channel.commit_index())
        finally:
            reminder.cancel()

    def _assemble(
        self, formed: Formed, local: PeerIdentity, secret: bytes | None, session: aiohttp.ClientSession
    ) -> Parts:
        doors = Doors(
            self.storage,
            self.clock,
            self.chance,
            session,
            self._workers.run_for_raft,
            self._workers.run_for_logs,
            self._set_log_level,
        )
        self.parts = parts = Parts(
            settings=self.settings,
            doors=doors,
            formed=formed,
            local=local,
            port=self.port,
            secret=secret,
            metrics=self.metrics,
            describe=lambda: report.describe(self.state),
            on_fatal=self._fail,
        )
        self.report = report = SelfReport(
            parts, storage=self.storage, clock=self.clock, path=self.path, version=self.version
        )
        self.metrics.add_gauges(report)
        return parts

    def _serve(self, parts: Parts, run: RunRegistration) -> None:
        self._spawn(parts.channel.beat_forever(lambda: parts.quorum.applied_index), "heartbeats")
        self._spawn(parts.isr_keeper.run(), "isr")
        assert run.broker_epoch is not None
        self._spawn(parts.offline_reporter.run(run.broker_epoch), "offline")
        self._spawn(self._flush(parts), "flush")
        self._spawn(checkpoint_forever(parts, self._workers.run_for_logs), "checkpoint")
        self._spawn(parts.housekeeper.run(), "housekeeping")
        self._spawn(parts.groups.run(), "groups")
        self._spawn(run.watch(), "registration")

    async def _until_unfenced(self, parts: Parts) -> None:
        while not self.failed.done():
            registration = parts.manager.image.brokers.get(parts.node_id)
            if registration is not None and not registration.fenced and parts.manager.active:
                return
            await asyncio.sleep(0.01)
        error = self.failed.result()
        raise error if isinstance(error, OttlaError) else NodeStopped(f"{type(error).__name__}: {error}")

    # --- running -----------------------------------------------------------------------------------------------------

    async def _flush(self, parts: Parts) -> None:
        await parts.logs.run_flusher(self._workers.run_for_logs)
        raise NodeStopped(f"a write or sync failed: {parts.logs.failed}", code="OTTLA-STORAGE-FAILED")

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                log.exception("node.task.failed", task=name)
                self._fail(error)

        self._tasks.append(asyncio.create_task(guarded(), name=name))

    def _fail(self, error: BaseException) -> None:
        """This node must not go on."""
        if self.failed.done():
            return
        self.failed.set_result(error)
        if self._run is not None:
            self._run.note_failed(error)

    # --- stop --------------------------------------------------------------------------------------------------------

    async def stop(self, *, drain: bool = True) -> None:
        """Hand over, finish, flush, leave. After a failure, or without ``drain``, only let go."""
        parts = self.parts
        departure = self._departure() if drain else None
        if departure is not None and self._http is not None:
            self.state = "draining"
            await departure.drain(self.settings.drain_timeout_ms / 1000, self._until_answered)
        self.state = "stopping"
        if self._http is not None:
            self._http.stop_listening()
        if self._kafka is not None:
            self._kafka.door.stop_listening()
        if parts is not None:
            parts.manager.deactivate()
            await parts.fetchers.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hang_up(parts)
        if parts is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await parts.manager.settled()
            if departure is not None:
                await departure.finish()
            await self._workers.run_for_logs(parts.logs.close)
        self._workers.stop()
        self._stack.close()
        self.state = "stopped"

    async def _until_answered(self) -> None:
        assert self._http is not None
        assert self.parts is not None
        self._http.finish()
        if self._kafka is not None:
            self._kafka.door.finish()
        self.parts.groups.finish()
        await self._http.answered()

    def _departure(self) -> Departure | None:
        if self.parts is None or self._run is None or self.state != "ready" or self.failed.done():
            return None
        assert self._run.broker_epoch is not None
        return Departure(self.parts, self._run.broker_epoch, self.clock, self._workers.run_for_logs)

    async def _hang_up(self, parts: Parts | None) -> None:
        if parts is not None:
            await parts.stop()
        if self._kafka is not None:
            await self._kafka.door.close()
        if self._http is not None:
            await self._http.close()
        if self._session is not None:
            await self._session.close()
