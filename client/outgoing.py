"""What happens to a record between the caller and the batch: interceptors, then codecs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ottla.log.records import Header

from .callbacks import failed, name_of
from .serializers import Codec

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

    def intercepted(self, record: OutgoingRecord) -> OutgoingRecord:
        """Raises whatever an interceptor raises, and CallbackFailed for one that returns something else."""
        for interceptor in self.interceptors:
            made: Any = interceptor(record)
            if not isinstance(made, OutgoingRecord):
                wrong = TypeError(f"{made!r:.100} is no OutgoingRecord")
                raise failed(f"the interceptor {name_of(interceptor)}", wrong) from wrong
            record = made
        return record


def header_list(headers: HeadersLike) -> tuple[Header, ...]:
    """Headers in order, from either way of giving them."""
    if not headers:
        return ()
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)


def content_size(content: bytes | None, what: str) -> int:
    """Bytes. Raises TypeError: a wrong type must not get as far as a batch that holds other records, too."""
    if content is None:
        return 0
    if isinstance(content, bytes):
        return len(content)
    hint = f" Encode it: {what.rpartition(' ')[2]}.encode()" if isinstance(content, str) else ""
    raise TypeError(f"{what} is {type(content).__name__}, not bytes.{hint}")


def header_size(name: str, content: bytes | None) -> int:
    """Bytes, with what is beside it. Raises TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"a header's name is {type(name).__name__}, not str.")
    return len(name.encode()) + 16 + content_size(content, "header value")
