"""How a consumer reads: its options, and where it is in each partition."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ottla.log.model import BrokerId, LeaderEpoch, Offset, TopicId, TopicIdPartition, TopicPartition
from ottla.log.records import RecordBatch

from .arguments import check_flag, check_number, check_whole
from .epoch_trail import EpochTrail
from .errors import ConfigError, OttlaError


class LogTruncated(OttlaError):
    """Records that were read are no longer in the log: an operator elected a leader without them (KIP-320).
    ``offset``: where what was read and what is there part."""

    code = "OTTLA-LOG-TRUNCATED"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(
            message, hint="To go on with the log as it is now, seek to that offset, or set the group: ottla group seek."
        )
        self.offset = offset


class NotAssigned(OttlaError):
    """The group has not given this consumer the partition: it is another member's, or there is no such partition."""

    code = "OTTLA-NOT-ASSIGNED"


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """``auto_offset_reset``: "error", "earliest" or "latest", for an offset that is not in the log (any more); the
    latter two also go on after a truncation, from where the log parts. ``max_wait_ms``: of a long poll.
    ``partition_bytes``: of one partition in one answer; ``prefetch_bytes``: of everything read ahead.
    ``request_timeout_s``: how long a leader is asked again. ``check_crc``: verify every batch. ``rack``: where this
    consumer is; a follower there that is in sync is read from in place of the leader (KIP-392)."""

    auto_offset_reset: str = "error"
    max_wait_ms: int = 500
    fetch_bytes: int = 4 << 20
    partition_bytes: int = 1 << 20
    prefetch_bytes: int = 16 << 20
    request_timeout_s: float = 30
    check_crc: bool = True
    rack: str = ""

    def check(self) -> None:
        """Raises ConfigError."""
        if self.auto_offset_reset not in ("error", "earliest", "latest"):
            raise ConfigError(
                f"auto_offset_reset is {self.auto_offset_reset!r}.", hint='It is "error", "earliest" or "latest".'
            )
        check_number("request_timeout_s", self.request_timeout_s)
        for name in ("max_wait_ms", "fetch_bytes", "partition_bytes", "prefetch_bytes"):
            check_whole(name, getattr(self, name))
        check_flag("check_crc", self.check_crc)
        for name in ("max_wait_ms", "fetch_bytes", "partition_bytes"):
            if getattr(self, name) >= 2**31:
                raise ConfigError(f"{name} is {getattr(self, name)}.", hint="It is a number of 31 bits.")
        check_name("rack", self.rack, 255)


def consumer_closed() -> OttlaError:
    """What every call of a closed consumer raises."""
    return OttlaError("the consumer is closed.", code="OTTLA-CLOSED", hint="Make another one of the client.")


def check_name(what: str, name: str, length_max: int) -> None:
    """Whether a node would take this name: one that it refuses ends the stream. Raises ConfigError."""
    if not isinstance(name, str):
        raise ConfigError(f"{what} is {name!r:.100}.", hint="It is text.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} is {name!a}.", hint="It has a part of a character.") from None
    if len(name) > length_max:
        raise ConfigError(f"{what} has {len(name)} characters.", hint=f"It has {length_max} at most.")


class Handout(Protocol):
    """What a partition has to know of the records that are being handed out. ``position``: of the next one."""

    @property
    def taken(self) -> int: ...
    @property
    def position(self) -> Offset: ...
    def stop(self) -> None: ...


class Partition:
    """Where one partition is being read.

    ``fetch_offset``: next to ask for; everything from the position to it is read ahead. ``generation`` rises with every
    jump: what was asked for before it is void. ``handout``: of its records, being handed out; the position is in there.
    """

    __slots__ = (
        "_has_read",
        "_position",
        "buffered_bytes",
        "failure",
        "failures",
        "fetch_offset",
        "fetching",
        "generation",
        "handout",
        "held",
        "high_watermark",
        "key",
        "last_epoch",
        "lookup",
        "muted_until_s",
        "number",
        "paused",
        "replica",
        "replica_banned_until_s",
        "replica_until_s",
        "start",
        "target",
        "topic",
        "trail",
    )

    def __init__(self, topic: str, topic_id: TopicId, number: int, start: str | int) -> None:
        self.topic = topic
        self.number = number
        self.key = TopicPartition(topic, number)
        self.target = TopicIdPartition(topic_id, number)
        self.start = start
        self.high_watermark: Offset | None = None  # as the last answer told
        self.lookup: str | None = start if isinstance(start, str) else None
        self._position: Offset | None = None if isinstance(start, str) else Offset(start)
        self.handout: Handout | None = None
        self.fetch_offset = self._position
        self.last_epoch: LeaderEpoch | None = None  # of the record before ``fetch_offset``
        self.trail = EpochTrail()
        self.generation = 0
        self.fetching = False
        self._has_read = False
        self.paused = False
        self.held = False
        self.buffered_bytes = 0
        self.muted_until_s = 0.0
        self.failures = 0
        self.failure: OttlaError | None = None
        self.replica: BrokerId | None = None  # a follower near by that its leader named; None: the leader is read from
        self.replica_until_s = 0.0
        self.replica_banned_until_s = 0.0

    @property
    def position(self) -> Offset | None:
        """Next offset for the user; None until looked up."""
        return self._position if self.handout is None else self.handout.position

    @property
    def has_read(self) -> bool:
        """Whether the user has read anything of it."""
        return self._has_read or (self.handout is not None and self.handout.taken > 0)

    def settle(self) -> None:
        """Nothing more of what is being handed out: where that has got to is where the user is."""
        handout = self.handout
        if handout is not None:
            self._position, self._has_read = handout.position, self.has_read
            self.handout = None
            handout.stop()

    def lag(self, position: int | None) -> int | None:
        """Records between there and the end of the log as the last answer told it; None before there was one."""
        return None if self.high_watermark is None or position is None else max(0, self.high_watermark - position)

    def moved_to(self, offset: Offset) -> None:
        """The user has everything below ``offset``."""
        self.settle()
        self._position = offset
        self._has_read = True

    def looked_up(self, offset: Offset | None) -> None:
        """Where to begin, or to go on."""
        self._position = self.fetch_offset = offset
        self.lookup = None

    def jump(self, position: Offset | None, lookup: str | None = None) -> None:
        """Read from elsewhere; nothing asked for before counts."""
        self.settle()
        self.generation += 1
        self.fetching = False
        self._position = self.fetch_offset = position
        self.lookup = lookup
        self.last_epoch = self.trail.go_to(position)
        self.muted_until_s = 0.0
        self.failure = None

    def begin_at(self, offset: Offset, epoch: LeaderEpoch | None) -> None:
        """The user has everything below ``offset``, of which the last record was written in ``epoch``."""
        self.trail.begin(offset, epoch)
        self.jump(offset)
        self.moved_to(offset)

    def forget_epochs(self) -> None:
        """What comes next is asked for without saying what came before."""
        self.trail.begin(self.fetch_offset, None)
        self.last_epoch = None

    def fetched(self, batch: RecordBatch) -> None:
        """The next one was read ahead."""
        self.trail.add(batch.base_offset, batch.next_offset, batch.leader_epoch)
        self.fetch_offset, self.last_epoch = batch.next_offset, batch.leader_epoch

    def read_from(self, replica: BrokerId, until_s: float) -> None:
        """Its leader named a follower near by."""
        self.replica, self.replica_until_s = replica, until_s

    def back_to_leader(self, banned_until_s: float) -> None:
        """The follower near by is of no use; until then none is asked for."""
        self.replica, self.replica_banned_until_s = None, banned_until_s

    def rewind(self) -> None:
        """Forget what was read ahead."""
        self.settle()
        self.fetch_again(self.position)

    def fetch_again(self, offset: Offset | None) -> None:
        """From there on, what was read ahead is void; what is being handed out is not."""
        self.generation += 1
        self.fetching = False
        self.fetch_offset = offset
        self.last_epoch = self.trail.go_to(offset)


class Fetched(NamedTuple):
    """One batch, in the order of its partition."""

    partition: Partition
    generation: int
    batch: RecordBatch


class Failed(NamedTuple):
    partition: Partition
    generation: int
    error: OttlaError
