"""``python -m tests.chaos failpoints``: a node dies at every named place of the product, one place after the other.

A hunt with random places meets the common ones again and again, and the rare ones never. Here each place has runs of
its own, on workloads and settings that pass it, until a node has died there; every run must hold. Which pass it is seen
first: one run of each kind counts the places that it comes by.
"""

import argparse
import multiprocessing
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from .failpoints import names
from .faults.plan import AT, Act
from .hunts import SNAPSHOTS
from .story import Config, run_seed

SEEDS = 6
"""Of a kind of run that passes the place; of each other kind, one."""
SECONDS = 10.0
TRIES = 3
"""To have a node die there, in a run."""
KINDS: Mapping[str, Config] = {  # the cheaper first
    "queue": Config(nemeses=("rolling", "kill", "partition")),
    "cut off": Config(nemeses=("comeback", "frozen-view")),
    "meta": Config(workload="meta", settings=SNAPSHOTS, nemeses=("rolling", "kill", "partition", "depose")),
    "observer": Config(observers=1, nemeses=("rolling", "kill")),
    "remake": Config(workload="remake-flush", nemeses=("rolling", "kill")),
    "compact": Config(workload="compact", nemeses=("rolling", "kill")),
    "corrupt": Config(nemeses=("corrupt", "torn")),
}


class Death(NamedTuple):
    """``died``: how many nodes died there, in ``runs`` runs; ``wrong``: what did not hold, with workload and seed."""

    place: str
    died: int
    runs: int
    wrong: tuple[str, ...]


def survey(kind: str) -> dict[str, int]:
    """How often a run of that kind comes by each place."""
    return run_seed(1, msgspec.structs.replace(KINDS[kind], seconds=SECONDS)).passed


def die_at(place: str, kinds: Mapping[str, int]) -> Death:
    """Runs until a node has died at the place. ``kinds``: of runs, and how many of each, in this order."""
    runs, wrong = 0, []
    for kind, seeds in kinds.items():
        config = msgspec.structs.replace(KINDS[kind], seconds=SECONDS)
        for seed in range(seeds):
            acts = [Act(0, f"failpoint{AT}{place}", seed * TRIES + n, True) for n in range(TRIES)]
            lived = run_seed(seed, config, acts)
            runs += 1
            if lived.verdict.valid is False:
                wrong.append(f"{kind} seed {seed}: {'; '.join(lived.verdict.bad_error_types)[:300]}")
            if died := lived.died_at.get(place, 0):
                return Death(place, died, runs, tuple(wrong))
    return Death(place, 0, runs, tuple(wrong))


def kinds_for(place: str, surveys: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Those that pass the place first."""
    passing = [kind for kind in KINDS if surveys[kind].get(place)]
    return dict.fromkeys(passing, SEEDS) | {kind: 1 for kind in KINDS if kind not in passing}


def die_everywhere(arguments: argparse.Namespace) -> int:
    """How many places were not reached, or saw a run that did not hold."""
    places = [place for place in names() if arguments.only in place]
    bad, reached = 0, 0
    for death in _deaths(places, arguments.jobs):
        reached += death.died > 0
        bad += bool(death.wrong)
        verdict = "ok" if death.died and not death.wrong else "WRONG" if death.wrong else "not reached"
        print(f"{verdict:12}{death.place:40}{death.died} died, {death.runs} runs {' '.join(death.wrong)}", flush=True)
    print(f"{reached} of {len(places)} places killed a node; {bad} saw a run that did not hold")
    return bad + len(places) - reached


def _deaths(places: list[str], jobs: int) -> Iterable[Death]:
    with multiprocessing.get_context("forkserver").Pool(jobs) as pool:
        surveys = dict(zip(KINDS, pool.map(survey, KINDS), strict=True))
        yield from pool.imap(_die, [(place, kinds_for(place, surveys)) for place in places])


def _die(work: tuple[str, dict[str, int]]) -> Death:
    return die_at(*work)
