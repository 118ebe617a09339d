"""One run of the fault injection on real processes.

    python -m tests.chaos.proc --time 60 --seed 1 --nodes 3 [--nemesis kill,pause] [--workload queue] --out DIR

Needs root, unshare and nft. Exits 1 unless the verdict is good; 2 where there can be no run.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random

from ..faults.plan import Act
from ..story import Config, Lived
from . import room
from .arena import ProcessArena
from .story import run_real


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=60.0, metavar="S")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--observers", type=int, default=0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--workload", default="queue")
    parser.add_argument("--nemesis", default=",".join(sorted(ProcessArena.able)), help="kinds; 'none' for no fault")
    parser.add_argument("--each", action="store_true", help="one act of each kind, in place of a schedule")
    parser.add_argument("--bug", help="plant one of tests.simulation.planted")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    kinds = tuple(kind for kind in options.nemesis.split(",") if kind != "none")
    unable = sorted(set(kinds) - ProcessArena.able)
    if unable:
        parser.error(f"not on real processes here: {', '.join(unable)}")
    reason = room.why_not()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    config = Config(
        workload=options.workload,
        nemeses=kinds,
        seconds=options.time,
        rate=options.rate,
        clients=options.clients,
        nodes=options.nodes,
        observers=options.observers,
        bug=options.bug,
    )
    acts = one_of_each(options.seed, kinds) if options.each else None
    lived = run_real(options.seed, config, acts, directory=options.out)
    show(lived, options.out)
    return 0 if lived.verdict.valid is True else 1


def one_of_each(seed: int, kinds: Iterable[str]) -> list[Act]:
    """Each kind once, in some order, each mended before the next."""
    chance = Random(f"each {seed}")
    names = sorted(kinds)
    return [Act(0.0, kind, chance.randrange(1 << 30), True) for kind in chance.sample(names, len(names))]


def show(lived: Lived, directory: Path) -> None:
    """A run in a few lines."""
    verdict = lived.verdict
    print(f"seed {lived.seed}: valid {verdict.valid}; {verdict.ops} operations, {verdict.acked} acknowledged")
    print(f"  faults that met something: {dict(sorted(lived.effects.items()))}")
    print(f"  acts: {verdict.faults}")
    print(f"  died at: {lived.died_at}")
    print(f"  recovery: {verdict.recovery}; {lived.virtual_s:.0f} s")
    for found in [*verdict.bad_error_types, *verdict.invalid_because]:
        print(f"  {found}")
    print(f"  {directory}")


if __name__ == "__main__":
    sys.exit(main())
