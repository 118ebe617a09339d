"""Random histories: nothing acknowledged is lost, all states agree, and peace brings everybody together."""

import pytest

from .fuzz import EAGER, live_through

SEEDS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_promises_hold_in_a_random_history(seed: int) -> None:
    assert live_through(seed).acked > 0


@pytest.fixture(scope="module")
def installs() -> dict[int, int]:
    return {}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_promises_hold_while_snapshots_replace_the_log(seed: int, installs: dict[int, int]) -> None:
    lived = live_through(seed, compaction=EAGER)
    assert lived.snapshots > 0
    installs[seed] = lived.installs


def test_the_histories_had_snapshots_installed(installs: dict[int, int]) -> None:
    # A fuzz that never gets there proves nothing; over the whole suite it is many.
    if len(installs) == SEEDS:
        assert sum(installs.values()) > SEEDS
