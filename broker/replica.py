"""One partition held by this broker: its log, its role in the current leader epoch, and who waits on it.

Every method is one whole step between two awaits: when it returns, log, role and waiters agree.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from ottla.client.error_codes import ErrorCode
from ottla.log.errors import LogError
from ottla.log.failpoints import failpoint
from ottla.log.model import BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition
from ottla.log.partition_log import AppendResult, PartitionLog
from ottla.raft.image import Partition

from .partition_follower import FollowerStep, PartitionFollower
from .partition_leader import PartitionLeader, SessionClock
from .purgatory import AckQueue

log = structlog.get_logger(__name__)


class AckWaiter(Protocol):
    """Someone who waits for the high watermark to pass an append."""

    def committed(self, replica: "Replica") -> None: ...

    def lost(self, replica: "Replica", error: ErrorCode) -> None: ...


class Reader(Protocol):
    """A consumer's long poll: woken when the high watermark rises or the role changes."""

    def readable(self, replica: "Replica") -> None: ...


class LogReader(Reader, Protocol):
    """A follower's session: woken by every append; told of the high watermark, which can wait."""

    def advanced(self, replica: "Replica") -> None: ...


class Refused(Exception):
    """A partition cannot do what was asked. ``error`` is for the wire, the message for a person."""

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error = error


class Replica:
    """A partition's copy on this broker.

    ``leader`` is set while this broker leads it, ``follower`` while it follows; neither while it has no leader.
    ``is_current`` asks the newest image whether a leader epoch still stands.
    """

    def __init__(
        self,
        name: TopicPartition,
        topic_id: TopicId,
        partition_log: PartitionLog,
        high_watermark: Offset,
        is_current: Callable[["Replica", LeaderEpoch], bool],
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.log = partition_log
        self.leader: PartitionLeader | None = None
        self.follower: PartitionFollower | None = None
        self.known_leader: BrokerId | None = None
        self.leader_epoch = LeaderEpoch(-1)  # of the newest image applied here
        # The checkpoint of the high watermark may be older than that of the log's start.
        self._high_watermark = max(min(high_watermark, partition_log.log_end_offset), partition_log.log_start_offset)
        self._is_current = is_current
        self._acks: AckQueue[AckWaiter] = AckQueue()
        self._durable: AckQueue[AckWaiter] = AckQueue()
        self.on_growth: Callable[[Replica], None] = _nothing
        self.on_suspicion: Callable[[Replica, Offset], None] = _nobody_looks
        self._log_readers: dict[LogReader, None] = {}
        self._readers: dict[Reader, None] = {}
        self._trims: dict[Reader, None] = {}
        self.joining = False  # a reassignment brings this copy, and it is not in sync yet
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def partition(self) -> int:
        return self.name.partition

    @property
    def high_watermark(self) -> Offset:
        """First offset not known to be committed."""
        return self.leader.high_watermark if self.leader is not None else self._high_watermark

    # --- roles -------------------------------------------------------------------------------------------------------

    @failpoint("leader.begin")
    def lead(self, local: BrokerId, state: Partition, *, min_insync: int, now_s: float, lag_s_max: float) -> None:
        """This broker leads ``state.leader_epoch``. Reads go on at the high watermark known here."""
        self._drop_role(state)
        self.log.assign_epoch_start(state.leader_epoch)
        self.leader = PartitionLeader(
            local=local,
            leader_epoch=state.leader_epoch,
            partition_epoch=state.partition_epoch,
            replicas=state.replicas,
            isr=state.isr,
            min_insync=min_insync,
            high_watermark=self._high_watermark,
            log_end=self.log.log_end_offset,
            held=self._held,
            now_s=now_s,
            lag_s_max=lag_s_max,
            adding=state.adding,
        )
        if not self.is_durable:
            # What an earlier run left unsynced: all that comes now may be retries, which are stored already, and who
            # waits for them would wait until something new is appended.
            self.on_growth(self)

    @failpoint("follower.begin")
    def follow(self, state: Partition) -> None:
        """Another broker leads, or nobody does."""
        self._drop_role(state)
        if state.leader is not None:
            self.follower = PartitionFollower(
                topic_id=self.topic_id,
                partition=self.partition,
                leader=state.leader,
                leader_epoch=state.leader_epoch,
            )

    def leave(self) -> None:
        """This broker is out of the cluster's picture (fenced, stopping): it neither leads nor follows."""
        self._high_watermark = self.high_watermark
        self.leader = self.follower = self.known_leader = None
        self._fail_waiters()

    def _drop_role(self, state: Partition) -> None:
        assert state.leader_epoch > self.leader_epoch, "a leader epoch is never resumed"
        self.leave()
        self.leader_epoch, self.known_leader = state.leader_epoch, state.leader

    def _fail_waiters(self) -> None:
        for waiter in [*self._acks.drain(), *self._durable.drain()]:
            waiter.lost(self, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._wake(self._log_readers)
        self._wake(self._readers)
        self._wake(self._trims)

    # --- the leader's steps ------------------------------------------------------------------------------------------

    def require_leader(self) -> PartitionLeader:
        """The leader's state, or Refused where this broker does not lead."""
        if self.leader is None:
            raise Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{self.name} is led by {self.known_leader or 'nobody'}")
        return self.leader

    @failpoint("leader.append")
    def append(self, batch: memoryview, *, need_all: bool, may_be_forgotten: bool = False) -> AppendResult:
        """Append one producer's batch. Raises Refused; then nothing was written."""
        leader = self.require_leader()
        if need_all and not leader.enough_replicas:
            raise Refused(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{self.name} has {len(leader.isr.committed)} in-sync replicas, min.insync.replicas is "
                f"{leader.min_insync}",
            )
        try:
            result = self.log.append_as_leader(batch, leader.leader_epoch, may_be_forgotten=may_be_forgotten)
        except LogError as error:
            raise Refused(ErrorCode.named(error.code), str(error)) from error
        if not result.is_duplicate:
            self.bytes_in += len(batch)
            advanced = leader.appended(self.log.log_end_offset, self._held)
            self._wake(self._log_readers)
            self.on_growth(self)
            if advanced:
                self._committed()
        return result

    def when_committed(self, required: Offset, waiter: AckWaiter) -> None:
        """Tell ``waiter`` once the high watermark is at ``required``; at once if it is."""
        if self.high_watermark >= required:
            waiter.committed(self)
        else:
            self._acks.add(required, waiter)

    def when_durable(self, required: Offset, waiter: AckWaiter) -> None:
        """Tell ``waiter`` once all below ``required`` counts here: at once, unless the topic wants it durable."""
        if self._held >= required:
            waiter.committed(self)
        else:
            self._durable.add(required, waiter)
            self.on_growth(self)

    def stop_waiting(self, waiter: AckWaiter) -> None:
        self._acks.discard(waiter)
        self._durable.discard(waiter)

    def synced(self) -> None:
        """The log's recovery point rose, or the topic's flush setting holds from now on."""
        held = self._held
        if self.leader is not None and self.leader.synced(held):
            self._committed()
        for waiter in self._durable.release(held):
            waiter.committed(self)

    @property
    def is_durable(self) -> bool:
        """Whether all that the log holds counts."""
        log = self.log
        return not log.counts_once_durable or log.recovery_point >= log.log_end_offset

    @property
    def _held(self) -> Offset:
        """Our copy counts below this."""
        return self.log.recovery_point if self.log.counts_once_durable else self.log.log_end_offset

    def follower_fetched(
        self, replica: BrokerId, offset: Offset, session: SessionClock, log_start: Offset | None = None
    ) -> None:
        """A follower's fetch acknowledged everything below ``offset``, and where its log starts."""
        leader = self.require_leader()
        if leader.fetched(replica, offset, session):
            self._committed()
        if log_start is not None and leader.starts_at(replica, log_start):
            self._wake(self._trims)

    def delete_below(self, offset: Offset | None) -> Offset:
        """An operator wants nothing below ``offset`` read any more, None the high watermark. Returns the offset that
        was meant. Raises Refused. The followers hear of it with their next answer."""
        leader = self.require_leader()
        if not self.log.config.deletes:
            raise Refused(ErrorCode.POLICY_VIOLATION, f"{self.name} is compacted only: cleanup.policy has no delete")
        wanted = leader.high_watermark if offset is None else offset
        if wanted > leader.high_watermark:
            raise Refused(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name} is committed up to {leader.high_watermark}: {wanted} is above it",
            )
        if self.log.advance_log_start(wanted):
            self._wake(self._log_readers)
            self._wake(self._readers)
        return wanted

    def low_watermark(self, is_live: Callable[[BrokerId], bool]) -> Offset:
        """From where on every live replica's log is read: below it nothing comes back. Raises Refused."""
        starts = [start for broker, start in self.require_leader().log_starts() if is_live(broker)]
        return min([self.log.log_start_offset, *starts])

    @failpoint("leader.isr_committed")
    def isr_committed(self, state: Partition, min_insync: int, now_s: float) -> None:
        """The image shows another ISR, more replicas, or another min.insync.replicas, for the epoch led here."""
        leader = self.require_leader()
        leader.replicas_changed(state.replicas, state.adding, now_s)
        advanced = leader.isr_committed(state.isr, state.partition_epoch)
        if leader.set_min_insync(min_insync) or advanced:
            self._committed()

    def isr_resolved(self, leader: PartitionLeader) -> None:
        """The answer to ``leader``'s AlterPartition is known and in the image."""
        if leader.isr_resolved() and leader is self.leader:
            self._committed()

    @failpoint("leader.acknowledge")
    def _committed(self) -> None:
        """The high watermark rose: acknowledge what it passed, if this epoch still stands in the newest image."""
        leader = self.require_leader()
        if not self._is_current(self, leader.leader_epoch):
            return  # the image is about to depose us; whoever waits is told then
        for waiter in self._acks.release(leader.high_watermark):
            waiter.committed(self)
        for reader in self._log_readers:
            reader.advanced(self)
        self._wake(self._readers)

    # --- the follower's step -----------------------------------------------------------------------------------------

    @failpoint("follower.apply")
    def apply(self, step: FollowerStep, batches: memoryview) -> None:
        """Carry out a follower's step in its order. Raises LogError where the disk or the bytes are bad."""
        if step.start_anew_at is not None:
            log.info("log.started_anew", partition=str(self.name), at=step.start_anew_at, epoch=self.leader_epoch)
            self.log.truncate_fully_and_start_at(step.start_anew_at)
            self._high_watermark = step.start_anew_at
        if step.truncate_to is not None:
            log.info("log.truncated", partition=str(self.name), to=step.truncate_to, epoch=self.leader_epoch)
            self.log.truncate_to(step.truncate_to)
        if step.append:
            self.log.append_as_follower(batches)
            self.bytes_in += len(batches)
            self.on_growth(self)
        before, end = self._high_watermark, self.log.log_end_offset
        if step.high_watermark is not None:
            self._high_watermark = min(step.high_watermark, end)
        self._high_watermark = min(self._high_watermark, end)
        if step.log_start is not None:
            self.log.advance_log_start(min(step.log_start, self._high_watermark))
        self._high_watermark = max(self._high_watermark, self.log.log_start_offset)
        if self._high_watermark > before:
            self._wake(self._readers)  # consumers of this rack (KIP-392)

    # --- who waits to read -------------------------------------------------------------------------------------------

    def watch(self, reader: Reader) -> None:
        """Tell ``reader`` of every rise of the high watermark and change of role, until ``unwatch``."""
        self._readers[reader] = None

    def watch_log(self, reader: LogReader) -> None:
        """Tell ``reader`` of every append too, until ``unwatch``."""
        self._log_readers[reader] = None

    def watch_trims(self, reader: Reader) -> None:
        """Tell ``reader`` when the low watermark may have risen, and of every change of role, until ``unwatch``."""
        self._trims[reader] = None

    def unwatch(self, reader: Reader) -> None:
        self._readers.pop(reader, None)
        self._trims.pop(reader, None)
        self._log_readers.pop(reader, None)  # type: ignore[call-overload]

    def _wake(self, readers: Iterable[Reader]) -> None:
        for reader in list(readers):
            reader.readable(self)


def _nothing(replica: Replica) -> None:
    """Nobody syncs beside the background."""


def _nobody_looks(replica: Replica, offset: Offset) -> None:
    """What is damaged is not looked for."""
