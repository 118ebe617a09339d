"""What happens to a record between the caller and the batch: interceptors, then codecs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ottla.log.records import Header

from .serializers import Codec, encode_with

HeadersLike = Mapping[str, bytes | None] | Sequence[Header] | None


class OutgoingRecord(NamedTuple):
    """A record as its sender gave it."""

    topic: str
    key: Any
    value: Any
    headers: tuple[Header, ...]
    partition: int | None
    timestamp_ms: int | None


OnSend = Callable[[OutgoingRecord], OutgoingRecord]
"""An interceptor: what it returns is sent in place of the record; what it raises, ``send`` raises."""


class Encoding(NamedTuple):
    """None: bytes as they are."""

    key: Codec[Any] | None = None
    value: Codec[Any] | None = None
    interceptors: tuple[OnSend, ...] = ()

    def encoded(self, record: OutgoingRecord) -> OutgoingRecord:
        """Raises UnencodableRecord, and whatever an interceptor raises."""
        for interceptor in self.interceptors:
            record = interceptor(record)
        return record._replace(
            key=encode_with(self.key, record.key, "key"), value=encode_with(self.value, record.value, "value")
        )


def header_list(headers: HeadersLike) -> tuple[Header, ...]:
    """Headers in order, from either way of giving them."""
    if not headers:
        return ()
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)
