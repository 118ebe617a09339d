"""A run's directory, read once for all pictures; times in seconds from its first operation or fault."""

from dataclasses import dataclass
from pathlib import Path

from ..checkers.verdict import Verdict, read_verdict
from ..history import FAULTS_FILE, OPS_FILE, Fault, Op, Pair, paired, read_faults, read_ops
from ..spans import spans_of
from .svg import Band

NS = 1_000_000_000


@dataclass(frozen=True)
class RunData:
    """``bands``: the faults with their ends; one that never ended lasts as long as the run."""

    ops: list[Op]
    pairs: list[Pair]
    bands: list[Band]
    verdict: Verdict | None
    start_ns: int
    end_ns: int

    @property
    def span_s(self) -> float:
        return (self.end_ns - self.start_ns) / NS

    def at_s(self, time_ns: int) -> float:
        return (time_ns - self.start_ns) / NS


def read_run(directory: Path) -> RunData:
    """The histories, and the verdict if there is one. Raises FileNotFoundError without a history."""
    ops, faults = read_ops(directory / OPS_FILE), read_faults(directory / FAULTS_FILE)
    moments = [op.time_ns for op in ops] + [fault.time_ns for fault in faults]
    start_ns, end_ns = min(moments, default=0), max(moments, default=0)
    bands = _bands(faults, start_ns, end_ns)
    return RunData(ops, paired(ops), bands, read_verdict(directory), start_ns, end_ns)


def _bands(faults: list[Fault], start_ns: int, end_ns: int) -> list[Band]:
    bands: list[Band] = []
    for fault, until_ns in spans_of(faults, end_ns):
        detail = fault.detail if fault.effective else f"(met nothing) {fault.detail}"
        times = ((fault.time_ns - start_ns) / NS, (until_ns - start_ns) / NS)
        bands.append(Band(fault.kind, *times, tuple(fault.targets), detail))
    return bands
