"""PURE. From samples to an estimate that says how sure it is: intervals by Student's t."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_SLICES = 256
_HALVINGS = 60


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds the true one with some confidence.

    One sample says nothing of its spread: the interval is infinite then.
    """

    value: float
    low: float
    high: float


def of_mean(samples: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The mean of at least one sample, in its unit."""
    mean = statistics.fmean(samples)
    half = student(confidence, len(samples) - 1) * standard_error(samples)
    return Estimate(mean, mean - half, mean + half)


def of_ratio(
    own: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """``own / other`` pair by pair: their geometric mean, for 2x and 0.5x are equally far from 1.

    Raises:
        ValueError: a sample is not above zero, or has no pair.
    """
    return exponential(of_mean(logs_of_ratios(own, other), confidence))


def of_difference(
    own: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """``own - other`` pair by pair, in their unit.

    Raises:
        ValueError: a sample has no pair.
    """
    return of_mean([mine - its for mine, its in zip(own, other, strict=True)], confidence)


def of_change(
    now: Sequence[float], then: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """The mean of ``now`` less that of ``then``, which are no pairs and may spread unequally.

    Welch's interval, with the degrees of freedom of Welch and Satterthwaite.
    """
    change = statistics.fmean(now) - statistics.fmean(then)
    squares = [standard_error(samples) ** 2 for samples in (now, then)]
    if math.inf in squares:
        return Estimate(change, -math.inf, math.inf)
    if sum(squares) == 0:
        return Estimate(change, change, change)
    weights = [s * s / (len(of) - 1) for s, of in zip(squares, (now, then), strict=True)]
    # Squares of what is tiny may vanish; as few degrees of freedom as there can be, then.
    degrees = sum(squares) ** 2 / sum(weights) if sum(weights) else 1.0
    half = student(confidence, max(1.0, degrees)) * math.sqrt(sum(squares))
    return Estimate(change, change - half, change + half)


def logs_of_ratios(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """The natural logarithm of each pair's ratio.

    Raises:
        ValueError: a sample is not above zero, or has no pair.
    """
    return [math.log(mine) - math.log(its) for mine, its in zip(own, other, strict=True)]


def exponential(estimate: Estimate) -> Estimate:
    """From logarithms back to what they are of."""
    return Estimate(math.exp(estimate.value), math.exp(estimate.low), _exp(estimate.high))


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def standard_error(samples: Sequence[float]) -> float:
    """Of the mean; infinite for a single sample."""
    if len(samples) < 2:
        return math.inf
    return statistics.stdev(samples) / math.sqrt(len(samples))


@functools.lru_cache(maxsize=256)
def student(confidence: float, degrees: float) -> float:
    """The two-sided quantile of Student's t: 12.71 for 0.95 and one degree of freedom.

    With ``t = sqrt(degrees) * tan(angle)`` the density is a power of the cosine, which is
    integrated by Simpson's rule; the angle is found by halving.
    """
    if degrees < 1:
        return 1.0  # its standard error is infinite
    whole = _cosine_area(math.pi / 2, degrees)
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _cosine_area(middle, degrees) < confidence * whole:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _cosine_area(angle: float, degrees: float) -> float:
    """The integral of ``cos(x) ** (degrees - 1)`` from 0 to ``angle``."""
    step = angle / _SLICES
    heights = [math.pow(max(0.0, math.cos(step * i)), degrees - 1) for i in range(_SLICES + 1)]
    return step / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2]))
