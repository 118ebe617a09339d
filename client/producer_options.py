"""What a producer can be told."""

from dataclasses import dataclass

from ottla.log.compression import Compression

from .batch import Limits
from .errors import ConfigError
from .partitioner import Partitioner, partition_for_key
from .protocol import ACKS_ALL, ACKS_LEADER, ACKS_NONE


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
        if self.compression.upper() not in Compression.__members__:
            names = ", ".join(name.lower() for name in Compression.__members__)
            raise ConfigError(f"compression is {self.compression!r}.", hint=f"It is one of {names}.")
        if not 1 <= self.max_in_flight <= 5:
            raise ConfigError(f"max_in_flight is {self.max_in_flight}.", hint="It is 1 to 5.")
        for name in ("batch_size", "buffer_bytes", "delivery_timeout_s", "request_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", hint="It must be above 0.")
        if self.linger_ms < 0:
            raise ConfigError(f"linger_ms is {self.linger_ms}.", hint="It must not be negative.")

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
