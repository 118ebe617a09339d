"""orders/<key>.svg: what was sent to a bad key and what each process saw of it, over the key's version order."""

from ..checkers.versions import Versions, deeds_of, versions_of
from .run_data import RunData
from .svg import BY_TYPE, COLOURS, document, tag, text

STEP = 16
ROW = 15
INDEXES_MAX = 240
ROWS_MAX = 400
MARGIN_LEFT, MARGIN_TOP = 190, 60
AROUND = 12
"""So many versions before and behind the bad ones are shown."""


def key_order(run: RunData, key: int) -> str:
    """Columns are versions, rows the operations that touched them, in the order in which they ended. A ring is a send,
    a dot a poll; what is red was named by the checkers."""
    deeds = deeds_of(run.ops)
    versions = versions_of(deeds)
    bad_values, bad_ops = _named(run, key)
    shown = _window(versions, key, bad_values)
    parts = _columns(versions, key, shown, bad_values)
    rows = 0
    for deed in deeds:
        places = versions.orders[key].places if key in versions.orders else {}
        firsts = versions.orders[key].first if key in versions.orders else {}
        sent = [(firsts[value], value) for where, _, value in deed.sent if where == key and value in firsts]
        polled = [
            (places[offset], value)
            for where, records in deed.polled
            if where == key
            for offset, value in records
            if offset in places
        ]
        if rows >= ROWS_MAX or not any(index in shown for index, _ in (*sent, *polled)):
            continue
        y = MARGIN_TOP + ROW * rows
        said = f"{deed.f} {deed.type}, process {deed.process}, op {deed.index}"
        fill = "#c62828" if deed.index in bad_ops else "#333"
        parts.append(text(4, y + 4, said, style=f"fill:{fill}"))
        colour = COLOURS[deed.process % len(COLOURS)] if deed.type == "ok" else BY_TYPE[deed.type]
        parts.extend(_row(shown, sent, polled, y, colour, said))
        rows += 1
    width = MARGIN_LEFT + STEP * (len(shown) + 1)
    head = text(4, 16, f"key {key}: versions {shown.start} to {shown.stop - 1}", font_weight="bold")
    return document(max(width, 400), MARGIN_TOP + ROW * (rows + 1), [head, *parts])


def _named(run: RunData, key: int) -> tuple[set[int], set[int]]:
    """Values and operations of the key that the verdict's examples name."""
    errors = run.verdict.errors.values() if run.verdict is not None else ()
    examples = [example for found in errors for example in found.first if example.get("key") == key]
    values = {example["value"] for example in examples if "value" in example}
    values |= {value for example in examples for value in example.get("values", ())}
    return values, {example["op"] for example in examples if "op" in example}


def _window(versions: Versions, key: int, bad_values: set[int]) -> range:
    order = versions.orders.get(key)
    if order is None:
        return range(0)
    bad = [
        index for value in bad_values for index in (order.first.get(value), order.last.get(value)) if index is not None
    ]
    low = max(0, min(bad, default=0) - AROUND)
    high = min(len(order.offsets), max(bad, default=len(order.offsets)) + AROUND + 1)
    return range(low, min(high, low + INDEXES_MAX))


def _x(shown: range, index: int) -> float:
    return MARGIN_LEFT + STEP * (index - shown.start + 0.5)


def _columns(versions: Versions, key: int, shown: range, bad_values: set[int]) -> list[str]:
    parts: list[str] = []
    for index in shown:
        order = versions.orders[key]
        offset, values = order.offsets[index], order.values[index]
        x, bad = _x(shown, index), len(values) > 1 or not bad_values.isdisjoint(values)
        said = f"offset {offset}: {', '.join(map(str, values))}"
        style = f"fill:{'#c62828' if bad else '#555'};font-size:9px"
        label = tag(
            "text", str(offset), title=said, transform=f"translate({x + 3},{MARGIN_TOP - 12}) rotate(-60)", style=style
        )
        parts.append(label)
        if bad:
            band = {"x": x - STEP / 2, "y": MARGIN_TOP - 8, "width": STEP, "height": "100%"}
            parts.append(tag("rect", title=said, **band, fill="#c62828", fill_opacity=0.12))
    return parts


def _row(
    shown: range, sent: list[tuple[int, int]], polled: list[tuple[int, int]], y: float, colour: str, said: str
) -> list[str]:
    line = [f"{_x(shown, index):.1f},{y:.1f}" for index, _ in polled if index in shown]
    parts = [tag("polyline", points=" ".join(line), fill="none", stroke=colour, stroke_opacity=0.5)] if line else []
    for index, value in polled:
        if index in shown:
            parts.append(tag("circle", title=f"{said}: polled {value}", cx=_x(shown, index), cy=y, r=3, fill=colour))
    for index, value in sent:
        if index in shown:
            ring = {"cx": _x(shown, index), "cy": y, "r": 4.5, "fill": "none", "stroke": colour, "stroke_width": 1.6}
            parts.append(tag("circle", title=f"{said}: sent {value}", **ring))
    return parts
