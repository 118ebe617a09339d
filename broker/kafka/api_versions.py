"""ApiVersions: what is served, told to whoever asks in whatever version (KIP-35, KIP-511)."""

import structlog

from ottla.client.error_codes import ErrorCode

from .caller import Caller
from .entities import Entity, Fields, field
from .header import Header
from .versions import SERVED, ApiKey
from .view import BrokerView

log = structlog.get_logger(__name__)

NAME_CHARS_MAX = 100
FEATURES = {"metadata.version": (1, 25), "group.version": (0, 1)}
"""What clients look for before they use it: level 1 of groups is the consumer protocol (KIP-848). Not there:
transaction.version, kraft.version."""

FEATURES_FROM_ZERO_SINCE = 4
"""Java clients before 3.9 ask in version 3 and fail on a feature whose lowest level is 0 (KAFKA-17011)."""


async def api_versions(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """A name that is none is taken as it comes: no client should fail for it."""
    if request is not None and not caller.software:
        caller.software = "/".join(
            str(field(request, name, ""))[:NAME_CHARS_MAX]
            for name in ("client_software_name", "client_software_version")
        )
        log.debug("kafka.client", software=caller.software, client=caller.client_id, host=caller.host)
    return {
        "error_code": ErrorCode.NONE if header.served else ErrorCode.UNSUPPORTED_VERSION,
        "api_keys": [
            {"api_key": key, "min_version": versions.oldest, "max_version": versions.newest}
            for key, versions in SERVED.items()
        ],
        "supported_features": [
            {"name": name, "min_version": low, "max_version": high}
            for name, (low, high) in FEATURES.items()
            if low or header.version >= FEATURES_FROM_ZERO_SINCE
        ],
        "finalized_features_epoch": view.image.index,
        "finalized_features": [
            {"name": name, "max_version_level": high, "min_version_level": high} for name, (_, high) in FEATURES.items()
        ],
    }


HANDLERS = {ApiKey.API_VERSIONS: api_versions}
