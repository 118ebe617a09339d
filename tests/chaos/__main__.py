"""Fault injection: ``python -m tests.chaos run|replay|check|selftest|shrink|report``.

run --workload queue --seeds 0:300 --time 60 --nodes 5 --jobs 2     hunt
replay --seed 7 [--workload ...] [--trace FILE]                       one seed again, the same to the last byte
check DIRECTORY                                                       judge a history that was written down
shrink --seed 7                                                       a small schedule that still fails
report DIRECTORY                                                      pages to look at
selftest                                                              prove the checkers
bugs                                                                  hunt what is planted in the product
"""

import argparse
import sys
from pathlib import Path

from tests.simulation.planted import PLANTED

from . import bugs, commands
from .each_failpoint import die_everywhere
from .faults.kinds import ALL_KINDS
from .selftest import main as prove_checkers
from .suites import SUITES, run_suite
from .workloads import WORKLOADS


def main() -> int:
    """0 where everything held."""
    if sys.argv[1:2] == ["selftest"]:
        del sys.argv[1]
        return prove_checkers()
    arguments = _parser().parse_args()
    return int(arguments.act(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    acts = parser.add_subparsers(required=True)
    run = acts.add_parser("run", help="many seeds")
    run.add_argument("--seeds", default="0:20", help="one, or FIRST:END")
    run.add_argument("--jobs", type=int, default=1)
    run.add_argument("--keep", action="store_true", help="write down runs that held, too")
    _settings(run, commands.run)
    replay = acts.add_parser("replay", help="one seed again")
    replay.add_argument("--seed", type=int, required=True)
    replay.add_argument("--acts", type=Path, help="a schedule (acts.json) in place of the seed's")
    replay.add_argument("--trace", type=Path, help="where to write what every node logged")
    _settings(replay, commands.replay)
    shrink = acts.add_parser("shrink", help="a smaller schedule that fails")
    shrink.add_argument("--seed", type=int, required=True)
    shrink.add_argument("--runs", type=int, default=100, help="at most")
    _settings(shrink, commands.shrink_seed)
    for name, act, text in (
        ("check", commands.check, "judge a history"),
        ("report", commands.report, "pages to look at"),
    ):
        one = acts.add_parser(name, help=text)
        one.add_argument("directory", type=Path)
        one.set_defaults(act=act)
    suite = acts.add_parser("suite", help="what there is time for")
    suite.add_argument("name", nargs="?", default="smoke", choices=sorted(SUITES))
    suite.set_defaults(act=run_suite)
    each = acts.add_parser("failpoints", help="a node dies at every named place of the product")
    each.add_argument("--only", default="", help="places with this in their name")
    each.add_argument("--jobs", type=int, default=1)
    each.set_defaults(act=die_everywhere)
    bugs.add_arguments(acts.add_parser("bugs", help="hunt planted bugs"))
    acts.add_parser("selftest", help="prove the checkers (its own options: selftest --help)")
    return parser


def _settings(parser: argparse.ArgumentParser, act: object) -> None:
    parser.add_argument("--backend", choices=("sim", "proc"), default="sim")
    parser.add_argument("--workload", default="queue", choices=sorted(WORKLOADS))
    parser.add_argument("--nemesis", default="all", help=f"of {', '.join(ALL_KINDS)}; or none")
    parser.add_argument("--time", type=float, default=60.0, help="seconds of faults")
    parser.add_argument("--rate", type=float, default=20.0, help="operations per second")
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=3, help="voters")
    parser.add_argument("--observers", type=int, default=0)
    parser.add_argument("--bug", choices=sorted(PLANTED), help="plant it (tests.simulation.planted)", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], help="a number of the nodes' settings, NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("store"))
    parser.set_defaults(act=act)


if __name__ == "__main__":
    sys.exit(main())
