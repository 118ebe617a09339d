"""``python -m tests.chaos bugs``: does the fault injection find the bugs that are planted for it?

Each bug of tests.simulation.planted is hunted over seeds, in runs of the kind that tests.chaos.hunts names, until one
fails that the clean build passes. What no seed catches tells where the faults are blind.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from tests.simulation.planted import BUGS

from .bug_table import DOCUMENT, table
from .hunts import HUNTS
from .story import ENDS_ONLY, Lived, run_seed

T = TypeVar("T")
R = TypeVar("R")

OFFSETS = (0, 1000, 2000)
"""Where the hunts begin whose median is told."""


class Catch(NamedTuple):
    """``seed`` None: not caught. ``tried``: seeds until then."""

    bug: str
    seed: int | None
    found_by: str
    tried: int
    cpu_s: float
    alarms: tuple[int, ...] = ()  # seeds on which the clean build fails as well


def hunt(bug: str, seeds: Iterable[int]) -> Catch:
    """The first of ``seeds`` that catches the bug: its run fails, and the clean build's holds."""
    began, alarms, tried = time.process_time(), [], 0
    for tried, seed in enumerate(seeds, start=1):
        found_by = _found(run_seed(seed, HUNTS[bug].config(bug)))
        if not found_by:
            continue
        clean = run_seed(seed, HUNTS[bug].config(None)).verdict.valid
        if clean is True:
            return Catch(bug, seed, found_by, tried, time.process_time() - began, tuple(alarms))
        if clean is False:
            alarms.append(seed)
    return Catch(bug, None, "", tried, time.process_time() - began, tuple(alarms))


INVARIANTS = {
    "the newer began at": "leader completeness",
    "may lead and lacks": "ISR completeness",
    "Raft term": "one leader in a term",
    "is led by": "one leader in an epoch",
    "as latest, and epoch": "latest offset",
    "has two results": "one result for a request",
    "has not applied its fencing": "unfenced once it knows",
    "fenced and in the ISR": "no fenced member of the ISR",
    "led from outside the ISR": "the leader is in the ISR",
    "a drained broker leads": "a drained broker leads nothing",
    "an ELR beside an ISR": "no ELR beside a full ISR",
    "differs from another node's": "equal images",
    "offsets disorderly": "offsets in order",
    "counts in another": "a fetch counts in its epoch",
    "high watermark fell": "the high watermark never falls",
    "replicas differ below": "equal logs",
    "producers are not": "producers as the log has them",
    "ended by itself": "no node ends by itself",
    "not whole": "whole again in time",
    "not ready": "whole again in time",
    "unheard": "no unheard error",
}
"""What a Violation says, and how the table calls it."""


def _found(lived: Lived) -> str:
    """What said that the run is bad, without what follows from it; empty where nothing did."""
    if lived.verdict.valid is not False:
        return ""
    named = list(map(_named, lived.verdict.bad_error_types))
    return ", ".join([name for name in named if name not in ENDS_ONLY] or named)


def _named(finding: str) -> str:
    return next((name for words, name in INVARIANTS.items() if words in finding), finding[:80])


def hunt_some(work: tuple[str, tuple[int, int], int]) -> list[Catch]:
    """The hunt over ``seeds``, and as many over others as the median needs."""
    bug, (first, end), hunts = work
    catches = [hunt(bug, range(first, end))]
    if catches[0].seed is not None:
        catches += [hunt(bug, range(offset, offset + end - first)) for offset in OFFSETS[1:hunts]]
    return catches


class Again(NamedTuple):
    """The recorded catch, run again. ``wrong``: sentences; none where bug and clean build are told apart, and the same
    run comes out twice."""

    found_by: str
    wrong: list[str]


def again(bug: str, *, twice: bool = True) -> Again:
    """Run the recorded catch, and the clean build on the same seed."""
    recorded, wrong = HUNTS[bug], []
    assert recorded.seed is not None
    first, clean = run_seed(recorded.seed, recorded.config(bug)), run_seed(recorded.seed, recorded.config(None))
    found_by = _found(first)
    if not found_by:
        wrong.append(f"seed {recorded.seed} does not catch it any more")
    if clean.verdict.valid is not True:
        wrong.append(f"the clean build fails seed {recorded.seed}: {clean.verdict.bad_error_types}")
    if twice and run_seed(recorded.seed, recorded.config(bug)).digest != first.digest:
        wrong.append(f"seed {recorded.seed} gave two different runs")
    return Again(found_by, wrong)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", default="", help="these bugs, by comma")
    parser.add_argument("--seeds", default="0:200", help="FIRST:END, at most so many each")
    parser.add_argument(
        "--hunts", type=int, default=1, choices=(1, 2, 3), help="from so many first seeds, for a median"
    )
    parser.add_argument("--recorded", action="store_true", help="run the recorded catches again, and the clean build")
    parser.add_argument("--write", action="store_true", help="write docs/planted-bugs.md, and nothing else")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, help="append each bug's catches to this file, as JSON")
    parser.set_defaults(act=main)


def main(arguments: argparse.Namespace) -> int:
    """How many bugs were not caught that should have been."""
    names = arguments.only.split(",") if arguments.only else list(BUGS)
    if unknown := sorted(set(names) - set(BUGS)):
        raise SystemExit(f"there is no bug {', '.join(unknown)}; there are {', '.join(BUGS)}")
    if arguments.write:
        DOCUMENT.write_text(table())
        return 0
    if arguments.recorded:
        return _rerun([name for name in names if HUNTS[name].seed is not None], arguments.jobs)
    return _hunt_all(names, arguments)


def _rerun(names: list[str], jobs: int) -> int:
    failed = 0
    for name, (found_by, wrong) in zip(names, _over(again, names, jobs), strict=True):
        failed += bool(wrong)
        print(f"{'FAIL' if wrong else 'ok  '} {name:30} {found_by} {'; '.join(wrong)}", flush=True)
    print(f"{len(names) - failed} recorded catches held, {failed} did not")
    return failed


def _hunt_all(names: list[str], arguments: argparse.Namespace) -> int:
    first, _, end = arguments.seeds.partition(":")
    seeds, caught = (int(first), int(end) if end else int(first) + 1), 0
    for catches in _over(hunt_some, [(name, seeds, arguments.hunts) for name in names], arguments.jobs):
        caught += catches[0].seed is not None
        _tell(catches)
        if arguments.results is not None:
            with arguments.results.open("a") as file:
                file.write(json.dumps([catch._asdict() for catch in catches]) + "\n")
    print(f"{caught} of {len(names)} bugs caught")
    return len(names) - caught


def _over(work: Callable[[T], R], over: list[T], jobs: int) -> Iterator[R]:
    if jobs == 1:
        yield from map(work, over)
        return
    with multiprocessing.get_context("forkserver").Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap(work, over)


def _tell(catches: list[Catch]) -> None:
    first, cpu_s = catches[0], sum(catch.cpu_s for catch in catches)
    if first.seed is None:
        print(f"{first.bug:30} NOT CAUGHT in {first.tried} seeds, {cpu_s:.0f} CPU s")
    else:
        middle = median(catch.tried for catch in catches)
        print(
            f"{first.bug:30} seed {first.seed:3}, median {middle:g}, {cpu_s:.0f} CPU s: {first.found_by[:150]}",
            flush=True,
        )
    for seed in [seed for catch in catches for seed in catch.alarms]:
        print(f"     the clean build fails seed {seed}, too")
