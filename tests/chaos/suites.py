"""Suites by the time there is: ``python -m tests.chaos suite smoke|nightly|release|groups``.

Also: ``tox -e chaos -- nightly``.
A suite is a list of steps, each the command that one could type; every step runs, and the suite fails if one does.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

WORKLOADS = ("queue", "idem", "acks01", "meta")
ROT = "corrupt,torn,rot,kill,power,partition"
CLEANING = "corrupt,rot,kill,power,failpoint,partition,pause,comeback,rolling,slowdisk"
"""No clocks that jump: how long a tombstone stays is measured with them."""

SUITES: dict[str, list[list[str]]] = {
    "smoke": [
        ["selftest", "--operations", "1000", "--injections", "4", "--valid", "8"],
        *(["run", "--workload", name, "--seeds", "0:5", "--time", "60", "--jobs", "2"] for name in WORKLOADS),
        ["run", "--workload", "group", "--seeds", "0:3", "--time", "30", "--jobs", "2"],
        ["run", "--nemesis", ROT, "--seeds", "0:2", "--time", "30", "--jobs", "2"],
        ["run", "--workload", "compact", "--nemesis", CLEANING, "--seeds", "0:2", "--time", "30", "--jobs", "2"],
        ["run", "--backend", "proc", "--seeds", "1", "--time", "15", "--nemesis", "kill,pause,partition"],
    ],
    "nightly": [
        ["selftest", "--operations", "2000", "--injections", "10", "--valid", "20"],
        ["bugs", "--recorded", "--jobs", "2"],
        ["run", "--workload", "queue", "--seeds", "1000:1100", "--time", "60", "--jobs", "2"],
        *(["run", "--workload", name, "--seeds", "1000:1017", "--time", "60", "--jobs", "2"] for name in WORKLOADS[1:]),
        ["run", "--workload", "flush", "--seeds", "1000:1010", "--time", "60", "--jobs", "2"],
        ["run", "--workload", "group", "--seeds", "1000:1008", "--time", "60", "--jobs", "2"],
        ["run", "--nemesis", ROT, "--seeds", "1000:1010", "--time", "40", "--jobs", "2"],
        ["run", "--workload", "compact", "--nemesis", CLEANING, "--seeds", "1000:1010", "--time", "40", "--jobs", "2"],
        ["run", "--backend", "proc", "--seeds", "2", "--time", "60"],
        ["run", "--backend", "proc", "--workload", "group", "--seeds", "2", "--time", "60"],
    ],
    "release": [
        ["selftest"],
        ["bugs", "--recorded", "--jobs", "2"],
        ["run", "--workload", "queue", "--seeds", "0:300", "--time", "60", "--nodes", "5", "--jobs", "2"],
        *(["run", "--workload", name, "--seeds", "0:50", "--time", "60", "--jobs", "2"] for name in WORKLOADS[1:]),
        ["run", "--workload", "flush", "--seeds", "0:50", "--time", "60", "--jobs", "2"],
        ["run", "--workload", "group", "--seeds", "0:40", "--time", "60", "--jobs", "2"],
        ["run", "--nemesis", ROT, "--seeds", "0:60", "--time", "60", "--jobs", "2"],
        ["run", "--workload", "compact", "--nemesis", CLEANING, "--seeds", "0:60", "--time", "60", "--jobs", "2"],
        ["failpoints", "--jobs", "2"],
        ["run", "--backend", "proc", "--seeds", "3", "--time", "600"],
        ["run", "--backend", "proc", "--seeds", "4", "--time", "120", "--nodes", "5"],
        ["run", "--backend", "proc", "--workload", "group", "--seeds", "3", "--time", "120"],
    ],
    "groups": [  # two hours
        ["run", "--workload", "group", "--seeds", "0:100", "--time", "600", "--jobs", "2"],
        ["run", "--backend", "proc", "--workload", "group", "--seeds", "3", "--time", "600"],
    ],
}


def run_suite(arguments: argparse.Namespace) -> int:
    """How many steps failed."""
    began, outcomes = time.monotonic(), []
    for step in SUITES[arguments.name]:
        outcomes.append((step, *_perform(step)))
    for step, code, spent_s in outcomes:
        print(f"{'ok  ' if code == 0 else 'FAIL'} {spent_s:6.1f} s  python -m tests.chaos {' '.join(step)}")
    failed = sum(code != 0 for _, code, _ in outcomes)
    print(f"{len(outcomes) - failed} steps held, {failed} failed, in {time.monotonic() - began:.0f} s")
    return failed


def _perform(step: Sequence[str]) -> tuple[int, float]:
    began = time.monotonic()
    print(f"--- python -m tests.chaos {' '.join(step)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "tests.chaos", *step], check=False).returncode
    return code, time.monotonic() - began
