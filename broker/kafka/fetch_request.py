"""Fetch requests, by hand: they are as many as answers with records. Pure.

request   | replica id: i32 (to 14) | max wait ms: i32 | min bytes: i32 | max bytes: i32 | isolation: i8 |
            session id: i32 (7+) | session epoch: i32 (7+) | topics: array of
            | name: string, or id: 16 bytes (13+) | partitions: array of
              | index: i32 | current leader epoch: i32 (9+) | fetch offset: i64 | last fetched epoch: i32 (12+) |
                log start: i64 (5+) | max bytes: i32 | tags | | tags |
            forgotten topics (7+) | rack: string (11+) | tags |
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from ottla.client.protocol import FetchPartition, FetchRequest
from ottla.log.model import LeaderEpoch, TopicId
from ottla.raft.image import Topic

from .produce import NO_TOPIC
from .schema_reader import BoundedCursor
from .versions import ApiKey, is_flexible
from .wire import NO_TOPIC_ID, string, topic_id_of

TOPIC_IDS_SINCE = 13
INT32_MAX = 2**31 - 1
_LIMITS = struct.Struct(">iiib")


class Asked(NamedTuple):
    """``labels``: of each partition, its topic as the request called it, encoded as the answer has it."""

    session_id: int
    request: FetchRequest
    labels: list[bytes]


def decode_fetch(
    frame: memoryview, position: int, version: int, topics: Mapping[str, Topic], bytes_max: int = INT32_MAX
) -> Asked:
    """An unknown name gets an id that no topic has. ``bytes_max``: more is not given. Raises Malformed."""
    flexible = is_flexible(ApiKey.FETCH, version)
    cursor = BoundedCursor(frame, position)
    if version <= 14:
        cursor.int32()  # there are no followers behind this door
    max_wait_ms, min_bytes, max_bytes, _ = _LIMITS.unpack(cursor.raw(_LIMITS.size))
    session_id = 0
    if version >= 7:
        session_id, _ = cursor.int32(), cursor.int32()
    partitions: list[FetchPartition] = []
    labels: list[bytes] = []
    for _ in range(cursor.counted(flexible) or 0):
        topic_id, label = _topic(cursor, version, flexible, topics)
        for _ in range(cursor.counted(flexible) or 0):
            partitions.append(_partition(cursor, version, topic_id))
            cursor.tags(flexible)
            labels.append(label)
        cursor.tags(flexible)
    request = FetchRequest(
        max_wait_ms=max(0, max_wait_ms),
        min_bytes=max(0, min_bytes),
        max_bytes=max(0, min(max_bytes, bytes_max)),
        partitions=tuple(partitions),
        rack=_rack(cursor, version, flexible),
    )
    return Asked(session_id, request, labels)


def _topic(cursor: BoundedCursor, version: int, flexible: bool, topics: Mapping[str, Topic]) -> tuple[TopicId, bytes]:
    if version >= TOPIC_IDS_SINCE:
        raw = bytes(cursor.raw(16))
        return NO_TOPIC if raw == NO_TOPIC_ID else topic_id_of(raw), raw
    name = cursor.string(flexible) or ""
    known = topics.get(name)
    return NO_TOPIC if known is None else known.topic_id, string(name, flexible)


_LAYOUTS = {
    4: struct.Struct(">iqi"),
    5: struct.Struct(">iqqi"),
    9: struct.Struct(">iiqqi"),
    12: struct.Struct(">iiqiqi"),
}


def _partition(cursor: BoundedCursor, version: int, topic_id: TopicId) -> FetchPartition:
    current = last = -1
    if version >= 12:
        layout = _LAYOUTS[12]
        index, current, offset, last, _, max_bytes = layout.unpack(cursor.raw(layout.size))
    elif version >= 9:
        layout = _LAYOUTS[9]
        index, current, offset, _, max_bytes = layout.unpack(cursor.raw(layout.size))
    elif version >= 5:
        layout = _LAYOUTS[5]
        index, offset, _, max_bytes = layout.unpack(cursor.raw(layout.size))
    else:
        layout = _LAYOUTS[4]
        index, offset, max_bytes = layout.unpack(cursor.raw(layout.size))
    return FetchPartition(
        topic_id=topic_id,
        partition=index,
        fetch_offset=offset,
        current_leader_epoch=None if current < 0 else LeaderEpoch(current),
        last_fetched_epoch=None if last < 0 else LeaderEpoch(last),
        max_bytes=max(0, max_bytes),
    )


def _rack(cursor: BoundedCursor, version: int, flexible: bool) -> str:
    if version < 11:
        return ""
    for _ in range(cursor.counted(flexible) or 0):  # forgotten by a session, of which there are none
        cursor.raw(16) if version >= TOPIC_IDS_SINCE else cursor.string(flexible)
        cursor.raw(4 * (cursor.counted(flexible) or 0))
        cursor.tags(flexible)
    return cursor.string(flexible) or ""
