"""Hunt by hand: ``python -m tests.simulation.run --seeds 0:50 --time 30``.

A failure prints its seed, why, and the command that repeats it; ``--trace FILE`` writes what every node logged, on
virtual time, and every fault. Set PYTHONHASHSEED or not: a seed's run is the same.
"""

import argparse
import contextlib
import time
from pathlib import Path

from .planted import PLANTED
from .story import run_seed
from .world import Outcome


def main() -> int:
    """The number of failed seeds."""
    arguments = _arguments()
    first, _, last = arguments.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    ran = failed = 0
    for seed in seeds:
        began = time.process_time()
        with PLANTED[arguments.plant]() if arguments.plant else contextlib.nullcontext():
            outcome = run_seed(seed, arguments.time, arguments.only)
        spent = time.process_time() - began
        ran += 1
        failed += outcome.error is not None
        _tell(outcome, spent, arguments)
        if outcome.error is not None and arguments.first:
            break
    print(f"{ran - failed} passed, {failed} failed")
    return min(failed, 100)


def _tell(outcome: Outcome, spent: float, arguments: argparse.Namespace) -> None:
    verdict = "ok  " if outcome.error is None else "FAIL"
    speed = outcome.virtual_s / max(spent, 1e-6)
    print(
        f"{verdict} seed {outcome.seed} trace {outcome.digest} {outcome.virtual_s:.0f} s at {speed:.0f} s/s, "
        f"{outcome.steps} steps: {outcome.result}",
        flush=True,
    )
    if arguments.trace is not None:
        outcome.loop.trace.write(arguments.trace)
    if outcome.error is not None:
        print(f"     {type(outcome.error).__name__}: {outcome.error}")
        only = f" --only {','.join(arguments.only)}" if arguments.only else ""
        plant = f" --plant {arguments.plant}" if arguments.plant else ""
        options = f"--seeds {outcome.seed} --time {arguments.time:g}{only}{plant} --trace FILE"
        print(f"     again: python -m tests.simulation.run {options}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:10", help="one seed, or FIRST:END")
    parser.add_argument("--time", type=float, default=30.0, help="virtual seconds of faults")
    parser.add_argument("--trace", type=Path, help="where to write the last run's lines")
    parser.add_argument("--only", default=[], type=lambda text: text.split(","), help="kinds of fault, by comma")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    parser.add_argument("--plant", choices=sorted(PLANTED), help="with this bug")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
