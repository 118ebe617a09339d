"""timeline.html: a lane for every client process and every node; needs nothing from any network.

An operation is a bar from its beginning to its end, a fault a band over its nodes, and a pale one over all. Hovering
shows what it was.
"""

from html import escape

import msgspec

from ..history import Pair
from .run_data import RunData
from .svg import BAND_OPACITY, BY_TYPE, band_colours, document, round_ticks, tag, text

LANE = 18
LEFT, TOP = 110, 30
WIDTH_MIN, WIDTH_MAX = 1200.0, 30_000.0
PIXELS_PER_S = 40.0
SAID_MAX = 600
QUIET = "#9aa0a6"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body{{font:13px sans-serif;margin:16px;color:#222}}
.scroll{{overflow-x:auto;border:1px solid #ccc}}
.key span{{display:inline-block;padding:0 6px;margin-right:8px;border-left:12px solid}}
.bar:hover{{stroke:#000;stroke-width:1.5}}
</style></head><body><h1 style="font-size:17px">{title}</h1><p>{summary}</p><p class="key">{key}</p>
<div class="scroll">{picture}</div></body></html>
"""


def timeline(run: RunData) -> str:
    """The page."""
    processes = sorted({pair.begin.process for pair in run.pairs})
    nodes = sorted({target for band in run.bands for target in band.targets})
    lanes = {**{f"node {node}": place for place, node in enumerate(nodes)}}
    lanes |= {f"process {process}": len(nodes) + place for place, process in enumerate(processes)}
    width = min(max(WIDTH_MIN, run.span_s * PIXELS_PER_S), WIDTH_MAX)
    scale = (width - LEFT - 20) / max(run.span_s, 1e-6)
    height = TOP + LANE * len(lanes) + 10
    parts = _grid(run, lanes, width, scale)
    parts += _bands(run, lanes, scale, height)
    parts += [_bar(run, pair, TOP + LANE * lanes[f"process {pair.begin.process}"], scale) for pair in run.pairs]
    colours = {**BY_TYPE, **{f"fault: {kind}": colour for kind, colour in band_colours(run.bands).items()}}
    key = "".join(f'<span style="border-color:{colour}">{escape(name)}</span>' for name, colour in colours.items())
    picture = document(width, height, parts)
    return PAGE.format(title="Timeline of a run", summary=escape(_summary(run)), key=key, picture=picture)


def _summary(run: RunData) -> str:
    verdict = run.verdict
    if verdict is None:
        return f"{len(run.pairs)} operations in {run.span_s:.1f} s; not judged yet"
    said = {True: "valid", False: "BAD: " + ", ".join(verdict.bad_error_types)}.get(
        verdict.valid, "INVALID: " + "; ".join(verdict.invalid_because)
    )
    done = f"{verdict.ops} operations, {verdict.acked} acknowledged values in {run.span_s:.1f} s"
    return f"seed {verdict.seed}, {verdict.workload}, {verdict.backend}: {said}. {done}"


def _grid(run: RunData, lanes: dict[str, int], width: float, scale: float) -> list[str]:
    parts: list[str] = []
    for name, lane in lanes.items():
        y = TOP + LANE * lane
        parts.append(tag("line", x1=LEFT, x2=width, y1=y + LANE, y2=y + LANE, class_="grid"))
        parts.append(text(4, y + 13, name))
    for at_s in round_ticks(0, run.span_s):
        x = LEFT + at_s * scale
        parts.append(text(x, 18, f"{at_s:g} s", text_anchor="middle"))
        parts.append(tag("line", x1=x, x2=x, y1=TOP - 6, y2=TOP + LANE * len(lanes), class_="grid"))
    return parts


def _bands(run: RunData, lanes: dict[str, int], scale: float, height: float) -> list[str]:
    colours = band_colours(run.bands)
    parts: list[str] = []
    for band in run.bands:
        said = f"{band.kind} {' '.join(band.targets)}\n{band.start_s:.3f} to {band.end_s:.3f} s\n{band.detail}"
        place = {"x": LEFT + band.start_s * scale, "width": max(1.5, (band.end_s - band.start_s) * scale)}
        fill = colours[band.kind]
        parts.append(
            tag("rect", title=said, **place, y=TOP, height=height - TOP, fill=fill, fill_opacity=BAND_OPACITY / 2)
        )
        for target in band.targets:
            y = TOP + LANE * lanes[f"node {target}"] + 2
            bar = {"y": y, "height": LANE - 4, "fill": fill, "fill_opacity": 0.75, "class_": "bar"}
            parts.append(tag("rect", title=said, **place, **bar))
    return parts


def _bar(run: RunData, pair: Pair, y: float, scale: float) -> str:
    start_s = run.at_s(pair.begin.time_ns)
    end_s = run.at_s(pair.end.time_ns) if pair.end is not None else run.span_s
    quiet = pair.begin.f in ("assign", "subscribe", "crash", "debug") and pair.type != "fail"
    rect = {"x": LEFT + start_s * scale, "width": max(1.5, (end_s - start_s) * scale), "y": y + 3, "height": LANE - 6}
    return tag(
        "rect", title=_said(pair, start_s, end_s), **rect, class_="bar", fill=QUIET if quiet else BY_TYPE[pair.type]
    )


def _said(pair: Pair, start_s: float, end_s: float) -> str:
    value = msgspec.json.encode(pair.value).decode()
    if len(value) > SAID_MAX:
        value = value[:SAID_MAX] + " ..."
    error = f"\n{pair.end.error}" if pair.end is not None and pair.end.error else ""
    index = pair.begin.index if pair.end is None else pair.end.index
    how = pair.type if pair.end is not None else "never ended"
    what = f"{pair.begin.f} {how}, op {index}, process {pair.begin.process}"
    return f"{what}\n{start_s:.3f} to {end_s:.3f} s{error}\n{value}"
