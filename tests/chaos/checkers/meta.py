"""Topics as linearizable registers, one for each name (Herlihy and Wing; the search is Lowe's just-in-time one).

A topic is absent (None) or has a configuration, a number. ``create`` needs it absent, ``delete`` needs it there, and
``alter`` needs it lower: it raises it, as partitions are added. A ``list`` reads all names. What ended as info may
happen at any later time or never. A refusal that tells what there was (ALREADY_EXISTS, UNKNOWN_TOPIC) is a read; any
other failure never happened. A list with ``current: false`` may be old: it must show a state that was at some time
before it ended. A client that itself asks again (``hidden_retries``) may be told by the second answer what its first
attempt had done: then ok, or a refusal, says that the state it wants was there, and one of its attempts may have
brought it about.

``not-linearizable``: no order of the operations on this name explains the answers; the example names the first
operation that nothing explains.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..history import Op, Pair, paired
from .findings import Findings

META_F = frozenset(("create", "delete", "alter", "list"))
EXISTS = ("ALREADY_EXISTS", "TopicExists")
UNKNOWN = ("UNKNOWN_TOPIC", "TOPIC_NOT_FOUND", "TopicNotFound")
STATES_MAX = 100_000
"""At most so many explanations at once; a history that needs more is given up as ``too-hard``, never as good."""

State = int | None
"""None, or the configuration."""


class Range(NamedTuple):
    """Configurations from ``low`` to ``high``, both included."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, state: object) -> bool:
        return isinstance(state, int) and self.low <= state <= self.high


ANYTHING = Range()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation on one topic. ``needs``: the state before it, None for absent. ``gives``: the state after; ANYTHING
    leaves it as it is. Optional ones may never happen; those without an end may happen at any time."""

    begin: int
    end: int | None
    needs: Range | None
    gives: State | Range
    optional: bool
    op: int

    @property
    def is_read(self) -> bool:
        return self.gives is ANYTHING and not self.optional

    def apply(self, state: State) -> tuple[bool, State]:
        """Whether it can happen now, and what there is after it."""
        fits = state is None if self.needs is None else state in self.needs
        return fits, state if isinstance(self.gives, Range) else self.gives


def check_meta(ops: Iterable[Op], *, hidden_retries: bool = False) -> Findings:
    """Judge every name by itself: registers are linearizable together if each is. Other operations are passed over."""
    findings = Findings()
    pairs = [pair for pair in paired(ops) if pair.begin.f in META_F]
    for name, steps in sorted(_steps(pairs, hidden_retries=hidden_retries).items()):
        try:
            blame = first_unexplained(steps)
        except OverflowError:
            findings.fault("too-hard", topic=name)
            continue
        if blame is not None:
            findings.fault("not-linearizable", topic=name, op=blame.op, needs=_told(blame.needs))
    return findings


def _told(needs: Range | None) -> str:
    """For people."""
    if needs is None:
        return "absent"
    return "present" if needs == ANYTHING else f"configuration {needs.low:g} to {needs.high:g}"


def _steps(pairs: list[Pair], *, hidden_retries: bool) -> dict[str, list[Step]]:
    steps: dict[str, list[Step]] = {}
    names = {pair.begin.value["topic"] for pair in pairs if pair.begin.f != "list"}
    names |= {name for pair in pairs if pair.begin.f == "list" and pair.type == "ok" for name in pair.value}
    for pair in pairs:
        begin, end = pair.begin.index, pair.end.index if pair.end is not None else None
        if pair.begin.f != "list":
            steps.setdefault(pair.begin.value["topic"], []).extend(_change(pair, hidden_retries=hidden_retries))
        elif pair.type == "ok":
            current = (pair.begin.value or {}).get("current", True)
            for name in names:
                shown = pair.value.get(name)
                needs = None if shown is None else Range(shown, shown)
                step = Step(begin if current else -1, end, needs, ANYTHING, False, begin)
                steps.setdefault(name, []).append(step)
    return steps


def _change(pair: Pair, *, hidden_retries: bool) -> list[Step]:
    f, value = pair.begin.f, pair.begin.value
    begin, end = pair.begin.index, pair.end.index if pair.end is not None else None
    gives = None if f == "delete" else value["config"]
    needs = {"create": None, "delete": ANYTHING}.get(f) if f != "alter" else Range(high=gives - 1)
    if pair.type == "info":
        return [Step(begin, None, needs, gives, True, begin)]
    if pair.type == "ok" and not hidden_retries:
        return [Step(begin, end, needs, gives, False, begin)]
    error = (pair.end.error if pair.end is not None else None) or ""
    if pair.type == "ok":
        # It may have done it and been told of its own doing, or of another's.
        shown = {"create": ANYTHING, "delete": None}.get(f) if f != "alter" else Range(low=gives)
    elif f == "create" and any(word in error for word in EXISTS):
        shown = ANYTHING
    elif f != "create" and any(word in error for word in UNKNOWN):
        shown = None
    else:
        return []
    saw = Step(begin, end, shown, ANYTHING, False, begin)
    return [saw, Step(begin, end, needs, gives, True, begin)] if hidden_retries else [saw]


Explanation = tuple[State, frozenset[int]]
"""The state now, and which of the steps under way have happened."""


def first_unexplained(steps: list[Step]) -> Step | None:
    """None if some order explains them all. Raises OverflowError beyond STATES_MAX explanations."""
    moments = sorted(
        [(step.begin, 0, number) for number, step in enumerate(steps)]
        + [(step.end, 1, number) for number, step in enumerate(steps) if step.end is not None]
    )
    under_way: set[int] = set()
    explanations: set[Explanation] = {(None, frozenset())}
    for _, is_end, number in moments:
        if not is_end:
            under_way.add(number)
            continue
        explanations = _ended(steps, explanations, under_way, number)
        under_way.discard(number)
        if not explanations:
            return steps[number]
    return None


def _ended(steps: list[Step], explanations: set[Explanation], under_way: set[int], number: int) -> set[Explanation]:
    """The explanations in which the step has happened, or need not have."""
    found: set[Explanation] = set()
    reads = [other for other in under_way if steps[other].is_read]
    tried = {_with_reads(steps, explanation, reads) for explanation in explanations}
    work = list(tried)
    while work:
        state, happened = work.pop()
        if number in happened or steps[number].optional:
            found.add((state, happened - {number}))
        if number in happened:
            continue
        for other in _worth_trying(steps, under_way - happened):
            fits, behind = steps[other].apply(state)
            explanation = _with_reads(steps, (behind, happened | {other}), reads)
            if fits and explanation not in tried:
                tried.add(explanation)
                work.append(explanation)
        if len(tried) > STATES_MAX:
            raise OverflowError
    return _fewest(steps, found)


def _worth_trying(steps: list[Step], waiting: set[int]) -> list[int]:
    """Of those that do the same and may happen at any time the first will do: they can stand in for each other."""
    alike: dict[tuple[Range | None, State | Range], int] = {}
    tried: list[int] = []
    for number in sorted(waiting):
        step = steps[number]
        if step.end is None and alike.setdefault((step.needs, step.gives), number) != number:
            continue
        tried.append(number)
    return tried


def _with_reads(steps: list[Step], explanation: Explanation, reads: list[int]) -> Explanation:
    """Reads that fit are taken at once: they change nothing, so to put them off gains nothing."""
    state, happened = explanation
    fitting = [read for read in reads if read not in happened and steps[read].apply(state)[0]]
    return (state, happened.union(fitting)) if fitting else explanation


def _fewest(steps: list[Step], explanations: set[Explanation]) -> set[Explanation]:
    """Without those that have used up more of what may happen at any time, and gained nothing by it."""
    by_rest: dict[tuple[State, frozenset[int]], list[frozenset[int]]] = {}
    for state, happened in explanations:
        spent = frozenset(number for number in happened if steps[number].end is None)
        by_rest.setdefault((state, happened - spent), []).append(spent)
    kept: set[Explanation] = set()
    for (state, rest), spents in by_rest.items():
        best: list[frozenset[int]] = []
        for spent in sorted(spents, key=len):
            if not any(less <= spent for less in best):
                best.append(spent)
        kept.update((state, rest | spent) for spent in best)
    return kept
