"""A member of the classic protocol that leaves: it says so until somebody hears it."""

from types import SimpleNamespace
from typing import Any

from ottla.client.classic_membership import ClassicMembership, ClassicSubscription
from ottla.client.coordinator import GroupCoordinator
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import OttlaError, error_for
from ottla.client.group_protocol import LeaveGroupRequest, LeaveGroupResponse
from ottla.log.chance import SystemChance


class Moved(GroupCoordinator):
    """Is somewhere else at the first attempts."""

    def __init__(self, refusals: list[OttlaError]) -> None:
        super().__init__(SimpleNamespace(chance=SystemChance()), "g")  # type: ignore[arg-type]
        self.refusals = refusals
        self.heard: list[Any] = []

    async def ask(self, request: Any, answer_type: Any, *, timeout_s: float) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        self.heard.append(request)
        return LeaveGroupResponse(ErrorCode.NONE, ())


def member_of(coordinator: GroupCoordinator, instance_id: str | None = None) -> ClassicMembership:
    about = ClassicSubscription("g", 10_000, 10_000, (), instance_id)
    membership = ClassicMembership(coordinator, about, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    membership._member_id = "m"
    return membership


async def test_it_finds_the_coordinator_that_has_moved_or_is_loading() -> None:
    moved = [error_for(ErrorCode.NOT_COORDINATOR, ""), error_for(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "")]
    coordinator = Moved(moved)
    await member_of(coordinator).leave()
    assert [type(request) for request in coordinator.heard] == [LeaveGroupRequest]


async def test_it_does_not_insist_where_it_is_refused_for_good_and_raises_nothing() -> None:
    coordinator = Moved([error_for(ErrorCode.INVALID_REQUEST, "no")])
    await member_of(coordinator).leave()
    assert coordinator.heard == []


async def test_a_static_member_does_not_leave() -> None:
    coordinator = Moved([])
    await member_of(coordinator, "kitchen-1").leave()
    assert coordinator.heard == []
