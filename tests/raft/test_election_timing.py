"""When an election begins, and when nothing does: the dead leader's closed connections, and an idle quorum's ticks."""

import statistics
from collections import Counter

import pytest

from ottla.raft.codec import TimeoutNow
from ottla.raft.engine import SafeSyncObj

from .cluster import World


def test_a_leader_whose_connections_close_is_replaced_before_its_silence_ends() -> None:
    seconds = []
    for seed in range(20):
        world = World(seed, 3)
        leader = world.run_to_leader()
        world.run(0.3)
        world.crash(leader.id, power=False)
        began = world.now
        world.run_to_leader()
        seconds.append(world.now - began)
    assert statistics.median(seconds) < 0.4  # an election starts after 0.5 s of silence at the earliest
    assert max(seconds) < 1.5


@pytest.mark.parametrize("seed", range(5))
def test_a_connection_that_breaks_and_comes_back_deposes_nobody(seed: int) -> None:
    world = World(seed, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    term = leader.core.term
    follower = next(voter for voter in world.voters.values() if voter is not leader)
    for _ in range(10):
        world.link(leader.id, follower.id, False)
        world.run(0.2)
        world.link(leader.id, follower.id, True)
        world.run(0.5)
    assert leader.core.is_leader
    assert {voter.core.term for voter in world.voters.values()} == {term}


@pytest.mark.parametrize("seed", range(5))
def test_a_transfer_that_could_not_begin_deposes_nobody_later(seed: int) -> None:
    world = World(seed, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    term = leader.core.term
    follower = next(voter for voter in world.voters.values() if voter is not leader)
    others = [number for number in world.voters if number != follower.id]
    for number in others:
        follower.core.connected(number, False)
    follower.core.receive(leader.id, TimeoutNow(term))
    follower.core.doTick(0)
    for number in others:
        follower.core.connected(number, True)
    world.run(3)
    assert leader.core.is_leader
    assert leader.core.term == term


def test_an_idle_quorum_ticks_for_heartbeats_and_nothing_else() -> None:
    ticks: Counter[int] = Counter()

    class Counting(SafeSyncObj):
        def _turn(self, now: float) -> None:
            ticks[self.selfNode.id] += 1
            super()._turn(now)

    world = World(1, 3, core=Counting)
    leader = world.run_to_leader()
    world.run(1)
    ticks.clear()
    world.run(10)
    assert ticks.pop(leader.id) <= 110  # a heartbeat each 0.1 s
    assert sum(ticks.values()) == 0
    leader.propose(b"x")
    world.run(0.2)
    assert world.acked == [b"x"]
    world.check_converged()


def test_a_commit_waits_for_no_heartbeat() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    for number in range(20):
        world.run(0.01 * (number % 10))  # at every phase between two heartbeats
        leader.propose(b"%d" % number)
        world.run(0.06)
        assert len(world.acked) == number + 1
