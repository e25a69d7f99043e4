"""PURE. Samples, their medians and spans, and what pairs of them say."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["ratio", "added"]


class BenchError(Exception):
    """Something could not be measured; the text says what and why."""


@dataclass(frozen=True)
class Spread:
    """A median and the least and greatest value around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of at least one sample."""
        return cls(statistics.median(samples), min(samples), max(samples))

    def text(self, unit: str = "") -> str:
        """``12.3 (11.9-12.8)``, with the unit after the median."""
        shown = f"{number(self.median)}{unit}"
        if self.low == self.high:
            return shown
        return f"{shown} ({number(self.low)}-{number(self.high)})"


def number(value: float) -> str:
    """Three figures that matter; no exponents."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


@dataclass(frozen=True)
class Versus:
    """What a row is held against: another row's samples, taken in the same rounds.

    ``ratio`` divides each sample by its pair, ``added`` subtracts it.
    """

    name: str
    samples: Sequence[float]
    kind: Kind = "ratio"

    def spread(self, own: Sequence[float]) -> Spread:
        """How ``own`` compares, pair by pair."""
        pairs = list(zip(own, self.samples, strict=True))
        if self.kind == "ratio":
            return Spread.of([mine / other for mine, other in pairs])
        return Spread.of([mine - other for mine, other in pairs])

    def text(self, own: Sequence[float], unit: str) -> str:
        """``0.52x nginx (0.50-0.55)`` or ``+0.21 ms upstream (0.20-0.24)``."""
        spread = self.spread(own)
        head = f"{spread.median:.2f}x" if self.kind == "ratio" else f"{spread.median:+.2f}{unit}"
        span = f" ({spread.low:.2f}-{spread.high:.2f})" if len(own) > 1 else ""
        return f"{head} {self.name}{span}"


@dataclass(frozen=True)
class Row:
    """One line of the report: one figure of one system."""

    suite: str
    figure: str
    system: str
    unit: str
    samples: tuple[float, ...]
    versus: Versus | None = None
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line as text, in the order of ``report.HEADINGS``."""
        unit = f" {self.unit}" if self.unit else ""
        compared = self.versus.text(self.samples, unit) if self.versus else ""
        spread = Spread.of(self.samples).text(unit)
        return (self.suite, self.figure, self.system, spread, compared, self.target)

    def as_dict(self) -> dict[str, Any]:
        """The line as plain JSON values."""
        spread = Spread.of(self.samples)
        plain: dict[str, Any] = {
            "suite": self.suite,
            "figure": self.figure,
            "system": self.system,
            "unit": self.unit,
            "samples": list(self.samples),
            "median": spread.median,
            "min": spread.low,
            "max": spread.high,
        }
        if self.versus:
            paired = self.versus.spread(self.samples)
            plain["versus"] = {
                "system": self.versus.name,
                "kind": self.versus.kind,
                "median": paired.median,
                "min": paired.low,
                "max": paired.high,
            }
        return plain | ({"target": self.target} if self.target else {})
