"""Which brokers the controller hears from (pure): the sessions behind fencing and unfencing."""

from collections.abc import Container
from dataclasses import dataclass

from ottla.log.model import BrokerEpoch, BrokerId

from .commands import FenceBroker, UnfenceBroker
from .digests import ImageDigest
from .image import Broker


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A broker says that it lives, and how far it has applied the metadata."""

    broker_id: BrokerId
    broker_epoch: BrokerEpoch
    applied_index: int
    digest: ImageDigest | None = None  # the newest one that it made of its image


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What the controller says back."""

    active: bool  # False: this node is not the controller, and the rest is only what it has applied
    leader_id: BrokerId | None  # whom to ask instead
    commit_index: int  # of the quorum: how far the broker should get
    fenced: bool
    draining: bool
    diverged: bool = False  # this broker's image is not the one that a majority of the voters holds: stop
    stale: bool = False  # this broker epoch is not, or no longer, registered: register anew


@dataclass(slots=True)
class _Session:
    broker_epoch: BrokerEpoch
    since: float  # when it was last heard, or when we began to listen
    applied_index: int | None = None  # of the last heartbeat; None before the first
    condemned: bool = False  # its port refused: dead before its time


class Sessions:
    """One session per broker incarnation. Times are monotonic seconds given by the caller."""

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        self._sessions: dict[BrokerId, _Session] = {}

    def clear(self) -> None:
        """Everyone begins anew."""
        self._sessions.clear()

    def keep_only(self, brokers: Container[BrokerId]) -> None:
        """Forgets brokers that are gone."""
        for broker_id in [known for known in self._sessions if known not in brokers]:
            del self._sessions[broker_id]

    def expect(self, broker: Broker, now: float) -> None:
        """Begins a full session for an incarnation that has none."""
        session = self._sessions.get(broker.broker_id)
        if session is None or session.broker_epoch != broker.broker_epoch:
            self._sessions[broker.broker_id] = _Session(broker.broker_epoch, now)

    def renew(self, beat: Heartbeat, now: float) -> None:
        """The incarnation was heard: it is alive whatever was thought before."""
        self._sessions[beat.broker_id] = _Session(beat.broker_epoch, now, beat.applied_index)

    def condemn(self, broker: Broker) -> None:
        """Its port refused: its session is over, unless it belongs to another incarnation."""
        session = self._sessions.get(broker.broker_id)
        if session is not None and session.broker_epoch == broker.broker_epoch:
            session.condemned = True

    def pardon(self, broker_id: BrokerId) -> None:
        """It connected again."""
        session = self._sessions.get(broker_id)
        if session is not None:
            session.condemned = False

    def verdict(self, broker: Broker, now: float) -> FenceBroker | UnfenceBroker | None:
        """What should be proposed about this broker: nothing while it is as its session says."""
        session = self._sessions.get(broker.broker_id)
        if session is None or session.broker_epoch != broker.broker_epoch:
            return None
        alive = not session.condemned and now - session.since < self._session_s
        if not alive:
            return None if broker.fenced else FenceBroker(broker.broker_id, broker.broker_epoch)
        if not broker.fenced or broker.draining or session.applied_index is None:
            return None
        # Only once it has applied its own fencing has it dropped its leaderships.
        seen = session.applied_index >= broker.fenced_index
        return UnfenceBroker(broker.broker_id, broker.broker_epoch) if seen else None
