"""What a decision about a group brings: records for the log, and answers that leave once those are committed. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import GroupResponse
from ottla.log.model import TopicId

from .records import GroupRecord

Waiter = Any
"""Whoever waits for an answer. Only the service knows what it is."""
Reply = tuple[Waiter, GroupResponse]
FindTopic = Callable[[str], tuple[TopicId, int] | None]
"""A topic's id and its number of partitions, as the newest image has it."""


class Topics(NamedTuple):
    """Topics as the newest image has them. ``matching``: the names that a regular expression means; it is a valid
    one."""

    find: FindTopic
    matching: Callable[[str], tuple[str, ...]]


class GroupRefused(Exception):
    """A request that its group refuses. ``error`` is for the wire, the message for a person."""

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error = error


@dataclass(slots=True)
class Outcome:
    """In this order: ``records`` are appended and replayed, ``accept`` changes what is not in the log, and the
    ``replies`` (with those that ``accept`` returns) leave once all that was appended is committed."""

    records: list[GroupRecord] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    accept: Callable[[], list[Reply]] | None = None


class GroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of groups, by their names in the settings. Seconds; ``retention_ms`` of committed offsets.
    ``groups_max``: of a broker, those with members or a generation, and those with offsets. ``upgrade``: a classic
    group may become one of the consumer protocol while it has members; ``downgrade``: and the other way round."""

    groups_max: int = 100_000
    size_max: int = 1_000
    consumer_size_max: int = 1_000
    upgrade: bool = True
    downgrade: bool = True
    session_min_s: float = 6.0
    session_max_s: float = 1_800.0
    initial_delay_s: float = 0.5
    consumer_session_s: float = 45.0
    consumer_heartbeat_s: float = 1.0
    metadata_bytes_max: int = 4_096
    retention_ms: int = 7 * 24 * 3_600_000
