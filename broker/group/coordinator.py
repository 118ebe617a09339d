"""The group coordinator of a broker: the shards of groups whose partitions it leads, and the way to them."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from ottla.client.error_codes import ErrorCode
from ottla.log.chance import Chance, new_id
from ottla.log.clock import Clock
from ottla.log.errors import LogError
from ottla.log.model import TopicId, TopicIdPartition
from ottla.raft.image import MetadataImage, Partition, Topic

from ..replica import Replica
from ..replica_manager import ReplicaManager
from .hosted import HostedShard
from .internal_topic import INTERNAL_TOPIC, partition_of
from .matched_topics import MatchedTopics
from .outcome import GroupLimits, GroupRefused
from .shard import Shard

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""How often is looked for partitions that this broker leads now, or leads no more: a request looks at once."""


class GroupCoordinator:
    """``create_topic`` makes the internal topic, or finds it made, and raises replica.Refused where it cannot now."""

    def __init__(
        self,
        *,
        manager: ReplicaManager,
        chance: Chance,
        limits: GroupLimits,
        create_topic: Callable[[], Coroutine[Any, Any, None]],
        commit_timeout_s: float,
        sweep_s: float,
    ) -> None:
        self._manager = manager
        self._chance = chance
        self._limits = limits
        self._create_topic = create_topic
        self._commit_timeout_s = commit_timeout_s
        self._sweep_s = sweep_s
        self._shards: dict[int, HostedShard] = {}
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._creating: asyncio.Task[None] | None = None
        self._seen: MetadataImage | None = None
        self._matched = MatchedTopics()
        self._version = 0
        self._finishing = False

    @property
    def clock(self) -> Clock:
        return self._manager.clock

    def new_member_id(self, client_id: str = "") -> str:
        """An id that no member had before."""
        identity = new_id(self._chance)
        return f"{client_id[:100]}-{identity}" if client_id else identity

    # --- the topic ---------------------------------------------------------------------------------------------------

    @property
    def topic(self) -> Topic | None:
        """The internal topic, once it is there."""
        return self._manager.image.topics.get(INTERNAL_TOPIC)

    async def require_topic(self) -> Topic:
        """The internal topic, made if need be. Raises replica.Refused."""
        if self.topic is None:
            if self._creating is None or self._creating.done():
                self._creating = asyncio.create_task(self._create_topic(), name="create-groups-topic")
            await asyncio.shield(self._creating)
        topic = self.topic
        assert topic is not None, "an admin request is answered when this node shows the change"
        return topic

    def place_of(self, group_id: str, topic: Topic) -> Partition:
        """The partition that a group lives in, as the newest image has it."""
        return topic.partitions[partition_of(group_id, len(topic.partitions))]

    # --- shards ------------------------------------------------------------------------------------------------------

    def shard_of(self, group_id: str) -> HostedShard:
        """The shard of a group that this broker coordinates. Raises GroupRefused: INVALID_GROUP_ID, NOT_COORDINATOR,
        COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE."""
        if not group_id:
            raise GroupRefused(ErrorCode.INVALID_GROUP_ID, "a group has a name")
        if self._finishing:
            raise GroupRefused(ErrorCode.NOT_COORDINATOR, "this node stops")
        topic = self.topic
        if topic is None:
            raise GroupRefused(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"there is no {INTERNAL_TOPIC} yet")
        number = partition_of(group_id, len(topic.partitions))
        shard = self._shard(topic.topic_id, number)
        if shard is None:
            raise GroupRefused(ErrorCode.NOT_COORDINATOR, f"{INTERNAL_TOPIC}-{number} is led by another broker")
        if not shard.loaded:
            raise GroupRefused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, f"{INTERNAL_TOPIC}-{number} is being read")
        self._look_at_topics()
        return shard

    def shards(self) -> list[HostedShard]:
        """All shards whose partitions this broker leads now, loaded or not."""
        topic = self.topic
        if topic is None:
            return []
        found = (self._shard(topic.topic_id, number) for number in range(len(topic.partitions)))
        return [shard for shard in found if shard is not None]

    def _shard(self, topic_id: TopicId, number: int) -> HostedShard | None:
        """The shard in the present epoch, loading if it is new; one of an epoch that is over is closed."""
        replica = self._manager.find(TopicIdPartition(topic_id, number))
        shard = self._shards.get(number)
        if shard is not None and (shard.replica is not replica or not shard.leads):
            self._unload(number)
            shard = None
        if shard is None and replica is not None and replica.leader is not None:
            shard = self._load(number, replica)
        return shard

    def _load(self, number: int, replica: Replica) -> HostedShard:
        state = Shard(self._limits, self.find_topic, self.matching)
        state.topics_version = self._version
        state.count_all = self._count_all
        shard = HostedShard(replica, state, self.clock, self._commit_timeout_s)
        self._shards[number] = shard
        before = self._loading.get(number)
        if before is not None:
            before.cancel()
        self._loading[number] = asyncio.create_task(self._read(number, shard), name=f"load-groups-{number}")
        return shard

    async def _read(self, number: int, shard: HostedShard) -> None:
        try:
            await shard.load(self._manager.run_blocking)
        except Exception as error:  # of the disk, or a record that this release does not understand
            unknown = None if isinstance(error, LogError | OSError) else error
            log.error("groups.not_loaded", partition=str(shard.replica.name), problem=str(error), exc_info=unknown)
            await asyncio.sleep(LOOK_S)
            if self._shards.get(number) is shard:
                self._unload(number)  # and the next look tries again

    def _count_all(self) -> tuple[int, int]:
        """Groups with members or a generation, and groups with offsets."""
        states = [shard.state for shard in self._shards.values()]
        return sum(len(state.groups) for state in states), sum(len(state.offsets) for state in states)

    def _unload(self, number: int) -> None:
        shard = self._shards.pop(number)
        shard.close()
        task = self._loading.pop(number, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        log.info("groups.unloaded", partition=str(shard.replica.name), epoch=shard.epoch)

    def roles_changed(self) -> None:
        """A newer image is applied: coordinate what this broker leads now, and nothing else."""
        if self.topic is not None or self._shards:
            self.look()

    def look(self) -> None:
        """Load and unload as the roles of the replicas are."""
        if self.topic is None:
            for number in list(self._shards):
                self._unload(number)
        self.shards()

    # --- topics that groups read -------------------------------------------------------------------------------------

    def find_topic(self, name: str) -> tuple[TopicId, int] | None:
        """A topic's id and number of partitions, in the newest image."""
        topic = self._manager.image.topics.get(name)
        return None if topic is None else (topic.topic_id, len(topic.partitions))

    def matching(self, pattern: str) -> tuple[str, ...]:
        """The names of topics, in the newest image, that a valid regular expression means."""
        return self._matched.names(pattern, self._manager.image.topics)

    def _look_at_topics(self) -> None:
        """Tell the shards that topics may have changed: groups look again with their next heartbeats."""
        image = self._manager.image
        if self._seen is not None and self._seen.topics is image.topics:
            return
        self._seen = image
        self._version += 1
        for shard in self._shards.values():
            shard.state.topics_version = self._version

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after the shards, and sweep them, until cancelled."""
        sweep_at_s = self.clock.monotonic() + self._sweep_s
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()
            if self.clock.monotonic() >= sweep_at_s:
                sweep_at_s = self.clock.monotonic() + self._sweep_s
                for shard in list(self._shards.values()):
                    shard.sweep()
                    await asyncio.sleep(0)

    def finish(self) -> None:
        """Coordinate no longer: the node stops. Who waits is told so, and what was written is still answered."""
        self._finishing = True
        for shard in self._shards.values():
            shard.finish()

    async def stop(self) -> None:
        """Let go of everything."""
        for number in list(self._shards):
            self._unload(number)
        tasks = [*self._loading.values(), *([self._creating] if self._creating is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- figures -----------------------------------------------------------------------------------------------------

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """For /metrics."""
        shards = [shard for shard in self._shards.values() if shard.loaded]
        yield "ottla_groups", "Groups that this broker coordinates", sum(len(s.state.all_ids()) for s in shards)
        yield "ottla_group_members", "Members of those groups", sum(shard.members for shard in shards)
        yield "ottla_group_rebalances", "Rebalances since their coordinator came", sum(s.rebalances for s in shards)
