"""``python -m tests.chaos failpoints``: a node dies at every named place of the product, one place after the other.

A hunt with random places meets the common ones again and again, and the rare ones never. Here each place has runs of
its own, on workloads and settings that pass it, until a node has died there; every run must hold.
"""

import argparse
import multiprocessing
from collections.abc import Iterable
from typing import NamedTuple

from .failpoints import names
from .hunts import SNAPSHOTS
from .nemesis import AT
from .story import Config, run_seed

SEEDS = 3
"""Of each kind of run, before the next kind is tried."""
SECONDS = 12.0
CONFIGS = (
    Config(),
    Config(workload="meta", settings=SNAPSHOTS),
    Config(workload="flush"),
    Config(workload="remake"),
    Config(workload="queue", observers=1),
)


class Death(NamedTuple):
    """``died``: how many nodes died there, in ``runs`` runs; ``wrong``: what did not hold, with workload and seed."""

    place: str
    died: int
    runs: int
    wrong: tuple[str, ...]


def die_at(place: str) -> Death:
    """Runs until a node has died at the place, or all kinds of runs have been tried."""
    runs, wrong = 0, []
    for base in CONFIGS:
        nemeses = (f"failpoint{AT}{place}", "rolling", "kill")
        config = Config(
            workload=base.workload,
            observers=base.observers,
            settings=base.settings,
            nemeses=nemeses,
            seconds=SECONDS,
        )
        for seed in range(SEEDS):
            lived = run_seed(seed, config)
            runs += 1
            if lived.verdict.valid is False:
                wrong.append(f"{base.workload} seed {seed}: {'; '.join(lived.verdict.bad_error_types)[:300]}")
            if died := lived.died_at.get(place, 0):
                return Death(place, died, runs, tuple(wrong))
    return Death(place, 0, runs, tuple(wrong))


def die_everywhere(arguments: argparse.Namespace) -> int:
    """How many places were not reached, or saw a run that did not hold."""
    places = [place for place in names() if arguments.only in place]
    bad, reached = 0, 0
    for death in _in_processes(places, arguments.jobs):
        reached += death.died > 0
        bad += bool(death.wrong)
        verdict = "ok" if death.died and not death.wrong else "WRONG" if death.wrong else "not reached"
        print(f"{verdict:12}{death.place:40}{death.died} died, {death.runs} runs {' '.join(death.wrong)}", flush=True)
    print(f"{reached} of {len(places)} places killed a node; {bad} saw a run that did not hold")
    return bad + len(places) - reached


def _in_processes(places: list[str], jobs: int) -> Iterable[Death]:
    with multiprocessing.get_context("forkserver").Pool(jobs) as pool:
        yield from pool.imap(die_at, places)
