"""ApiVersions: what is served, told to whoever asks in whatever version (KIP-35, KIP-511). By hand, as Metadata is.

request    | software name: string (3+) | software version: string (3+) | tags |
response   | error: i16 | keys: array of | key: i16 | oldest: i16 | newest: i16 | tags | | throttle ms: i32 (1+) |
             tags (3+): 0 supported features: array of | name | lowest: i16 | highest: i16 | tags |,
             1 epoch of the finalized ones: i64, 2 finalized features: array of | name | highest | lowest | tags | |
"""

import contextlib
import struct

import structlog

from ottla.client.error_codes import ErrorCode

from .caller import Caller, Parts
from .header import Header, response_header
from .versions import SERVED, ApiKey, is_flexible
from .view import BrokerView
from .wire import INT16, INT32, INT64, NO_TAGS, Cursor, Malformed, count, string, uvarint

log = structlog.get_logger(__name__)

NAME_CHARS_MAX = 100
UNKNOWN_VERSION = 0
"""In which a client is answered that asks in a version that is not served: anybody can read it."""
FEATURES = {"metadata.version": (1, 25), "group.version": (0, 1)}
"""What clients look for before they use it: level 1 of groups is the consumer protocol (KIP-848). Not there:
transaction.version, kraft.version."""
FEATURES_FROM_ZERO_SINCE = 4
"""Java clients before 3.9 ask in version 3 and fail on a feature whose lowest level is 0 (KAFKA-17011)."""
_KEY = struct.Struct(">hhh")


def answer_api_versions(view: BrokerView, caller: Caller, header: Header, frame: memoryview) -> Parts:
    """The whole response."""
    if header.served and not caller.software:
        caller.software = _software(header, frame)
        log.debug("kafka.client", software=caller.software, client=caller.client_id, host=caller.host)
    version = header.version if header.served else UNKNOWN_VERSION
    error = ErrorCode.NONE if header.served else ErrorCode.UNSUPPORTED_VERSION
    head = response_header(header.key, version, header.correlation_id)
    return (head, encode_api_versions(version, error, view.image.index))


def _software(header: Header, frame: memoryview) -> str:
    """As the client calls itself. A name that is none is taken as it comes: no client should fail for it."""
    if not is_flexible(ApiKey.API_VERSIONS, header.version):
        return ""
    with contextlib.suppress(Malformed):
        cursor = Cursor(frame, header.body_at)
        return "/".join((cursor.string(True) or "")[:NAME_CHARS_MAX] for _ in range(2))
    return ""


def encode_api_versions(version: int, error: ErrorCode, epoch: int) -> bytes:
    """The response's body. ``epoch``: rises with what is finalized."""
    flexible = is_flexible(ApiKey.API_VERSIONS, version)
    tags = NO_TAGS if flexible else b""
    keys = (_KEY.pack(key, served.oldest, served.newest) + tags for key, served in SERVED.items())
    pieces = [INT16.pack(error), count(len(SERVED), flexible), *keys]
    if version >= 1:
        pieces.append(INT32.pack(0))
    if flexible:
        from_zero = version >= FEATURES_FROM_ZERO_SINCE
        supported = [(name, low, high) for name, (low, high) in FEATURES.items() if low or from_zero]
        finalized = [(name, high, high) for name, (_, high) in FEATURES.items()]
        values = (_features(supported), INT64.pack(epoch), _features(finalized))
        tagged = (uvarint(tag) + uvarint(len(value)) + value for tag, value in enumerate(values))
        pieces += (uvarint(len(values)), *tagged)
    return b"".join(pieces)


def _features(features: list[tuple[str, int, int]]) -> bytes:
    each = (string(name, True) + INT16.pack(one) + INT16.pack(other) + NO_TAGS for name, one, other in features)
    return count(len(features), True) + b"".join(each)
