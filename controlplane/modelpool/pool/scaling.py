"""PURE: how many copies of a model its load wants.

More are wanted when each has had more than its share for a while, fewer when one less would do for
a longer while: a copy costs a load, and a lull between two bursts is no reason to pay it twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

UP_AFTER_SECONDS = 5.0
DOWN_AFTER_SECONDS = 60.0


@dataclass(frozen=True)
class Load:
    """Of one model: copies that serve or start, requests in flight on all, requests that wait."""

    copies: int
    in_flight: int
    waiting: int


@dataclass(frozen=True)
class Bounds:
    """How many copies there may be, and requests in flight for each."""

    least: int
    most: int
    per_copy: int


@dataclass(frozen=True)
class Trend:
    """Since when more, or fewer, copies have been wanted without a break; None: they are not."""

    more_since: float | None = None
    fewer_since: float | None = None


def wanted(load: Load, bounds: Bounds) -> int:
    """Copies for the present load. None where nothing runs: the first is a request's business."""
    if load.copies == 0:
        return 0
    by_load = math.ceil((load.in_flight + load.waiting) / bounds.per_copy)
    return max(bounds.least, min(by_load, bounds.most))


def step(trend: Trend, load: Load, bounds: Bounds, now: float) -> tuple[Trend, int]:
    """The trend from now on, and what to do: +1 a copy more, -1 one less, 0 nothing."""
    target = wanted(load, bounds)
    if 0 < load.copies < min(bounds.least, bounds.most):
        return Trend(), 1
    more = _since(trend.more_since, target > load.copies, now)
    fewer = _since(trend.fewer_since, 0 < target < load.copies, now)
    if more is not None and now - more >= UP_AFTER_SECONDS:
        return Trend(), 1
    if fewer is not None and now - fewer >= DOWN_AFTER_SECONDS:
        return Trend(), -1
    return Trend(more, fewer), 0


def _since(before: float | None, is_so: bool, now: float) -> float | None:
    if not is_so:
        return None
    return now if before is None else before
