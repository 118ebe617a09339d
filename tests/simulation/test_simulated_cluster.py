"""Whole clusters on virtual time: seeds that must hold, runs that must repeat, and a bug that must be found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .patches import assert_undone
from .planted import PLANTED
from .story import run_seed
from .world import SimulatedCluster, Violation, simulate

FAULTY_S = 10.0


@pytest.mark.parametrize("seed", range(10))
def test_what_was_acknowledged_survives_whatever_happens(seed: int) -> None:
    outcome = run_seed(seed, FAULTY_S)
    again = f"python -m tests.simulation.run --seeds {seed} --time {FAULTY_S:g} --trace FILE"
    assert outcome.error is None, f"{outcome.error!r}\nagain: {again}\n{outcome.loop.trace.tail()}"
    assert outcome.result.acknowledged <= outcome.result.stored


def test_one_seed_is_one_history_in_every_process_and_under_every_hash_seed() -> None:
    here = run_seed(2, 3.0)
    assert run_seed(2, 3.0).digest == here.digest
    command = [sys.executable, "-m", "tests.simulation.run", "--seeds", "2", "--time", "3"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    there = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False).stdout
    assert re.findall(r"trace (\w+)", there) == [here.digest], there
    assert run_seed(3, 3.0).digest != here.digest


@pytest.mark.parametrize("bug", ["ack_early", "truncate_to_high_watermark"])
def test_a_planted_bug_is_found(bug: str) -> None:
    with PLANTED[bug]():
        assert any(isinstance(run_seed(seed, 20.0).error, Violation) for seed in range(6))


def test_a_quiet_cluster_forms_and_a_kill_of_all_is_survived() -> None:
    async def story(cluster: SimulatedCluster) -> list[str]:
        cluster.start_all()
        await cluster.until_ready(10)
        for host in cluster.hosts:
            assert cluster.kill(host)
        cluster.start_all()
        await cluster.until_ready(10)
        await cluster.stop("b1")
        return [member.host for member in cluster.running()]

    outcome = simulate(1, story)
    assert outcome.error is None, outcome.error
    assert outcome.result == ["b2", "b3"]
    assert_undone()
