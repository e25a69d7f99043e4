"""PURE. Pictures as SVG, readable on light and dark ground: bars, and margins to targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 980
LABELS = 290
VALUES = 310
ROOM = WIDTH - LABELS - VALUES
LINE, HEAD, GAP = 24, 30, 10
GRID = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
# A margin beyond it stands at the edge.
FARTHEST = 10.0
FONT = "text { font: 13px system-ui, sans-serif; } .title { font-weight: 600; }"
# By class. They differ in lightness too, for those who do not see hues.
LIGHT = {
    "ground": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "grid": "#d1d9e0",
    "ours": "#0969da",
    "rival": "#9aa4af",
    "good": "#1a7f37",
    "bad": "#d1242f",
    "unsure": "#bf8700",
}
DARK = {
    "ground": "#0d1117",
    "ink": "#f0f6fc",
    "soft": "#9198a1",
    "grid": "#3d444d",
    "ours": "#4493f8",
    "rival": "#656c76",
    "good": "#3fb950",
    "bad": "#f85149",
    "unsure": "#d29922",
}


def style() -> str:
    """Light, and dark where the reader's ground is. Without variables, which few viewers know."""
    return f"{FONT}\n{_rules(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{_rules(DARK)}\n}}"


def _rules(colours: Mapping[str, str]) -> str:
    fills = [f".{name} {{ fill: {colour}; }}" for name, colour in colours.items()]
    lines = [f"line.{name} {{ stroke: {colours[name]}; }}" for name in ("ink", "grid")]
    return " ".join([*fills, *lines])


@dataclass(frozen=True)
class Mark:
    """A value with its bounds; ``kind`` is a name of ``LIGHT``, ``shown`` what is written."""

    label: str
    value: float
    low: float
    high: float
    shown: str
    kind: str


@dataclass(frozen=True)
class Panel:
    """Marks under a common title: of bars on a scale of their own, beginning at 0."""

    title: str
    marks: Sequence[Mark]


def bars(panels: Sequence[Panel]) -> str:
    """Panels one below the other, whiskers from the bar's low to its high."""
    return _stacked(panels, _bars)


def margins(panels: Sequence[Panel]) -> str:
    """Dots with intervals about a line at 1, the target, on a common scale of factors."""
    values = [mark.value for panel in panels for mark in panel.marks]
    scale = _Scale(
        min([1 / 2, *(max(v, 1 / FARTHEST) for v in values)]) * 0.9,
        max([2, *(min(v, FARTHEST) for v in values)]) * 1.1,
    )
    return _stacked(panels, lambda panel, top: _margins(panel, top, scale))


def _stacked(panels: Sequence[Panel], draw: Callable[[Panel, float], Iterator[str]]) -> str:
    parts: list[str] = []
    y = 0.0
    for panel in panels:
        parts.extend(draw(panel, y))
        y += HEAD + LINE * len(panel.marks) + GAP
    return _svg(parts, y)


@dataclass(frozen=True)
class _Scale:
    """From a factor to a place, by its logarithm: 2x and 0.5x are equally far from 1x."""

    least: float
    most: float

    def at(self, factor: float) -> float:
        """The place; at the edge for what is beyond it."""
        kept = min(max(factor, self.least), self.most)
        return LABELS + ROOM * math.log(kept / self.least) / math.log(self.most / self.least)


def _bars(panel: Panel, top: float) -> Iterator[str]:
    yield _text(10, top + 20, panel.title, "ink title")
    most = max((mark.high for mark in panel.marks), default=0.0)
    for i, mark in enumerate(panel.marks):
        y = top + HEAD + LINE * i
        low, value, high = (
            LABELS + (ROOM * max(v, 0.0) / most if most > 0 else 0.0)
            for v in (mark.low, mark.value, mark.high)
        )
        size = f'width="{value - LABELS:.1f}" height="{LINE - 8}"'
        yield f'<rect class="{mark.kind}" x="{LABELS}" y="{y + 4:.1f}" {size} rx="2"/>'
        yield from _mark(mark, y, low, high)


def _margins(panel: Panel, top: float, scale: _Scale) -> Iterator[str]:
    yield _text(10, top + 20, panel.title, "ink title")
    bottom = top + HEAD + LINE * len(panel.marks)
    for factor in GRID:
        if scale.least < factor < scale.most:
            at = scale.at(factor)
            yield _line(at, top + HEAD, at, bottom, "ink" if factor == 1 else "grid")
            name = "target" if factor == 1 else f"{factor:g}x"
            yield _text(at, top + 20, name, "soft", "middle")
    for i, mark in enumerate(panel.marks):
        y = top + HEAD + LINE * i
        yield from _mark(mark, y, scale.at(mark.low), scale.at(mark.high))
        centre = f'cx="{scale.at(mark.value):.1f}" cy="{y + LINE / 2:.1f}"'
        yield f'<circle class="{mark.kind}" {centre} r="5"/>'


def _mark(mark: Mark, top: float, low: float, high: float) -> Iterator[str]:
    """What both kinds of picture have: label, whisker, value."""
    middle = top + LINE / 2
    yield _text(LABELS - 10, middle + 4, mark.label, "ink", "end")
    if high > low:
        yield _line(low, middle, high, middle, "ink")
    yield _text(WIDTH - VALUES + 10, middle + 4, mark.shown, "soft")


def _svg(parts: Sequence[str], height: float) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    ground = '<rect class="ground" width="100%" height="100%"/>'
    return "\n".join([head, f"<style>{style()}</style>", ground, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    about = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {about}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{kind}" stroke-width="1.5" {ends}/>'
