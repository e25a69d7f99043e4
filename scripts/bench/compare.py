"""PURE. A run against a stored one: ratios with intervals, and which of them are beyond noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench import intervals
from bench.figures import Kind, Row, Versus, is_more_better, number
from bench.intervals import Estimate
from bench.report import Cells, Report, aligned

# Of some sixty rows, one in a hundred would be called changed at 95 % without having changed.
CONFIDENCE = 0.99
# Two runs of one program differ by this much for reasons that no single run shows.
LEAST_CHANGE = 0.05
HEADINGS = ("suite", "figure", "system", "of", "then", "now", "change (99 %)", "")
# What absolute figures depend on.
MACHINE = ("cpu", "cores", "system")


class Mark(StrEnum):
    """What became of a row."""

    WORSE = "WORSE beyond noise"
    BETTER = "better beyond noise"
    SAME = "within noise"
    UNKNOWN = "too few rounds to tell"
    OTHER_MACHINE = "another machine"
    NOT_OURS = "not ours"
    NEW = "new"
    GONE = "not measured now"


@dataclass(frozen=True)
class Change:
    """A row of both runs. ``of`` is what is compared: with whom it is paired, or its own value.

    ``by`` is a ratio, now to then, or a difference in ``unit``, now less then.
    """

    row: Row
    of: str
    kind: Kind
    then: float | None
    now: float | None
    by: Estimate | None
    mark: Mark

    @property
    def is_regression(self) -> bool:
        """Ours, and worse than noise explains."""
        return self.mark is Mark.WORSE

    def cells(self) -> Cells:
        """The line as text, in the order of ``HEADINGS``."""
        values = ("" if v is None else number(v) for v in (self.then, self.now))
        return (*self.row.key, self.of, *values, self._by(), str(self.mark))

    def _by(self) -> str:
        if self.by is None:
            return ""
        sign, unit = ("+", f" {self.row.unit}") if self.kind == "added" else ("", "x")
        span = f" ({self.by.low:{sign}.2f} to {self.by.high:{sign}.2f})"
        return f"{self.by.value:{sign}.2f}{unit}{span if math.isfinite(self.by.high) else ''}"


@dataclass(frozen=True)
class _Measure:
    """What is compared of a row: logarithms of what multiplies, plain values of what adds."""

    of: str
    kind: Kind
    values: tuple[float, ...]

    @property
    def shown(self) -> float:
        """The mean as a person reads it."""
        mean = intervals.of_mean(self.values).value
        return math.exp(mean) if self.kind == "ratio" else mean


def compare(then: Report, now: Report) -> list[Change]:
    """Every row that either run has, in the order of the newer one.

    A row that is paired with a rival is compared by that pairing, which knows nothing of how fast
    the machine was; any other by its own value, on the same machine only.
    """
    before = {row.key: row for row in then.rows}
    is_same = all(then.machine.get(key) == now.machine.get(key) for key in MACHINE)
    changes = [_changed(before.get(row.key), row, is_same) for row in now.rows]
    kept = {row.key for row in now.rows}
    return changes + [_only(row, Mark.GONE) for row in then.rows if row.key not in kept]


def table(changes: Sequence[Change]) -> str:
    """Aligned columns."""
    return aligned(HEADINGS, [change.cells() for change in changes])


def differences(then: Report, now: Report) -> Iterator[str]:
    """What the two machines, or what was installed on them, have not in common."""
    for key in sorted(then.machine.keys() | now.machine.keys()):
        old, new = then.machine.get(key), now.machine.get(key)
        if old != new:
            yield f"{key}: {old} then, {new} now"


def _only(row: Row, mark: Mark) -> Change:
    return Change(row, "", "ratio", None, None, None, mark)


def _changed(old: Row | None, row: Row, is_same_machine: bool) -> Change:
    if old is None:
        return _only(row, Mark.NEW)
    was, measure = _measures(old, row)
    if not measure.of and not is_same_machine:
        return Change(row, "", measure.kind, was.shown, measure.shown, None, Mark.OTHER_MACHINE)
    by = intervals.of_change(measure.values, was.values, CONFIDENCE)
    mark = _mark(by, was, is_more_better(row.unit)) if row.ours else Mark.NOT_OURS
    shown = intervals.exponential(by) if measure.kind == "ratio" else by
    return Change(row, measure.of, measure.kind, was.shown, measure.shown, shown, mark)


def _measures(old: Row, row: Row) -> tuple[_Measure, _Measure]:
    """The same of both: the first comparison that both have, else their own values."""
    for versus in row.versus:
        former = old.held_against(versus.name, versus.kind)
        if former is not None:
            return _paired(old, former), _paired(row, versus)
    both = (old.samples, row.samples)
    if all(value > 0 for samples in both for value in samples):
        was, now = (_Measure("", "ratio", tuple(map(math.log, samples))) for samples in both)
        return was, now
    return _Measure("", "added", old.samples), _Measure("", "added", row.samples)


def _paired(row: Row, versus: Versus) -> _Measure:
    if versus.kind == "ratio":
        values = tuple(intervals.logs_of_ratios(row.samples, versus.samples))
        return _Measure(f"x {versus.name}", "ratio", values)
    pairs = zip(row.samples, versus.samples, strict=True)
    return _Measure(f"over {versus.name}", "added", tuple(own - its for own, its in pairs))


def _mark(by: Estimate, was: _Measure, is_more_better: bool) -> Mark:
    """Beyond noise is what the interval excludes, and what is not too small to matter."""
    if not math.isfinite(by.high):
        return Mark.UNKNOWN
    least = math.log1p(LEAST_CHANGE) if was.kind == "ratio" else LEAST_CHANGE * abs(was.shown)
    if by.low <= 0 <= by.high or abs(by.value) < least:
        return Mark.SAME
    return Mark.BETTER if (by.value > 0) == is_more_better else Mark.WORSE
