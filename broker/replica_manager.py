"""Turns images of the metadata into roles of this broker's replicas: the only place where the two meet.

An image is applied in one synchronous step, so whatever runs between two awaits sees roles and image agree. A log is
opened in an executor first (recovery may read a lot); its replica takes its role from the newest image then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from ottla.client.error_codes import ErrorCode
from ottla.log.clock import Clock
from ottla.log.config import LogConfig
from ottla.log.directories import Logs
from ottla.log.directory import NO_SPACE
from ottla.log.errors import LogError, StorageFailed, StorageFull
from ottla.log.model import BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId, TopicIdPartition, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.run_blocking import RunBlocking
from ottla.raft.image import MetadataImage, Partition, Topic, empty_image

from .background_tasks import BackgroundTasks, OnBug
from .group_sync import GroupSync
from .log_configs import log_config
from .partition_leader import PartitionLeader
from .replica import Refused, Replica
from .throttle import FOLLOWER_RATE, LEADER_RATE, TokenBucket, rate_of

log = structlog.get_logger(__name__)

T = TypeVar("T")

RECOVERY_LOG_EVERY = 100
"""So many logs opened are a line in the node's log."""
RETRY_S = 1.0
"""Between attempts to open a log for which the disk was too full."""


class Fetchers(Protocol):
    """Who pulls for the replicas that follow."""

    def follow(self, replica: Replica) -> None: ...

    def unfollow(self, replica: Replica) -> None: ...


class ReplicaManager:
    """All replicas of this broker, by topic id."""

    def __init__(
        self, *, local: BrokerId, logs: Logs, clock: Clock, run_blocking: RunBlocking, lag_s_max: float
    ) -> None:
        self.local = local
        self.logs = logs
        self.clock = clock
        self.image: MetadataImage = empty_image()
        self.replicas: dict[TopicIdPartition, Replica] = {}
        self.offline: dict[TopicIdPartition, LogError] = {}  # their logs could not be opened, or failed since
        self.fetchers: Fetchers | None = None
        self.on_offline: Callable[[], None] = lambda: None
        self.giving = TokenBucket(lambda: rate_of(self.image, local, LEADER_RATE), clock)  # to replicas being added
        self.taking = TokenBucket(lambda: rate_of(self.image, local, FOLLOWER_RATE), clock)  # as one
        self.recovering = 0  # logs that are still to be opened before this broker registers
        self.suspect: Callable[[Replica, Offset], None] | None = None  # what was read there was damaged: have a look
        self._opening: dict[TopicIdPartition, asyncio.Task[None]] = {}
        self._directories: dict[TopicPartition, asyncio.Task[None]] = {}  # last in the queue of what is done to each
        self._broker_epoch: BrokerEpoch | None = None
        self._took_roles = False  # of this incarnation's registration
        self.run_blocking = run_blocking
        self._lag_s_max = lag_s_max
        self.on_bug: OnBug = lambda error: None
        self._tasks = BackgroundTasks(lambda error: self.on_bug(error))
        self._group_sync = GroupSync(run_blocking, logs.look_now, lambda error: self.on_bug(error))

    # --- lookups -----------------------------------------------------------------------------------------------------

    def find(self, key: TopicIdPartition) -> Replica | None:
        """This broker's replica, or None where it holds none (yet)."""
        return self.replicas.get(key)

    def require(self, topic_id: TopicId, partition: int) -> Replica:
        """This broker's replica, or Refused with what the image says of the partition."""
        replica = self.replicas.get(TopicIdPartition(topic_id, partition))
        if replica is not None:
            return replica
        topic = self.image.topic_by_id(topic_id)
        if topic is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_ID, f"no topic has the id {topic_id}")
        if not 0 <= partition < len(topic.partitions):
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic.name} has no partition {partition}")
        key = TopicIdPartition(topic_id, partition)
        if key in self.offline:
            raise Refused(ErrorCode.KAFKA_STORAGE_ERROR, str(self.offline[key]))
        raise Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{topic.name}-{partition} is not on this broker")

    def leader_of(self, topic_id: TopicId, partition: int) -> tuple[BrokerId | None, LeaderEpoch | None]:
        """Who leads, as the newest image has it: the hint in an error's answer."""
        state = self.image.partition(topic_id, partition)
        return (state.leader, state.leader_epoch) if state is not None else (None, None)

    @property
    def led(self) -> list[Replica]:
        """The replicas that this broker leads."""
        return [replica for replica in self.replicas.values() if replica.leader is not None]

    def high_watermark_of(self, partition_log: PartitionLog) -> Offset | None:
        """Up to where the replica of this log is committed; None where there is none, or not any more."""
        key = TopicIdPartition(partition_log.topic_id, partition_log.topic_partition.partition)
        replica = self.replicas.get(key)
        return None if replica is None or replica.log is not partition_log else replica.high_watermark

    def may_join_isr(self, broker: BrokerId) -> bool:
        """Whether a broker may enter an ISR now (KIP-841)."""
        registration = self.image.brokers.get(broker)
        return registration is not None and registration.active

    # --- life --------------------------------------------------------------------------------------------------------

    async def open_all(self, image: MetadataImage) -> None:
        """Before registering: open every log that the image gives this broker, recovering as needed."""
        self.image = image
        wanted = {
            TopicPartition(topic.name, number): topic.topic_id
            for topic in image.topics.values()
            for number, state in enumerate(topic.partitions)
            if self.local in state.replicas
        }
        self.logs.set_aside_strays(wanted)
        for topic in image.topics.values():
            for number, state in enumerate(topic.partitions):
                if self.local in state.replicas:
                    self._open(topic, number)
        opening = list(self._opening.values())
        for done, task in enumerate(asyncio.as_completed(opening), 1):
            await task
            self.recovering = len(opening) - done
            if done % RECOVERY_LOG_EVERY == 0 or done == len(opening):
                log.info("log.recovery", done=done, total=len(opening))

    def activate(self, broker_epoch: BrokerEpoch) -> None:
        """This incarnation is registered: from its image on, roles are taken. Never before, so that no leader epoch
        of an earlier incarnation is resumed."""
        self._broker_epoch = broker_epoch
        self._took_roles = False
        self.apply_image(self.image)

    def deactivate(self) -> None:
        """Lay all roles down: this broker is stopping, or another incarnation took its place."""
        self._broker_epoch = None
        self._took_roles = False
        for replica in self.replicas.values():
            self._unfollow(replica)
            replica.leave()

    @property
    def active(self) -> bool:
        """Whether the newest image still shows this incarnation."""
        registration = self.image.brokers.get(self.local)
        return (
            registration is not None
            and self._broker_epoch is not None
            and registration.broker_epoch == self._broker_epoch
        )

    def is_current(self, replica: Replica, leader_epoch: LeaderEpoch) -> bool:
        """Whether this broker still leads in this epoch, in the newest image."""
        state = self.image.partition(replica.topic_id, replica.partition)
        return state is not None and state.leader == self.local and state.leader_epoch == leader_epoch

    def high_watermarks(self) -> dict[TopicPartition, Offset]:
        """For the checkpoint."""
        return {replica.name: replica.high_watermark for replica in self.replicas.values()}

    # --- images ------------------------------------------------------------------------------------------------------

    def apply_image(self, image: MetadataImage) -> None:
        """Take the roles of a newer image, in one step. Topics shared with the one before are not looked at."""
        before, self.image = self.image, image
        if not self.active:
            if self._took_roles and before.brokers is not image.brokers:
                self._lay_down_replaced()
            return
        everything, self._took_roles = not self._took_roles, True
        if everything:
            self._remove_forgotten()
        elif before.topics is image.topics and before.broker_configs is image.broker_configs:
            return
        everything = everything or before.broker_configs is not image.broker_configs  # a default is of every topic
        for name, topic in before.topics.items():
            newer = image.topics.get(name)
            if newer is None or newer.topic_id != topic.topic_id:
                self._remove_topic(topic)
        for topic in image.topics.values():
            known = None if everything else before.topics.get(topic.name)
            if known is not topic:
                self._apply_topic(topic, known)

    def _remove_forgotten(self) -> None:
        """What was opened for topics that are gone since: without roles, images are not compared."""
        for key in [key for key in self.offline if self.image.topic_by_id(key.topic_id) is None]:
            del self.offline[key]
        for key, replica in list(self.replicas.items()):
            if self.image.topic_by_id(key.topic_id) is None:
                self._remove(key, replica)

    def _lay_down_replaced(self) -> None:
        """Another incarnation has registered under this broker's number: this one must do nothing more."""
        log.error("broker.replaced", broker=self.local, epoch=self._broker_epoch)
        self.deactivate()

    def _apply_topic(self, topic: Topic, known: Topic | None) -> None:
        """``known``: what was applied before of this topic, None where all of it counts as new. At a failover each
        command changes one partition of a topic that may have hundreds: the others are as they were."""
        config = log_config(self.image, topic, self.local)
        as_before: tuple[Partition, ...] = ()
        if known is not None and known.topic_id == topic.topic_id and known.configs == topic.configs:
            as_before = known.partitions
        for number, state in enumerate(topic.partitions):
            if number < len(as_before) and as_before[number] is state:
                continue
            key = TopicIdPartition(topic.topic_id, number)
            replica = self.replicas.get(key)
            if self.local not in state.replicas:
                self.offline.pop(key, None)
                if replica is not None:
                    self._remove(key, replica)
            elif replica is not None:
                self._apply_state(replica, topic, state, config)
            elif key not in self._opening and key not in self.offline:
                self._open(topic, number)

    def _apply_state(self, replica: Replica, topic: Topic, state: Partition, config: LogConfig) -> None:
        min_insync = self.image.min_insync(topic, state)
        replica.joining = self.local in state.adding and self.local not in state.isr
        self._configure(replica, config)
        if state.leader_epoch <= replica.leader_epoch:
            if replica.leader is not None:
                replica.isr_committed(state, min_insync, self.clock.monotonic())
            return
        try:
            self._take_role(replica, state, min_insync)
        except LogError as error:
            self.fail(replica, error)

    def _configure(self, replica: Replica, config: LogConfig) -> None:
        replica.log.config = config
        if not replica.log.flush_is_settled:
            self._group_sync.want(replica)

    def _take_role(self, replica: Replica, state: Partition, min_insync: int) -> None:
        self._unfollow(replica)
        if state.leader == self.local:
            now_s = self.clock.monotonic()
            replica.lead(self.local, state, min_insync=min_insync, now_s=now_s, lag_s_max=self._lag_s_max)
            log.info("partition.leading", partition=str(replica.name), epoch=state.leader_epoch, isr=list(state.isr))
            return
        replica.follow(state)
        if replica.follower is not None and self.fetchers is not None:
            self.fetchers.follow(replica)

    def _unfollow(self, replica: Replica) -> None:
        if replica.follower is not None and self.fetchers is not None:
            self.fetchers.unfollow(replica)

    def isr_resolved(self, replica: Replica, leader: PartitionLeader) -> None:
        """An AlterPartition has its outcome and the image shows it."""
        replica.isr_resolved(leader)

    # --- opening and closing logs ------------------------------------------------------------------------------------

    def _open(self, topic: Topic, number: int) -> None:
        key, name = TopicIdPartition(topic.topic_id, number), TopicPartition(topic.name, number)
        self._opening[key] = self._queue(name, lambda: self._open_log(key, name, topic))

    def _queue(self, name: TopicPartition, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do ``work`` after all that is under way in this directory: a topic may be made again under a name whose
        old log is being opened or set aside."""
        before = self._directories.get(name)

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work()

        task = self._directories[name] = self._tasks.begin(in_turn(), f"directory-{name}")
        task.add_done_callback(lambda done: self._directories.get(name) is done and self._directories.pop(name))
        return task

    async def _open_log(self, key: TopicIdPartition, name: TopicPartition, topic: Topic) -> None:
        try:
            config = log_config(self.image, topic, self.local)
            opened = await self.run_blocking(lambda: self.logs.get_or_create(name, topic.topic_id, config))
        except (LogError, OSError) as error:
            self._opening.pop(key, None)
            self.offline[key] = _as_ours(error)
            log.error("partition.offline", partition=str(name), problem=str(error))
            if isinstance(error, StorageFull) or (isinstance(error, OSError) and error.errno in NO_SPACE):
                asyncio.get_running_loop().call_later(RETRY_S, self._open_again, key, topic)
            return
        self._opening.pop(key, None)
        self.offline.pop(key, None)
        replica = Replica(name, topic.topic_id, opened, self.logs.high_watermark(name), self.is_current)
        current = self.image.topic_by_id(topic.topic_id)
        state = self.image.partition(topic.topic_id, name.partition)
        if current is None or state is None or self.local not in state.replicas:
            await self._set_aside(replica)  # deleted, or moved away, while it opened
            return
        self.replicas[key] = replica
        replica.on_growth = self._group_sync.appended
        if self.suspect is not None:
            replica.on_suspicion = self.suspect
        if self.active:
            self._apply_state(replica, current, state, log_config(self.image, current, self.local))

    def _open_again(self, key: TopicIdPartition, topic: Topic) -> None:
        """A full disk may have room again; the image may have changed meanwhile."""
        state = self.image.partition(key.topic_id, key.partition)
        if key in self.offline and state is not None and self.local in state.replicas:
            self._open(topic, key.partition)

    def _remove_topic(self, topic: Topic) -> None:
        for number in range(len(topic.partitions)):
            key = TopicIdPartition(topic.topic_id, number)
            self.offline.pop(key, None)
            replica = self.replicas.get(key)
            if replica is not None:
                self._remove(key, replica)

    def _remove(self, key: TopicIdPartition, replica: Replica) -> None:
        """The image gives this replica to nobody here: its directory is set aside, never deleted unasked."""
        self._unfollow(replica)
        replica.leave()
        del self.replicas[key]
        self._queue(replica.name, lambda: self._set_aside(replica))

    async def _set_aside(self, replica: Replica) -> None:
        """In an executor: it waits for the disk, and this is called from where the quorum's commands are applied."""
        try:
            await self.run_blocking(lambda: self.logs.remove(replica.name))
        except (LogError, OSError) as error:
            log.error("partition.not_set_aside", partition=str(replica.name), problem=str(error))
            return
        log.info("partition.set_aside", partition=str(replica.name), topic_id=replica.topic_id)

    async def stop_syncing(self) -> None:
        """The node stops: whoever waits for a sync is not acknowledged."""
        await self._group_sync.stop()

    async def settled(self) -> None:
        """Until no log is being opened or set aside."""
        while self._directories:
            await asyncio.wait(list(self._directories.values()))

    def fail(self, replica: Replica, error: LogError) -> None:
        """The disk or the log of a replica is bad: it neither leads nor follows until the node starts again."""
        key = TopicIdPartition(replica.topic_id, replica.partition)
        self._unfollow(replica)
        replica.leave()
        self.replicas.pop(key, None)
        self.offline[key] = error
        log.error("partition.offline", partition=str(replica.name), problem=str(error))
        self.on_offline()

    def out_of_service(self) -> list[TopicIdPartition]:
        """What this broker cannot serve before it starts again; what a full disk keeps out may come back."""
        return sorted(key for key, error in self.offline.items() if not isinstance(error, StorageFull))

    def fail_directory(self, path: Path, error: LogError) -> None:
        """The same for every replica whose log is in this directory."""
        log.error("directory.offline", path=str(path), problem=str(error))
        for replica in list(self.replicas.values()):
            if replica.log.directory.parent == path:
                self.fail(replica, error)


def _as_ours(error: LogError | OSError) -> LogError:
    if isinstance(error, LogError):
        return error
    return StorageFull(str(error)) if error.errno in NO_SPACE else StorageFailed(str(error))
