"""Metadata requests, by hand: with ApiVersions the first that every client sends, before anything else is loaded. Pure.

request   | topics: array, null for all (1+) of | id: 16 bytes (10+) | name: string, or null (10+) | tags | |
            allow auto creation: i8 (4+) | cluster's operations: i8 (8-10) | topics' operations: i8 (8+) | tags |
"""

from typing import NamedTuple

from ottla.log.model import TopicId

from .schema_reader import BoundedCursor
from .versions import ApiKey, is_flexible
from .wire import NO_TOPIC_ID, Malformed, topic_id_of

TOPIC_IDS_SINCE = 10


class AskedTopic(NamedTuple):
    """By name, or by id where there is no name."""

    name: str | None
    topic_id: TopicId | None


class AskedMetadata(NamedTuple):
    """``topics``: None for all. ``topic_operations``, ``cluster_operations``: whether it asks what it may do."""

    topics: list[AskedTopic] | None
    allow_auto_creation: bool
    topic_operations: bool
    cluster_operations: bool


def decode_metadata(frame: memoryview, position: int, version: int) -> AskedMetadata:
    """Raises Malformed."""
    flexible = is_flexible(ApiKey.METADATA, version)
    cursor = BoundedCursor(frame, position)
    count = cursor.counted(flexible)
    topics = None if count is None else [_topic(cursor, version, flexible) for _ in range(count)]
    if topics is None and version == 0:
        raise Malformed("version 0 of Metadata has no null")
    allow = bool(cursor.raw(1)[0]) if version >= 4 else True
    cluster = bool(cursor.raw(1)[0]) if 8 <= version <= 10 else False
    of_topics = bool(cursor.raw(1)[0]) if version >= 8 else False
    return AskedMetadata(topics or None if version == 0 else topics, allow, of_topics, cluster)


def _topic(cursor: BoundedCursor, version: int, flexible: bool) -> AskedTopic:
    topic_id = None
    if version >= TOPIC_IDS_SINCE:
        raw = bytes(cursor.raw(16))
        topic_id = None if raw == NO_TOPIC_ID else topic_id_of(raw)
    name = cursor.string(flexible)
    if name is None and version < TOPIC_IDS_SINCE:
        raise Malformed("a topic's name is null that may not be")
    cursor.tags(flexible)
    return AskedTopic(name, topic_id)
