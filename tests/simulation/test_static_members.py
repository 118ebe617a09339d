"""A rolling restart of static members (KIP-345) moves no partition, in both protocols, with the SDK on whole nodes."""

import asyncio
import contextlib

import pytest

from ottla.client.client import connect
from ottla.log.model import TopicPartition

from .test_groups import begin
from .world import CLIENT, SimulatedCluster, simulate

MEMBERS = 8
SETTINGS = {"group_consumer_session_timeout_ms": 6_000}
AWAY_S = 0.5
"""Less than a session."""
HEARD_S = 1.2
"""Others would have noticed: more than a heartbeat's interval."""


class StaticMember:
    """One place in the group, and one consumer after the other in it."""

    def __init__(self, cluster: SimulatedCluster, number: int, protocol: str) -> None:
        self.cluster, self.number, self.protocol = cluster, number, protocol
        self.told: list[tuple[str, frozenset[TopicPartition]]] = []
        self.owned: frozenset[TopicPartition] = frozenset()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._stopping.clear()
        self._task = self.cluster.loop.spawn(CLIENT, self._live())

    async def stop(self) -> None:
        assert self._task is not None
        self._stopping.set()
        await self._task

    async def _live(self) -> None:
        async with (
            connect(self.cluster.servers) as client,
            client.consumer(
                "orders",
                group="readers",
                instance_id=f"place-{self.number}",
                protocol=self.protocol,
                **({"session_timeout_s": 6} if self.protocol == "classic" else {}),
                on_assigned=self._assigned,
                on_revoked=lambda keys: self._lets_go("revoked", keys),
                on_lost=lambda keys: self._lets_go("lost", keys),
            ) as consumer,
        ):
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(anext(consumer), 0.1)

    def _assigned(self, keys: frozenset[TopicPartition]) -> None:
        self.told.append(("assigned", keys))
        self.owned |= keys

    def _lets_go(self, how: str, keys: frozenset[TopicPartition]) -> None:
        self.told.append((how, keys))
        self.owned -= keys


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_rolling_restart_of_static_members_moves_no_partition(protocol: str) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        await begin(cluster)

        async def grow() -> None:
            async with connect(cluster.servers) as client:
                await client.admin.grow_topic("orders", 24)

        await cluster.loop.spawn(CLIENT, grow())
        members = [StaticMember(cluster, number, protocol) for number in range(MEMBERS)]
        for member in members:
            member.start()
        await cluster.until(lambda: [len(m.owned) for m in members] == [3] * MEMBERS, "shared", 30)
        before = [member.owned for member in members]
        for member in members:
            others = [other for other in members if other is not member]
            for other in others:
                other.told.clear()
            await member.stop()
            await asyncio.sleep(AWAY_S)
            member.start()
            await cluster.until(lambda member=member: bool(member.owned), "back", 10)
            await asyncio.sleep(HEARD_S)
            assert [other.told for other in others] == [[]] * len(others), f"place {member.number} was noticed"
        assert [member.owned for member in members] == before
        for member in members:
            await member.stop()

    outcome = simulate(5, story, settings=SETTINGS)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
