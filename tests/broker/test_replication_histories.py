"""Random histories of replication: nothing acknowledged or seen is lost or changed, whatever happens to whom."""

from collections import Counter

import pytest

from .replication_world import World

SEEDS_PER_TEST = 25


@pytest.mark.parametrize("block", range(8))
def test_nothing_acknowledged_is_lost(block: int):
    counts: Counter[str] = Counter()
    for seed in range(block * SEEDS_PER_TEST, (block + 1) * SEEDS_PER_TEST):
        world = World(seed)
        try:
            world.run(600)
            world.heal()
            world.check()
        except AssertionError as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation
        counts.update(world.counts)
    # A history in which nothing happened proves nothing.
    for kind in ("acked", "truncated", "power", "kill", "fenced", "isr changed", "isr refused", "lost", "consumed"):
        assert counts[kind] >= 3, f"{kind} happened {counts[kind]} times: {counts}"


def test_one_seed_is_one_history():
    worlds = [World(7), World(7)]
    for world in worlds:
        world.run(400)
    assert worlds[0].counts == worlds[1].counts
    assert worlds[0].acknowledged == worlds[1].acknowledged
