"""PURE: how many requests a worker is given at a time.

More than an engine can work on wait in its own queue, first come first served, where no priority
counts and no other copy can take them. Fewer leave it idle. Who knows the right number says it; for
an engine that does not, and for what it says of itself without trying, it is searched for.

The search goes by the time to the first token, for whole requests take as long as their answers
are. Its gradient over the limit, in logarithms, is the *elasticity*: 0 where more requests at a
time make nobody wait longer, 1 where all that more of them do is to wait for each other, above 1
where they get into each other's way. By Little's law the rate of first tokens goes with limit /
time, so that a higher limit is worth it while the elasticity is below 1. A step that is worth it is
kept and the next is larger, one that is not is taken back and the next is smaller ("incremental
steps": Heiss, Wagner, Adaptive Load Control in Transaction Processing Systems, VLDB 1991; .NET's
thread pool climbs its hill the same way). A request that the engine refuses because it has too many
lowers the limit at once, by a tenth, and steps of one raise it again (AIMD, as in Netflix'
concurrency-limits).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

ADAPTIVE: Final = "adaptive"
UNLIMITED: Final = "unlimited"

# Of an engine that says nothing of its slots: initialLimit and maxConcurrency of Netflix'
# Gradient2Limit.
INITIAL = 20
MOST = 200
# AIMDLimit's backoffRatio.
BACKOFF = 0.9
# Of an engine that does: what has no slot can only keep a slot from waiting for its next request.
MOST_OF_SLOTS = 2
# Below 1, for a measurement has an error, and of two limits that serve alike the lower is better:
# who waits here can be overtaken by who is more urgent.
WORTH = 0.9
# Samples of a measurement: at least so many, then until the elasticity is known to about that, or
# until there are so many.
FEWEST, PLENTY = 16, 400
PRECISION = 0.15
# Measurements without a trial after nothing better was found; doubles up to that, so that trials
# cost next to nothing. A time that is so many times another ends the rest: something has changed.
FIRST_REST, LONGEST_REST = 4, 64
CHANGE = 1.5
# A quarter up or down at most, and at least a thirtieth: finer steps are finer than the errors.
LARGEST_STEP, SMALLEST_STEP = 4, 32
# First tokens as fast as that leave nothing to gain by a queue; and the way from one request's end
# to the next one's begin, which a low limit makes everybody wait for, is not short against it.
QUICK_SECONDS = 0.05
SHORTEST_SECONDS = 1e-4


@dataclass(frozen=True)
class Bounds:
    """Least and most that a search may set, both included, and where it begins."""

    least: int
    most: int
    start: int


def bounds_of(slots: int | None) -> Bounds:
    """Of an engine that works on so many requests at once; None: it does not say. Never below its
    slots, for those it has memory and threads for, whether they are used or not."""
    if slots is None:
        return Bounds(1, MOST, INITIAL)
    return Bounds(slots, slots * MOST_OF_SLOTS, slots)


@dataclass(slots=True)
class Measurement:
    """Logarithms of times to the first token, all at the same limit."""

    limit: int
    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def add(self, seconds: float) -> None:
        """A request that took the last place there was (Welford's algorithm)."""
        value = math.log(max(seconds, SHORTEST_SECONDS))
        self.count += 1
        apart = value - self.mean
        self.mean += apart / self.count
        self._squares += apart * (value - self.mean)

    def is_precise(self, distance: float) -> bool:
        """Enough to tell the elasticity over a ``distance`` of limits in logarithms."""
        if self.count < FEWEST or self.count >= PLENTY:
            return self.count >= PLENTY
        variance_of_mean = self._squares / (self.count - 1) / self.count
        # Of a difference of two such means.
        return 2 * variance_of_mean <= (PRECISION * distance) ** 2


@dataclass(slots=True)
class Search:
    """For the limit of one worker. ``limit`` is the one to use; it moves on as samples come in.

    Attributes:
        kept: what is known at the limit that trials are held against; None: nothing yet.
        trial: 1 while a higher limit is tried, -1 a lower one, 0 none.
        step: of the next trial.
        rest: measurements until then.
    """

    bounds: Bounds
    limit: int = 0
    kept: Measurement | None = None
    trial: int = 0
    step: int = 0
    rest: int = 0
    _next_rest: int = FIRST_REST
    _measured: Measurement = field(default_factory=lambda: Measurement(0))

    def __post_init__(self) -> None:
        start = self.limit or self.bounds.start
        self.step = self._largest_step(start)
        self._measure(start)

    def _measure(self, limit: int) -> None:
        self.limit = min(max(limit, self.bounds.least), self.bounds.most)
        self._measured = Measurement(self.limit)

    def first_token(self, in_flight: int, seconds: float) -> None:
        """A request got its first token ``seconds`` after it was granted as the last of
        ``in_flight``. Only who took the last place tells anything about the limit."""
        if in_flight != self.limit:
            return
        self._measured.add(seconds)
        if self._measured.is_precise(self._distance()):
            self._judge(self._measured)

    def refused(self, in_flight: int) -> None:
        """The engine would not, or could not, take a request as the last of ``in_flight``: with
        that many no other needs to find out."""
        limit = max(self.bounds.least, int(in_flight * BACKOFF))
        if limit < self.limit:
            self.kept, self.trial, self.step = None, 0, 1
            self.rest = self._next_rest = FIRST_REST
            self._measure(limit)

    # -- the search ------------------------------------------------------------------------------

    def _distance(self) -> float:
        if self.trial and self.kept is not None:
            return abs(math.log(self.limit / self.kept.limit))
        return math.log((self.limit + self.step) / self.limit)

    def _judge(self, found: Measurement) -> None:
        if not self.trial or self.kept is None:
            self._rest_on(found)
            return
        rise = (found.mean - self.kept.mean) / math.log(found.limit / self.kept.limit)
        if (rise < WORTH) == (self.trial > 0):
            self._keep(found)
        else:
            self._take_back()

    def _rest_on(self, found: Measurement) -> None:
        if self.kept is not None and abs(found.mean - self.kept.mean) > math.log(CHANGE):
            self.rest, self._next_rest = 0, FIRST_REST
        self.kept = found
        if self.rest > 0:
            self.rest -= 1
            self._measure(found.limit)
        else:
            self._try(1)

    def _keep(self, found: Measurement) -> None:
        self.kept, self._next_rest = found, FIRST_REST
        self.step = min(2 * self.step, self._largest_step(found.limit))
        self._try(self.trial)

    def _take_back(self) -> None:
        assert self.kept is not None
        if self.trial > 0:
            self._try(-1)
        elif self.step > self._smallest_step(self.kept.limit):
            self.step //= 2
            self._try(1)
        else:
            self._rest()

    def _try(self, direction: int) -> None:
        """The next limit in a direction; where there is none, what comes after it has failed."""
        assert self.kept is not None
        self.trial, at = direction, self.kept.limit
        is_quick = math.exp(self.kept.mean) < QUICK_SECONDS
        self._measure(at + direction * self.step)
        if self.limit == at or (direction < 0 and is_quick):
            self._take_back()

    def _rest(self) -> None:
        assert self.kept is not None
        self.trial, self.rest = 0, self._next_rest
        self._next_rest = min(2 * self._next_rest, LONGEST_REST)
        self.step = self._smallest_step(self.kept.limit)
        self._measure(self.kept.limit)

    @staticmethod
    def _largest_step(limit: int) -> int:
        return max(1, limit // LARGEST_STEP)

    @staticmethod
    def _smallest_step(limit: int) -> int:
        return max(1, limit // SMALLEST_STEP)
