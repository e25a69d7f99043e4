"""How long things took, in buckets: quantiles of any number of values in
bounded memory, and of several histograms together."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter

# Each bucket is that much wider than the one before it, so a quantile is wrong by half of it at
# most (2.5 %).
GROWTH = 1.05
LEAST_SECONDS = 0.0001
# They reach from the least to a day.
BUCKETS = 424
# Upper bounds of all buckets but the last, which has none.
_BOUNDS = [LEAST_SECONDS * math.pow(GROWTH, bucket) for bucket in range(1, BUCKETS)]


class Histogram:
    """Counts of durations in seconds; only buckets that are used take memory."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._buckets: Counter[int] = Counter()

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}>"

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.total += seconds
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1

    def take(self, other: Histogram) -> None:
        """Count all of another's, too."""
        self.count += other.count
        self.total += other.total
        self._buckets.update(other._buckets)

    @property
    def mean(self) -> float:
        """Seconds; 0 of none."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, q: float) -> float:
        """The value that a share of ``q`` does not exceed (nearest rank), in seconds; 0 of none."""
        rank, seen = math.ceil(q * self.count), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return LEAST_SECONDS * math.pow(GROWTH, bucket + 0.5)
        return 0.0
