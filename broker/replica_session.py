"""The leader's side of one follower's stream: an incremental fetch session (KIP-227) that lives as long as it.

The stream is the session: it remembers every partition the follower named, so a request names only what moved and
an answer holds only what has something to say. Two hundred idle partitions cost nothing.
"""

import asyncio
from collections.abc import Callable

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchResponse, FetchResult, ReplicaFetchRequest
from ottla.log.clock import Clock
from ottla.log.model import BrokerEpoch, BrokerId, Offset, TopicIdPartition

from .partition_leader import PartitionLeader, SessionClock
from .reading import answer_of, check_epoch, check_position, is_in_newest_epoch, note_damage, read_checked, refusal
from .replica import Refused, Replica
from .throttle import TokenBucket

HELD_BACK_S_MAX = 1.0
"""After so long it is asked again what is held back: its follower may be in sync by now, and then nothing is."""
RESPONSE_BYTES_MAX = 4 << 20
"""One answer holds at most this much, or one larger batch."""


class Entry:
    """One partition of a session. Belongs to one leader epoch: ``leader`` is that epoch's object."""

    __slots__ = ("asked", "leader", "replica", "sent", "told_high_watermark", "told_log_start")

    def __init__(self, replica: Replica, leader: PartitionLeader, asked: FetchPartition) -> None:
        self.replica = replica
        self.leader = leader
        self.asked = asked
        self.sent = False  # data left for this question: nothing more until the follower names its next offset
        self.told_high_watermark: Offset | None = None
        self.told_log_start: Offset | None = None

    @property
    def is_told(self) -> bool:
        """Whether the follower knows high watermark and log start as they are now."""
        log_start = self.replica.log.log_start_offset
        return self.told_high_watermark == self.leader.high_watermark and self.told_log_start == log_start

    def tell(self) -> None:
        """The follower is being told both."""
        self.told_high_watermark, self.told_log_start = self.leader.high_watermark, self.replica.log.log_start_offset


class ReplicaSession:
    """One follower's session. ``find`` gives this broker's replica, or None where it holds none."""

    def __init__(
        self,
        follower: BrokerId,
        broker_epoch: BrokerEpoch,
        find: Callable[[TopicIdPartition], Replica | None],
        clock: Clock,
        giving: TokenBucket | None = None,
    ) -> None:
        self.follower = follower
        self.clock = SessionClock(clock.monotonic(), broker_epoch)
        self._find = find
        self._time = clock
        self._giving = giving if giving is not None else TokenBucket(lambda: None, clock)
        self._held_back: dict[TopicIdPartition, None] = {}  # ready, and over what its follower may have now
        self._let_go: asyncio.TimerHandle | None = None
        self._entries: dict[TopicIdPartition, Entry] = {}
        self._by_replica: dict[Replica, TopicIdPartition] = {}
        self._ready: dict[TopicIdPartition, None] = {}  # has something to read, or an error, in order of readiness
        self._advanced: dict[TopicIdPartition, None] = {}  # its high watermark moved; worth a word, not a wake-up
        self._errors: dict[TopicIdPartition, FetchResult] = {}
        self._on_ready: Callable[[], None] = lambda: None

    # --- requests ----------------------------------------------------------------------------------------------------

    def receive(self, request: ReplicaFetchRequest) -> None:
        """Take a request's acknowledgements at once."""
        self.clock.heard_at_s = self._time.monotonic()
        for topic_id, partition in request.forgotten:
            self._forget(TopicIdPartition(topic_id, partition))
        for asked in request.changed:
            key = TopicIdPartition(asked.topic_id, asked.partition)
            entry = self._entries.get(key)
            if entry is not None and self._is_next_question(entry, asked):
                entry.asked, entry.sent = asked, False
                self._acknowledge(key, entry, asked)
            else:
                self._name(key, asked)

    @staticmethod
    def _is_next_question(entry: Entry, asked: FetchPartition) -> bool:
        """The usual one: of the same epoch, from a place that needs no look into the log. Nothing else is new."""
        replica, leader = entry.replica, entry.leader
        if replica.leader is not leader or asked.current_leader_epoch != leader.leader_epoch or asked.damaged:
            return False
        return is_in_newest_epoch(replica.log, asked)

    def _name(self, key: TopicIdPartition, asked: FetchPartition) -> None:
        replica = self._find(key)
        if replica is None:
            self._refuse(key, self._unknown(asked))
            return
        try:
            leader = check_epoch(replica, asked.current_leader_epoch)
            entry = Entry(replica, leader, asked)
            diverging = check_position(replica, asked)
            if diverging is not None:
                self._refuse(key, answer_of(replica, asked, leader, 0, diverging))
                return
            previous = self._entries.get(key)
            if previous is not None and previous.leader is leader:
                entry.told_high_watermark = previous.told_high_watermark
                entry.told_log_start = previous.told_log_start
            note_damage(replica, asked)
            self._entries[key], self._by_replica[replica] = entry, key
            replica.watch_log(self)
            self._acknowledge(key, entry, asked)
        except Refused as refused:
            self._refuse(key, refusal(replica, asked, refused.error, str(refused)))
        except KeyError:
            self._refuse(key, refusal(replica, asked, ErrorCode.NOT_LEADER_OR_FOLLOWER, "not a replica"))
        else:
            self._errors.pop(key, None)

    def _acknowledge(self, key: TopicIdPartition, entry: Entry, asked: FetchPartition) -> None:
        """The follower holds all below what it asks for. Raises KeyError for one that is no replica."""
        log_start = None if asked.log_start_offset is None else Offset(asked.log_start_offset)
        entry.replica.follower_fetched(self.follower, Offset(asked.fetch_offset), self.clock, log_start)
        if asked.fetch_offset < entry.leader.log_end:
            self._ready[key] = None
        else:
            self._ready.pop(key, None)
        if not entry.is_told:
            self._advanced[key] = None  # an idle partition's follower must learn it too, with the next answer

    def _refuse(self, key: TopicIdPartition, result: FetchResult) -> None:
        """An entry that is refused counts for nothing until it is named again."""
        self._forget(key)
        self._errors[key] = result
        self._ready[key] = None

    def _forget(self, key: TopicIdPartition) -> None:
        self._ready.pop(key, None)
        self._held_back.pop(key, None)
        self._errors.pop(key, None)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._by_replica.pop(entry.replica, None)
            entry.replica.unwatch(self)

    def close(self) -> None:
        """The stream is gone: its follower is not live any longer, what it acknowledged stays true."""
        self.clock.closed = True
        if self._let_go is not None:
            self._let_go.cancel()
        for key in list(self._entries):
            self._forget(key)

    # --- answers -----------------------------------------------------------------------------------------------------

    def readable(self, replica: Replica) -> None:
        """The replica's log grew, or its role changed."""
        key = self._by_replica.get(replica)
        if key is None:
            return
        entry = self._entries[key]
        if not entry.sent or replica.leader is not entry.leader:
            self._ready[key] = None
            self._on_ready()

    def advanced(self, replica: Replica) -> None:
        """The replica's high watermark rose."""
        key = self._by_replica.get(replica)
        if key is not None:
            self._advanced[key] = None

    @property
    def ready(self) -> bool:
        """Whether there are data or errors to answer with."""
        return bool(self._ready)

    def when_ready(self, call: Callable[[], None]) -> None:
        """``call`` each time that there is something more to answer with; it must not answer in that call."""
        self._on_ready = call

    def collect(self, budget: int) -> tuple[FetchResponse, list[bytes]]:
        """Everything ready, up to ``budget`` bytes or one larger batch, and high watermarks that moved."""
        results: list[FetchResult] = []
        parts: list[bytes] = []
        for key in list(self._ready):
            if budget <= 0:
                break
            del self._ready[key]
            result, data = self._read(key, budget, alone=not any(parts))
            if result is not None:
                results.append(result)
                parts.append(data)
                budget -= len(data)
        if self._advanced:
            results.extend(self._news())
        return FetchResponse(tuple(results)), parts

    def _read(self, key: TopicIdPartition, budget: int, *, alone: bool) -> tuple[FetchResult | None, bytes]:
        error = self._errors.pop(key, None)
        if error is not None:
            return error, b""
        entry = self._entries.get(key)
        if entry is None:
            return None, b""
        if entry.replica.leader is not entry.leader:
            self._forget(key)
            message = f"{entry.replica.name} is led in another epoch now"
            return refusal(entry.replica, entry.asked, ErrorCode.NOT_LEADER_OR_FOLLOWER, message), b""
        throttled = entry.leader.is_throttled(self.follower)
        allowance = self._giving.allowance() if throttled else None
        if allowance == 0:
            self._hold_back(key)
            return None, b""
        # Named in this epoch, so it was checked then; a leader's log only grows.
        size = budget if allowance is None else min(budget, allowance)
        result, data = read_checked(entry.replica, entry.asked, entry.leader, size, entry.leader.log_end)
        if result.error is not ErrorCode.NONE:
            self._forget(key)
            return result, b""
        if len(data) > budget and not alone:
            self._ready[key] = None  # one larger batch goes alone: first in a later answer
            return None, b""
        if throttled:
            self._giving.take(len(data))
        entry.sent = bool(data)
        unchanged = entry.is_told
        entry.tell()
        self._advanced.pop(key, None)
        return (None, b"") if unchanged and not data else (result, data)

    def _hold_back(self, key: TopicIdPartition) -> None:
        """Its turn comes when the throttle lets more through."""
        self._held_back[key] = None
        if self._let_go is None:
            self._let_go = asyncio.get_running_loop().call_later(
                min(self._giving.wait_s(), HELD_BACK_S_MAX), self._release
            )

    def _release(self) -> None:
        self._let_go = None
        self._ready.update(self._held_back)
        self._held_back.clear()
        self._on_ready()

    def _news(self) -> list[FetchResult]:
        """High watermarks that moved since the follower last heard of them, without data."""
        news: list[FetchResult] = []
        for key in self._advanced:
            entry = self._entries.get(key)
            if entry is None or entry.replica.leader is not entry.leader:
                continue
            if not entry.is_told:
                entry.tell()
                news.append(answer_of(entry.replica, entry.asked, entry.leader, 0, None))
        self._advanced.clear()
        return news

    @staticmethod
    def _unknown(asked: FetchPartition) -> FetchResult:
        return FetchResult(
            topic_id=asked.topic_id,
            partition=asked.partition,
            error=ErrorCode.UNKNOWN_TOPIC_ID,
            message="this broker holds no such partition (yet)",
        )
