"""The fault injection itself: seeds that must hold, runs that repeat, schedules that are data and can be shrunk."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from .checkers.verdict import read_verdict
from .failpoints import armed, names
from .faults.kinds import KINDS
from .faults.plan import Act, plan
from .judge import judge_directory
from .run import CALM, read_acts, write_run
from .shrink import shrink
from .story import Config, run_seed

SHORT = Config(seconds=8.0)


@pytest.mark.parametrize("workload", ["queue", "idem", "acks01", "meta"])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_promised_holds_under_faults(workload: str, seed: int) -> None:
    lived = run_seed(seed, Config(workload=workload, seconds=8.0))
    assert lived.verdict.valid is True, (lived.verdict.bad_error_types, lived.verdict.invalid_because)


@pytest.mark.parametrize(
    "kinds", [("kill", "pause", "partition", "coordinator"), ("member-cut", "lone-coordinator", "client-cut")]
)
def test_groups_hold_under_faults(kinds: tuple[str, ...]) -> None:
    lived = run_seed(3, Config(workload="group", seconds=8.0, nemeses=kinds))
    assert lived.verdict.valid is True, (lived.verdict.bad_error_types, lived.verdict.invalid_because)


def test_a_run_without_faults_holds() -> None:
    lived = run_seed(0, SHORT, CALM)
    assert lived.verdict.valid is True
    assert lived.effects == {}


def test_one_seed_is_one_run_and_what_is_written_down_is_judged_the_same(tmp_path: Path) -> None:
    first, again = run_seed(3, SHORT), run_seed(3, SHORT)
    assert first.digest == again.digest
    assert first.history.ops == again.history.ops
    assert run_seed(4, SHORT).digest != first.digest
    write_run(tmp_path, first, report=True)
    assert judge_directory(tmp_path) == read_verdict(tmp_path) == first.verdict
    assert read_acts(tmp_path) == first.acts
    assert (tmp_path / "timeline.html").stat().st_size > 1000
    replayed = run_seed(3, SHORT, read_acts(tmp_path))
    assert replayed.digest == first.digest


@given(st.integers(0, 10**6), st.floats(1, 200), st.sets(st.sampled_from(sorted(KINDS))))
def test_a_plan_is_in_order_within_its_time_and_of_its_kinds(seed: int, seconds: float, kinds: set[str]) -> None:
    acts = plan(seed, seconds, kinds)
    assert acts == plan(seed, seconds, kinds)
    assert [act.at_s for act in acts] == sorted(act.at_s for act in acts)
    assert all(0 <= act.at_s <= seconds and act.kind in kinds for act in acts)


@given(st.integers(1, 40), st.data())
def test_shrinking_leaves_exactly_what_is_needed(count: int, data: st.DataObject) -> None:
    acts = [Act(float(n), "kill", n, False) for n in range(count)]
    needed = data.draw(st.sets(st.sampled_from(range(count)), min_size=1, max_size=4))
    small = shrink(acts, lambda some: needed <= {act.seed for act in some}, runs_max=2000)
    assert {act.seed for act in small} == needed


def test_failpoints_are_passed_in_pairs_and_put_back() -> None:
    from ottla.raft.wal import WriteAheadLog

    original = WriteAheadLog.add
    passed: list[str] = []
    with armed(passed.append):
        assert WriteAheadLog.add is not original
    assert WriteAheadLog.add is original
    assert passed == []
    assert len(names()) >= 50


def test_every_kind_of_fault_is_drawn() -> None:
    drawn = {act.kind for seed in range(300) for act in plan(seed, 60, KINDS)}
    assert drawn == set(KINDS)
