"""A node's life: start, form, recover, register, be ready, drain, stop (docs/architecture.md)."""

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import structlog

from ottla.client.errors import ConfigError, OttlaError
from ottla.log.chance import Chance, SystemChance, new_id
from ottla.log.clock import Clock, SystemClock
from ottla.log.errors import CorruptCheckpoint, LogError, StorageFailed
from ottla.log.failpoints import failpoint
from ottla.log.model import BrokerEpoch, DirectoryId, TopicIdPartition
from ottla.log.storage import Storage, SystemStorage
from ottla.raft.commands import MAX_DAMAGED, MAX_INTACT, DrainBroker, RegisterBroker3
from ottla.raft.forming import Formed, FormingDesk, FormingRefused, form
from ottla.raft.handshake import PeerIdentity
from ottla.raft.identity import DataDirectory, IdentityRefused, open_directory
from ottla.raft.joining import JoinDesk
from ottla.raft.results import Registered
from ottla.raft.snapshot import SnapshotDamaged
from ottla.raft.wal_format import WalDamaged

from .assembly import Doors, Parts
from .config import Settings
from .controller_channel import ControllerUnavailable
from .http.app import HttpDoor
from .kafka.listener import KafkaListener, open_kafka
from .metrics import Metrics
from .node_ids import NodeIds
from .run_record import RunRecord, power_was_lost, read_run_record, was_unclean, write_run_record
from .self_report import SelfReport

log = structlog.get_logger(__name__)

T = TypeVar("T")

CHECKPOINT_INTERVAL_S = 5.0
LOG_WORKERS = 2
SECRET_BYTES_MIN = 16
NO_QUORUM_S = 2.0
"""Without a quorum for so long, a starting node says so, and a stopping one does not wait for it."""
LOOK_S = 0.05
SETTLE_S = 5.0
"""How long a stopping node waits for logs that are just being opened or set aside."""
ANSWER_WAIT_S = 1.0
"""How long a draining node waits for the answers it still owes."""


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
        self._raft_worker = ThreadPoolExecutor(1, "raft-wal")
        self._log_workers = ThreadPoolExecutor(LOG_WORKERS, "log")
        self._started_s = self.clock.monotonic()
        self._record: RunRecord | None = None
        self._broker_epoch: BrokerEpoch | None = None
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
        secret = self._read_secret()
        directory = self._open_directory()
        desk = self._make_desk(directory, secret)
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
        parts = await self._start_raft(formed, directory, secret, self._session)
        self._spawn(parts.controller.run(), "controller")
        await self._catch_up(parts)
        unclean = await self._recover(parts)
        self.state = "registering"
        await self._register(parts, directory, unclean)
        joining.assign = NodeIds(parts.channel, formed).assign
        self._serve(parts)
        await self._until_unfenced(parts)
        if self._kafka is not None:
            self._kafka.serve(parts)
        self.state = "ready"
        log.info("node.ready", seconds=round(self.clock.monotonic() - self._started_s, 3))

    def _read_secret(self) -> bytes | None:
        if self.settings.secret_file is None:
            return None
        path = Path(self.settings.secret_file)
        try:
            secret = self.storage.read_bytes(path).strip()
        except OSError as error:
            raise ConfigError(f"secret.file {path}: {error.strerror}.", code="OTTLA-SECRET-UNREADABLE") from error
        if len(secret) < SECRET_BYTES_MIN:
            raise ConfigError(
                f"secret.file {path} holds {len(secret)} bytes, at least {SECRET_BYTES_MIN} are needed.",
                code="OTTLA-SECRET-TOO-SHORT",
                hint="Make one: head -c 32 /dev/urandom | base64 > cluster.key",
            )
        return secret

    def _open_directory(self) -> DataDirectory:
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
                run_blocking=self._run_for_raft,
                report=lambda line: self._tell(f"OTTLA-FORMING: {line}"),
            )
        except FormingRefused as refused:
            raise NodeStopped(refused.message, code=refused.code) from refused

    async def _start_raft(
        self, formed: Formed, directory: DataDirectory, secret: bytes | None, session: aiohttp.ClientSession
    ) -> Parts:
        known = formed.voter
        if known is not None and len(formed.voters) > 1 and known.port != self.port:
            self._tell(
                f"OTTLA-ADDRESS-CHANGED: the cluster knows this node as {known.address}, and it listens on port "
                f"{self.port}. Unless something forwards that address, the others will not find it."
            )
        try:
            parts = self._assemble(formed, directory, secret, session)
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
        self, formed: Formed, directory: DataDirectory, secret: bytes | None, session: aiohttp.ClientSession
    ) -> Parts:
        local = PeerIdentity(
            node_id=formed.node_id,
            cluster_id=formed.cluster_id,
            directory_id=directory.identity.directory_id,
            incarnation=self._incarnation,
        )
        doors = Doors(
            self.storage, self.clock, self.chance, session, self._run_for_raft, self._run_for_logs, self._set_log_level
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

    def _run_for_raft(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._raft_worker, call)

    def _run_for_logs(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._log_workers, call)

    # --- joining the cluster -----------------------------------------------------------------------------------------

    @failpoint("node.recover")
    async def _recover(self, parts: Parts) -> bool:
        """Open all logs; whether the last stop was unclean."""
        clean_epoch = parts.logs.read_clean_shutdown()
        self._record = read_run_record(self.storage, self.path)
        unclean = was_unclean(self._record, clean_epoch, self.storage.boot_id())
        if unclean:
            log.warning("node.unclean_stop", last_epoch=self._record.broker_epoch if self._record else None)
        parts.logs.set_power_was_lost(power_was_lost(self._record, self.storage.boot_id()))
        for path, problem in parts.logs.broken.items():
            log.error("directory.offline", path=str(path), problem=problem)
        await parts.manager.open_all(parts.machine.image)
        for lost in parts.logs.quarantined:
            log.error(
                "partition.quarantined",
                partition=str(lost.topic_partition),
                moved_to=lost.path.name,
                problem=lost.reason,
            )
        return unclean

    @failpoint("node.register")
    async def _register(self, parts: Parts, directory: DataDirectory, unclean: bool) -> None:
        manager = parts.manager
        offline = manager.out_of_service()[:MAX_DAMAGED]
        damaged = {
            *(key for key, error in manager.offline.items() if not isinstance(error, StorageFailed)),
            *(TopicIdPartition(lost.topic_id, lost.topic_partition.partition) for lost in parts.logs.quarantined),
        }
        too_many = max(len(damaged), len(manager.offline)) > MAX_DAMAGED
        intact = [key for key, replica in sorted(manager.replicas.items()) if replica.log.survives_power_loss]
        result, index = await parts.channel.register(
            RegisterBroker3(
                broker_id=parts.node_id,
                incarnation_id=self._incarnation,
                directory_id=DirectoryId(directory.identity.directory_id),
                host=self.settings.advertised_host,
                port=self.port,
                rack=self.settings.rack,
                unclean=unclean or too_many,
                damaged=tuple(sorted(damaged))[:MAX_DAMAGED],
                offline=tuple(offline),
                intact=tuple(intact[:MAX_INTACT]) if unclean and not too_many else (),
                previous_broker_epoch=self._record.broker_epoch if self._record is not None else None,
                listeners=() if self._kafka is None else (self._kafka.listener,),
            )
        )
        if not isinstance(result, Registered):
            raise NodeStopped(f"the quorum refused this node: {result}", code="OTTLA-REGISTRATION-REFUSED")
        await self._run_for_logs(parts.logs.damage_reported)
        epoch = self._broker_epoch = result.broker_epoch
        # On disk before any role is taken: the next start must know what this run was.
        record = self._record = RunRecord(epoch, self.storage.boot_id())
        await self._run_for_logs(lambda: write_run_record(self.storage, self.path, record))
        await parts.wait_applied(index)
        parts.channel.registered(epoch)
        parts.on_directory_failed = self._directory_failed
        parts.manager.activate(epoch)

    def _serve(self, parts: Parts) -> None:
        self._spawn(parts.channel.beat_forever(lambda: parts.quorum.applied_index), "heartbeats")
        self._spawn(parts.isr_keeper.run(), "isr")
        assert self._broker_epoch is not None
        self._spawn(parts.offline_reporter.run(self._broker_epoch), "offline")
        self._spawn(self._flush(parts), "flush")
        self._spawn(self._checkpoint_forever(parts), "checkpoint")
        self._spawn(parts.housekeeper.run(), "housekeeping")
        self._spawn(parts.groups.run(), "groups")
        self._spawn(self._watch_registration(parts), "registration")

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
        await parts.logs.run_flusher(self._run_for_logs)
        raise NodeStopped(f"a write or sync failed: {parts.logs.failed}", code="OTTLA-STORAGE-FAILED")

    def _directory_failed(self) -> None:
        """One of several: the next start must know that what it had not synced may be gone."""
        assert self._record is not None
        record = self._record = msgspec.structs.replace(self._record, failed=True)
        self._spawn(self._write_record(record), "record")

    async def _write_record(self, record: RunRecord) -> None:
        await self._run_for_logs(lambda: write_run_record(self.storage, self.path, record))

    async def _checkpoint_forever(self, parts: Parts) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_INTERVAL_S)
            await self._checkpoint(parts)

    async def _checkpoint(self, parts: Parts) -> None:
        marks = parts.manager.high_watermarks()
        try:
            await self._run_for_logs(lambda: parts.logs.checkpoint_high_watermarks(marks))
            await self._run_for_logs(parts.logs.checkpoint_log_starts)
        except OSError as error:  # a full disk: an old checkpoint costs nothing but a slower start
            log.warning("checkpoint.failed", problem=str(error))

    async def _watch_registration(self, parts: Parts) -> None:
        while True:
            await asyncio.sleep(1.0)
            answer = parts.channel.last_answer
            if answer is None or not answer.active:
                continue
            if answer.stale and not parts.manager.active:
                raise NodeStopped("another process runs as this node.", code="OTTLA-REPLACED")
            if answer.diverged:
                raise NodeStopped(
                    "this node's metadata is not what a majority of the voters holds.",
                    code="OTTLA-METADATA-DIVERGED",
                    hint="Start it again: it replays its log. If it stops again, its disk or memory is bad.",
                )

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                log.exception("node.task.failed", task=name)
                self._fail(error)

        self._tasks.append(asyncio.create_task(guarded(), name=name))

    def _fail(self, error: BaseException) -> None:
        """This node must not go on. What its disk may have lost is written down, if the disk still can."""
        if self.failed.done():
            return
        self.failed.set_result(error)
        if self.parts is None or self._broker_epoch is None:
            return
        self.parts.manager.deactivate()
        if isinstance(error, OSError | LogError) or self.parts.logs.failed is not None:
            record = RunRecord(self._broker_epoch, self.storage.boot_id(), failed=True)
            with contextlib.suppress(OSError):
                write_run_record(self.storage, self.path, record)

    # --- stop --------------------------------------------------------------------------------------------------------

    async def stop(self, *, drain: bool = True) -> None:
        """Hand over, finish, flush, leave. After a failure, or without ``drain``, only let go."""
        parts = self.parts
        clean = drain and parts is not None and self.state == "ready" and not self.failed.done()
        if clean and parts is not None:
            await self._drain(parts)
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
            if clean:
                await self._finish_cleanly(parts)
            await self._run_for_logs(parts.logs.close)
        self._log_workers.shutdown(wait=True)
        self._raft_worker.shutdown(wait=True)
        self._stack.close()
        self.state = "stopped"

    async def _drain(self, parts: Parts) -> None:
        """Give every leadership away that another replica can take; then nobody waits for this node."""
        self.state = "draining"
        assert self._broker_epoch is not None
        timeout_s = self.settings.drain_timeout_ms / 1000
        log.info("node.draining", leading=len(parts.manager.led))
        try:
            async with asyncio.timeout(timeout_s):
                await self._unless_without_quorum(parts, self._hand_over(parts, self._broker_epoch))
        except (ControllerUnavailable, TimeoutError) as error:
            log.warning("node.drain.incomplete", problem=str(error), leading=len(parts.manager.led))
        await self._until_answered(parts)

    @failpoint("node.hand_over")
    async def _hand_over(self, parts: Parts, epoch: BrokerEpoch) -> None:
        _, index = await parts.channel.submit(DrainBroker(parts.node_id, epoch))
        await parts.wait_applied(index)

    async def _unless_without_quorum(self, parts: Parts, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, or give it up with TimeoutError once there has been no controller for a while: where all
        nodes stop at once, the last ones have nobody to hand over to."""
        task = asyncio.create_task(work)
        with_leader_s = self.clock.monotonic()
        try:
            while not task.done():
                now_s = self.clock.monotonic()
                if parts.quorum.leader_id is not None:
                    with_leader_s = now_s
                if now_s - with_leader_s > NO_QUORUM_S:
                    raise TimeoutError("no quorum to hand over to")
                await asyncio.wait({task}, timeout=LOOK_S)
            await task
        finally:
            task.cancel()

    async def _until_answered(self, parts: Parts) -> None:
        assert self._http is not None
        if self._kafka is not None:
            self._kafka.door.finish()
        parts.groups.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WAIT_S):
                await self._http.answered()

    async def _hang_up(self, parts: Parts | None) -> None:
        if parts is not None:
            await parts.stop()
        if self._kafka is not None:
            await self._kafka.door.close()
        if self._http is not None:
            await self._http.close()
        if self._session is not None:
            await self._session.close()

    @failpoint("node.finish")
    async def _finish_cleanly(self, parts: Parts) -> None:
        """Everything durable, then the file that says so."""
        epoch = self._broker_epoch
        assert epoch is not None
        await self._checkpoint(parts)
        try:
            # Each waits for the disk a few times, so side by side; what comes then has little left to do.
            await asyncio.gather(*(self._run_for_logs(each.settle) for each in parts.logs.logs()))
            await self._run_for_logs(lambda: parts.logs.write_clean_shutdown(epoch))
        except (LogError, OSError) as error:
            log.warning("node.stopped", clean=False, problem=str(error))
        else:
            log.info("node.stopped", clean=True, epoch=epoch)
