"""PURE. Rows: the samples of one figure of one system, and what pairs of them say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench import intervals
from bench.intervals import Estimate

Kind = Literal["ratio", "added"]
Key = tuple[str, str, str]


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


def is_more_better(unit: str) -> bool:
    """What is counted per second should be much; seconds and bytes should be few."""
    return unit == "/s"


@dataclass(frozen=True)
class Conditions:
    """What the machine did besides while a figure was taken.

    ``busy`` is the share of all cores that others used between the rounds, ``steal`` the share of
    the processor's time that its host gave to others.
    """

    busy: float = 0.0
    steal: float = 0.0


@dataclass(frozen=True)
class Versus:
    """What a row is held against: another row's samples, taken in the same rounds.

    ``ratio`` divides each sample by its pair, ``added`` subtracts it.
    """

    name: str
    samples: tuple[float, ...]
    kind: Kind = "ratio"

    def estimate(self, own: Sequence[float]) -> Estimate:
        """How ``own`` compares, pair by pair, with 95 % confidence."""
        if self.kind == "ratio":
            return intervals.of_ratio(own, self.samples)
        return intervals.of_difference(own, self.samples)

    def text(self, own: Sequence[float], unit: str) -> str:
        """``0.52x nginx (0.50-0.55)`` or ``+0.21 ms upstream (0.20-0.24)``."""
        estimate = self.estimate(own)
        shown = f"{estimate.value:.2f}x" if self.kind == "ratio" else f"{estimate.value:+.2f}{unit}"
        is_known = math.isfinite(estimate.high)
        span = f" ({estimate.low:.2f}-{estimate.high:.2f})" if is_known else ""
        return f"{shown} {self.name}{span}"


@dataclass(frozen=True)
class Row:
    """One figure of one system. ``ours`` is False for what the pool is held against.

    ``conditions`` is None where the figure is none of time, and what others do is no matter.
    """

    suite: str
    figure: str
    system: str
    unit: str
    samples: tuple[float, ...]
    versus: tuple[Versus, ...] = ()
    ours: bool = True
    conditions: Conditions | None = None

    @property
    def key(self) -> Key:
        """By which it is found in another run."""
        return (self.suite, self.figure, self.system)

    def held_against(self, name: str, kind: Kind) -> Versus | None:
        """That comparison, if it was made."""
        found = (v for v in self.versus if (v.name, v.kind) == (name, kind))
        return next(found, None)

    def as_dict(self) -> dict[str, Any]:
        """The line as plain JSON values."""
        spread = Spread.of(self.samples)
        plain: dict[str, Any] = {
            "suite": self.suite,
            "figure": self.figure,
            "system": self.system,
            "unit": self.unit,
            "ours": self.ours,
            "samples": list(self.samples),
            "median": spread.median,
            "min": spread.low,
            "max": spread.high,
            "versus": [_versus_as_dict(versus, self.samples) for versus in self.versus],
        }
        if self.conditions:
            plain["conditions"] = {"busy": self.conditions.busy, "steal": self.conditions.steal}
        return plain


def _versus_as_dict(versus: Versus, own: Sequence[float]) -> dict[str, Any]:
    estimate = versus.estimate(own)
    return {
        "system": versus.name,
        "kind": versus.kind,
        "estimate": estimate.value,
        # JSON knows no infinity.
        "low": estimate.low if math.isfinite(estimate.low) and len(own) > 1 else None,
        "high": estimate.high if math.isfinite(estimate.high) else None,
        "samples": list(versus.samples),
    }


def row_of(data: Mapping[str, Any]) -> Row:
    """The row that ``as_dict`` made that of.

    Raises:
        KeyError, TypeError, ValueError: it made it not.
    """
    versus = tuple(
        Versus(str(v["system"]), _numbers(v["samples"]), v["kind"]) for v in data["versus"]
    )
    about = data.get("conditions")
    conditions = Conditions(float(about["busy"]), float(about["steal"])) if about else None
    suite, figure, system, unit = (str(data[k]) for k in ("suite", "figure", "system", "unit"))
    samples, is_ours = _numbers(data["samples"]), bool(data["ours"])
    return Row(suite, figure, system, unit, samples, versus, is_ours, conditions)


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    if not values:
        raise ValueError("a row without samples")
    return tuple(float(value) for value in values)
