"""What a consumer hands out."""

from typing import TYPE_CHECKING, Generic, NamedTuple

from ottla.log.records import Header

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    K = TypeVar("K", default=bytes)
    V = TypeVar("V", default=bytes)
else:  # defaults of type variables are for those who check types, and newer than the oldest Python we run on
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")


class ConsumerRecord(NamedTuple, Generic[K, V]):
    """One record. ``timestamp_ms``: milliseconds since 1970; a None value is a tombstone. Key and value are bytes, or
    what the consumer was told to make of them."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: K | None
    value: V | None
    headers: tuple[Header, ...]
