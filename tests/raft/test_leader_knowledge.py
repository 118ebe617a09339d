"""What a voter says of who leads: it must not name one that it has not heard of for an election timeout."""

import pytest

from .cluster import World


@pytest.mark.parametrize("size", [3, 5])
def test_a_follower_that_is_cut_off_from_all_knows_no_leader(size: int) -> None:
    world = World(1, size)
    leader = world.run_to_leader()
    follower = next(voter for voter in world.voters.values() if voter is not leader)
    world.run(0.3)
    assert follower.core.leader_id == leader.id
    world.isolate(follower.id)
    world.run(1.3)
    assert follower.core.leader_id is None
    world.mesh()
    world.run(1.0)
    assert follower.core.leader_id == leader.id, "and hears of it again"
