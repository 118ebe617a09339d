"""One run of a node as the quorum and the next run know it: what it recovered, its registration, and its record."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from ottla.log.errors import LogError, StorageFailed
from ottla.log.failpoints import failpoint
from ottla.log.model import BrokerEpoch, DirectoryId, TopicIdPartition
from ottla.log.run_blocking import RunBlocking
from ottla.log.storage import Storage
from ottla.raft.commands import MAX_DAMAGED, MAX_INTACT, RegisterBroker3
from ottla.raft.handshake import PeerIdentity
from ottla.raft.image import Listener
from ottla.raft.results import Registered

from .assembly import Parts
from .config import Settings
from .run_record import RunRecord, power_was_lost, read_run_record, was_unclean, write_run_record
from .startup import NodeStopped

log = structlog.get_logger(__name__)


class RunRegistration:
    """``recover`` first, then ``register``; ``broker_epoch`` is None until that is done."""

    def __init__(
        self, parts: Parts, local: PeerIdentity, settings: Settings, storage: Storage, run_blocking: RunBlocking
    ) -> None:
        self._parts = parts
        self._local = local
        self._settings = settings
        self._storage = storage
        self._path = Path(settings.data)
        self._run_blocking = run_blocking
        self._record: RunRecord | None = None
        self.broker_epoch: BrokerEpoch | None = None
        self.on_directory_failed: Callable[[], None] = lambda: None  # from when it is registered

    @failpoint("node.recover")
    async def recover(self) -> bool:
        """Open all logs; whether the last stop was unclean."""
        logs = self._parts.logs
        clean_epoch = logs.read_clean_shutdown()
        self._record = read_run_record(self._storage, self._path)
        unclean = was_unclean(self._record, clean_epoch, self._storage.boot_id())
        if unclean:
            log.warning("node.unclean_stop", last_epoch=self._record.broker_epoch if self._record else None)
        logs.set_power_was_lost(power_was_lost(self._record, self._storage.boot_id()))
        for path, problem in logs.broken.items():
            log.error("directory.offline", path=str(path), problem=problem)
        await self._parts.manager.open_all(self._parts.machine.image)
        for lost in logs.quarantined:
            log.error(
                "partition.quarantined",
                partition=str(lost.topic_partition),
                moved_to=lost.path.name,
                problem=lost.reason,
            )
        return unclean

    @failpoint("node.register")
    async def register(self, port: int, listeners: Iterable[Listener], unclean: bool) -> None:
        """Tell the quorum what was found, and take roles under the broker epoch that it gives. Raises NodeStopped."""
        parts = self._parts
        result, index = await parts.channel.register(self._registration(port, listeners, unclean))
        if not isinstance(result, Registered):
            raise NodeStopped(f"the quorum refused this node: {result}", code="OTTLA-REGISTRATION-REFUSED")
        await self._run_blocking(parts.logs.damage_reported)
        epoch = self.broker_epoch = result.broker_epoch
        # On disk before any role is taken: the next start must know what this run was.
        await self._write(RunRecord(epoch, self._storage.boot_id()))
        await parts.wait_applied(index)
        parts.channel.registered(epoch)
        parts.on_directory_failed = self.on_directory_failed
        parts.manager.activate(epoch)

    def _registration(self, port: int, listeners: Iterable[Listener], unclean: bool) -> RegisterBroker3:
        parts, manager = self._parts, self._parts.manager
        offline = manager.out_of_service()[:MAX_DAMAGED]
        damaged = {
            *(key for key, error in manager.offline.items() if not isinstance(error, StorageFailed)),
            *(TopicIdPartition(lost.topic_id, lost.topic_partition.partition) for lost in parts.logs.quarantined),
        }
        too_many = max(len(damaged), len(manager.offline)) > MAX_DAMAGED
        intact = [key for key, replica in sorted(manager.replicas.items()) if replica.log.survives_power_loss]
        return RegisterBroker3(
            broker_id=parts.node_id,
            incarnation_id=self._local.incarnation,
            directory_id=DirectoryId(self._local.directory_id),
            host=self._settings.advertised_host,
            port=port,
            rack=self._settings.rack,
            unclean=unclean or too_many,
            damaged=tuple(sorted(damaged))[:MAX_DAMAGED],
            offline=tuple(offline),
            intact=tuple(intact[:MAX_INTACT]) if unclean and not too_many else (),
            previous_broker_epoch=self._record.broker_epoch if self._record is not None else None,
            listeners=tuple(listeners),
        )

    async def watch(self) -> None:
        """Raises NodeStopped when the quorum says that this run must end."""
        parts = self._parts
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

    async def note_directory_failed(self) -> None:
        """One of several: the next start must know that what it had not synced may be gone."""
        assert self._record is not None
        await self._write(msgspec.structs.replace(self._record, failed=True))

    def note_failed(self, error: BaseException) -> None:
        """This node must not go on. What its disk may have lost is written down, if the disk still can."""
        if self.broker_epoch is None:
            return
        self._parts.manager.deactivate()
        if isinstance(error, OSError | LogError) or self._parts.logs.failed is not None:
            record = RunRecord(self.broker_epoch, self._storage.boot_id(), failed=True)
            with suppress(OSError):
                write_run_record(self._storage, self._path, record)

    async def _write(self, record: RunRecord) -> None:
        self._record = record
        await self._run_blocking(lambda: write_run_record(self._storage, self._path, record))
