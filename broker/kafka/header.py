"""Request and response headers. Pure.

request   | api key: i16 | api version: i16 | correlation id: i32 | client id: string or null | tags where flexible |
response  | correlation id: i32 | tags where flexible, but never before ApiVersions (KIP-511) |
"""

from typing import NamedTuple

from .versions import SERVED, ApiKey, is_flexible
from .wire import INT32, NO_TAGS, Cursor, Malformed

CLIENT_ID_MAX = 255
"""Characters of a client's name that are kept."""


class Header(NamedTuple):
    """``body_at``: where the body begins in the frame. ``served``: whether we know this version of it."""

    key: ApiKey
    version: int
    correlation_id: int
    client_id: str
    body_at: int
    served: bool = True


def read_header(frame: memoryview) -> Header:
    """Raises Malformed for a request that is not served, but for ApiVersions in whatever version: its answer tells
    the client what is (KIP-511)."""
    cursor = Cursor(frame)
    number, version, correlation_id = cursor.int16(), cursor.int16(), cursor.int32()
    try:
        key = ApiKey(number)
    except ValueError:
        raise Malformed(f"requests of key {number} are not served here") from None
    oldest, newest, _ = SERVED[key]
    if not oldest <= version <= newest:
        if key is not ApiKey.API_VERSIONS:
            raise Malformed(f"{key.name} is served in versions {oldest} to {newest}, not in {version}")
        return Header(key, version, correlation_id, "", len(frame), served=False)
    client_id = cursor.string(flexible=False)  # in every version of the header: who reads it may not know the rest
    cursor.tags(is_flexible(key, version))
    return Header(key, version, correlation_id, (client_id or "")[:CLIENT_ID_MAX], cursor.position)


def response_header(key: ApiKey, version: int, correlation_id: int) -> bytes:
    """What comes before the body."""
    tagged = key is not ApiKey.API_VERSIONS and is_flexible(key, version)
    return INT32.pack(correlation_id) + (NO_TAGS if tagged else b"")
