"""``python -m tests.compatibility``: every case with every client that can be installed, and docs/compatibility.md.

``--target kafka``: the same against Apache Kafka; what fails there is a fault of the case.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from .install import install
from .oracle import version
from .table import ORACLE, document, read_rows, tally

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "compatibility.md"
CACHE = Path.home() / ".cache" / "ottla-compatibility"
# What needs the tree's own code beside the clients, or Kafka's classes, is left to `make test`.
CASES = sorted(str(path) for path in Path(__file__).parent.glob("test_*.py") if "kafka_reads" not in path.name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description=__doc__)
    parser.add_argument("--target", choices=("ottla", "kafka"), default="ottla", help="what the clients talk to")
    parser.add_argument("--clients", type=Path, default=CACHE, help="where they are installed (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that run cases at once (default: 2)")
    parser.add_argument("more", nargs="*", help="for pytest, after --; then no document is written")
    asked = parser.parse_args()
    kafka = asked.target == "kafka"
    install(asked.clients.absolute(), kafka=kafka)
    with TemporaryDirectory() as directory:
        results = Path(directory) / "results"
        results.touch()
        code = run(asked.clients.absolute(), results, kafka, asked.processes, asked.more)
        rows = read_rows(results)
    if asked.more:
        return code
    if kafka:
        jars = asked.clients / "kafka" / "jars"
        ORACLE.write_text(json.dumps({"version": version(jars), **tally(rows)}, indent=2) + "\n")
    else:
        DOCUMENT.write_text(document(rows))
        print(f"{DOCUMENT} is written", file=sys.stderr)
    return code


def run(clients: Path, results: Path, kafka: bool, processes: int, more: list[str]) -> int:
    """pytest, with the clients' directory and the target in its environment. Its exit code."""
    environment = {
        **os.environ,
        "OTTLA_COMPATIBILITY_CLIENTS": str(clients),
        "OTTLA_COMPATIBILITY_RESULTS": str(results),
    }
    if kafka:
        if shutil.which("java") is None or not (clients / "kafka" / "jars").is_dir():
            raise SystemExit("Apache Kafka needs java and its jars, which are not there")
        environment["OTTLA_COMPATIBILITY_KAFKA"] = str(clients / "kafka" / "jars")
    ways = ("-n", str(processes), "--dist", "loadgroup", "-p", "no:cacheprovider", "-q")
    return subprocess.run((sys.executable, "-m", "pytest", *CASES, *ways, *more), cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
