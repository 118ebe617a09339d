"""What a producer can be told."""

import math
from dataclasses import dataclass
from typing import Any

from ottla.log.compression import Compression

from .batch import Limits
from .errors import ConfigError
from .group_options import SECONDS_MAX
from .partitioner import Partitioner, partition_for_key
from .protocol import ACKS_ALL, ACKS_LEADER, ACKS_NONE

NUMBERS = ("batch_size", "buffer_bytes", "max_in_flight", "delivery_timeout_s", "request_timeout_s", "linger_ms")


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """``acks``: "all" (in-sync replicas), 1 (leader) or 0 (nobody; no offsets, losses unseen). ``idempotent``: each
    record stored once across retries; None means wherever acks is "all". ``linger_ms``: how long a batch waits for
    company. ``batch_size``, ``buffer_bytes``: bytes of a batch, and of all records not acknowledged yet.
    ``max_in_flight``: requests per broker, 1 to 5; without idempotence a partition has one, to keep order.
    ``delivery_timeout_s``: after this a record's future fails with DeliveryTimeout. ``partitioner``: for keys."""

    acks: str | int = "all"
    idempotent: bool | None = None
    linger_ms: float = 5
    batch_size: int = 64 << 10
    compression: str = "none"
    buffer_bytes: int = 64 << 20
    delivery_timeout_s: float = 120
    request_timeout_s: float = 30
    max_in_flight: int = 5
    partitioner: Partitioner = partition_for_key

    @property
    def acks_number(self) -> int:
        """-1, 0 or 1. Raises ConfigError."""
        try:
            return {"all": ACKS_ALL, "-1": ACKS_ALL, "1": ACKS_LEADER, "0": ACKS_NONE}[str(self.acks)]
        except KeyError:
            raise ConfigError(f"acks is {self.acks!r}.", hint='It is "all", 1 or 0.') from None

    @property
    def is_idempotent(self) -> bool:
        return self.acks_number == ACKS_ALL if self.idempotent is None else self.idempotent

    def check(self) -> None:
        """Raises ConfigError."""
        if self.is_idempotent and self.acks_number != ACKS_ALL:
            raise ConfigError('idempotent needs acks="all".', hint="Leave idempotent out, or set it to False.")
        if not isinstance(self.compression, str) or self.compression.upper() not in Compression.__members__:
            names = ", ".join(name.lower() for name in Compression.__members__)
            raise ConfigError(f"compression is {self.compression!r}.", hint=f"It is one of {names}.")
        if self.idempotent not in (None, True, False):
            raise ConfigError(f"idempotent is {self.idempotent!r}.", hint="It is True or False, or left out.")
        if not callable(self.partitioner):
            raise ConfigError(f"partitioner is {self.partitioner!r}.", hint="It is a function of a key and a count.")
        for name in NUMBERS:
            self._check_number(name, getattr(self, name))
        if self.max_in_flight > 5:
            raise ConfigError(f"max_in_flight is {self.max_in_flight}.", hint="It is 1 to 5.")
        if self.request_timeout_s > SECONDS_MAX:
            hint = f"It is {SECONDS_MAX} at most: 24 days."
            raise ConfigError(f"request_timeout_s is {self.request_timeout_s}.", hint=hint)

    @staticmethod
    def _check_number(name: str, value: Any) -> None:
        is_time = name.endswith(("_s", "_ms"))
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
        if not is_number or not (is_time or isinstance(value, int)):
            raise ConfigError(f"{name} is {value!r}.", hint=f"It is a {'number' if is_time else 'whole number'}.")
        if value < 0 or (value == 0 and name != "linger_ms"):
            limit = "not be negative" if name == "linger_ms" else "be above 0"
            raise ConfigError(f"{name} is {value}.", hint=f"It must {limit}.")

    def limits(self) -> Limits:
        in_flight_max = self.max_in_flight if self.is_idempotent or self.acks_number == ACKS_NONE else 1
        return Limits(
            batch_bytes=self.batch_size,
            buffer_bytes=self.buffer_bytes,
            linger_s=self.linger_ms / 1000,
            delivery_timeout_s=self.delivery_timeout_s,
            in_flight_max=in_flight_max,
            idempotent=self.is_idempotent,
            compression=Compression[self.compression.upper()],
        )
