"""A member of a group of KIP-848, as a state machine: what to tell the coordinator, and what to do with partitions.

    due_s -> heartbeat() -> the coordinator -> accept() -> next_step(): Revoke, Assign or Lose -> done()

The coordinator names what the member may own. What it owns beyond that it revokes first, and says so at once, so that
the next owner need not wait; then it takes what is new. One step is on at a time, heartbeats go on beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ottla.log.model import TopicId, TopicIdPartition

from .error_codes import ErrorCode
from .errors import OttlaError, error_for
from .group_protocol import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

Partitions = frozenset[TopicIdPartition]
NOTHING: Partitions = frozenset()

FENCING = frozenset({ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID})
"""The group goes on without this member: what it owned is lost, and it joins again."""

UNRELEASED_S_MAX = 60.0
"""So long a static member waits for one that had its name and has not left: longer than the session of one that was
killed (45 s, unless the brokers are told otherwise). One that is still there by then is alive."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """Stop with these, commit what was done of them."""

    partitions: Partitions


@dataclass(frozen=True, slots=True)
class Assign:
    """Begin with these."""

    partitions: Partitions


@dataclass(frozen=True, slots=True)
class Lose:
    """Drop these: they belong to others already, and commits would be refused."""

    partitions: Partitions


Step = Revoke | Assign | Lose


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member says of itself when it joins. ``instance_id``: of a static member (KIP-345)."""

    group: str
    topics: tuple[str, ...]
    rebalance_timeout_ms: int
    instance_id: str | None = None
    rack: str | None = None
    assignor: str | None = None
    client_id: str = ""
    pattern: str | None = None


class GroupMember:
    """``epoch``: of the member in its group, None while it is not in it. ``failure``: why it never will be again.

    Invariants: ``owned`` only grows by an Assign and only shrinks by a Revoke or Lose that was done; a heartbeat that
    tells what is owned also tells what is just being begun with, as its absence would say that it was let go; while an
    epoch is lost nothing is owned but what is being lost.
    """

    def __init__(self, member_id: str, subscription: Subscription, now_s: float) -> None:
        self.member_id = member_id
        self.epoch: int | None = None
        self.owned = NOTHING
        self.failure: OttlaError | None = None
        self.due_s: float | None = now_s  # of the next heartbeat; None: not before something else has happened
        self._subscription = subscription
        self._target = NOTHING
        self._incarnation = 0  # rises with every loss: an answer to what was asked before it is void
        self._asked: int | None = None
        self._says_all = True
        self._owned_said: Partitions | None = None
        self._step: Step | None = None
        self._lost = False
        self._left = False
        self._introduced = False
        self._unreleased_since_s: float | None = None  # somebody else is known by our instance id

    @property
    def joined(self) -> bool:
        """Whether the coordinator has taken it in."""
        return self.epoch is not None

    # --- heartbeats --------------------------------------------------------------------------------------------------

    def heartbeat(self) -> ConsumerGroupHeartbeatRequest:
        """The next one, to be sent now; ``accept`` or ``unanswered`` follows."""
        assert self._asked is None
        assert not self._left
        self._asked = self._incarnation
        self._introduced = True
        self.due_s = None
        held = self._held()
        owned = None if self._owned_said == held else _by_topic(held)
        if self.epoch is None:
            return self._introduction(JOIN_EPOCH, ())
        if self._says_all:
            request = self._introduction(self.epoch, _by_topic(held))
        else:
            request = ConsumerGroupHeartbeatRequest(
                group_id=self._subscription.group,
                member_id=self.member_id,
                member_epoch=self.epoch,
                instance_id=self._subscription.instance_id,
                topic_partitions=owned,
            )
        self._owned_said = held
        self._says_all = False
        return request

    def _held(self) -> Partitions:
        return self.owned | self._step.partitions if isinstance(self._step, Assign) else self.owned

    def _introduction(self, epoch: int, owned: tuple[TopicPartitions, ...]) -> ConsumerGroupHeartbeatRequest:
        about = self._subscription
        return ConsumerGroupHeartbeatRequest(
            group_id=about.group,
            member_id=self.member_id,
            member_epoch=epoch,
            instance_id=about.instance_id,
            rack_id=about.rack,
            rebalance_timeout_ms=about.rebalance_timeout_ms,
            subscribed_topic_names=about.topics,
            subscribed_topic_regex=about.pattern,
            server_assignor=about.assignor,
            topic_partitions=owned,
            client_id=about.client_id,
        )

    def accept(self, response: ConsumerGroupHeartbeatResponse, now_s: float, pause_s: float) -> None:
        """Take in an answer; ``pause_s``: until the next attempt where it refuses for a while."""
        asked, self._asked = self._asked, None
        if self._left or self.failure is not None or asked != self._incarnation:
            return
        if response.error is ErrorCode.NONE:
            self._accept(response, now_s)
        elif response.error in FENCING:
            self.fence()
        elif response.error.retriable or self._may_be_released(response.error, now_s):
            self._says_all = True
            self.due_s = now_s + pause_s
        else:
            self._fail(error_for(response.error, response.message))

    def _may_be_released(self, error: ErrorCode, now_s: float) -> bool:
        """Whether it is worth waiting for whoever has our instance id to be gone."""
        if error is not ErrorCode.UNRELEASED_INSTANCE_ID:
            return False
        if self._unreleased_since_s is None:
            self._unreleased_since_s = now_s
        return now_s - self._unreleased_since_s < UNRELEASED_S_MAX

    def _accept(self, response: ConsumerGroupHeartbeatResponse, now_s: float) -> None:
        self._unreleased_since_s = None
        if response.member_id:
            self.member_id = response.member_id
        if self.epoch is None:
            self._says_all = False
            self._owned_said = NOTHING
        self.epoch = response.member_epoch
        changed = self._step is None and self._owned_said != self.owned
        self.due_s = now_s if changed else now_s + response.heartbeat_interval_ms / 1000
        if response.assignment is not None:
            self._target = frozenset(
                TopicIdPartition(topic.topic_id, number) for topic in response.assignment for number in topic.partitions
            )

    def unanswered(self, now_s: float, pause_s: float) -> None:
        """No answer came, or none that tells anything: say all of it again."""
        asked, self._asked = self._asked, None
        if not self._left and self.failure is None and asked == self._incarnation:
            self._says_all = True
            self.due_s = now_s + pause_s

    def hurry(self, now_s: float) -> None:
        """A heartbeat is due now, if none is under way: somebody learned that the epoch may be old."""
        if self.due_s is not None:
            self.due_s = min(self.due_s, now_s)

    def fence(self) -> None:
        """The group goes on without us. Joining again waits until what is lost was let go."""
        self._incarnation += 1
        self._asked = None
        self.epoch = None
        self._target = NOTHING
        self._lost = True
        self._says_all = True
        self.due_s = None

    def leave(self) -> ConsumerGroupHeartbeatRequest | None:
        """The last heartbeat, once everything is let go; None for one that never asked to join. One that did and has
        heard nothing leaves as well: it may have been taken in."""
        self._left = True
        self.due_s = None
        if not self._introduced:
            return None
        instance_id = self._subscription.instance_id
        return ConsumerGroupHeartbeatRequest(
            group_id=self._subscription.group,
            member_id=self.member_id,
            member_epoch=LEAVE_EPOCH if instance_id is None else STATIC_LEAVE_EPOCH,
            instance_id=instance_id,
        )

    def _fail(self, error: OttlaError) -> None:
        self.fence()
        self.failure = error

    # --- partitions --------------------------------------------------------------------------------------------------

    def next_step(self) -> Step | None:
        """What is to be done with partitions now; None while a step is on, or all is as it should be."""
        if self._step is not None or self._left:
            return None
        if self._lost:
            self._step = Lose(self.owned)
        elif revoked := self.owned - self._target:
            self._step = Revoke(revoked)
        elif assigned := self._target - self.owned:
            self._step = Assign(assigned)
        return self._step

    def still_wanted(self, step: Step) -> bool:
        """Whether a step that is on would be begun again: an Assign that takes long may be void meanwhile."""
        if isinstance(step, Assign):
            return not self._left and not self._lost and step.partitions <= self._target
        return not self._left

    def done(self, step: Step, partitions: Iterable[TopicIdPartition], now_s: float) -> None:
        """The step is over, for these of its partitions."""
        assert step is self._step
        self._step = None
        if isinstance(step, Lose):
            self.owned = NOTHING
            self._lost = False
            self._owned_said = None
            self.due_s = now_s if self.failure is None and not self._left else None
        elif isinstance(step, Revoke):
            self.owned -= frozenset(partitions)
        else:
            self.owned |= frozenset(partitions)
        if self.epoch is not None and self.owned != self._owned_said:
            self.hurry(now_s)


def _by_topic(partitions: Partitions) -> tuple[TopicPartitions, ...]:
    topics: dict[TopicId, list[int]] = {}
    for topic_id, number in sorted(partitions):
        topics.setdefault(topic_id, []).append(number)
    return tuple(TopicPartitions(topic_id, tuple(numbers)) for topic_id, numbers in topics.items())
