"""What ``python -m tests.chaos`` can do."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from .checkers.verdict import read_verdict
from .faults.kinds import ALL_KINDS, DURABLE_KINDS, KINDS
from .faults.plan import Act
from .judge import judge_directory
from .proc import room
from .proc.__main__ import show
from .proc.story import run_real
from .report import write_report
from .run import Tally, Told, directory_of, run_many, write_run
from .shrink import shrink
from .story import Config, Lived, run_seed
from .workloads import WORKLOADS

ALL = "all"


def default_kinds(workload: str) -> tuple[str, ...]:
    """Every kind of fault that a workload must survive."""
    kind = WORKLOADS[workload]
    return (*KINDS, *(DURABLE_KINDS if getattr(kind, "durable", False) else ()), *getattr(kind, "kinds", ()))


def config_of(arguments: argparse.Namespace) -> Config:
    """Raises SystemExit for a kind of fault that there is not."""
    kinds = tuple(kind for kind in arguments.nemesis.split(",") if kind and kind != "none")
    if arguments.nemesis == ALL:
        kinds = default_kinds(arguments.workload)
    unknown = sorted(set(kinds) - set(ALL_KINDS))
    if unknown:
        raise SystemExit(f"there is no nemesis {', '.join(unknown)}; there are {', '.join(ALL_KINDS)}")
    return Config(
        workload=arguments.workload,
        nemeses=kinds,
        seconds=arguments.time,
        rate=arguments.rate,
        clients=arguments.clients,
        nodes=arguments.nodes,
        observers=arguments.observers,
        bug=arguments.bug,
        settings={name: int(value) for name, _, value in (word.partition("=") for word in arguments.set)},
    )


def run(arguments: argparse.Namespace) -> int:
    """Many seeds. The number that failed."""
    first, _, end = arguments.seeds.partition(":")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    if arguments.backend == "proc":
        return _run_really(seeds, config_of(arguments), arguments.out)
    config, tally = config_of(arguments), Tally()
    for told in run_many(seeds, config, arguments.out, jobs=arguments.jobs, keep=arguments.keep):
        tally.add(told)
        _tell(told, config, arguments.out)
    print(json.dumps(tally.summary(config.seconds), indent=1))
    failed, invalid = tally.count(False), tally.count("INVALID")
    unmet = tally.unmet(config.nemeses)
    if unmet:
        print(f"INVALID as a whole: {', '.join(unmet)} never changed anything")
    print(f"{tally.count(True)} passed, {failed} failed, {invalid} invalid")
    return min(failed + invalid + len(unmet), 100)


def _run_really(seeds: range, config: Config, out: Path) -> int:
    """On real processes, one run after another. The number that did not hold; 100 where there can be none."""
    reason = room.why_not()
    if reason is not None:
        print(f"no runs on real processes here: {reason}")
        return 100
    failed = 0
    for seed in seeds:
        directory = directory_of(out / "proc", config, seed, calm=False)
        lived = run_real(seed, config, directory=directory)
        show(lived, directory)
        failed += lived.verdict.valid is not True
    print(f"{len(seeds) - failed} passed, {failed} failed")
    return failed


def _tell(told: Told, config: Config, out: Path) -> None:
    verdict = {True: "ok", False: "FAIL"}.get(told.valid, str(told.valid))  # type: ignore[call-overload]
    calm = " calm" if told.calm else ""
    speed = told.virtual_s / max(told.cpu_s, 1e-9)
    print(
        f"{verdict:4} seed {told.seed}{calm} trace {told.digest} {told.virtual_s:.0f} s at {speed:.0f} s/s, "
        f"{told.acked} acknowledged, {sum(told.effects.values())} faults",
        flush=True,
    )
    if told.valid is not True:
        print(f"     {'; '.join(told.because)[:600]}\n     again: {replay_command(told.seed, config)}")
        print(f"     written down in {directory_of(out, config, told.seed, calm=told.calm)}", flush=True)


def replay_command(seed: int, config: Config) -> str:
    """What repeats a run."""
    words = [f"python -m tests.chaos replay --seed {seed} --workload {config.workload} --time {config.seconds:g}"]
    words.append(f"--rate {config.rate:g} --clients {config.clients} --nodes {config.nodes}")
    if config.observers:
        words.append(f"--observers {config.observers}")
    if config.nemeses != default_kinds(config.workload):
        words.append(f"--nemesis {','.join(config.nemeses) or 'none'}")
    words += [f"--set {name}={value}" for name, value in config.settings.items()]
    if config.bug:
        words.append(f"--bug {config.bug}")
    return " ".join(words)


def replay(arguments: argparse.Namespace) -> int:
    """One seed again, written down with everything."""
    acts = None if arguments.acts is None else msgspec.json.decode(arguments.acts.read_bytes(), type=list[Act])
    config = config_of(arguments)
    lived = run_seed(arguments.seed, config, acts)
    directory = directory_of(arguments.out, config, arguments.seed, calm=False)
    write_run(directory, lived, report=True)
    if arguments.trace is not None:
        lived.trace.write(arguments.trace)
    print(f"trace {lived.digest}; written down in {directory}")
    _print_verdict(lived)
    return lived.verdict.valid is not True


def _print_verdict(lived: Lived) -> None:
    verdict = lived.verdict
    shown: dict[str, Any] = {
        "valid": verdict.valid,
        "bad": verdict.bad_error_types,
        "invalid_because": verdict.invalid_because,
        "errors": msgspec.to_builtins(verdict.errors),
        "outcomes": verdict.outcomes,
        "effects": lived.effects,
    }
    print(json.dumps(shown, indent=1)[:8000])


def shrink_seed(arguments: argparse.Namespace) -> int:
    """The smallest schedule found that fails in the same way, written beside the seed's run."""
    config = config_of(arguments)
    lived = run_seed(arguments.seed, config)
    if lived.verdict.valid is True:
        print("it holds: there is nothing to make smaller")
        return 1
    wanted = _kind_of(lived)

    def fails(acts: Sequence[Act]) -> bool:
        again = run_seed(arguments.seed, config, acts)
        same = again.verdict.valid is not True and bool(_kind_of(again) & wanted)
        print(f"{len(acts)} acts: {'fails' if same else 'holds'}", flush=True)
        return same

    acts = shrink(lived.acts, fails, arguments.runs)
    directory = directory_of(arguments.out, config, arguments.seed, calm=False)
    write_run(directory, run_seed(arguments.seed, config, acts), report=True)
    print(f"{len(lived.acts)} acts became {len(acts)}: {', '.join(act.kind for act in acts)}")
    print(f"again: {replay_command(arguments.seed, config)} --acts {directory / 'acts.json'}")
    return 0


def _kind_of(lived: Lived) -> set[str]:
    verdict = lived.verdict
    return {word.split(":")[0] for word in (verdict.bad_error_types or verdict.invalid_because)}


def check(arguments: argparse.Namespace) -> int:
    """Judge a history again with the checkers as they are now."""
    verdict = judge_directory(arguments.directory)
    print(json.dumps(msgspec.to_builtins(verdict), indent=1)[:8000])
    return verdict.valid is not True


def report(arguments: argparse.Namespace) -> int:
    """Pages to look at."""
    write_report(arguments.directory)
    verdict = read_verdict(arguments.directory)
    print(f"{arguments.directory}/timeline.html" + ("" if verdict is None else f": valid {verdict.valid}"))
    return 0
