"""Keeps a member in a group of the classic protocol: join, sync, heartbeat; the leader assigns (KIP-62, KIP-429)."""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from .assignors import Assignment, Assignor, MemberSubscription
from .backoff import backoff_s
from .callbacks import CallbackFailed, failed
from .cluster import NOT_FOUND_PATIENCE_S
from .commits import Identity
from .coordinator import GroupCoordinator
from .error_codes import ErrorCode
from .errors import OttlaError, error_for
from .fetch_exchange import METADATA_AGE_S
from .group_protocol import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    LeaveGroupRequest,
    LeaveGroupResponse,
    LeavingMember,
    MemberAssignment,
    SyncGroupRequest,
    SyncGroupResponse,
)
from .membership import Keys, Reader
from .subscribed import Subscribed
from .subscription_bytes import decode_assignment, decode_subscription, encode_assignment, encode_subscription

PROTOCOL_TYPE = "consumer"
HEARTBEAT_TIMEOUT_S = 5.0
LEAVE_TIMEOUT_S = 2.0
WAIT_MARGIN_S = 5.0
HEARTBEATS_PER_SESSION = 15
HEARTBEAT_S_MAX = 1.0
"""A member learns of a rebalance by its heartbeat (decision 0015)."""
NOTHING: Keys = frozenset()

_ANEW = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClassicSubscription:
    """What a member joins with, beside its topics. ``assignors``: the best first; if all are cooperative, what is not
    moved is kept through a rebalance."""

    group: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    assignors: tuple[Assignor, ...]
    instance_id: str | None = None
    client_id: str = ""

    @property
    def cooperative(self) -> bool:
        return all(assignor.cooperative for assignor in self.assignors)


class _Rejoin(Exception):
    """The group rebalances. ``lost``: without us."""

    def __init__(self, *, lost: bool = False) -> None:
        super().__init__()
        self.lost = lost


class ClassicMembership:
    """A Membership."""

    def __init__(
        self, coordinator: GroupCoordinator, subscription: ClassicSubscription, subscribed: Subscribed, reader: Reader
    ) -> None:
        self._coordinator = coordinator
        self._cluster = coordinator.cluster
        self._about = subscription
        self._subscribed = subscribed
        self._looked_s = -METADATA_AGE_S
        self._reader = reader
        self._member_id = ""
        self._generation: int | None = None
        self._owned: Keys = NOTHING
        self._beginning: Keys = NOTHING
        self._owned_in: int | None = None  # the generation that gave it to us
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def owned(self) -> Keys:
        return self._owned

    def identity(self) -> Identity:
        return Identity(self._member_id, self._generation, self._about.instance_id, names_itself_in_fetch=False)

    def start(self) -> None:
        self._task = asyncio.create_task(self._guarded(), name="ottla-group-classic")

    def hurry(self) -> None:
        self._news.set()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def leave(self) -> None:
        if not self._member_id or self._about.instance_id is not None:
            return  # a static member's partitions wait for it for a session
        request = LeaveGroupRequest(self._about.group, (LeavingMember(self._member_id),))
        with contextlib.suppress(OttlaError, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._coordinator.insist(request, LeaveGroupResponse, timeout_s=LEAVE_TIMEOUT_S)

    async def _guarded(self) -> None:
        try:
            while True:
                await self._one_generation()
        except CallbackFailed as error:
            self._reader.end(error)
            await self._give_up()
        except Exception as error:  # a refusal for good, or a bug of ours
            ended = error if isinstance(error, OttlaError) else OttlaError(f"{type(error).__name__}: {error}")
            if ended is not error:
                ended.__cause__ = error
            self._generation = None
            self._reader.end(ended)

    async def _give_up(self) -> None:
        """A callback has failed, or our assignor, for which the whole group waits."""
        if self._generation is None:
            await self.leave()
        with contextlib.suppress(_Rejoin, OttlaError):
            await self._beside_heartbeats(self._reader.give_up())
        if self._generation is not None:
            await self.leave()
        self._generation = None

    async def _one_generation(self) -> None:
        """From one rebalance to the next."""
        try:
            if not self._about.cooperative:
                await self._beside_heartbeats(self._revoke(self._owned))
            assigned = await self._join_and_sync()
            moved = self._owned - assigned
            await self._beside_heartbeats(self._take(assigned))
            if moved and self._about.cooperative:
                return  # what was let go can be given to others now
            await self._heartbeats()
        except _Rejoin as rejoin:
            if rejoin.lost:
                await self._lose()

    # --- partitions --------------------------------------------------------------------------------------------------

    async def _revoke(self, keys: Keys) -> None:
        if keys:
            await self._reader.revoke(keys)
            self._owned -= keys

    async def _take(self, assigned: Keys) -> None:
        await self._revoke(self._owned - assigned)
        if gone := self._reader.outlived(self._owned):
            await self._reader.lose(gone)
            self._owned -= gone
        self._owned_in = self._generation
        attempt, began_s = 0, self._cluster.clock.monotonic()
        while missing := assigned - self._owned:
            self._beginning = missing
            begun = await self._reader.assign(missing)
            self._owned |= begun
            self._beginning = NOTHING
            if not begun:
                await asyncio.sleep(backoff_s(attempt, self._cluster.chance))
                await self._ask_whether_still_a_member()
                attempt += 1
                with contextlib.suppress(OttlaError):
                    await self._subscribed.look()
                    if self._cluster.clock.monotonic() - began_s > NOT_FOUND_PATIENCE_S:
                        # Of a topic that is gone nothing ever begins, and a rebalance would wait for us meanwhile.
                        assigned = frozenset(key for key in assigned if self._cluster.known_topic(key.topic))

    async def _lose(self) -> None:
        keys = self._owned | self._beginning
        self._owned, self._beginning, self._generation, self._owned_in = NOTHING, NOTHING, None, None
        if keys:
            await self._reader.lose(keys)

    # --- heartbeats --------------------------------------------------------------------------------------------------

    async def _beside_heartbeats(self, work: Awaitable[None]) -> None:
        """Do ``work``, which may wait for a handler, and stay a member meanwhile. A rebalance waits until it is done;
        a member that was left behind gives it up."""
        working = asyncio.ensure_future(work)
        if self._generation is None:
            return await working
        beating = asyncio.create_task(self._heartbeats(through_rebalances=True))
        try:
            await asyncio.wait([working, beating], return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()
            working.result()
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.gather(working, beating, return_exceptions=True)

    async def _heartbeats(self, *, through_rebalances: bool = False) -> None:
        """Until the group rebalances. Raises _Rejoin, or OttlaError."""
        interval_s = min(HEARTBEAT_S_MAX, self._about.session_timeout_ms / 1000 / HEARTBEATS_PER_SESSION)
        while True:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._news.wait()
            answer = await self._beat()
            if answer.error is ErrorCode.REBALANCE_IN_PROGRESS and through_rebalances:
                continue
            self._check(answer.error, answer.message)
            if not through_rebalances and await self._topics_changed():
                raise _Rejoin

    async def _beat(self) -> HeartbeatResponse:
        assert self._generation is not None
        request = HeartbeatRequest(self._about.group, self._generation, self._member_id, self._about.instance_id)
        return await self._coordinator.insist(request, HeartbeatResponse, timeout_s=HEARTBEAT_TIMEOUT_S)

    async def _ask_whether_still_a_member(self) -> None:
        """Before partitions are begun with that were given long ago. Raises _Rejoin for one that is none."""
        answer = await self._beat()
        if answer.error is not ErrorCode.REBALANCE_IN_PROGRESS:
            self._check(answer.error, answer.message)

    async def _topics_changed(self) -> bool:
        """Topics have come, gone or grown since the last look, which is not repeated too often."""
        now_s = self._cluster.clock.monotonic()
        if now_s - self._looked_s < METADATA_AGE_S:
            return False
        self._looked_s = now_s
        try:
            return await self._subscribed.look()
        except OttlaError:
            return False  # the next one will tell

    # --- joining -----------------------------------------------------------------------------------------------------

    async def _join_and_sync(self) -> Keys:
        joined = await self._join()
        while joined.error is ErrorCode.MEMBER_ID_REQUIRED:  # KIP-394
            self._member_id = joined.member_id
            joined = await self._join()
        self._check(joined.error, joined.message)
        assert joined.generation_id is not None
        self._member_id, self._generation = joined.member_id, joined.generation_id
        assignments: tuple[MemberAssignment, ...] = ()
        if joined.leader == joined.member_id and not joined.skip_assignment:
            assignments = await self._assign(joined)
        request = SyncGroupRequest(
            self._about.group,
            joined.generation_id,
            self._member_id,
            self._about.instance_id,
            joined.protocol_type,
            joined.protocol_name,
            assignments,
        )
        asked_s = self._cluster.clock.monotonic()
        synced = await self._ask_long(request, SyncGroupResponse)
        self._check(synced.error, synced.message)
        half_a_session_s = self._about.session_timeout_ms / 1000 / 2
        if self._cluster.clock.monotonic() - asked_s > half_a_session_s:
            # A process that was stopped meanwhile reads an answer that may be older than its session.
            answer = await self._beat()
            self._check(answer.error, answer.message)
        try:
            return decode_assignment(synced.assignment)
        except ValueError as error:
            raise OttlaError(
                f"the leader's assignment cannot be read: {error}.", code="OTTLA-BAD-ASSIGNMENT"
            ) from error

    async def _join(self) -> JoinGroupResponse:
        about = self._about
        if self._subscribed.pattern is not None:
            with contextlib.suppress(OttlaError):
                await self._subscribed.look()
        self._subscribed.note()
        told = encode_subscription(MemberSubscription(self._subscribed.topics, self._owned, self._owned_in))
        request = JoinGroupRequest(
            group_id=about.group,
            session_timeout_ms=about.session_timeout_ms,
            rebalance_timeout_ms=about.rebalance_timeout_ms,
            member_id=self._member_id,
            group_instance_id=about.instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=tuple(JoinProtocol(assignor.name, told) for assignor in about.assignors),
            client_id=about.client_id,
        )
        return await self._ask_long(request, JoinGroupResponse)

    async def _ask_long(self, request: JoinGroupRequest | SyncGroupRequest, answer_type: type[T]) -> T:
        timeout_s = self._about.rebalance_timeout_ms / 1000 + WAIT_MARGIN_S
        return await self._coordinator.insist(request, answer_type, timeout_s=timeout_s)

    async def _assign(self, joined: JoinGroupResponse) -> tuple[MemberAssignment, ...]:
        """We lead: decide for all."""
        assignor = next(one for one in self._about.assignors if one.name == joined.protocol_name)
        members: dict[str, MemberSubscription] = {}
        for member in joined.members:
            try:
                members[member.member_id] = decode_subscription(member.metadata, member.group_instance_id)
            except ValueError:  # not a consumer: it gets nothing
                members[member.member_id] = MemberSubscription(())
        partitions = await self._count({topic for member in members.values() for topic in member.topics})
        self._subscribed.note()
        try:
            answer: Any = assignor.assign(members, partitions)
            assignment: Assignment = await answer if inspect.isawaitable(answer) else answer
            return tuple(MemberAssignment(name, encode_assignment(assignment.get(name, NOTHING))) for name in members)
        except Exception as error:  # it may as well have made something else than an assignment
            self._generation = None
            raise failed(f"the assignor {assignor.name}", error) from error

    async def _count(self, topics: set[str]) -> dict[str, int]:
        with contextlib.suppress(OttlaError):
            await self._cluster.refresh(topics)
        found = ((topic, self._cluster.known_topic(topic)) for topic in topics)
        return {topic: len(known.partitions) for topic, known in found if known is not None and known.topic_id}

    # --- answers -----------------------------------------------------------------------------------------------------

    def _check(self, error: ErrorCode, message: str) -> None:
        """Raises _Rejoin, or OttlaError for what ends it."""
        if error is ErrorCode.NONE:
            return
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            raise _Rejoin
        if error in _ANEW:
            if error is ErrorCode.UNKNOWN_MEMBER_ID:
                self._member_id = ""
            raise _Rejoin(lost=True)
        raise error_for(error, message)
