"""Keeps a member in a group of KIP-848: heartbeats in a task of their own, partitions in another."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from ottla.log.chance import new_id
from ottla.log.model import TopicId, TopicIdPartition, TopicPartition

from .backoff import backoff_s
from .callbacks import CallbackFailed
from .commits import Identity
from .coordinator import GroupCoordinator
from .errors import OttlaError
from .group_member import Assign, GroupMember, Lose, Partitions, Revoke, Step, Subscription
from .group_protocol import ConsumerGroupHeartbeatResponse
from .membership import Keys, Reader
from .subscribed import Subscribed

HEARTBEAT_TIMEOUT_S = 5.0
LEAVE_TIMEOUT_S = 2.0


class ConsumerMembership:
    """A Membership. ``reader``: whom partitions are given to."""

    def __init__(
        self, coordinator: GroupCoordinator, subscription: Subscription, subscribed: Subscribed, reader: Reader
    ) -> None:
        self._subscribed = subscribed
        self._coordinator = coordinator
        self._cluster = coordinator.cluster
        self._subscription = subscription
        self._reader = reader
        self._member = GroupMember(new_id(self._cluster.chance), subscription, self._cluster.clock.monotonic())
        self._names: dict[TopicId, str] = {}
        self._news = asyncio.Event()  # for the heartbeats
        self._work = asyncio.Event()  # for the partitions
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def owned(self) -> Keys:
        return self._keys(self._member.owned)

    def identity(self) -> Identity:
        return Identity(self._member.member_id, self._member.epoch, self._subscription.instance_id)

    def start(self) -> None:
        for work, name in ((self._beat(), "heartbeats"), (self._reconcile(), "partitions")):
            self._tasks.append(asyncio.create_task(self._guarded(work), name=f"ottla-group-{name}"))

    def hurry(self) -> None:
        self._member.hurry(self._cluster.clock.monotonic())
        self._news.set()

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def leave(self) -> None:
        request = self._member.leave()
        if request is not None:
            with contextlib.suppress(OttlaError, TimeoutError):  # a session's time later the group goes on anyway
                async with asyncio.timeout(LEAVE_TIMEOUT_S):
                    await self._coordinator.insist(request, ConsumerGroupHeartbeatResponse, timeout_s=LEAVE_TIMEOUT_S)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except CallbackFailed as error:
            self._reader.end(error)
            await self._reader.give_up()
            await self.leave()
        except Exception as error:  # a bug of ours: the reader must not wait for ever
            ended = error if isinstance(error, OttlaError) else OttlaError(f"{type(error).__name__}: {error}")
            if ended is not error:
                ended.__cause__ = error
            self._reader.end(ended)

    # --- heartbeats --------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        member, clock = self._member, self._cluster.clock
        attempt = 0
        while member.failure is None:
            if member.due_s is None or member.due_s > clock.monotonic():
                await self._wait(member.due_s)
                continue
            pause_s = backoff_s(attempt, self._cluster.chance)
            attempt += 1
            try:
                answer = await self._coordinator.ask(
                    member.heartbeat(), ConsumerGroupHeartbeatResponse, timeout_s=HEARTBEAT_TIMEOUT_S
                )
            except OttlaError as error:
                if not error.retriable:
                    raise
                member.unanswered(clock.monotonic(), pause_s)
                continue
            member.accept(answer, clock.monotonic(), pause_s)
            attempt = attempt if answer.error else 0
            self._work.set()
        self._reader.end(member.failure)

    async def _wait(self, until_s: float | None) -> None:
        self._news.clear()
        timeout_s = None if until_s is None else max(0.0, until_s - self._cluster.clock.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    # --- partitions --------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        while True:
            step = self._member.next_step()
            if step is None:
                self._work.clear()
                await self._work.wait()
                continue
            partitions = await self._carry_out(step)
            self._member.done(step, partitions, self._cluster.clock.monotonic())
            self._news.set()

    async def _carry_out(self, step: Step) -> Partitions:
        match step:
            case Revoke(partitions):
                await self._reader.revoke(self._keys(partitions))
            case Lose(partitions):
                await self._reader.lose(self._keys(partitions))
            case Assign(partitions):
                return await self._assign(step, partitions)
        return step.partitions

    async def _assign(self, step: Assign, partitions: Partitions) -> Partitions:
        """Begin with what can be named and has a place to start; an old wish is given up."""
        attempt = 0
        while self._member.still_wanted(step):
            named = await self._named(partitions)
            begun = await self._reader.assign(frozenset(named))
            if begun:
                return frozenset(named[key] for key in begun)
            await asyncio.sleep(backoff_s(attempt, self._cluster.chance))
            attempt += 1
        return frozenset()

    async def _named(self, partitions: Partitions) -> dict[TopicPartition, TopicIdPartition]:
        if any(target.topic_id not in self._names for target in partitions):
            with contextlib.suppress(OttlaError):
                await self._subscribed.look()
            for name in self._subscribed.topics:
                known = self._cluster.known_topic(name)
                if known is not None and known.topic_id is not None:
                    self._names[known.topic_id] = name
        return {
            TopicPartition(self._names[target.topic_id], target.partition): target
            for target in sorted(partitions)
            if target.topic_id in self._names
        }

    def _keys(self, partitions: Partitions) -> Keys:
        return frozenset(TopicPartition(self._names[target.topic_id], target.partition) for target in partitions)
