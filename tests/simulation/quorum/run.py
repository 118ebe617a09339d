"""Hunt by hand: ``python -m tests.simulation.quorum.run --seeds 0:2000 --time 60 --jobs 2``.

A failure prints its seed, why, and the command that repeats it; ``--trace FILE`` writes what every voter logged, on
virtual time, and every fault, of the last seed. At the end: how often each kind of fault changed something, each
mechanism was seen at work, and each answer given; over 200 seeds or more, one that never was makes the run INVALID.
``--selftest`` plants each bug of planted.py and hunts it. PYTHONHASHSEED does not matter.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .planted import BUGS
from .story import Verdict, run_seed

SEEDS_FOR_EACH_BUG = 200
CATCHES_SOUGHT = 3
SEEDS_FOR_ALL_KINDS = 200

FAULTS = (
    "kill",
    "kill of all",
    "power loss",
    "power loss of all",
    "power cut in a write",
    "kill in a write",
    "stop",
    "stop of the leader",
    "pause",
    "pause of the leader",
    "isolation",
    "isolation of the leader",
    "one-way cut",
    "partial partition",
    "majority and minority",
    "storm of cuts",
    "delay",
    "loss",
    "reset",
    "reordering across reconnects",
    "duplication",
    "message heard twice",
    "clock skew",
    "clock jump",
    "slow disk",
    "full disk",
    "failing disk",
    "raising callback",
)
MECHANISMS = (
    "elections won",
    "restarted with a log",
    "torn tail trimmed",
    "truncated on conflict",
    "repeated entries kept (D1)",
    "tail after repeated entries kept (D1)",
    "promise released by a sync",
    "promise dropped by a new term",
    "offer to a log with an uncommitted tail (D3b)",
    "stale acknowledgement dropped (D4)",
    "repeated vote counted once (D5)",
    "stepped down without a quorum (D12)",
    "leader backed off after a conflict (D13)",
    "pre-vote refused (D14)",
    "leadership handed over",
    "snapshot made durable",
    "snapshot offered",
    "snapshot installed",
    "log reset to a snapshot",
    "sequence guard ended a connection",
    "log full on a leader",
    "log full on a follower",
)
OUTCOMES = (
    "OK",
    "read behind a barrier",
    "read refused",
    "repeated request answered from memory",
    "FAILED NOT_LEADER",
    "FAILED DISCARDED",
    "FAILED QUEUE_FULL",
    "FAILED APPLY_RAISED",
    "UNKNOWN no answer",
    "UNKNOWN TIMEOUT",
)


@dataclass
class Total:
    """Of all seeds so far."""

    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    invalid: list[int] = field(default_factory=list)
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    acknowledged: int = 0
    resumed_s: float = 0.0  # the worst
    faults: Counter[str] = field(default_factory=Counter)
    mechanisms: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        self.seeds += 1
        if verdict.error is not None:
            (self.invalid if verdict.invalid else self.failed).append(verdict.seed)
        self.virtual_s += verdict.virtual_s
        self.cpu_s += verdict.cpu_s
        self.acknowledged += verdict.acknowledged
        self.resumed_s = max(self.resumed_s, verdict.resumed_s)
        self.faults += verdict.faults
        self.mechanisms += verdict.mechanisms
        self.outcomes += verdict.outcomes

    def missing(self) -> list[str]:
        """What no seed has exercised."""
        wanted = ((FAULTS, self.faults), (MECHANISMS, self.mechanisms), (OUTCOMES, self.outcomes))
        return [name for names, seen in wanted for name in names if not seen[name]]


def run_many(seeds: Iterable[int], virtual_s: float, jobs: int, plant: str | None = None) -> Iterator[Verdict]:
    """The verdicts, in the order of ``seeds``."""
    work = partial(_run_one, virtual_s=virtual_s, plant=plant)
    if jobs == 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(work, seeds)


def _run_one(seed: int, virtual_s: float, plant: str | None, trace: bool = False) -> Verdict:
    with BUGS[plant].plant() if plant else contextlib.nullcontext():
        return run_seed(seed, virtual_s, trace=trace)


def main() -> int:
    """0 if all held and all was exercised."""
    arguments = _arguments()
    if arguments.selftest:
        return _hunt_all(arguments)
    first, _, last = arguments.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    total, began = Total(), time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):  # tells what it has
        for verdict in run_many(seeds, arguments.time, arguments.jobs, arguments.plant):
            total.add(verdict)
            if verdict.error is not None or not arguments.quiet:
                _tell(verdict, arguments)
            if verdict.error is not None and arguments.first:
                break
    if arguments.trace is not None:
        arguments.trace.write_text(_run_one(seeds[total.seeds - 1], arguments.time, arguments.plant, True).lines + "\n")
    return _conclude(total, time.monotonic() - began)


def _tell(verdict: Verdict, arguments: argparse.Namespace) -> None:
    word = "ok  " if verdict.error is None else "INVALID" if verdict.invalid else "FAIL"
    print(
        f"{word} seed {verdict.seed} trace {verdict.digest} {verdict.acknowledged} answers, "
        f"{verdict.faults.total()} faults",
        flush=True,
    )
    if verdict.error is not None:
        plant = f" --plant {arguments.plant}" if arguments.plant else ""
        print(f"     {verdict.error}")
        print(
            f"     again: python -m tests.simulation.quorum.run --seeds {verdict.seed} --time {arguments.time:g}{plant}"
            " --trace FILE"
        )


def _conclude(total: Total, wall_s: float) -> int:
    for title, names, seen in (
        ("faults that changed something", FAULTS, total.faults),
        ("mechanisms seen at work", MECHANISMS, total.mechanisms),
        ("answers", OUTCOMES, total.outcomes),
    ):
        print(f"\n{title}")
        for name in (*names, *sorted(set(+seen) - set(names))):
            print(f"  {seen[name]:>9,}  {name}")
    missing = total.missing() if total.seeds >= SEEDS_FOR_ALL_KINDS else []
    print(
        f"\n{total.seeds} seeds, {total.virtual_s:,.0f} simulated s in {wall_s:,.0f} s, "
        f"{total.cpu_s:,.0f} s of processors; "
        f"{total.acknowledged:,} answers, answering again at most {total.resumed_s:.1f} s after the last fault"
    )
    passed = total.seeds - len(total.failed) - len(total.invalid)
    print(f"{passed} passed, {len(total.failed)} failed, {len(total.invalid)} invalid")
    if missing:
        print(f"INVALID: never exercised: {', '.join(missing)}")
    return 1 if total.failed or total.invalid or missing else 0


def _hunt_all(arguments: argparse.Namespace) -> int:
    wanted = arguments.plant.split(",") if arguments.plant else list(BUGS)
    free = [name for name in wanted if not _hunt(name, arguments)]
    print(f"{len(wanted) - len(free)} of {len(wanted)} planted bugs caught" + (f"; free: {free}" if free else ""))
    return 1 if free else 0


def _hunt(name: str, arguments: argparse.Namespace) -> bool:
    """Seeds until a few have caught it."""
    began, catches, last, why = time.monotonic(), [], 0, ""
    for verdict in run_many(range(SEEDS_FOR_EACH_BUG), arguments.time, arguments.jobs, name):
        last = verdict.seed
        if verdict.error is not None and not verdict.invalid:
            catches.append(verdict.seed)
            why = why or verdict.error
        if len(catches) == CATCHES_SOUGHT:
            break
    gaps = [after - before for before, after in zip([-1, *catches], catches, strict=False)]
    median = f"median {statistics.median(gaps):g} seeds" if gaps else "NOT CAUGHT"
    first = catches[0] if catches else "-"
    spent = time.monotonic() - began
    print(
        f"{name:24} first {first:>3}  {median:16} {len(catches)} in {last + 1} seeds, {spent:.0f} s: {why}", flush=True
    )
    return bool(catches)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:10", help="one seed, or FIRST:END")
    parser.add_argument("--time", type=float, default=60.0, help="virtual seconds of each seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", type=Path, help="where to write the last seed's lines")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    parser.add_argument("--quiet", action="store_true", help="tell only of failures")
    parser.add_argument("--plant", help="with this bug; several by comma for --selftest")
    parser.add_argument("--selftest", action="store_true", help="plant each bug and hunt it")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
