"""Requests and responses through kio, as the other side would make and read them: for tests only."""

import struct
from io import BytesIO
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from ottla.broker.kafka.versions import SERVED, ApiKey, is_flexible

CORRELATION_ID = 77


def body_of(entity: Any) -> bytes:
    buffer = BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def request_class(key: ApiKey, version: int) -> Any:
    return load_request_schema(key, version)


def frame_of(entity: Any, client_id: str | None = "test", correlation_id: int = CORRELATION_ID) -> bytes:
    """A whole request without its length."""
    key, version = ApiKey(entity.__api_key__), entity.__version__
    encoded = b"" if client_id is None else client_id.encode()
    name = struct.pack(">h", -1 if client_id is None else len(encoded)) + encoded
    tags = b"\x00" if is_flexible(key, version) else b""
    return struct.pack(">hhi", key, version, correlation_id) + name + tags + body_of(entity)


def on_the_wire(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def read_response(key: ApiKey, version: int, body: bytes) -> Any:
    """Without its header; all of it must be read."""
    entity, size = entity_reader(load_response_schema(key, version))(body, 0)
    assert size == len(body), f"{len(body) - size} bytes behind a {key.name} of version {version}"
    return entity


def split_header(key: ApiKey, version: int, response: bytes) -> tuple[int, bytes]:
    """Correlation id and body of a response without its length."""
    tagged = key is not ApiKey.API_VERSIONS and is_flexible(key, version)
    assert not tagged or response[4] == 0
    return struct.unpack_from(">i", response)[0], response[5 if tagged else 4 :]


def inner(schema: Any, *names: str) -> Any:
    """The class of the elements of an array in it."""
    for name in names:
        options = schema.__dataclass_fields__[name].type
        schema = next(each for option in (options, *getattr(options, "__args__", ())) for each in _classes(option))
    return schema


def _classes(option: Any) -> list[Any]:
    return [each for each in getattr(option, "__args__", ()) if hasattr(each, "__dataclass_fields__")] or (
        [option] if hasattr(option, "__dataclass_fields__") else []
    )


def every_version() -> list[tuple[ApiKey, int]]:
    return [(key, version) for key, served in SERVED.items() for version in range(served.oldest, served.newest + 1)]
