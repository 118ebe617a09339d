"""A node's life: start, form, recover, register, be ready, drain, stop (DESIGN section 3)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import aiohttp
import structlog

from ottla.client.client import connect
from ottla.client.errors import ConfigError, OttlaError
from ottla.client.protocol import DescribeNodeResponse
from ottla.log.chance import Chance, SystemChance, new_id
from ottla.log.clock import Clock, SystemClock
from ottla.log.errors import LogError
from ottla.log.manager import LogManager
from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId
from ottla.log.storage import Storage, SystemStorage
from ottla.raft.commands import DrainBroker, RegisterBroker
from ottla.raft.controller import Controller, ControllerSettings
from ottla.raft.forming import Formed, FormingDesk, FormingRefused, form
from ottla.raft.handshake import PeerIdentity
from ottla.raft.identity import DataDirectory, IdentityRefused, open_directory
from ottla.raft.image import empty_image
from ottla.raft.quorum import MetadataQuorum, QuorumSettings
from ottla.raft.results import Registered
from ottla.raft.state_machine import MetadataStateMachine
from ottla.raft.transport import Endpoint

from .api.dispatch import Api
from .api.metadata import MetadataApi
from .api.producer_ids import ProducerIds
from .api.topics import TopicsApi
from .config import Settings
from .controller_channel import ControllerChannel, ControllerUnavailable, Link, LocalLink
from .http.app import HttpDoor, StreamHandler
from .http.internal import InternalStreams
from .http.records import RecordsDoor
from .isr_keeper import IsrKeeper
from .links import ControlLink, Dialer, ReplicaLink
from .metrics import Metrics
from .probe import probe
from .replica_fetcher import Fetchers, ReplicaFetcher
from .replica_manager import ReplicaManager
from .run_record import RunRecord, read_run_record, was_unclean, write_run_record

log = structlog.get_logger(__name__)

T = TypeVar("T")

CHECKPOINT_INTERVAL_S = 5.0
LOG_WORKERS = 2
FRAME_ROOM = 1 << 20
"""A replica answer may be this much larger than a data frame: it holds one whole batch and its header."""


class NodeStopped(OttlaError):
    """The node cannot go on; the message says why."""

    code = "OTTLA-NODE-STOPPED"


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
    ) -> None:
        self.settings = settings
        self.version = version
        self.storage = storage or SystemStorage()
        self.clock = clock or SystemClock()
        self.chance = chance or SystemChance()
        self.report = report
        self.path = Path(settings.data)
        self.state = "starting"
        self.metrics = Metrics()
        self.port = 0
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.incarnation = new_id(self.chance)
        # Parts that exist only later; the HTTP door answers NOT_READY until then.
        self.api: Api | None = None
        self.internal: InternalStreams | None = None
        self.raft: StreamHandler | None = None
        self.records: RecordsDoor | None = None
        self._stack = contextlib.ExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._raft_worker = ThreadPoolExecutor(1, "raft-wal")
        self._log_workers = ThreadPoolExecutor(LOG_WORKERS, "log")
        self._started_s = self.clock.monotonic()
        self._broker_epoch: BrokerEpoch | None = None
        self._session: aiohttp.ClientSession | None = None
        self._quorum: MetadataQuorum | None = None
        self._http: HttpDoor | None = None

    @property
    def ready(self) -> bool:
        """Whether clients are served."""
        return self.state in ("ready", "draining")

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up and be ready. Raises OttlaError with a code where that cannot be."""
        secret = self._read_secret()
        directory = await self._open_directory()
        desk = self._make_desk(directory, secret)
        self._http = HttpDoor(self, self.settings, self.metrics, desk)
        await self._listen()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
        )
        self.state = "forming"
        formed = await self._form(desk)
        structlog.contextvars.bind_contextvars(node=formed.node_id)
        self.state = "recovering"
        self._assemble(formed, directory, secret)
        assert self._quorum is not None
        await self._quorum.start()
        self._spawn(self._controller.run(), "controller")
        await self._catch_up()
        unclean = await self._recover()
        self.state = "registering"
        await self._register(formed, directory, unclean)
        self._serve()
        await self._until_unfenced()
        self.state = "ready"
        log.info("node.ready", node=formed.node_id, seconds=round(self.clock.monotonic() - self._started_s, 3))

    def _read_secret(self) -> bytes | None:
        if self.settings.secret_file is None:
            return None
        path = Path(self.settings.secret_file)
        try:
            secret = self.storage.read_bytes(path).strip()
        except OSError as error:
            raise ConfigError(f"secret.file {path}: {error.strerror}.", code="OTTLA-SECRET-UNREADABLE") from error
        if len(secret) < 16:
            raise ConfigError(
                f"secret.file {path} holds {len(secret)} bytes, at least 16 are needed.",
                code="OTTLA-SECRET-TOO-SHORT",
                hint="Make one: head -c 32 /dev/urandom | base64 > cluster.key",
            )
        return secret

    async def _open_directory(self) -> DataDirectory:
        try:
            return self._stack.enter_context(open_directory(self.path, self.storage, self.chance))
        except IdentityRefused as refused:
            raise NodeStopped(refused.message, code=refused.code) from refused
        except OSError as error:
            raise NodeStopped(f"{self.path}: {error.strerror}.", code="OTTLA-DATA-UNUSABLE") from error

    def _make_desk(self, directory: DataDirectory, secret: bytes | None) -> FormingDesk:
        join = [f"{host}:{port}" for host, port in self.settings.join_addresses]
        try:
            return FormingDesk(directory, join, secret, self.chance)
        except ValueError as error:
            raise ConfigError(f"join: {error}.") from error

    async def _listen(self) -> None:
        host, port = self.settings.http_address
        assert self._http is not None
        try:
            self.port = await self._http.open(host, port)
        except OSError as error:
            raise NodeStopped(
                f"{host}:{port} cannot be listened on: {error.strerror or error}.",
                code="OTTLA-PORT-IN-USE" if error.errno == 98 else "OTTLA-CANNOT-LISTEN",
                hint="Use --http HOST:PORT, or stop whoever has it.",
            ) from error

    async def _form(self, desk: FormingDesk) -> Formed:
        assert self._session is not None
        try:
            return await form(
                desk,
                host=self.settings.advertised_host,
                port=self.port,
                session=self._session,
                run_blocking=self._run_for_raft,
                report=lambda line: self.report(f"OTTLA-FORMING: {line}"),
            )
        except FormingRefused as refused:
            raise NodeStopped(refused.message, code=refused.code) from refused

    def _run_for_raft(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._raft_worker, call)

    def _run_for_logs(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._log_workers, call)

    # --- wiring ------------------------------------------------------------------------------------------------------

    def _assemble(self, formed: Formed, directory: DataDirectory, secret: bytes | None) -> None:
        settings = self.settings
        self.node_id = BrokerId(formed.node_id)
        local = PeerIdentity(
            node_id=formed.node_id,
            cluster_id=formed.cluster_id,
            directory_id=directory.identity.directory_id,
            incarnation=self.incarnation,
        )
        self._voters = {voter.position: Endpoint(voter.host, voter.port, voter.directory_id) for voter in formed.voters}
        self._machine = MetadataStateMachine(empty_image(formed.cluster_id))
        self._quorum = MetadataQuorum(
            local=local,
            voters=self._voters,
            directory=self.path / "raft",
            storage=self.storage,
            clock=self.clock,
            chance=self.chance,
            secret=secret,
            apply=self._apply,
            settings=QuorumSettings(
                heartbeat_s=settings.raft_heartbeat_ms / 1000,
                election_min_s=settings.raft_election_min_ms / 1000,
                election_max_s=settings.raft_election_max_ms / 1000,
            ),
            run_blocking=self._run_for_raft,
            on_fatal=self._fail,
        )
        self.raft = self._quorum.raft_handler
        self._controller = Controller(
            quorum=self._quorum,
            machine=self._machine,
            clock=self.clock,
            settings=ControllerSettings(session_s=settings.broker_session_timeout_ms / 1000),
            probe=probe,
        )
        self._assemble_broker(formed, local, secret)

    def _assemble_broker(self, formed: Formed, local: PeerIdentity, secret: bytes | None) -> None:
        settings, quorum = self.settings, self._quorum
        assert quorum is not None
        assert self._session is not None
        self.logs = LogManager(
            self.storage, self.path / "logs", self.clock, self.chance, reserve_bytes=settings.disk_reserve_bytes
        )
        self.manager = ReplicaManager(
            local=self.node_id,
            logs=self.logs,
            clock=self.clock,
            run_blocking=self._run_for_logs,
            lag_s_max=settings.replica_lag_time_max_ms / 1000,
        )
        frame_max = settings.frame_bytes_max + FRAME_ROOM
        self._dialer = Dialer(self._session, local, secret, self.chance, frame_max)
        self.channel = ControllerChannel(
            local=self.node_id,
            leader=lambda: quorum.leader_id,
            dial=self._dial_controller,
            clock=self.clock,
            heartbeat_s=settings.broker_heartbeat_interval_ms / 1000,
        )
        self._fetchers = Fetchers(self._make_fetcher)
        self.manager.fetchers = self._fetchers
        self._isr_keeper = IsrKeeper(self.manager, self.channel, self.clock, self._wait_applied_long)
        self.internal = InternalStreams(
            local=local,
            secret=secret,
            chance=self.chance,
            controller=self._controller,
            manager=self.manager,
            metrics=self.metrics,
            handshake_s=settings.handshake_timeout_ms / 1000,
        )
        self.api = self._make_api(quorum)
        own = f"{settings.advertised_host}:{self.port}"
        self.records = RecordsDoor(lambda: connect([own]), formed.cluster_id)
        self.metrics.add_gauges(self)

    def _make_api(self, quorum: MetadataQuorum) -> Api:
        settings = self.settings
        topics = TopicsApi(
            manager=self.manager,
            channel=self.channel,
            chance=self.chance,
            wait_applied=quorum.wait_applied,
            timeout_s=settings.request_timeout_ms / 1000,
            default_partitions=settings.num_partitions,
            default_replication_factor=settings.default_replication_factor,
        )
        metadata = MetadataApi(
            manager=self.manager,
            topics=topics,
            quorum=lambda: (quorum.leader_id, quorum.term),
            wait_applied=quorum.wait_applied,
            auto_create=settings.auto_create_topics_enable,
        )
        return Api(
            manager=self.manager,
            metadata=metadata,
            topics=topics,
            producer_ids=ProducerIds(self.channel, settings.request_timeout_ms / 1000),
            describe=self._describe_response,
            metrics=self.metrics,
        )

    async def _dial_controller(self, leader: int) -> Link:
        if leader == self.node_id:
            return LocalLink(self._controller, self.node_id)
        voter = self._voters[leader]
        return ControlLink(await self._dialer.dial(voter.host, voter.port, leader, "control"))

    def _make_fetcher(self, leader: BrokerId) -> ReplicaFetcher:
        async def connect_replica() -> ReplicaLink:
            broker = self.manager.image.brokers[leader]
            return ReplicaLink(await self._dialer.dial(broker.host, broker.port, leader, "replica"))

        return ReplicaFetcher(
            leader,
            connect_replica,
            wait_s_max=self.settings.replica_fetch_wait_max_ms / 1000,
            partition_bytes_max=self.settings.replica_fetch_max_bytes,
        )

    def _apply(self, index: int, term: int, command: bytes) -> bytes:
        result = self._machine.apply(index, term, command)
        self.manager.apply_image(self._machine.image)
        return result

    async def _wait_applied_long(self, index: int) -> None:
        assert self._quorum is not None
        while True:
            with contextlib.suppress(TimeoutError):
                await self._quorum.wait_applied(index, 60.0)
                return

    # --- joining the cluster -----------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Apply what the quorum had committed when we asked, so that we know which logs are ours."""
        assert self._quorum is not None
        commit_index = await self.channel.commit_index()
        await self._wait_applied_long(commit_index)

    async def _recover(self) -> bool:
        """Open all logs; whether the last stop was unclean."""
        clean_epoch = self.logs.read_clean_shutdown()
        self._record = read_run_record(self.storage, self.path)
        unclean = was_unclean(self._record, clean_epoch, self.storage.boot_id())
        await self.manager.open_all(self._machine.image)
        if unclean:
            log.warning("node.unclean_stop", last_epoch=self._record.broker_epoch if self._record else None)
        return unclean

    async def _register(self, formed: Formed, directory: DataDirectory, unclean: bool) -> None:
        record = self._record
        quarantined = bool(self.manager.offline)
        result, index = await self.channel.register(
            RegisterBroker(
                broker_id=self.node_id,
                incarnation_id=self.incarnation,
                directory_id=DirectoryId(directory.identity.directory_id),
                host=self.settings.advertised_host,
                port=self.port,
                rack=self.settings.rack,
                unclean=unclean or quarantined,
                previous_broker_epoch=record.broker_epoch if record is not None else None,
                quarantined=quarantined,
            )
        )
        if not isinstance(result, Registered):
            raise NodeStopped(f"the quorum refused this node: {result}", code="OTTLA-REGISTRATION-REFUSED")
        epoch = self._broker_epoch = result.broker_epoch
        # On disk before any role is taken: the next start must know what this run was.
        self._record = RunRecord(epoch, self.storage.boot_id())
        written = self._record
        await self._run_for_logs(lambda: write_run_record(self.storage, self.path, written))
        await self._wait_applied_long(index)
        self.channel.registered(epoch)
        self.manager.activate(epoch)

    def _serve(self) -> None:
        assert self._quorum is not None
        quorum = self._quorum
        self._spawn(self.channel.beat_forever(lambda: quorum.applied_index), "heartbeats")
        self._spawn(self._isr_keeper.run(), "isr")
        self._spawn(self._flush(), "flush")
        self._spawn(self._checkpoint_forever(), "checkpoint")
        self._spawn(self._watch_registration(), "registration")

    async def _until_unfenced(self) -> None:
        while True:
            registration = self.manager.image.brokers.get(self.node_id)
            if registration is not None and not registration.fenced and self.manager.active:
                return
            if self.failed.done():
                raise NodeStopped(str(self.failed.result()))
            await asyncio.sleep(0.01)

    # --- running -----------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        await self.logs.run_flusher(self._run_for_logs)
        raise NodeStopped(f"a write or sync failed: {self.logs.failed}", code="OTTLA-STORAGE-FAILED")

    async def _checkpoint_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_INTERVAL_S)
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        marks = self.manager.high_watermarks()
        try:
            await self._run_for_logs(lambda: self.logs.checkpoint_high_watermarks(marks))
        except OSError as error:  # a full disk: an old checkpoint costs nothing but a slower start
            log.warning("checkpoint.failed", problem=str(error))

    async def _watch_registration(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            answer = self.channel.last_answer
            if answer is not None and answer.active and answer.stale and not self.manager.active:
                raise NodeStopped("another process runs as this node", code="OTTLA-REPLACED")

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("node.task.failed", task=name)
                self._fail(error)

        self._tasks.append(asyncio.create_task(guarded(), name=name))

    def _fail(self, error: BaseException) -> None:
        """This node must not go on. What its disk may have lost is written down, if the disk still can."""
        if self.failed.done():
            return
        self.failed.set_result(error)
        self.manager.deactivate()
        if self._broker_epoch is not None and (isinstance(error, OSError | LogError) or self.logs.failed is not None):
            record = RunRecord(self._broker_epoch, self.storage.boot_id(), failed=True)
            with contextlib.suppress(OSError):
                write_run_record(self.storage, self.path, record)

    # --- stop --------------------------------------------------------------------------------------------------------

    async def stop(self, *, drain: bool = True) -> None:
        """Hand over, finish, flush, leave. After a failure, or without ``drain``, only let go."""
        clean = drain and self.state == "ready" and not self.failed.done()
        if clean:
            await self._drain()
        self.state = "stopping"
        if self._http is not None:
            self._http.stop_listening()
        if self._broker_epoch is not None:
            self.manager.deactivate()
            await self._fetchers.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stop_parts()
        if clean:
            await self._finish_cleanly()
        if self._quorum is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.logs.close)
        self._log_workers.shutdown(wait=True)
        self._raft_worker.shutdown(wait=True)
        self._stack.close()
        self.state = "stopped"

    async def _drain(self) -> None:
        """Give every leadership away that another replica can take; then nobody waits for this node."""
        self.state = "draining"
        assert self._broker_epoch is not None
        timeout_s = self.settings.drain_timeout_ms / 1000
        log.info("node.draining", leading=len(self.manager.led))
        try:
            _, index = await self.channel.submit(DrainBroker(self.node_id, self._broker_epoch), timeout_s)
            async with asyncio.timeout(timeout_s):
                await self._wait_applied_long(index)
                await self._until_answered()
        except (ControllerUnavailable, TimeoutError) as error:
            log.warning("node.drain.incomplete", problem=str(error), leading=len(self.manager.led))

    async def _until_answered(self) -> None:
        assert self._http is not None
        deadline_s = self.clock.monotonic() + 1.0
        while self._http.inflight_bytes and self.clock.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    async def _stop_parts(self) -> None:
        if self.records is not None:
            await self.records.close()
        if self._quorum is not None:
            await self.channel.close()
            await self._quorum.stop()
        if self.internal is not None:
            await self.internal.close()
        if self._http is not None:
            await self._http.close()
        if self._session is not None:
            await self._session.close()

    async def _finish_cleanly(self) -> None:
        """Everything durable, then the file that says so."""
        await self._checkpoint()
        await self.logs.flush(self._run_for_logs)
        epoch = self._broker_epoch
        assert epoch is not None
        if self.logs.failed is None:
            await self._run_for_logs(lambda: self.logs.write_clean_shutdown(epoch))
            log.info("node.stopped", clean=True, epoch=epoch)

    # --- what it tells of itself -------------------------------------------------------------------------------------

    def _describe_response(self) -> DescribeNodeResponse:
        assert self._quorum is not None
        leader = self._quorum.leader_id
        return DescribeNodeResponse(
            node_id=self.node_id,
            state=self.state,
            version=self.version,
            quorum_leader=BrokerId(leader) if leader is not None else None,
            quorum_term=self._quorum.term,
            commit_index=self._quorum.commit_index,
            applied_index=self._quorum.applied_index,
            voters=tuple((number, voter.host, voter.port) for number, voter in sorted(self._voters.items())),
            partitions_led=len(self.manager.led),
            partitions_held=len(self.manager.replicas),
            log_bytes=sum(replica.log.size_bytes for replica in self.manager.replicas.values()),
            free_bytes=self.storage.free_bytes(self.path),
            uptime_s=self.clock.monotonic() - self._started_s,
        )

    def describe(self) -> dict[str, object]:
        """For `/v1/node`: answers at any time."""
        if self._quorum is None:
            return {"state": self.state, "version": self.version}
        described = self._describe_response()
        return {name: getattr(described, name) for name in described.__struct_fields__}

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """For `/metrics`, at every scrape."""
        assert self._quorum is not None
        led = self.manager.led
        under = sum(1 for replica in led if replica.leader and len(replica.leader.isr.committed) < self._rf(replica))
        image = self.manager.image
        leaderless = sum(1 for topic in image.topics.values() for state in topic.partitions if state.leader is None)
        yield "ottla_raft_term", "Current Raft term", self._quorum.term
        yield "ottla_raft_commit_index", "Raft commit index known here", self._quorum.commit_index
        yield "ottla_raft_applied_index", "Raft index applied here", self._quorum.applied_index
        yield "ottla_raft_is_leader", "1 where this node leads the quorum", float(self._quorum.is_leader)
        yield "ottla_partitions_led", "Partitions led here", len(led)
        yield "ottla_partitions_held", "Partitions with a replica here", len(self.manager.replicas)
        yield "ottla_partitions_offline", "Partitions whose log here is out of service", len(self.manager.offline)
        yield "ottla_partitions_under_replicated", "Partitions led here with replicas out of sync", under
        yield "ottla_partitions_leaderless", "Partitions without a leader, in this node's image", leaderless
        yield "ottla_isr_shrinks_total", "ISR shrinks asked for here and committed", self._isr_keeper.shrinks
        yield "ottla_isr_expands_total", "ISR expansions asked for here and committed", self._isr_keeper.expands
        yield "ottla_log_bytes", "Bytes of all logs here", sum(r.log.size_bytes for r in self.manager.replicas.values())
        yield "ottla_log_unsynced_bytes", "Appended and not yet synced", self.logs.unsynced_bytes
        yield (
            "ottla_inflight_bytes",
            "Bytes of requests without an answer",
            self._http.inflight_bytes if self._http else 0,
        )

    @staticmethod
    def _rf(replica: object) -> int:
        leader = replica.leader  # type: ignore[attr-defined]
        return 1 + len(leader.followers)
