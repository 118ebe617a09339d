"""Where a group can be set to: what may be asked for, and whether the logs hold it."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from ottla.log.model import Offset, TopicId

from .cluster import Cluster
from .error_codes import ErrorCode
from .errors import ConfigError, OttlaError, RequestFailed, TopicNotFound
from .group_descriptions import OffsetChange, Place
from .offsets import list_offsets, offsets_for_time
from .protocol import EARLIEST, LATEST, OffsetResult
from .times import parse_time

SetTo = str | datetime | timedelta | Mapping[Place, int | str]
"""``earliest``, ``latest``; a moment: aware of its zone, so long ago, or in words (``@2026-11-01T00:00Z``, ``@-1h``);
or by topic and partition an offset, ``earliest`` or ``latest``."""

OFFSET_MAX = 2**63 - 1
TIMEOUT_S = 8.0
ENDS = (EARLIEST, LATEST)


class Moment(NamedTuple):
    """Milliseconds since 1970."""

    timestamp_ms: int


Target = int | str | Moment
"""Of one partition: an offset, ``earliest`` or ``latest``, the first record of a moment or later."""


def check_to(to: object, now_ms: int) -> dict[Place, Target] | Target:
    """By partition, or one for all. Raises ConfigError."""
    if isinstance(to, Mapping):
        return {check_place(place): _check_offset(place, offset) for place, offset in to.items()}
    if isinstance(to, str):
        return to if to in ENDS else _in_words(to, now_ms)
    if isinstance(to, timedelta):
        if to < timedelta(0):
            raise ConfigError(f"to is {to}.", hint="It is so long ago: timedelta(hours=1) is an hour.")
        return Moment(max(0, now_ms - int(to / timedelta(milliseconds=1))))
    if isinstance(to, datetime):
        if to.tzinfo is None:
            raise ConfigError(f"to is {to}, which has no zone.", hint="Such as datetime.now(UTC).")
        return Moment(max(0, int(to.timestamp() * 1000)))
    hint = 'It is "earliest", "latest", "@TIME", a datetime, a timedelta, or {(topic, partition): offset}.'
    raise ConfigError(f"to is {to!r:.100}.", hint=hint)


def check_place(place: object) -> Place:
    """Raises ConfigError."""
    match place:
        case (str(topic), int(number)) if not isinstance(number, bool) and 0 <= number < 2**31:
            return topic, number
    raise ConfigError(f"{place!r:.100} is no partition.", hint='One is (topic, number): ("orders", 3).')


def _check_offset(place: Place, offset: object) -> Target:
    if isinstance(offset, str) and offset in ENDS:
        return offset
    if type(offset) is not int or not 0 <= offset <= OFFSET_MAX:
        raise ConfigError(
            f"the offset of {place} is {offset!r:.100}.", hint='It is from 0 to 2**63-1, "earliest" or "latest".'
        )
    return offset


def _in_words(text: str, now_ms: int) -> Moment:
    if not text.startswith("@"):
        raise ConfigError(f"to is {text!r:.100}.", hint='It is "earliest", "latest" or "@TIME".')
    try:
        return Moment(parse_time(text, now_ms))
    except ValueError as error:
        raise ConfigError(f"to: {error}.") from error


async def partitions_of(cluster: Cluster, topics: Iterable[str]) -> list[Place]:
    """Every partition of these, as many as there are now. Raises TopicNotFound."""
    topics = list(topics)
    await cluster.refresh(topics)
    return [(topic, number) for topic in topics for number in range(len((await cluster.topic(topic)).partitions))]


async def changes(
    cluster: Cluster, targets: Mapping[Place, Target], committed: Mapping[Place, Offset | None]
) -> list[tuple[OffsetChange, TopicId]]:
    """In order, each with the topic it was looked up for. Raises TopicNotFound; RequestFailed with
    OFFSET_OUT_OF_RANGE for an offset outside of the log; or why a leader cannot be asked."""
    by_topic: dict[str, dict[int, Target]] = {}
    for (topic, number), target in sorted(targets.items()):
        by_topic.setdefault(topic, {})[number] = target
    await cluster.refresh(by_topic)
    found = []
    for topic, wanted in by_topic.items():
        topic_id = await _require(cluster, topic, wanted)
        for number, (start, end, after) in (await _looked_up(cluster, topic, topic_id, wanted)).items():
            before = committed.get((topic, number))
            found.append((OffsetChange(topic, number, before, after, start, end), topic_id))
    return found


async def _looked_up(
    cluster: Cluster, topic: str, topic_id: TopicId, wanted: Mapping[int, Target]
) -> dict[int, tuple[Offset, Offset, Offset]]:
    """Of each partition where it starts and ends, and where it is to be read on."""
    starts, ends = await asyncio.gather(
        _offsets(cluster, topic, topic_id, wanted, EARLIEST), _offsets(cluster, topic, topic_id, wanted, LATEST)
    )
    moments = await _moments(cluster, topic_id, wanted)
    found = {}
    for number, target in wanted.items():
        start, end = starts[number], max(starts[number], ends[number])
        if isinstance(target, int) and not start <= target <= end:
            raise _outside(f"{topic}-{number}", start, end, target)
        after = _offset(target, start, end, moments.get(number))
        found[number] = start, max(end, after), after
    return found


async def _require(cluster: Cluster, topic: str, numbers: Iterable[int]) -> TopicId:
    known = await cluster.topic(topic)
    assert known.topic_id is not None
    for number in numbers:
        if number >= len(known.partitions):
            raise TopicNotFound(f"{topic} has partitions 0 to {len(known.partitions) - 1}, not {number}.")
    return known.topic_id


async def _offsets(
    cluster: Cluster, topic: str, topic_id: TopicId, numbers: Iterable[int], position: str
) -> dict[int, Offset]:
    found = {}
    answers = await list_offsets(cluster, topic_id, numbers, position, timeout_s=TIMEOUT_S)
    for number, answer in answers.items():
        if isinstance(answer, OttlaError):
            raise answer
        assert isinstance(answer, OffsetResult)
        assert answer.offset is not None, f"{topic}-{number} has a beginning and an end"
        found[number] = answer.offset
    return found


async def _moments(cluster: Cluster, topic_id: TopicId, wanted: Mapping[int, Target]) -> dict[int, int]:
    """The first record of its moment or later of each partition, or its end. Raises OttlaError."""
    found: dict[int, int] = {}
    for moment in {target for target in wanted.values() if isinstance(target, Moment)}:
        numbers = [number for number, target in wanted.items() if target == moment]
        found |= await offsets_for_time(cluster, topic_id, numbers, moment.timestamp_ms, timeout_s=TIMEOUT_S)
    return found


def _offset(target: Target, start: Offset, end: Offset, at_moment: int | None) -> Offset:
    if at_moment is not None:
        return Offset(max(start, at_moment))
    if isinstance(target, int):
        return Offset(target)
    return start if target == EARLIEST else end


def _outside(partition: str, start: Offset, end: Offset, offset: int) -> RequestFailed:
    error = RequestFailed(ErrorCode.OFFSET_OUT_OF_RANGE, f"{partition} holds {start} to {end}, not {offset}.")
    error.hint = f"A group could not read on from there; choose {start} to {end}."
    return error
