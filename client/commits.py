"""Commits offsets for a member: one after the other, fenced by its epoch, never for what it no longer owns."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple

from ottla.log.model import LeaderEpoch, TopicId, TopicPartition

from .backoff import backoff_s
from .coordinator import GroupCoordinator
from .error_codes import ErrorCode
from .errors import OttlaError, error_for
from .group_protocol import (
    CommitPartition,
    FetchedOffset,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetPartition,
)

ATTEMPT_S = 5.0
_OLD_EPOCH = frozenset({ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.REBALANCE_IN_PROGRESS})
_GONE = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.GROUP_ID_NOT_FOUND,
    }
)


class CommitFailed(OttlaError):
    """The group has gone on without this member: its partitions are, or will be, read by others from the last commit
    before. Iteration goes on once it has joined again."""

    code = "OTTLA-COMMIT-FAILED"


class Place(NamedTuple):
    """What is committed: the offset of the next record, the epoch of the last one, and the topic's identity."""

    offset: int
    leader_epoch: LeaderEpoch | None = None
    topic_id: TopicId | None = None


class Identity(NamedTuple):
    """Who commits. ``epoch``: of the member, or its generation; None while it is in no group."""

    member_id: str
    epoch: int | None
    instance_id: str | None = None
    names_itself_in_fetch: bool = True  # only members of the consumer protocol do


class Commits:
    """``identity``: asked anew for every attempt, as is ``owned``: a commit that was held up must not undo one of the
    next owner's. ``on_stale``: called when the coordinator knows a newer epoch than we do, or none of ours."""

    def __init__(
        self,
        coordinator: GroupCoordinator,
        identity: Callable[[], Identity],
        owned: Callable[[], Collection[TopicPartition]],
        on_stale: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._cluster = coordinator.cluster
        self._identity = identity
        self._owned = owned
        self._on_stale = on_stale
        self._turn = asyncio.Lock()  # a commit never overtakes one that was asked for before it
        self._tenures: dict[TopicPartition, int] = {}  # rises whenever a partition is let go
        self.stored: dict[TopicPartition, int] = {}
        self.count = 0

    def let_go(self, keys: Iterable[TopicPartition]) -> None:
        """These are not ours any more. If they come back, what was to be committed before is void: others may have
        had them meanwhile."""
        for key in keys:
            self.stored.pop(key, None)
            self._tenures[key] = self._tenures.get(key, 0) + 1

    def commit(self, places: Mapping[TopicPartition, Place], *, timeout_s: float) -> Coroutine[Any, Any, None]:
        """Until the coordinator has stored them, in ``timeout_s`` at most. What is not owned any more, or was not all
        the time since this call, is left out. Raises CommitFailed, or why it was not stored."""
        return self._commit(places, {key: self._tenures.get(key, 0) for key in places}, timeout_s)

    async def _commit(
        self, places: Mapping[TopicPartition, Place], tenures: dict[TopicPartition, int], timeout_s: float
    ) -> None:
        deadline_s = self._cluster.clock.monotonic() + timeout_s
        async with self._turn:
            attempt = 0
            while True:
                owned = self._owned()
                places = {
                    key: place
                    for key, place in places.items()
                    if key in owned and self._tenures.get(key, 0) == tenures[key]
                }
                if not places:
                    return
                try:
                    return await self._commit_once(places)
                except OttlaError as error:
                    pause_s = backoff_s(attempt, self._cluster.chance)
                    if not error.retriable or self._cluster.clock.monotonic() + pause_s > deadline_s:
                        raise
                await asyncio.sleep(pause_s)
                attempt += 1

    async def _commit_once(self, places: Mapping[TopicPartition, Place]) -> None:
        who = self._identity()
        if who.epoch is None:
            raise CommitFailed("this consumer is not in the group at the moment.", hint="It is joining again.")
        request = OffsetCommitRequest(
            group_id=self._coordinator.group,
            generation_id_or_member_epoch=who.epoch,
            member_id=who.member_id,
            partitions=tuple(
                CommitPartition(key.topic, key.partition, place.offset, place.leader_epoch, "", place.topic_id)
                for key, place in places.items()
            ),
            group_instance_id=who.instance_id,
        )
        response = await self._coordinator.ask(request, OffsetCommitResponse, timeout_s=ATTEMPT_S)
        self._check(response.error, response.message)
        failed = [result for result in response.partitions if result.error is not ErrorCode.NONE]
        for result in response.partitions:
            key = TopicPartition(result.topic, result.partition)
            if result.error is ErrorCode.NONE and key in places:
                self.stored[key] = places[key].offset
        self.count += 1
        if failed:
            named = ", ".join(f"{result.topic}-{result.partition}" for result in failed)
            error = error_for(failed[0].error, f"not committed of {named}: {failed[0].error.name}")
            error.retriable = failed[0].error.retriable
            raise error

    def _check(self, error: ErrorCode, message: str) -> None:
        if error is ErrorCode.NONE:
            return
        if error in _GONE:
            self._on_stale()
            raise CommitFailed(f"the group has gone on without this consumer: {message or error.name}.")
        failure = error_for(error, message)
        if error in _OLD_EPOCH:
            self._on_stale()
            failure.retriable = True
        raise failure

    async def fetch(self, keys: Iterable[TopicPartition]) -> dict[TopicPartition, FetchedOffset]:
        """What is committed, one attempt; as the member that we are, so that one who was fenced learns of it.
        Raises OttlaError; retriable where the epoch is old or the coordinator moves."""
        who = self._identity()
        named = who.names_itself_in_fetch and who.epoch is not None
        request = OffsetFetchRequest(
            self._coordinator.group,
            tuple(OffsetPartition(key.topic, key.partition) for key in sorted(keys)),
            who.member_id if named else "",
            who.epoch if named else None,
        )
        response = await self._coordinator.ask(request, OffsetFetchResponse, timeout_s=ATTEMPT_S)
        self._check(response.error, response.message)
        for found in response.partitions:
            if found.error is not ErrorCode.NONE:
                raise error_for(found.error, f"{found.topic}-{found.partition}: {found.error.name}")
        return {TopicPartition(found.topic, found.partition): found for found in response.partitions}


class NoCommits(Commits):
    """Of a consumer that is in no group: nothing is stored, and nothing was."""

    def commit(self, places: Mapping[TopicPartition, Place], *, timeout_s: float) -> Coroutine[Any, Any, None]:
        return self._nothing()

    async def _nothing(self) -> None:
        pass

    async def fetch(self, keys: Iterable[TopicPartition]) -> dict[TopicPartition, FetchedOffset]:
        return {}
