"""What a topic may be called and configured as. Part of what commands decide: change it only with a new version.

Messages are results and so part of the state: they quote with ascii(), since repr() depends on Python's Unicode.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from .config_rules import suggestion
from .image import MIN_INSYNC_REPLICAS

MAX_TOPIC_NAME = 249
DEFAULT_PARTITIONS = 6
DEFAULT_REPLICATION_FACTOR = 3
MAX_PARTITIONS_PER_TOPIC = 10_000
MAX_PARTITIONS = 100_000
"""Of the whole cluster: each costs every node memory in its image."""

_LEGAL_NAME = re.compile(r"\A[a-zA-Z0-9._-]+\Z")
_INTEGER = re.compile(r"\A[0-9]{1,10}\Z")
_INT_MAX = 2**31 - 1


class _Range(NamedTuple):
    low: int
    high: int


CONFIGS_OF_VERSION_1: Mapping[str, _Range] = {
    "max.message.bytes": _Range(1, _INT_MAX),
    MIN_INSYNC_REPLICAS: _Range(1, _INT_MAX),
    "segment.bytes": _Range(14, _INT_MAX),
}


def why_illegal_name(name: str) -> str | None:
    """Why this cannot be a topic's name, or None: Kafka's rules, 1 to 249 of [a-zA-Z0-9._-], not "." or ".."."""
    if not name:
        return "a topic name must not be empty"
    if len(name) > MAX_TOPIC_NAME:
        return f"a topic name has at most {MAX_TOPIC_NAME} characters; this one has {len(name)}"
    if name in (".", ".."):
        return f"a topic cannot be called {name!a}"
    if not _LEGAL_NAME.match(name):
        return "a topic name consists of letters, digits, '.', '_' and '-' of ASCII"
    return None


def why_illegal_in_version_1(configs: Mapping[str, str]) -> str | None:
    """Why CreateTopic/1 refuses these topic configs, or None."""
    for key, value in sorted(configs.items()):
        allowed = CONFIGS_OF_VERSION_1.get(key)
        if allowed is None:
            return f"topic config {key[:100]!a} is not supported; {suggestion(key, sorted(CONFIGS_OF_VERSION_1))}"
        if not _INTEGER.match(value) or not allowed.low <= int(value) <= allowed.high:
            return f"topic config {key} is a whole number from {allowed.low} to {allowed.high}, not {value[:100]!a}"
    return None
