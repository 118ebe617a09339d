"""Typed keys and values: what becomes bytes on the way out, and what bytes become on the way in.

    client.producer(key=str, value=Order)        client.consumer("orders", key=str, value=Order)

A type stands for its codec: ``bytes`` as they are, ``str`` UTF-8, ``int`` and ``float`` eight bytes, big-endian, as
Kafka's Long and Double serializers, ``uuid.UUID`` its text, ``dict`` and ``list`` JSON, and msgspec structs,
dataclasses and pydantic models JSON of that shape, checked when it is read, and when it is written: what would stop
every consumer of that type is refused, not sent. Anything with ``encode`` and ``decode`` is a codec as well. None is
None on both ways: a missing key, a tombstone.
"""

import dataclasses
import struct
import uuid
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from .errors import ConfigError, OttlaError

T = TypeVar("T")


class Codec(Protocol[T]):
    """Both ways. ``encode`` raises TypeError or ValueError for what it cannot write, ``decode`` ValueError for what
    it cannot read."""

    def encode(self, value: T, /) -> bytes: ...
    def decode(self, data: bytes, /) -> T: ...


class UndecodableRecord(OttlaError):
    """A record's key or value is not what the consumer was told to expect. ``topic``, ``partition``, ``offset``:
    which. Seek to ``offset + 1`` to go on, or let ``on_error`` decide."""

    code = "OTTLA-UNDECODABLE-RECORD"

    def __init__(self, topic: str, partition: int, offset: int, what: str, why: BaseException) -> None:
        super().__init__(
            f"{topic}-{partition}: the {what} at offset {offset} cannot be decoded: {why}.",
            hint='Seek past it, or give on_error="skip".',
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class UnencodableRecord(OttlaError):
    """A key or value is not of the type that the producer was told. Nothing was sent."""

    code = "OTTLA-UNENCODABLE-RECORD"


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionCodec(Generic[T]):
    """A codec of two functions."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


def codec_for(what: Any, flag: str = "value") -> "Codec[Any] | None":
    """The codec of a type, or ``what`` itself if it is one; None for bytes, which need none. Raises ConfigError."""
    if what is None or what is bytes:
        return None
    if hasattr(what, "model_validate_json"):
        return _checked(what, lambda model: cast("bytes", model.model_dump_json().encode()), what.model_validate_json)
    if (
        not isinstance(what, type)
        and callable(getattr(what, "encode", None))
        and callable(getattr(what, "decode", None))
    ):
        return cast("Codec[Any]", what)
    simple = _SIMPLE.get(what) if isinstance(what, type) else None
    if simple is not None:
        return simple
    if what in (dict, list) or _is_of_fields(what) or hasattr(what, "__origin__"):
        return _json_of(what, flag)
    raise ConfigError(
        f"{flag} is {what!r}, for which there is no codec.",
        hint="Give bytes, str, int, float, uuid.UUID, dict, list, a msgspec struct, a dataclass, a pydantic model, or "
        "an object with encode and decode.",
    )


def _is_of_fields(what: Any) -> bool:
    return isinstance(what, type) and (issubclass(what, msgspec.Struct) or dataclasses.is_dataclass(what))


def _json_of(what: Any, flag: str) -> Codec[Any]:
    try:
        decoder = msgspec.json.Decoder(what)
    except TypeError as error:
        raise ConfigError(f"{flag} is {what!r}: {error}.") from error
    return _checked(what, msgspec.json.encode, decoder.decode)


def _checked(what: Any, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> Codec[Any]:
    """``encode`` refuses what is of another type, and what has fields of other types, by reading what it wrote: that
    is quicker than to look at it beforehand, and it is what consumers will do."""
    kind = getattr(what, "__origin__", what)
    if not isinstance(kind, type):
        kind = object  # a union, or the like
    is_any = what in (dict, list)

    def encode(value: Any) -> bytes:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r:.100} is no {getattr(what, '__name__', what)}")
        data = write(value)
        if not is_any:
            read(data)
        return data

    return FunctionCodec(encode, read)


def _packed(layout: str, kind: type) -> Codec[Any]:
    packer = struct.Struct(layout)

    def encode(value: Any) -> bytes:
        if isinstance(value, bool) or not isinstance(value, kind | int):
            raise TypeError(f"{value!r:.100} is no {kind.__name__}")
        return packer.pack(value)

    def decode(data: bytes) -> Any:
        if len(data) != packer.size:
            raise ValueError(f"{len(data)} bytes are not the {packer.size} of one {kind.__name__}")
        return packer.unpack(data)[0]

    return FunctionCodec(encode, decode)


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is no str")
    return value.encode()


def _encode_uuid(value: Any) -> bytes:
    if not isinstance(value, uuid.UUID):
        raise TypeError(f"{value!r:.100} is no UUID")
    return str(value).encode()


_SIMPLE: dict[type, Codec[Any]] = {
    str: FunctionCodec(_encode_text, bytes.decode),
    int: _packed(">q", int),
    float: _packed(">d", float),
    uuid.UUID: FunctionCodec(_encode_uuid, lambda data: uuid.UUID(data.decode())),
}


def encode_with(codec: Codec[Any] | None, value: Any, what: str) -> bytes | None:
    """Bytes to send. Raises UnencodableRecord."""
    if codec is None or value is None:
        return cast("bytes | None", value)
    try:
        return codec.encode(value)
    except Exception as error:  # a codec is the user's: whatever it raises is about this value
        raise UnencodableRecord(f"the {what} cannot be encoded: {error}.") from error
