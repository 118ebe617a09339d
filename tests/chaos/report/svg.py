"""Just enough SVG: shapes into text, and a chart with a time axis, a value axis and bands for faults."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 1100, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 34, 40
TICKS = 8
COLOURS = ("#2f6f9f", "#3f9142", "#8a5fbf", "#b5651d", "#3a9a9a", "#a03a6e", "#6b6b6b")
BY_TYPE = {"ok": "#3f9142", "info": "#e08a00", "fail": "#c62828"}
BAND_COLOURS = ("#d9534f", "#f0ad4e", "#5bc0de", "#9b59b6", "#7f8c8d", "#16a085", "#b03a6e")
BAND_OPACITY = 0.14
STYLE = "text{font:11px sans-serif;fill:#333}.axis{stroke:#999;stroke-width:1}.grid{stroke:#e5e5e5;stroke-width:1}"


class Band(NamedTuple):
    """A fault while it lasted, in seconds from the beginning of the run."""

    kind: str
    start_s: float
    end_s: float
    targets: tuple[str, ...]
    detail: str


def tag(name: str, content: str = "", title: str = "", **attributes: object) -> str:
    """One element; ``title`` is what hovering shows. Attribute names have _ for -, and class_ for class."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"' for key, value in attributes.items()
    )
    inner = (f"<title>{escape(title)}</title>" if title else "") + content
    return f"<{name}{said}>{inner}</{name}>" if inner else f"<{name}{said}/>"


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, said: str, **attributes: object) -> str:
    """A line of text."""
    return tag("text", escape(said), x=x, y=y, **attributes)


def document(width: float, height: float, parts: Iterable[str]) -> str:
    """A whole picture."""
    body = tag("style", STYLE) + tag("rect", width=width, height=height, fill="#fff") + "\n".join(parts)
    return tag("svg", body, xmlns="http://www.w3.org/2000/svg", width=width, height=height) + "\n"


def band_colours(bands: Sequence[Band]) -> dict[str, str]:
    """The same colour for a kind of fault in all pictures of a run."""
    kinds = sorted({band.kind for band in bands})
    return {kind: BAND_COLOURS[place % len(BAND_COLOURS)] for place, kind in enumerate(kinds)}


def round_ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from low to high."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= TICKS)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


@dataclass
class Chart:
    """``x`` is seconds from 0 to ``span_s``; ``y`` from ``low`` to ``high``, or by powers of ten if ``logarithmic``."""

    title: str
    unit: str
    span_s: float
    low: float
    high: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        self.parts: list[str] = []
        self._legend: list[tuple[str, str]] = []
        self.span_s = max(self.span_s, 1e-6)
        self.high = max(self.high, self.low * 10 if self.logarithmic else self.low + 1)

    def x(self, at_s: float) -> float:
        return LEFT + at_s / self.span_s * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        scale: Callable[[float], float] = math.log10 if self.logarithmic else float
        value = max(value, self.low)
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def bands(self, bands: Sequence[Band]) -> None:
        """Behind everything that is drawn later."""
        colours = band_colours(bands)
        for band in bands:
            said = f"{band.kind} {' '.join(band.targets)} {band.start_s:.2f}-{band.end_s:.2f} s {band.detail}"
            width = max(1.0, self.x(band.end_s) - self.x(band.start_s))
            place = {"x": self.x(band.start_s), "y": TOP, "width": width, "height": HEIGHT - TOP - BOTTOM}
            fill = colours[band.kind]
            self.parts.append(tag("rect", title=said, **place, fill=fill, fill_opacity=BAND_OPACITY))
        self._legend.extend((f"fault: {kind}", colour) for kind, colour in colours.items())

    def dots(self, name: str, colour: str, points: Iterable[tuple[float, float, str]]) -> None:
        """(seconds, value, what hovering shows)."""
        self._legend.append((name, colour))
        for at_s, value, said in points:
            self.parts.append(tag("circle", title=said, cx=self.x(at_s), cy=self.y(value), r=1.8, fill=colour))

    def line(
        self, name: str, colour: str, points: Sequence[tuple[float, float]], *, steps: bool = False, dashes: str = ""
    ) -> None:
        """``steps``: each value holds until the next. ``dashes``: lengths of strokes and gaps."""
        self._legend.append((name, colour))
        path: list[str] = []
        for place, (at_s, value) in enumerate(points):
            if steps and place:
                path.append(f"{self.x(at_s):.1f},{self.y(points[place - 1][1]):.1f}")
            path.append(f"{self.x(at_s):.1f},{self.y(value):.1f}")
        look = {"fill": "none", "stroke": colour, "stroke_width": 1.4, "stroke_dasharray": dashes or "none"}
        self.parts.append(tag("polyline", points=" ".join(path), **look))

    def finish(self) -> str:
        """The picture with its axes and legend."""
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        frame = [text(LEFT, 20, self.title, font_weight="bold")]
        for at_s in round_ticks(0, self.span_s):
            x = self.x(at_s)
            frame.append(tag("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid"))
            frame.append(text(x, bottom + 16, f"{at_s:g} s", text_anchor="middle"))
        for value in self._value_ticks():
            y = self.y(value)
            frame.append(tag("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
            frame.append(text(LEFT - 6, y + 4, f"{value:g} {self.unit}".strip(), text_anchor="end"))
        frame.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
        frame.append(tag("line", x1=LEFT, x2=LEFT, y1=TOP, y2=bottom, class_="axis"))
        for place, (name, colour) in enumerate(self._legend):
            y = TOP + 16 * place
            frame.append(tag("rect", x=right + 12, y=y, width=10, height=10, fill=colour, fill_opacity=0.8))
            frame.append(text(right + 27, y + 9, name))
        return document(WIDTH, max(HEIGHT, TOP + 16 * len(self._legend) + 10), [*frame, *self.parts])

    def _value_ticks(self) -> list[float]:
        if not self.logarithmic:
            return round_ticks(self.low, self.high)
        powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        return [10.0**power for power in powers]
