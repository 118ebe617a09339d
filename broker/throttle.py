"""How much replication takes part in bringing new replicas: Kafka's throttles (KIP-73), one for each direction.

Only what goes to a replica that is being added, and is not in sync yet, counts: replicas that writes wait for are
never held up. A bucket may be overdrawn by one answer and then gives nothing until it is paid back.
"""

from collections.abc import Callable

from ottla.log.clock import Clock
from ottla.log.model import BrokerId
from ottla.raft.image import ALL_BROKERS, MetadataImage

LEADER_RATE = "leader.replication.throttled.rate"
FOLLOWER_RATE = "follower.replication.throttled.rate"


class TokenBucket:
    """``rate``: bytes a second now, None for no limit. Holds at most one second's worth."""

    def __init__(self, rate: Callable[[], int | None], clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = 0.0
        self._filled_s = clock.monotonic()

    def allowance(self) -> int | None:
        """Bytes that may be taken now; 0: wait for ``wait_s``. None: no limit."""
        rate = self._rate()
        if rate is None:
            return None
        self._fill(rate)
        return max(0, int(self._tokens))

    def take(self, size: int) -> None:
        """So many bytes were."""
        self._tokens -= size

    def wait_s(self) -> float:
        """Until something may be taken again."""
        rate = self._rate()
        if rate is None:
            return 0.0
        self._fill(rate)
        return max(0.0, (1 - self._tokens) / rate)

    def _fill(self, rate: int) -> None:
        now_s = self._clock.monotonic()
        self._tokens = min(float(rate), self._tokens + (now_s - self._filled_s) * rate)
        self._filled_s = now_s


def rate_of(image: MetadataImage, broker: BrokerId, name: str) -> int | None:
    """A broker's throttle as it is set for it, or for all."""
    for key in (str(broker), ALL_BROKERS):
        configs = image.broker_configs.get(key)
        if configs is not None and name in configs:
            return int(configs[name])
    return None
