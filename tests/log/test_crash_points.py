"""A few hundred of the crash points; by hand there are thousands (tests/log/crash_points.py)."""

import pytest

from tests.log.crash_points import CrashPoint


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_power_cuts_in_random_histories(first: int) -> None:
    for seed in range(first, first + 50):
        CrashPoint(seed).run()


@pytest.mark.parametrize("seed", [198, 1657, 4231, 9262, 10584])
def test_histories_that_once_failed(seed: int) -> None:
    """What was cut off came back among what came later; an index was believed that had not been synced."""
    CrashPoint(seed).run()
