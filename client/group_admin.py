"""Looking after consumer groups: setting them to another place, and forgetting them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from ottla.log.model import TopicId

from .error_codes import ErrorCode
from .errors import ConfigError, RequestFailed
from .group_asking import ask, check_answer, check_group
from .group_descriptions import OffsetChange, Place
from .group_protocol import (
    CommitPartition,
    CommittedPartition,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetPartition,
)
from .group_targets import SetTo, Target, changes, check_place, check_to, partitions_of
from .group_views import GroupViews, no_group
from .message import MAX_REQUEST_PARTITIONS

T = TypeVar("T")


class GroupAdmin(GroupViews):
    """The part of ``Admin`` that is about groups."""

    async def set_offsets(
        self, group: str, to: SetTo, *, topics: str | Iterable[str] | None = None, validate_only: bool = False
    ) -> tuple[OffsetChange, ...]:
        """Set where a group that has no members now reads on, all of it or none. It need not be there yet.

        ``to``: "earliest" or "latest"; a ``datetime`` that knows its zone, a ``timedelta`` ago, "@2026-11-01T00:00Z" or
        "@-1h" (ms, s, m, h, d, w): in each partition the first record that is as late, or the end; or by
        ``(topic, partition)`` an offset, "earliest" or "latest". ``topics``: in all their partitions; None: in those
        that the group has committed for. ``validate_only``: look everything up, have the coordinator check it, and
        change nothing. What is returned says where each partition is set to.

        Raises RequestFailed: OFFSET_OUT_OF_RANGE for what the log does not hold, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND
        where no topic is named and nothing is committed; TopicNotFound, ConfigError; and OttlaError where the leader
        of a partition cannot be asked.
        """
        check_group(group)
        asked = check_to(to, self._cluster.clock.now_ms())
        committed = await self._committed(group)
        targets = asked if isinstance(asked, dict) else await self._targets(asked, committed, topics)
        if isinstance(asked, dict) and topics is not None:
            raise ConfigError("topics do not go with offsets by partition, which name their topics.")
        if not targets:
            raise RequestFailed(ErrorCode.GROUP_ID_NOT_FOUND, f"{group} has committed nothing: name what it reads.")
        planned = await changes(self._cluster, targets, committed)
        await self._commit(group, planned, validate_only=True)  # nothing at all is set where one partition is refused
        if not validate_only:
            await self._commit(group, planned, validate_only=False)
        return tuple(change for change, _ in planned)

    async def _targets(
        self, target: Target, committed: Iterable[Place], topics: str | Iterable[str] | None
    ) -> dict[Place, Target]:
        if topics is None:
            return dict.fromkeys(committed, target)
        return dict.fromkeys(await partitions_of(self._cluster, _topics(topics)), target)

    async def _commit(self, group: str, planned: list[tuple[OffsetChange, TopicId]], *, validate_only: bool) -> None:
        for some in _pieces(planned):
            partitions = tuple(
                CommitPartition(change.topic, change.partition, change.after, topic_id=topic_id)
                for change, topic_id in some
            )
            request = OffsetCommitRequest(group, None, "", partitions, validate_only=validate_only)
            response = await ask(self._cluster, group, request, OffsetCommitResponse)
            if response.error is ErrorCode.UNKNOWN_MEMBER_ID:
                raise _has_members(group)
            check_answer(response.error, response.message)
            _check_partitions(response.partitions)

    async def delete_offsets(
        self, group: str, partitions: str | Iterable[str | Place], *, validate_only: bool = False
    ) -> dict[Place, int]:
        """Forget what a group has committed for these partitions, or for topics, all of it or none; the group stays
        while it has other offsets. What is returned was committed there. ``validate_only``: see what would be
        forgotten. Raises RequestFailed: GROUP_ID_NOT_FOUND, GROUP_SUBSCRIBED_TO_TOPIC for what members read."""
        check_group(group)
        asked = [partitions] if isinstance(partitions, str) else list(partitions)
        committed = await self._committed(group)
        places: set[Place] = set()
        for one in asked:
            places |= {place for place in committed if place[0] == one} if isinstance(one, str) else {check_place(one)}
        found = {place: committed[place] for place in sorted(places) if place in committed}
        await self._forget(group, list(found), validate_only=True)  # all or nothing, as above
        if not validate_only:
            await self._forget(group, list(found), validate_only=False)
        return dict(found)

    async def _forget(self, group: str, places: Sequence[Place], *, validate_only: bool) -> None:
        for some in _pieces(places) if places else [()]:
            request = OffsetDeleteRequest(group, tuple(OffsetPartition(*place) for place in some), validate_only)
            response = await ask(self._cluster, group, request, OffsetDeleteResponse)
            if response.error is ErrorCode.NON_EMPTY_GROUP:
                raise _has_members(group)
            if response.error is ErrorCode.GROUP_ID_NOT_FOUND:
                raise no_group(group)
            check_answer(response.error, response.message)
            _check_partitions(response.partitions)

    async def delete_group(self, group: str, *, validate_only: bool = False) -> None:
        """Forget a group that has no members now, and all it committed. ``validate_only``: see whether that would be
        refused. Raises RequestFailed: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP."""
        request = DeleteGroupsRequest((group,), validate_only)
        (deleted,) = (await ask(self._cluster, group, request, DeleteGroupsResponse)).groups
        if deleted.error is ErrorCode.NON_EMPTY_GROUP:
            raise _has_members(group)
        if deleted.error is ErrorCode.GROUP_ID_NOT_FOUND:
            raise no_group(group)
        check_answer(deleted.error, deleted.error.name)


def _topics(topics: str | Iterable[str]) -> list[str]:
    names = [topics] if isinstance(topics, str) else list(topics)
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"{name!r:.100} is no topic.", hint="topics are names.")
    return names


def _pieces(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many as one request may name."""
    for begin in range(0, len(whole), MAX_REQUEST_PARTITIONS):
        yield whole[begin : begin + MAX_REQUEST_PARTITIONS]


def _has_members(group: str) -> RequestFailed:
    error = RequestFailed(ErrorCode.NON_EMPTY_GROUP, f"{group} has members.")
    error.hint = "Stop them first."
    return error


def _check_partitions(results: Iterable[CommittedPartition]) -> None:
    for result in results:
        subscribed = result.error is ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        why = "a member of the group reads it, or may." if subscribed else result.error.name
        hint = "Stop the members first." if subscribed else ""
        check_answer(result.error, f"{result.topic}-{result.partition}: {why}", hint=hint)
