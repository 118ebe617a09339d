"""The checkers say what is so: of planted and of random histories, and beside exhaustive search on small ones."""

import itertools
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from .checkers.cycles import _groups
from .checkers.findings import EXAMPLES_MAX, Findings
from .checkers.liveness import check_recovery, lack_of_progress
from .checkers.meta import ANYTHING, Range, Step, _fewest, first_unexplained
from .checkers.queue import check_queue
from .checkers.verdict import RunFacts, judge, read_verdict, write_verdict
from .history import FAULTS_FILE, OPS_FILE, Fault, History, Op, paired, read_faults, read_ops
from .mutations import Ground
from .planted import SECOND, Planted, Script, planted, seen
from .selftest import Family, false_alarms, families, recall
from .spans import spans_of

OPERATIONS = 250
INJECTIONS = 5
KINDS = [(family.name, kind) for family in families(OPERATIONS) for kind in family.mutations]


@pytest.mark.parametrize("entry", planted(), ids=lambda entry: entry.name)
def test_planted_histories_are_called_what_they_are(entry: Planted) -> None:
    assert entry.missed() is None


@pytest.fixture(scope="module")
def proving() -> dict[str, tuple[Family, list[Ground]]]:
    return {
        family.name: (family, [Ground.of(family.valid(seed)) for seed in range(2)]) for family in families(OPERATIONS)
    }


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=":".join)
def test_mutations_of_valid_histories_are_caught(
    proving: dict[str, tuple[Family, list[Ground]]], name: str, kind: str
) -> None:
    family, grounds = proving[name]
    score = recall(family, kind, INJECTIONS, grounds)
    assert score.planted > 0
    assert score.missed == []


def test_valid_histories_raise_no_alarm() -> None:
    assert list(false_alarms(40, OPERATIONS)) == []


# Against exhaustive search


@st.composite
def registers(draw: st.DrawFn) -> list[Step]:
    """Up to six operations on one topic, that overlap as they like."""
    count = draw(st.integers(1, 6))
    moments = draw(st.permutations(range(2 * count)))
    needs = st.sampled_from([None, ANYTHING, Range(1, 1), Range(2, 2), Range(high=1)])
    gives = st.sampled_from([None, 1, 2, ANYTHING])
    steps = []
    for number in range(count):
        begin, end = sorted(moments[2 * number : 2 * number + 2])
        optional = draw(st.booleans())
        never_ends = optional and draw(st.booleans())
        step = Step(begin, None if never_ends else end, draw(needs), draw(gives), optional, number)
        if step.needs is None and step.gives is ANYTHING and draw(st.booleans()):
            step = Step(begin, step.end, None, 1, optional, number)
        steps.append(step)
    return steps


def _explained_by_some_order(steps: list[Step]) -> bool:
    """Every subset that has all that must happen, in every order that the clock permits."""
    must = [step for step in steps if not step.optional]
    may = [step for step in steps if step.optional]
    for count in range(len(may) + 1):
        for chosen in itertools.combinations(may, count):
            if any(_holds(order) for order in itertools.permutations([*must, *chosen])):
                return True
    return False


def _holds(order: tuple[Step, ...]) -> bool:
    for before, behind in itertools.combinations(order, 2):
        if behind.end is not None and behind.end < before.begin:
            return False
    state = None
    for step in order:
        fits, state = step.apply(state)
        if not fits:
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(registers())
def test_the_register_search_finds_what_exhaustive_search_finds(steps: list[Step]) -> None:
    assert (first_unexplained(steps) is None) == _explained_by_some_order(steps)


def test_many_operations_that_nobody_knows_of_do_not_overwhelm_the_search() -> None:
    unknown = [
        Step(number, None, None if number % 2 else ANYTHING, number % 3 or None, True, number) for number in range(60)
    ]
    reads = [Step(60 + 2 * at, 61 + 2 * at, Range(1, 1) if at % 2 else None, ANYTHING, False, at) for at in range(20)]
    assert first_unexplained([*unknown, *reads]) is None


def test_explanations_that_gained_nothing_are_dropped_and_others_kept() -> None:
    steps = [Step(number, None, None, 1, True, number) for number in range(3)]
    cheap, other, wasteful = (1, frozenset({0})), (1, frozenset({1, 2})), (1, frozenset({0, 1}))
    assert _fewest(steps, {cheap, other, wasteful}) == {cheap, other}


def test_what_began_as_another_ended_did_not_follow_it() -> None:
    history = History(lambda: 0)
    poll = history.invoke(1, "poll", [["poll"]])
    history.complete(poll, "ok", [["poll", [[0, [[0, 1]]]]]])
    send = history.invoke(0, "send", [["send", 0, 1]])
    history.complete(send, "ok", [["send", 0, [0, 1]]])
    assert check_queue(history.ops).valid


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7).flatmap(lambda size: st.lists(st.tuples(*[st.integers(0, size - 1)] * 2), max_size=14)))
def test_groups_are_the_nodes_that_reach_each_other(edges: list[tuple[int, int]]) -> None:
    size = max((node for edge in edges for node in edge), default=0) + 1
    graph = [sorted({behind for before, behind in edges if before == node}) for node in range(size)]
    reach = [set(behind) for behind in graph]
    for middle, node in itertools.product(range(size), repeat=2):
        if middle in reach[node]:
            reach[node] |= reach[middle]
    groups = {
        frozenset(other for other in range(size) if other in reach[node] and node in reach[other])
        for node in range(size)
    }
    assert {frozenset(group) for group in _groups(graph)} == {group for group in groups if len(group) > 1}


# Histories


def test_histories_survive_the_disk(tmp_path: Path) -> None:
    script = (
        Script()
        .send(0, (0, 3, 1))
        .send(1, (0, None, 2), type="info", error="late")
        .poll(2, (0, [(3, 1)]), rebalanced=[0])
    )
    script.history.fault("kill", "start", ["n1"], effective=False, detail="it was down")
    script.history.write(tmp_path)
    assert read_ops(tmp_path / OPS_FILE) == script.ops
    assert read_faults(tmp_path / FAULTS_FILE) == script.history.faults


def test_a_process_has_one_operation_under_way() -> None:
    history = History(lambda: 0)
    op = history.invoke(0, "poll", [["poll"]])
    with pytest.raises(ValueError, match="under way"):
        history.invoke(0, "poll", [["poll"]])
    history.complete(op, "ok")
    with pytest.raises(ValueError, match="cannot end"):
        history.complete(op, "ok")
    assert [pair.type for pair in paired(history.ops)] == ["ok"]


def test_ends_without_beginnings_are_refused() -> None:
    with pytest.raises(ValueError, match="never began"):
        paired([Op(0, 0, 0, "ok", "poll", [["poll", []]])])


def test_what_never_ended_counts_as_unknown() -> None:
    script = Script().poll(1, (0, [(0, 7)]))
    script.begin(0, "send", [["send", 0, 7]])
    assert check_queue(script.ops).outcomes["send"] == {"ok": 0, "info": 1, "fail": 0}


# Figures and verdicts


def test_the_figures_of_a_history() -> None:
    result = check_queue(Script().assign(1, 0).sent(3).poll(1, (0, seen(0, 0))).poll(1, (0, seen(1, 2))).ops)
    assert (result.valid, result.ops, result.acked) == (True, 5, 3)
    assert [count for _, count in result.unseen] == [1, 2, 3, 2, 0]
    assert result.worst_lag is not None
    assert result.worst_lag.ns == 3_000_000  # the first poll stopped short of a value acknowledged that long before it


def test_examples_are_few_and_counts_are_whole() -> None:
    findings = Findings()
    for number in range(20):
        findings.fault("unseen", value=number)
    other = Findings()
    other.merge(findings)
    other.excuse("unseen")
    assert other.valid
    assert (other.allowed["unseen"].count, len(other.allowed["unseen"].first)) == (20, EXAMPLES_MAX)


def test_a_run_that_proves_nothing_is_invalid() -> None:
    script = Script().sent(1).poll(1, (0, seen(0, 0)))
    for _ in range(3):
        script.send(0, (0, None, 5), type="fail")
    faults = [Fault(1, "kill", "start", ["n1"], effective=False), Fault(2, "kill", "end", ["n1"])]
    verdict = judge(script.ops, faults, RunFacts(nemeses=["kill"], expected_f=["send", "poll", "assign"]))
    assert verdict.valid == "INVALID"
    assert verdict.invalid_because == ["no assign was ok, of 0", "only 1 of 4 send were ok", "no kill was effective"]


def test_what_is_bad_is_bad_even_where_a_run_proves_nothing(tmp_path: Path) -> None:
    verdict = judge(Script().sent(2).poll(1, (0, seen(0, 0))).ops, [], RunFacts(seed=7, expected_f=["assign"]))
    assert (verdict.valid, verdict.bad_error_types, verdict.bad_keys) == (False, ["unseen"], [0])
    write_verdict(tmp_path, verdict)
    assert read_verdict(tmp_path) == verdict


def test_refusals_to_change_topics_are_answers() -> None:
    script = Script().topic(0, "create", "a", 1)
    for process in range(4):
        script.topic(process, "create", "a", 2, type="fail")
    assert lack_of_progress(script.ops, [], ["create"]) == []
    assert judge(script.ops, [], RunFacts(workload="meta")).valid is True


def test_healing_ends_every_fault() -> None:
    faults = [
        Fault(1, "kill", "start", ["a"]),
        Fault(2, "cut", "start", ["a", "b"]),
        Fault(3, "cut", "end"),
        Fault(9, "heal", "end"),
    ]
    assert [(span.fault.kind, span.end_ns) for span in spans_of(faults, until_ns=20)] == [("kill", 9), ("cut", 3)]


def test_recovery_is_measured_from_the_end_of_all_faults() -> None:
    moments = iter([0, SECOND, 4 * SECOND, 6 * SECOND])
    history = History(lambda: next(moments))
    for value in range(2):
        history.complete(history.invoke(0, "send", [["send", 0, value]]), "ok", [["send", 0, [value, value]]])
    faults = [Fault(2 * SECOND, "kill", "start", ["a"]), Fault(5 * SECOND, "kill", "end", ["a"])]
    recovery, _ = check_recovery(history.ops, faults, healed_ns=5 * SECOND)
    assert (recovery.ms_max, recovery.first_ack_ms, recovery.unseen_ms) == (1000.0, 1000.0, None)


def test_the_same_seed_makes_the_same_history() -> None:
    family = families(OPERATIONS)[0]
    assert family.valid(5) == family.valid(5)
    mutation = family.mutations["duplicate"][1]
    ground = Ground.of(family.valid(5))
    assert mutation(ground, Random(1)) == mutation(ground, Random(1))
    assert ground.ops == family.valid(5)  # nothing was changed in place
