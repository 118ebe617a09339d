"""Random histories: nothing acknowledged is lost, all states agree, and peace brings everybody together."""

import pytest

from .fuzz import live_through

SEEDS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_promises_hold_in_a_random_history(seed: int) -> None:
    assert live_through(seed) > 0
