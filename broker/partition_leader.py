"""A partition's leader for one leader epoch: who has what, and how far it is committed. Pure.

One object per leader epoch, thrown away at the next: nothing learned in an older epoch is believed in a newer one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ottla.log.failpoints import failpoint
from ottla.log.model import BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch

from .isr import InSyncReplicas


@dataclass(slots=True)
class SessionClock:
    """When a follower's stream was last heard from: shared by all its entries, so that one request renews them all
    without visiting any."""

    heard_at_s: float
    broker_epoch: BrokerEpoch  # of the incarnation at the other end: what it holds is known only of that one (KIP-903)
    closed: bool = False


@dataclass(slots=True)
class Follower:
    """What the leader knows of one other replica, in this epoch only."""

    caught_up_at_s: float  # the last moment at which it surely held everything we had then
    log_end: Offset | None = None  # it holds everything below; None until its first fetch of this epoch
    log_start: Offset = Offset(0)  # noqa: RUF009 - below it, it reads nothing any more
    session: SessionClock | None = None
    seen_log_end: Offset | None = None  # our log end when it last fetched ...
    seen_at_s: float = 0.0  # ... and when that was

    @property
    def live(self) -> bool:
        """Whether its stream is open and has named this partition in this epoch."""
        return self.session is not None and not self.session.closed


class PartitionLeader:
    """The leader's side of replication (KIP-101, KIP-497, KIP-966).

    Invariant: log_start_offset <= high_watermark <= log_end_offset, and the high watermark never falls.
    """

    def __init__(
        self,
        *,
        local: BrokerId,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        replicas: Iterable[BrokerId],
        isr: Iterable[BrokerId],
        min_insync: int,
        high_watermark: Offset,
        log_end: Offset,
        now_s: float,
        lag_s_max: float,
        held: Offset | None = None,
        adding: Iterable[BrokerId] = (),
    ) -> None:
        self.local = local
        self.leader_epoch = leader_epoch
        self.isr = InSyncReplicas(frozenset(isr), partition_epoch)
        self.min_insync = min_insync
        self.high_watermark = high_watermark  # first offset not yet on every replica of the maximal ISR
        self.log_end = log_end  # next offset to be assigned
        self.held = log_end if held is None else held  # our own copy counts below: durable, where the topic says so
        self.epoch_start = log_end  # first offset of this epoch
        # Everyone gets a full lag period from the start of the epoch before being called slow.
        self.followers = {replica: Follower(now_s) for replica in replicas if replica != local}
        self.adding = frozenset(adding)  # of the replicas, those that a reassignment brings
        self._lag_s_max = lag_s_max
        self._advance()

    # --- what happens ------------------------------------------------------------------------------------------------

    def appended(self, log_end: Offset, held: Offset | None = None) -> bool:
        """The local log now ends at ``log_end`` and counts below ``held`` (None: there too). Returns whether the high
        watermark rose (a lone replica)."""
        assert log_end >= self.log_end
        for follower in self.followers.values():
            session = follower.session
            if follower.log_end == self.log_end and session is not None and not session.closed:
                follower.caught_up_at_s = max(follower.caught_up_at_s, session.heard_at_s)
        self.log_end, self.held = log_end, log_end if held is None else held
        return self._advance()

    def synced(self, held: Offset) -> bool:
        """The local log now counts below ``held``. Returns whether the high watermark rose."""
        self.held = held
        return self._advance()

    @failpoint("leader.fetched")
    def fetched(self, replica: BrokerId, offset: Offset, session: SessionClock) -> bool:
        """``replica`` asks for ``offset``, so it holds all below. Returns whether the high watermark rose.

        Raises KeyError for a broker that is no replica of this partition.
        """
        follower, now_s = self.followers[replica], session.heard_at_s
        if offset >= self.log_end:
            follower.caught_up_at_s = max(follower.caught_up_at_s, now_s)
        elif follower.seen_log_end is not None and offset >= follower.seen_log_end:
            # It now has all we had when it asked the time before.
            follower.caught_up_at_s = max(follower.caught_up_at_s, follower.seen_at_s)
        follower.seen_log_end, follower.seen_at_s = self.log_end, now_s
        follower.log_end, follower.session = min(offset, self.log_end), session
        return self._advance()

    def starts_at(self, replica: BrokerId, log_start: Offset) -> bool:
        """``replica``'s log starts there. Returns whether that is new."""
        follower = self.followers[replica]
        moved, follower.log_start = follower.log_start != log_start, log_start
        return moved

    def log_starts(self) -> list[tuple[BrokerId, Offset]]:
        """Where the others' logs start, as far as known."""
        return [(replica, follower.log_start) for replica, follower in self.followers.items()]

    def isr_committed(self, members: Iterable[BrokerId], partition_epoch: PartitionEpoch) -> bool:
        """The image shows a new ISR for this epoch. Returns whether the high watermark rose."""
        self.isr.commit(frozenset(members), partition_epoch)
        return self._advance()

    def replicas_changed(self, replicas: Iterable[BrokerId], adding: Iterable[BrokerId], now_s: float) -> None:
        """The image shows replicas that were not there. In one epoch none goes: that ends it."""
        for replica in replicas:
            if replica != self.local and replica not in self.followers:
                self.followers[replica] = Follower(now_s)
        self.adding = frozenset(adding)

    def is_throttled(self, replica: BrokerId) -> bool:
        """Whether it is only being added: what it is given must not crowd out the rest (KIP-73)."""
        return replica in self.adding and replica not in self.isr.committed

    def isr_resolved(self) -> bool:
        """The change asked for has an outcome, and the image shows it. Returns whether the high watermark rose."""
        self.isr.refused()
        return self._advance()

    def set_min_insync(self, min_insync: int) -> bool:
        """The topic's setting changed. Returns whether the high watermark rose."""
        self.min_insync = min_insync
        return self._advance()

    # --- what should happen ------------------------------------------------------------------------------------------

    def propose_isr(self, now_s: float, eligible: Callable[[BrokerId], bool]) -> frozenset[BrokerId] | None:
        """The ISR to ask the quorum for, or None while nothing should change or a change is under way.

        ``eligible``: whether a broker may enter an ISR (unfenced, not draining: KIP-841).
        """
        if self.isr.pending is not None:
            return None
        committed = self.isr.committed
        leaving = {r for r in committed if r != self.local and now_s - self.caught_up_at_s(r) > self._lag_s_max}
        joining = {r for r in self.followers if r not in committed and self._has_caught_up(r) and eligible(r)}
        proposed = (committed - leaving) | joining
        return proposed if proposed != committed else None

    @property
    def enough_replicas(self) -> bool:
        """Whether an acks=all write may be accepted now."""
        return len(self.isr.committed) >= self.min_insync

    @property
    def latest_is_known(self) -> bool:
        """Whether the high watermark covers all earlier epochs: before that, "latest" might go back."""
        return self.high_watermark >= self.epoch_start

    def caught_up_at_s(self, replica: BrokerId) -> float:
        """The last moment at which a follower surely held all that the leader had."""
        follower = self.followers[replica]
        if follower.live and follower.log_end == self.log_end:
            assert follower.session is not None
            return max(follower.caught_up_at_s, follower.session.heard_at_s)
        return follower.caught_up_at_s

    def _has_caught_up(self, replica: BrokerId) -> bool:
        follower = self.followers[replica]
        if not follower.live or follower.log_end is None:
            return False
        return follower.log_end >= max(self.high_watermark, self.epoch_start)

    def _advance(self) -> bool:
        """Raise the high watermark as far as the maximal ISR allows, and not at all below min.insync (KIP-966)."""
        candidate, before = self.held, self.high_watermark
        if candidate <= before or not self.enough_replicas:
            return False
        for replica in self.isr.maximal:
            if replica == self.local:
                continue
            held = self.followers[replica].log_end
            if held is None or held <= before:
                return False
            if held < candidate:
                candidate = held
        self.high_watermark = candidate
        return True
