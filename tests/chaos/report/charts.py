"""latency.svg, rate.svg and unseen.svg: how the run went, with the faults behind."""

import math
from collections import Counter, defaultdict

from ..checkers.findings import Findings
from ..checkers.seen import check_unseen
from ..checkers.versions import deeds_of
from ..history import Pair
from .run_data import NS, RunData
from .svg import BY_TYPE, COLOURS, Chart

BINS_MAX = 120
LATENCY_MS_MIN = 0.01
DOTS_MAX = 20_000
DASHES = {"ok": "", "info": "5 3", "fail": "1 3"}
QUIET_F = frozenset(("crash", "debug"))


def latency(run: RunData) -> str:
    """A dot for every operation, where it began and how long it took, coloured by how it ended."""
    dots: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    pairs = [pair for pair in run.pairs if pair.end is not None and pair.begin.f not in QUIET_F]
    for pair in pairs[:: max(1, -(-len(pairs) // DOTS_MAX))]:
        assert pair.end is not None
        took_ms = (pair.end.time_ns - pair.begin.time_ns) / 1e6
        said = f"{pair.begin.f} of process {pair.begin.process}: {pair.type}, {took_ms:.3f} ms, op {pair.end.index}"
        dots[pair.type].append((run.at_s(pair.begin.time_ns), max(took_ms, LATENCY_MS_MIN), said))
    values = [value for points in dots.values() for _, value, _ in points]
    low, high = 10 ** math.floor(math.log10(min(values, default=1))), max(values, default=10)
    chart = Chart("Latency of operations, by how they ended", "ms", run.span_s, low, high, logarithmic=True)
    chart.bands(run.bands)
    for kind in ("ok", "info", "fail"):
        chart.dots(kind, BY_TYPE[kind], dots[kind])
    return chart.finish()


def rate(run: RunData) -> str:
    """Operations a second that ended, a line for each f and outcome."""
    bin_s = max(1.0, math.ceil(run.span_s / BINS_MAX))
    counts: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for pair in run.pairs:
        if pair.end is not None and pair.begin.f not in QUIET_F:
            counts[_series(pair)][int(run.at_s(pair.end.time_ns) // bin_s)] += 1
    bins = [(at * bin_s, min((at + 1) * bin_s, run.span_s)) for at in range(max(1, math.ceil(run.span_s / bin_s)))]
    rates = {
        series: [counter[at] / max(end_s - start_s, 1e-3) for at, (start_s, end_s) in enumerate(bins)]
        for series, counter in counts.items()
    }
    chart = Chart("Operations a second", "/s", run.span_s, 0, max(map(max, rates.values()), default=1))
    chart.bands(run.bands)
    names = sorted({f for f, _ in rates})
    for f, kind in sorted(rates):
        points = [((start_s + end_s) / 2, rate) for (start_s, end_s), rate in zip(bins, rates[f, kind], strict=True)]
        chart.line(f"{f} {kind}", COLOURS[names.index(f) % len(COLOURS)], points, dashes=DASHES[kind])
    return chart.finish()


def _series(pair: Pair) -> tuple[str, str]:
    return pair.begin.f, pair.type


def unseen(run: RunData) -> str:
    """How many acknowledged values nobody had polled yet."""
    series = run.verdict.unseen if run.verdict is not None else check_unseen(deeds_of(run.ops), Findings())
    points = [((time_ns - run.start_ns) / NS, float(count)) for time_ns, count in series]
    chart = Chart("Acknowledged and not polled yet", "", run.span_s, 0, max((count for _, count in points), default=1))
    chart.bands(run.bands)
    chart.line("values", COLOURS[0], [(0.0, 0.0), *points], steps=True)
    return chart.finish()
