"""docs/planted-bugs.md, out of the table of hunts: written by ``python -m tests.chaos bugs --write``."""

from pathlib import Path

from tests.simulation.planted import BUGS

from .hunts import HUNTS, WHY_NOT

DOCUMENT = Path(__file__).parents[2] / "docs" / "planted-bugs.md"

HEAD = """# Planted bugs

What the faults cannot find they do not test. So each rule that replication, metadata, log and groups rest on is
broken on purpose (`tests/simulation/planted/`), one at a time and only in tests, and hunted with the faults that
should show it (`tests/chaos/hunts.py`). A catch is a seed that fails with the bug and holds without it. `seed` is
the first of 0 to 199 that catches it, `median` how many seeds a hunt takes, of three from different first
seeds. Runs are of 3 nodes and 20 s of faults unless the table of hunts says otherwise.

    python -m tests.chaos bugs --only ack_early --hunts 3    hunt one
    python -m tests.chaos bugs --jobs 2                      hunt all
    python -m tests.chaos bugs --recorded                    the recorded catches, each twice, and without the bug

The cheapest catches run with every `pytest`, all of them in the nightly suite. The quorum's own simulation has 27
bugs more ([simulation](simulation.md)).

"""
COLUMNS = """| bug | the rule it breaks | of | workload: faults | seed | median | caught by |
|---|---|---|---|---|---|---|
"""


def table() -> str:
    """The whole page."""
    caught = [name for name in BUGS if HUNTS[name].seed is not None]
    lines = [f"{len(caught)} of {len(BUGS)} are caught.\n\n", COLUMNS, *map(_row, caught)]
    missed = [name for name in BUGS if name not in caught]
    if missed:
        lines.append("\n## Not caught\n\n")
        lines += [f"- `{name}`: {BUGS[name].rule} ({BUGS[name].source}). {WHY_NOT[name]}\n" for name in missed]
    return HEAD + "".join(lines)


def _row(name: str) -> str:
    bug, hunt = BUGS[name], HUNTS[name]
    middle = "" if hunt.median is None else f"{hunt.median:g}"
    faults = f"{hunt.workload}: {hunt.nemeses.replace(',', ', ')}"
    return f"| `{name}` | {bug.rule} | {bug.source} | {faults} | {hunt.seed} | {middle} | {hunt.found_by} |\n"
