"""How a node's parts are wired together once it knows who it is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import aiohttp

from ottla.client.client import connect
from ottla.client.protocol import DescribeNodeResponse
from ottla.log.chance import Chance
from ottla.log.clock import Clock
from ottla.log.directories import LogDirectories
from ottla.log.directory_identity import Owner
from ottla.log.manager import LogManager
from ottla.log.model import BrokerId
from ottla.log.storage import Storage
from ottla.raft.compaction import CompactionSettings
from ottla.raft.controller import Controller, ControllerSettings
from ottla.raft.forming import Formed
from ottla.raft.handshake import PeerIdentity
from ottla.raft.image import MetadataImage, empty_image
from ottla.raft.image_codec import decode_image, image_pieces
from ottla.raft.observer import MetadataObserver
from ottla.raft.quorum import MetadataQuorum, QuorumSettings
from ottla.raft.snapshot_keeper import Captured, StateHooks
from ottla.raft.state_machine import MetadataStateMachine
from ottla.raft.transport import Endpoint

from .api.configs import ConfigsApi
from .api.dispatch import Api
from .api.groups import GroupsApi
from .api.metadata import MetadataApi
from .api.partitions import PartitionsApi
from .api.producer_ids import ProducerIds
from .api.quorum_door import QuorumDoor
from .api.topics import TopicsApi
from .config import Settings
from .controller_channel import ControllerChannel, Link, LocalLink
from .group.assembly import make_coordinator
from .housekeeping import Housekeeper, HousekeepingSettings
from .http.internal import InternalStreams
from .http.records import RecordsDoor
from .isr_keeper import IsrKeeper
from .links import ControlLink, Dialer, ReplicaLink
from .log_level import LogLevel
from .metrics import Metrics
from .offline_reporter import OfflineReporter
from .probe import probe
from .replica_fetcher import Fetchers, ReplicaFetcher
from .replica_manager import ReplicaManager
from .scrubber import Scrubber

T = TypeVar("T")

FRAME_ROOM = 1 << 20
"""A replica answer may be this much larger than a data frame: it holds one whole batch and its header."""
LONG_WAIT_S = 60.0
RETRY_S = 0.05


class RunBlocking(Protocol):
    """Runs a blocking call in an executor."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything a node reaches the world through."""

    storage: Storage
    clock: Clock
    chance: Chance
    session: aiohttp.ClientSession
    run_for_raft: RunBlocking  # one call at a time: the journal's own
    run_for_logs: RunBlocking
    set_log_level: Callable[[str], None] = lambda level: None  # of the whole process


class Parts:
    """A node's parts, from the moment it is formed."""

    def __init__(
        self,
        *,
        settings: Settings,
        doors: Doors,
        formed: Formed,
        local: PeerIdentity,
        port: int,
        secret: bytes | None,
        metrics: Metrics,
        describe: Callable[[], DescribeNodeResponse],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._doors = doors
        self.on_directory_failed: Callable[[], None] = lambda: None
        self.node_id = BrokerId(formed.node_id)
        self._log_level = LogLevel(self.node_id, settings.log_level, doors.set_log_level)
        self.voters = {voter.position: Endpoint(voter.host, voter.port, voter.directory_id) for voter in formed.voters}
        self.machine = MetadataStateMachine(empty_image(formed.cluster_id))
        self.quorum: MetadataQuorum | MetadataObserver = (
            self._make_observer(local, secret, on_fatal)
            if formed.voter is None
            else self._make_quorum(local, secret, on_fatal)
        )
        self.controller = Controller(
            quorum=self.quorum,
            machine=self.machine,
            clock=doors.clock,
            settings=ControllerSettings(
                session_s=settings.broker_session_timeout_ms / 1000,
                balance_s=settings.leader_imbalance_check_interval_ms / 1000
                if settings.auto_leader_rebalance_enable
                else None,
            ),
            probe=probe,
            voters=len(self.voters),
        )
        self.logs = LogDirectories.open(
            doors.storage,
            Path(settings.data),
            settings.log_directories,
            Owner(formed.cluster_id, formed.node_id),
            doors.clock,
            doors.chance,
            reserve_bytes=settings.disk_reserve_bytes,
            producer_expiration_ms=settings.producer_id_expiration_ms,
        )
        self.logs.on_failed = lambda failed: self._directory_failed(failed)
        self.manager = ReplicaManager(
            local=self.node_id,
            logs=self.logs,
            clock=doors.clock,
            run_blocking=doors.run_for_logs,
            lag_s_max=settings.replica_lag_time_max_ms / 1000,
        )
        self._dialer = Dialer(doors.session, local, secret, doors.chance, settings.frame_bytes_max + FRAME_ROOM)
        self.channel = ControllerChannel(
            local=self.node_id,
            leader=lambda: self.quorum.leader_id,
            dial=self._dial_controller,
            clock=doors.clock,
            heartbeat_s=settings.broker_heartbeat_interval_ms / 1000,
            digest=lambda: self.machine.digest,
        )
        self.scrubber = Scrubber(
            replicas=self.manager.replicas.values,
            fail=self.manager.fail,
            storage=doors.storage,
            clock=doors.clock,
            chance=doors.chance,
            run_blocking=doors.run_for_logs,
            interval_s=settings.log_scrub_interval_ms / 1000,
        )
        self.manager.suspect = self.scrubber.suspect
        self.housekeeper = Housekeeper(
            logs=self.logs,
            storage=doors.storage,
            clock=doors.clock,
            chance=doors.chance,
            high_watermark=self.manager.high_watermark_of,
            run_blocking=doors.run_for_logs,
            settings=HousekeepingSettings(
                retention_check_s=settings.log_retention_check_interval_ms / 1000,
                cleaner_backoff_s=settings.log_cleaner_backoff_ms / 1000,
                dedupe_buffer_bytes=settings.log_cleaner_dedupe_buffer_size,
            ),
            beside=self.scrubber.run,
        )
        metrics.add_gauges(self.housekeeper)
        metrics.add_gauges(self.scrubber)
        self.fetchers = Fetchers(self._make_fetcher)
        self.manager.fetchers = self.fetchers
        self.offline_reporter = OfflineReporter(self.manager, self.channel)
        self.manager.on_offline = self.offline_reporter.noticed
        self.isr_keeper = IsrKeeper(self.manager, self.channel, doors.clock, self.wait_applied)
        self.internal = InternalStreams(
            local=local,
            secret=secret,
            chance=doors.chance,
            directories=self._known_directories,
            controller=self.controller,
            manager=self.manager,
            metrics=metrics,
            handshake_s=settings.handshake_timeout_ms / 1000,
        )
        self.api = self._make_api(metrics, describe)
        own = settings.advertised_address(port)
        self.records = RecordsDoor(lambda: connect([own]), formed.cluster_id, doors.clock)

    def _make_quorum(
        self, local: PeerIdentity, secret: bytes | None, on_fatal: Callable[[BaseException], None]
    ) -> MetadataQuorum:
        settings, doors = self._settings, self._doors
        return MetadataQuorum(
            local=local,
            voters=self.voters,
            directory=Path(settings.data) / "raft",
            storage=doors.storage,
            clock=doors.clock,
            chance=doors.chance,
            secret=secret,
            apply=self._apply,
            state=StateHooks(self._capture, self._read_state),
            settings=QuorumSettings(
                heartbeat_s=settings.raft_heartbeat_ms / 1000,
                election_min_s=settings.raft_election_min_ms / 1000,
                election_max_s=settings.raft_election_max_ms / 1000,
                compaction=CompactionSettings(
                    entries=settings.raft_snapshot_entries,
                    bytes=settings.raft_snapshot_bytes,
                    kept=settings.raft_log_entries_kept,
                ),
            ),
            run_blocking=doors.run_for_raft,
            on_fatal=on_fatal,
        )

    def _make_observer(
        self, local: PeerIdentity, secret: bytes | None, on_fatal: Callable[[BaseException], None]
    ) -> MetadataObserver:
        doors = self._doors
        return MetadataObserver(
            local=local,
            voters=self.voters,
            session=doors.session,
            clock=doors.clock,
            chance=doors.chance,
            secret=secret,
            apply=self._apply,
            state=StateHooks(self._capture, self._read_state),
            committed=self._heard_of_commits,
            run_blocking=doors.run_for_raft,
            on_fatal=on_fatal,
        )

    def _heard_of_commits(self) -> int:
        answer = self.channel.last_answer
        return 0 if answer is None else answer.commit_index

    def _known_directories(self) -> dict[int, str]:
        """Which data directory each node id belongs to."""
        voters = {number: voter.directory_id for number, voter in self.voters.items() if voter.directory_id is not None}
        return {int(node_id): home for home, node_id in self.machine.image.node_ids.items()} | voters

    def _make_api(self, metrics: Metrics, describe: Callable[[], DescribeNodeResponse]) -> Api:
        settings, quorum = self._settings, self.quorum
        door = QuorumDoor(
            manager=self.manager,
            channel=self.channel,
            wait_applied=quorum.wait_applied,
            timeout_s=settings.request_timeout_ms / 1000,
        )
        topics = TopicsApi(
            door=door,
            chance=self._doors.chance,
            default_partitions=settings.num_partitions,
            default_replication_factor=settings.default_replication_factor,
        )
        metadata = MetadataApi(
            manager=self.manager,
            topics=topics,
            quorum=lambda: (quorum.leader_id, quorum.term),
            wait_applied=quorum.wait_applied,
            barrier=self.channel.barrier,
            auto_create=settings.auto_create_topics_enable,
        )
        self.groups = make_coordinator(self.manager, topics, settings, self._doors.chance, len(self.voters))
        metrics.add_gauges(self.groups)
        return Api(
            groups=GroupsApi(
                manager=self.manager,
                coordinator=self.groups,
                barrier=self.channel.barrier,
                wait_applied=quorum.wait_applied,
            ),
            manager=self.manager,
            metadata=metadata,
            topics=topics,
            partitions=PartitionsApi(manager=self.manager, door=door),
            configs=ConfigsApi(manager=self.manager, door=door, settings=settings),
            producer_ids=ProducerIds(self.channel, settings.request_timeout_ms / 1000),
            describe=describe,
            metrics=metrics,
        )

    async def _dial_controller(self, leader: int) -> Link:
        if leader == self.node_id:
            return LocalLink(self.controller, self.node_id)
        voter = self.voters[leader]
        return ControlLink(await self._dialer.dial(voter.host, voter.port, leader, "control"))

    def _make_fetcher(self, leader: BrokerId) -> ReplicaFetcher:
        async def connect_replica() -> ReplicaLink:
            broker = self.manager.image.brokers[leader]
            return ReplicaLink(await self._dialer.dial(broker.host, broker.port, leader, "replica"))

        return ReplicaFetcher(
            leader,
            connect_replica,
            wait_s_max=self._settings.replica_fetch_wait_max_ms / 1000,
            partition_bytes_max=self._settings.replica_fetch_max_bytes,
            taking=self.manager.taking,
        )

    def _apply(self, index: int, term: int, command: bytes) -> bytes:
        result = self.machine.apply(index, term, command)
        self._take(self.machine.image)
        return result

    def _directory_failed(self, failed: LogManager) -> None:
        """One of several: its replicas are out of service, the others go on."""
        assert failed.failed is not None
        self.manager.fail_directory(failed.path, failed.failed)
        self.on_directory_failed()

    def _capture(self) -> Captured:
        image = self.machine.image
        return Captured(image.feature_level, lambda: image_pieces(image))

    def _read_state(self, data: bytes) -> Callable[[], None]:
        image = decode_image(data)
        return lambda: self._restore(image)

    def _restore(self, image: MetadataImage) -> None:
        """Many commands at once: roles are taken from the image alone, never from the events between."""
        self.machine.restore(image)
        self._take(image)

    def _take(self, image: MetadataImage) -> None:
        self.manager.apply_image(image)
        self.isr_keeper.roles_changed()
        self.groups.roles_changed()
        self._log_level.follow(image)

    async def wait_applied(self, index: int) -> None:
        """Until this node has applied ``index``, however long that takes."""
        while True:
            try:
                return await self.quorum.wait_applied(index, LONG_WAIT_S)
            except TimeoutError:
                await asyncio.sleep(RETRY_S)  # a Raft that has stopped answers at once

    async def stop(self) -> None:
        """Let go of everything that speaks to others."""
        await self.groups.stop()
        await self.manager.stop_syncing()
        await self.records.close()
        await self.channel.close()
        await self.quorum.stop()
        await self.internal.close()
