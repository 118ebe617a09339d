"""A member of the classic protocol believes no assignment that is older than its session."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.client.classic_membership import ClassicMembership, ClassicSubscription, _Rejoin
from ottla.client.classic_protocol import HeartbeatResponse, JoinGroupResponse, SyncGroupResponse
from ottla.client.coordinator import GroupCoordinator
from ottla.client.error_codes import ErrorCode
from ottla.client.subscription_bytes import encode_assignment
from ottla.log.chance import SystemChance
from ottla.log.model import TopicPartition

MINE = frozenset({TopicPartition("t", 0)})


class HandClock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class Slow(GroupCoordinator):
    """Its answer to a sync is read ``late_s`` after the question."""

    def __init__(self, late_s: float, heartbeat: ErrorCode) -> None:
        self.clock = HandClock()
        super().__init__(SimpleNamespace(chance=SystemChance(), clock=self.clock), "g")  # type: ignore[arg-type]
        self.late_s, self.heartbeat = late_s, heartbeat
        self.asked: list[str] = []

    async def ask(self, request: Any, answer_type: Any, *, timeout_s: float) -> Any:
        self.asked.append(answer_type.__name__)
        if answer_type is JoinGroupResponse:
            return SimpleNamespace(
                error=ErrorCode.NONE,
                message="",
                generation_id=1,
                member_id="m",
                leader="other",
                skip_assignment=False,
                protocol_type="consumer",
                protocol_name="range",
            )
        if answer_type is SyncGroupResponse:
            self.clock.now_s += self.late_s
            return SimpleNamespace(error=ErrorCode.NONE, message="", assignment=encode_assignment(MINE))
        assert answer_type is HeartbeatResponse
        return SimpleNamespace(error=self.heartbeat, message="")


def member_of(coordinator: Slow) -> ClassicMembership:
    subscribed = SimpleNamespace(pattern=None, topics=("t",), note=lambda: None)
    about = ClassicSubscription("g", 10_000, 10_000, ())
    return ClassicMembership(coordinator, about, subscribed, SimpleNamespace())  # type: ignore[arg-type]


async def test_an_assignment_that_comes_at_once_is_taken() -> None:
    coordinator = Slow(0.1, ErrorCode.UNKNOWN_MEMBER_ID)
    assert await asyncio.wait_for(member_of(coordinator)._join_and_sync(), 10) == MINE
    assert "HeartbeatResponse" not in coordinator.asked


async def test_one_that_comes_late_is_taken_only_by_who_is_still_a_member() -> None:
    assert await asyncio.wait_for(member_of(Slow(11.0, ErrorCode.NONE))._join_and_sync(), 10) == MINE
    for error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.REBALANCE_IN_PROGRESS):
        with pytest.raises(_Rejoin):
            await asyncio.wait_for(member_of(Slow(11.0, error))._join_and_sync(), 10)


class Gone:
    """A reader that begins with what is there, and a cluster where one of two topics is not any more."""

    def __init__(self, clock: HandClock) -> None:
        self.clock, self.pattern, self.topics = clock, None, ("t", "gone")
        self.begun: list[TopicPartition] = []

    async def assign(self, keys: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        self.clock.now_s += 0.6
        there = frozenset(key for key in keys if key.topic == "t")
        self.begun += there
        return there

    async def look(self) -> bool:
        return True

    @staticmethod
    def outlived(keys: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        return frozenset()

    @staticmethod
    def known_topic(name: str) -> object:
        return SimpleNamespace(topic_id="T") if name == "t" else None


async def test_partitions_of_a_topic_that_was_deleted_meanwhile_are_not_waited_for() -> None:
    coordinator = Slow(0.0, ErrorCode.NONE)
    gone = Gone(coordinator.clock)
    coordinator.cluster.known_topic = gone.known_topic
    about = ClassicSubscription("g", 10_000, 10_000, ())
    member = ClassicMembership(coordinator, about, gone, gone)  # type: ignore[arg-type]
    member._generation = 1
    await asyncio.wait_for(member._take(MINE | {TopicPartition("gone", 0)}), 10)
    assert member.owned == MINE == frozenset(gone.begun)


async def test_who_could_not_begin_asks_whether_it_is_a_member_before_it_tries_again() -> None:
    """It may have been stopped while it asked where to begin, and come back after its session."""
    coordinator = Slow(0.0, ErrorCode.UNKNOWN_MEMBER_ID)
    tried: list[frozenset[TopicPartition]] = []

    async def assign(keys: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        tried.append(keys)
        return frozenset()

    member = member_of(coordinator)
    member._generation = 1
    member._reader = SimpleNamespace(assign=assign, outlived=Gone.outlived)  # type: ignore[assignment]
    with pytest.raises(_Rejoin):
        await asyncio.wait_for(member._take(MINE), 10)
    assert tried == [MINE]
