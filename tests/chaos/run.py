"""Many seeds: run, written down, counted."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from .checkers.verdict import write_verdict
from .faults.plan import Act
from .report import write_report
from .story import Config, Lived, run_seed

ACTS_FILE = "acts.json"
CONFIG_FILE = "config.json"
TRACE_FILE = "trace.txt"
SEEDS_FOR_EACH_KIND = 40
CALM = ()
"""The schedule of the run without faults, which every hunt begins with."""


class Told(msgspec.Struct):
    """What a worker says of a seed."""

    seed: int
    calm: bool
    valid: bool | str
    because: list[str]
    acked: int
    ops: int
    effects: dict[str, int]
    kinds: dict[str, int]  # acts that changed something
    passed: dict[str, int]
    died_at: dict[str, int]
    digest: str
    virtual_s: float
    cpu_s: float
    recovery_ms: float | None
    acts: int


def directory_of(out: Path, config: Config, seed: int, *, calm: bool) -> Path:
    """Where a run is written down."""
    return out / config.workload / (f"{seed}-calm" if calm else str(seed))


def write_run(directory: Path, lived: Lived, *, report: bool) -> None:
    """History, faults, verdict, schedule; with ``report`` also what every node logged, and pages to look at."""
    lived.history.write(directory)
    write_verdict(directory, lived.verdict)
    (directory / ACTS_FILE).write_bytes(msgspec.json.encode(lived.acts))
    (directory / CONFIG_FILE).write_bytes(msgspec.json.encode(lived.config))
    if report:
        lived.trace.write(directory / TRACE_FILE)
        write_report(directory)


def read_acts(directory: Path) -> list[Act]:
    """The schedule of a run that was written down."""
    return msgspec.json.decode((directory / ACTS_FILE).read_bytes(), type=list[Act])


def read_config(directory: Path) -> Config:
    """What a run that was written down was made of."""
    return msgspec.json.decode((directory / CONFIG_FILE).read_bytes(), type=Config)


def run_one(seed: int, config: Config, out: Path, *, calm: bool, keep: bool) -> Told:
    """One seed, written down."""
    began = time.process_time()
    lived = run_seed(seed, config, CALM if calm else None)
    verdict = lived.verdict
    if keep or verdict.valid is not True:
        write_run(directory_of(out, config, seed, calm=calm), lived, report=verdict.valid is False)
    return Told(
        seed=seed,
        calm=calm,
        valid=verdict.valid,
        because=verdict.bad_error_types if verdict.valid is False else verdict.invalid_because,
        acked=verdict.acked,
        ops=verdict.ops,
        effects=lived.effects,
        kinds=verdict.faults,
        passed=lived.passed,
        died_at=lived.died_at,
        digest=lived.digest,
        virtual_s=lived.virtual_s,
        cpu_s=time.process_time() - began,
        recovery_ms=verdict.recovery.first_ack_ms,
        acts=len(lived.acts),
    )


def run_many(seeds: Iterable[int], config: Config, out: Path, *, jobs: int, keep: bool) -> Iterator[Told]:
    """The calm run of the first seed, then every seed; in order with one job."""
    seeds = list(seeds)
    work = [(seeds[0], config, out, True, keep), *((seed, config, out, False, keep) for seed in seeds)]
    if jobs == 1:
        yield from map(_run, work)
        return
    with multiprocessing.get_context("forkserver").Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(_run, work)


def _run(work: tuple[int, Config, Path, bool, bool]) -> Told:
    seed, config, out, calm, keep = work
    return run_one(seed, config, out, calm=calm, keep=keep)


class Tally:
    """Adds up what the seeds tell."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.effects: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.died_at: Counter[str] = Counter()

    def add(self, told: Told) -> None:
        self.told.append(told)
        self.effects.update(told.effects)
        self.kinds.update(told.kinds)
        self.passed.update(told.passed)
        self.died_at.update(told.died_at)

    def count(self, valid: bool | str) -> int:
        return sum(told.valid == valid for told in self.told)

    def unmet(self, kinds: Iterable[str]) -> list[str]:
        """Kinds of fault that never changed anything, in a hunt long enough to say so."""
        if len(self.told) <= SEEDS_FOR_EACH_KIND:
            return []
        return sorted(kind for kind in kinds if not self.kinds[kind])

    def summary(self, fault_s: float) -> dict[str, Any]:
        """``fault_s``: virtual seconds of faults in each run."""
        hours = fault_s * sum(not told.calm for told in self.told) / 3600
        cpu_s, virtual_s = sum(t.cpu_s for t in self.told), sum(t.virtual_s for t in self.told)
        return {
            "passed": self.count(True),
            "failed": self.count(False),
            "invalid": self.count("INVALID"),
            "acknowledged": sum(told.acked for told in self.told),
            "operations": sum(told.ops for told in self.told),
            "virtual_s": round(virtual_s),
            "cpu_s": round(cpu_s),
            "virtual_s_per_cpu_s": round(virtual_s / max(cpu_s, 1e-9), 1),
            "effective_faults": sum(self.effects.values()),
            "effective_faults_per_hour": round(sum(self.effects.values()) / hours) if hours else 0,
            "faults": dict(sorted(self.effects.items())),
            "first_ack_ms_max": max((told.recovery_ms or 0 for told in self.told), default=0),
            "acts": dict(sorted(self.kinds.items())),
            "failpoints_passed": len(self.passed),
            "killed_at_failpoints": len(+self.died_at),
        }
