"""Whom a group's requests go to."""

from types import SimpleNamespace
from typing import Any

from ottla.client.coordinator import GroupCoordinator
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import Coordinator, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse
from ottla.log.model import BrokerId


class FakeCluster:
    """Three brokers; ``named`` coordinates, for all that each of them says."""

    def __init__(self) -> None:
        self.brokers = {BrokerId(number): SimpleNamespace(fenced=False) for number in (1, 2, 3)}
        self.named = BrokerId(1)
        self.asked: list[BrokerId] = []
        self.searches = self.refreshes = 0

    async def ask_any(self, request: Any, *, timeout_s: float) -> Any:
        self.searches += 1
        return SimpleNamespace(response=FindCoordinatorResponse((Coordinator("g", ErrorCode.NONE, self.named),)))

    async def connection(self, broker: BrokerId, purpose: str) -> Any:
        self.asked.append(broker)

        async def request(message: Any, *, timeout_s: float) -> Any:
            return SimpleNamespace(message=HeartbeatResponse(ErrorCode.NONE))

        return SimpleNamespace(request=request)

    async def refresh(self) -> None:
        self.refreshes += 1


async def test_a_coordinator_that_the_cluster_has_given_up_is_not_asked_any_more() -> None:
    """It hangs, and others have heard of it: no need to wait for it ourselves."""
    cluster = FakeCluster()
    coordinator = GroupCoordinator(cluster, "g")  # type: ignore[arg-type]

    async def beat() -> None:
        await coordinator.ask(HeartbeatRequest("g", 1, "m"), HeartbeatResponse, timeout_s=1)

    for _ in range(3):
        await beat()
    assert (cluster.asked, cluster.searches, cluster.refreshes) == ([1, 1, 1], 1, 0)
    cluster.brokers[BrokerId(1)].fenced = True
    cluster.named = BrokerId(2)
    for _ in range(3):
        await beat()
    assert (cluster.asked[3:], cluster.searches, cluster.refreshes) == ([2, 2, 2], 2, 0)


async def test_one_that_is_back_before_we_know_is_looked_up_with_what_is_known_of_all() -> None:
    cluster = FakeCluster()
    cluster.brokers[BrokerId(1)].fenced = True
    await GroupCoordinator(cluster, "g").ask(  # type: ignore[arg-type]
        HeartbeatRequest("g", 1, "m"), HeartbeatResponse, timeout_s=1
    )
    assert (cluster.asked, cluster.refreshes) == ([1], 1)
