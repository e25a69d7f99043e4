"""PURE: the probability that a model answers a request well, and how right such figures were.

A model whose skill equals the difficulty of a request answers half of such requests well; the
further apart, the surer (item response theory, two parameters). That the difficulty is an estimate
flattens the curve.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Of the curve, where the difficulty is known exactly.
SLOPE = 10.0
# Standard deviation of the estimate of difficulty; where the language has no lists of words, more.
UNCERTAINTY, UNCERTAINTY_ABROAD = 0.12, 0.2
# Skills are told apart in so many steps, so that a table of all answers is small.
STEPS = 200
# A calibration moves no probability further.
MOST_MOVED = 0.2
BINS = 10


def slope_of(uncertainty: float) -> float:
    """Of the curve, for a difficulty known that well (a normal error, MacKay 1992)."""
    return SLOPE / math.sqrt(1 + math.pi * (SLOPE * uncertainty) ** 2 / 8)


def chances(difficulty: float, uncertainty: float = UNCERTAINTY) -> list[float]:
    """Of an answer that is good, for each step of skill from 0 to 1."""
    slope = slope_of(uncertainty)
    return [1 / (1 + math.exp(slope * (difficulty - step / STEPS))) for step in range(STEPS + 1)]


def step_of(skill: float) -> int:
    """The index of a skill in ``chances``."""
    return round(min(1.0, max(0.0, skill)) * STEPS)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What stated probabilities became: ``stated``, ascending, and what was seen at each, not
    descending, so that an order of models never changes. Between them it is linear."""

    stated: tuple[float, ...] = ()
    seen: tuple[float, ...] = ()

    def of(self, probability: float) -> float:
        """The probability that is told for a computed one."""
        if not self.stated:
            return probability
        at = bisect_right(self.stated, probability)
        if at == 0:
            shift = self.seen[0] - self.stated[0]
        elif at == len(self.stated):
            shift = self.seen[-1] - self.stated[-1]
        else:
            low, high = self.stated[at - 1], self.stated[at]
            share = (probability - low) / (high - low)
            left, right = self.seen[at - 1] - low, self.seen[at] - high
            shift = left + share * (right - left)
        return min(1.0, max(0.0, probability + max(-MOST_MOVED, min(MOST_MOVED, shift))))


def calibration_of(
    outcomes: Iterable[tuple[float, float]], least: int = 50, prior: float = 20.0
) -> Calibration:
    """Of stated probabilities with what became of them (0 to 1): bins of equal number, pooled until
    they do not descend, each drawn towards what was stated as by ``prior`` outcomes. With fewer
    than ``least`` outcomes: none."""
    known = sorted(outcomes, key=lambda pair: pair[0])
    if len(known) < least:
        return Calibration()
    size = max(1, len(known) // BINS)
    blocks: list[tuple[float, float, float]] = []  # stated, seen, weight
    for start in range(0, len(known), size):
        part = known[start : start + size]
        stated = sum(p for p, _ in part) / len(part)
        seen = (sum(o for _, o in part) + prior * stated) / (len(part) + prior)
        blocks.append((stated, seen, float(len(part))))
        while len(blocks) > 1 and (blocks[-2][1] > blocks[-1][1] or blocks[-2][0] >= blocks[-1][0]):
            (p1, s1, w1), (p2, s2, w2) = blocks[-2], blocks[-1]
            weight = w1 + w2
            pooled = ((p1 * w1 + p2 * w2) / weight, (s1 * w1 + s2 * w2) / weight, weight)
            blocks[-2:] = [pooled]
    return Calibration(tuple(b[0] for b in blocks), tuple(b[1] for b in blocks))


def calibration_error(outcomes: Sequence[tuple[float, float]], bins: int = BINS) -> float:
    """The expected calibration error (ECE): the mean distance of stated from seen, over bins of
    equal width, weighed by their number."""
    error = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        part = [(p, o) for p, o in outcomes if low <= p < high or (index == bins - 1 and p == high)]
        if part:
            error += abs(sum(p - o for p, o in part))
    return error / len(outcomes) if outcomes else 0.0
