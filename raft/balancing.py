"""When leaderships go back to their preferred replicas, and which (pure): few at a time, and not to who has just come.

Kafka looks every five minutes. Here the same, and every ten seconds while a broker has come back within that time: ten
seconds are long enough for a broker that fails again at once to get nothing, and short enough that after a rolling
restart nobody waits for the load to be even again.
"""

from msgspec.structs import replace

from ottla.log.model import BrokerEpoch, BrokerId

from .commands import Election, ElectLeaders
from .decision import ordered_topics
from .election import preferred
from .image import MetadataImage

SETTLE_S = 10.0
"""A broker that came back is not led to before."""
ELECTIONS_AT_ONCE = 50
"""A round moves no more leaderships; the next one comes ``ROUND_S`` later."""
ROUND_S = 1.0

_Comers = dict[BrokerId, tuple[BrokerEpoch, float]]


def imbalance(image: MetadataImage, candidates: frozenset[BrokerId], limit: int) -> tuple[Election, ...]:
    """Partitions whose preferred replica is one of ``candidates``, could lead, and does not."""
    brokers = {
        broker_id: broker if broker_id in candidates else replace(broker, drained=True)
        for broker_id, broker in image.brokers.items()
    }
    found: list[Election] = []
    for topic in ordered_topics(image):
        for number, partition in enumerate(topic.partitions):
            if partition.leader in (None, partition.replicas[0]):
                continue
            if preferred(partition, brokers, image.rules(topic, partition)) is not None:
                found.append(Election(topic.topic_id, number))
                if len(found) == limit:
                    return tuple(found)
    return tuple(found)


class Balancer:
    """``interval_s``: between looks while nobody has come or gone. Times are monotonic seconds given by the caller."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._came: _Comers = {}  # incarnations that may lead, and since when
        self._next_s: float | None = None

    def clear(self) -> None:
        """Another controller was in office: when brokers came is not known, so all have just come."""
        self._came.clear()
        self._next_s = None

    def round(self, image: MetadataImage, now_s: float) -> ElectLeaders | None:
        """What to propose now, if anything."""
        self._note(image, now_s)
        if self._next_s is None or now_s < self._next_s:
            return None
        stayed = frozenset(broker for broker, (_, since_s) in self._came.items() if now_s - since_s >= SETTLE_S)
        elections = imbalance(image, stayed, ELECTIONS_AT_ONCE)
        self._next_s = now_s + (ROUND_S if elections else self._pause_s(now_s))
        return ElectLeaders(elections) if elections else None

    def _note(self, image: MetadataImage, now_s: float) -> None:
        came: _Comers = {}
        for broker in image.brokers.values():
            if broker.willing:
                known = self._came.get(broker.broker_id)
                if known is None or known[0] != broker.broker_epoch:
                    known = (broker.broker_epoch, now_s)
                    self._next_s = min(self._next_s or now_s + SETTLE_S, now_s + SETTLE_S)
                came[broker.broker_id] = known
        self._came = came

    def _pause_s(self, now_s: float) -> float:
        ages = [now_s - since_s for _, since_s in self._came.values()]
        pauses = [SETTLE_S - age for age in ages if age < SETTLE_S]
        pauses += [SETTLE_S] if any(age < self._interval_s for age in ages) else []
        return min([*pauses, self._interval_s])
