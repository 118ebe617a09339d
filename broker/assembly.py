"""How a node's parts are wired together once it knows who it is."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ottla.client.protocol import DescribeNodeResponse
from ottla.log.directories import LogDirectories
from ottla.log.directory_identity import Owner
from ottla.log.manager import LogManager
from ottla.log.model import BrokerId
from ottla.raft.forming import Formed
from ottla.raft.handshake import PeerIdentity
from ottla.raft.image import MetadataImage

from .api.configs import ConfigsApi
from .api.dispatch import Api
from .api.groups import GroupsApi
from .api.metadata import MetadataApi
from .api.partitions import PartitionsApi
from .api.producer_ids import ProducerIds
from .api.quorum_door import QuorumDoor
from .api.topics import TopicsApi
from .config import Settings
from .doors import Doors
from .group.assembly import make_coordinator
from .housekeeping import Housekeeper, HousekeepingSettings
from .http.internal import InternalStreams
from .http.sdk_doors import SdkDoors
from .isr_keeper import IsrKeeper
from .links import ReplicaLink
from .log_level import LogLevel
from .metrics import Metrics
from .offline_reporter import OfflineReporter
from .quorum_parts import QuorumParts
from .replica_fetcher import Fetchers, ReplicaFetcher
from .replica_manager import ReplicaManager
from .scrubber import Scrubber

T = TypeVar("T")


class Parts(QuorumParts):
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
        super().__init__(settings, doors, formed, local, secret, on_fatal)
        self.on_directory_failed: Callable[[], None] = lambda: None
        self._log_level = LogLevel(self.node_id, settings.log_level, doors.set_log_level)
        self.logs = self._open_directories(formed)
        self.manager = self._make_manager()
        self.scrubber = self._make_scrubber()
        self.housekeeper = self._make_housekeeper()
        metrics.add_gauges(self.housekeeper)
        metrics.add_gauges(self.scrubber)
        self.fetchers = Fetchers(self._make_fetcher)
        self.offline_reporter = OfflineReporter(self.manager, self.channel)
        self.isr_keeper = IsrKeeper(self.manager, self.channel, doors.clock, self.wait_applied)
        self.internal = self._make_internal(local, secret, metrics)
        self.api = self._make_api(metrics, describe)
        own = settings.advertised_address(port)
        self.sdk_doors = SdkDoors(own, formed.cluster_id, doors.clock, doors.run_for_logs)
        self._connect(on_fatal)

    def _connect(self, on_fatal: Callable[[BaseException], None]) -> None:
        """What the parts tell each other."""
        self.manager.on_bug = on_fatal
        self.logs.on_failed = self._directory_failed
        self.manager.suspect = self.scrubber.suspect
        self.manager.fetchers = self.fetchers
        self.manager.on_offline = self.offline_reporter.noticed

    def _open_directories(self, formed: Formed) -> LogDirectories:
        settings, doors = self._settings, self._doors
        return LogDirectories.open(
            doors.storage,
            Path(settings.data),
            settings.log_directories,
            Owner(formed.cluster_id, formed.node_id),
            doors.clock,
            doors.chance,
            reserve_bytes=settings.disk_reserve_bytes,
            producer_expiration_ms=settings.producer_id_expiration_ms,
        )

    def _make_manager(self) -> ReplicaManager:
        return ReplicaManager(
            local=self.node_id,
            logs=self.logs,
            clock=self._doors.clock,
            run_blocking=self._doors.run_for_logs,
            lag_s_max=self._settings.replica_lag_time_max_ms / 1000,
        )

    def _make_scrubber(self) -> Scrubber:
        doors = self._doors
        return Scrubber(
            replicas=self.manager.replicas.values,
            fail=self.manager.fail,
            storage=doors.storage,
            clock=doors.clock,
            chance=doors.chance,
            run_blocking=doors.run_for_logs,
            interval_s=self._settings.log_scrub_interval_ms / 1000,
        )

    def _make_housekeeper(self) -> Housekeeper:
        settings, doors = self._settings, self._doors
        return Housekeeper(
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

    def _make_internal(self, local: PeerIdentity, secret: bytes | None, metrics: Metrics) -> InternalStreams:
        return InternalStreams(
            local=local,
            secret=secret,
            chance=self._doors.chance,
            directories=self._known_directories,
            controller=self.controller,
            manager=self.manager,
            metrics=metrics,
            handshake_s=self._settings.handshake_timeout_ms / 1000,
        )

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

    def _directory_failed(self, failed: LogManager) -> None:
        """One of several: its replicas are out of service, the others go on."""
        assert failed.failed is not None
        self.manager.fail_directory(failed.path, failed.failed)
        self.on_directory_failed()

    def _take(self, image: MetadataImage) -> None:
        self.manager.apply_image(image)
        self.isr_keeper.roles_changed()
        self.groups.roles_changed()
        self._log_level.follow(image)

    async def stop(self) -> None:
        """Let go of everything that speaks to others."""
        await self.groups.stop()
        await self.manager.stop_syncing()
        await self.sdk_doors.close()
        await self.channel.close()
        await self.quorum.stop()
        await self.internal.close()
