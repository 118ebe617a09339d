"""Planted bugs are told from the clean build: the cheapest recorded catches. For all: tests.chaos bugs --recorded."""

import pytest

from tests.simulation.planted import BUGS

from .bug_table import DOCUMENT, table
from .bugs import again
from .hunts import HUNTS, WHY_NOT

CHEAPEST = (
    "ack_early",
    "isr_takes_fenced",
    "dedup_lost_at_failover",
    "raft_counts_unsynced",
)


@pytest.mark.parametrize("bug", CHEAPEST)
def test_a_planted_bug_is_caught_and_the_clean_build_passes_the_same_seed(bug: str) -> None:
    assert again(bug, twice=False).wrong == []


def test_every_bug_has_a_hunt_and_a_seed_or_a_reason() -> None:
    assert set(HUNTS) == set(BUGS)
    assert {name for name, hunt in HUNTS.items() if hunt.seed is None} == set(WHY_NOT)


def test_the_page_of_planted_bugs_is_what_the_table_says() -> None:
    assert DOCUMENT.read_text() == table(), "python -m tests.chaos bugs --write"
