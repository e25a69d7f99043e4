"""PURE. How many of those who wait are computed together, and whether to wait for more.

A policy is asked when nothing is computed. Greedy takes what is there; fixed waits until a batch is
full or its time is over; dynamic learns what batches cost and waits only while that pays;
latency-aware takes as many as can be answered in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .cost import BatchCost, Gaps

# What a batch will take is known so well: who would be late by less counts as in time.
_TOLERANCE = 1.03


@dataclass(frozen=True)
class Limits:
    """What batches are held to.

    Attributes:
        most: items of one batch.
        wait: seconds that an item waits for others at most, while nothing is computed.
        target: seconds in which 95 of 100 items are to be answered; only latency-aware heeds it.
    """

    most: int = 32
    wait: float = 0.005
    target: float = 0.2


@dataclass(frozen=True)
class Decision:
    """``take`` so many now; 0: ask again when one more comes, or after ``wait`` seconds."""

    take: int
    wait: float = 0.0


class Policy(Protocol):
    """Decides about batches. Times are seconds."""

    def arrived(self, now: float) -> None:
        """An item came."""

    def decide(self, ages: Sequence[float]) -> Decision:
        """What to do now. ``ages``: for how long each waits of those who are first, as many as a
        batch may have, one at least."""
        ...

    def observed(self, size: int, seconds: float) -> None:
        """A batch of that size took so long."""


class Greedy:
    """Whatever is there."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.most

    def arrived(self, now: float) -> None:
        """It does not matter."""

    def decide(self, ages: Sequence[float]) -> Decision:
        return Decision(min(len(ages), self._most))

    def observed(self, size: int, seconds: float) -> None:
        """It does not matter."""


class Fixed:
    """Full batches, or what is there when the time of the oldest is over."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def arrived(self, now: float) -> None:
        """It does not matter."""

    def decide(self, ages: Sequence[float]) -> Decision:
        left = self._limits.wait - max(ages)
        if len(ages) >= self._limits.most or left <= 0:
            return Decision(min(len(ages), self._limits.most))
        return Decision(0, left)

    def observed(self, size: int, seconds: float) -> None:
        """It does not matter."""


class Dynamic:
    """Waits for one more while that saves more time than it costs, over all who wait."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._cost = BatchCost()
        self._gaps = Gaps()

    def arrived(self, now: float) -> None:
        self._gaps.arrived(now)

    def decide(self, ages: Sequence[float]) -> Decision:
        n = len(ages)
        if n < self._limits.most:
            wait = worth_waiting(self._cost, self._gaps.expected, n)
            left = min(wait - min(ages), self._limits.wait - max(ages))
            if left > 0:
                return Decision(0, left)
        return Decision(min(n, self._limits.most))

    def observed(self, size: int, seconds: float) -> None:
        self._cost.observed(size, seconds)


class LatencyAware:
    """As many as can be answered within the target; waits as ``Dynamic`` where there is time.

    It does not make late who would not be late in batches of one: a batch ends in time for each in
    it who can still be in time, and no later than its items would be done one after the other.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._cost = BatchCost()
        self._gaps = Gaps()

    def arrived(self, now: float) -> None:
        self._gaps.arrived(now)

    def decide(self, ages: Sequence[float]) -> Decision:
        n = self._size(ages)
        if n == len(ages) < self._limits.most:
            wait = worth_waiting(self._cost, self._gaps.expected, n)
            left = min(wait - min(ages), self._limits.wait - max(ages))
            spare = self._limits.target / 2 - max(ages) - self._cost.seconds(n + 1)
            if min(left, spare) > 0:
                return Decision(0, min(left, spare))
        return Decision(n)

    def observed(self, size: int, seconds: float) -> None:
        self._cost.observed(size, seconds)

    def _size(self, ages: Sequence[float]) -> int:
        """The largest batch that makes nobody late."""
        alone = self._cost.seconds(1)
        most = min(len(ages), self._limits.most, self._cost.most_tried)
        latest, found = float("inf"), 1
        for size, age in enumerate(ages[:most], 1):
            left = self._limits.target * _TOLERANCE - age
            if left >= alone:
                latest = min(latest, left)
            if self._cost.seconds(size) <= latest:
                found = size
        return found


def worth_waiting(cost: BatchCost, gap: float, n: int) -> float:
    """Seconds from the last arrival on for which ``n`` items should wait for one more that comes
    after ``gap`` seconds; 0 where that does not pay.

    Who comes finds either a batch that has just begun, or one that it joins: it is spared the
    fixed cost of a batch less what it comes after, the others wait for it and for its part.
    """
    each, fixed = cost.each, cost.fixed
    return 2 * gap if fixed > gap * (n + 1) + each * n else 0.0


POLICIES: Mapping[str, Callable[[Limits], Policy]] = {
    "fixed": Fixed,
    "greedy": Greedy,
    "dynamic": Dynamic,
    "latency": LatencyAware,
}
