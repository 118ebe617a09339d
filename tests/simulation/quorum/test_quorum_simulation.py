"""The quorum alone on virtual time: seeds that must hold, a run that must repeat, and bugs that must be found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .planted import BUGS
from .run import Total
from .story import run_seed

SEEDS = 50
SEEDS_PER_TEST = 10
FAULTY_S = 20.0


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_what_raft_promises_holds_at_every_step(first: int) -> None:
    total = Total()
    for seed in range(first, first + SEEDS_PER_TEST):
        verdict = run_seed(seed, FAULTY_S)
        again = f"python -m tests.simulation.quorum.run --seeds {seed} --time {FAULTY_S:g} --trace FILE"
        assert verdict.error is None, f"{verdict.error}\nagain: {again}\n{verdict.lines}"
        total.add(verdict)
    assert total.faults.total() > 2 * SEEDS_PER_TEST
    assert total.mechanisms["snapshot installed"] + total.mechanisms["truncated on conflict"] > 0


def test_one_seed_is_one_history_in_every_process_and_under_every_hash_seed() -> None:
    here = run_seed(4, 12.0)
    assert run_seed(4, 12.0).digest == here.digest
    command = [sys.executable, "-m", "tests.simulation.quorum.run", "--seeds", "4", "--time", "12"]
    root = Path(__file__).parents[3]
    for hash_seed in ("1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        there = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False).stdout
        assert re.findall(r"trace ([0-9a-f]{24})", there) == [here.digest], there
    assert run_seed(3, 12.0).digest != here.digest


@pytest.mark.parametrize("name", ["truncate_matching", "answer_before_sync", "sync_skipped", "barrier_without_commit"])
def test_a_planted_bug_is_found_where_it_was_found_before(name: str) -> None:
    seed = BUGS[name].caught_by
    assert seed is not None
    with BUGS[name].plant():
        verdict = run_seed(seed)
    assert verdict.error is not None
    assert verdict.error.startswith("Violation"), verdict.error
