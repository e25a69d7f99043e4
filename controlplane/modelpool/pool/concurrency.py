"""PURE: how many requests a worker is given at a time.

More than an engine can work on wait in its own queue, first come first served, where no priority
counts and no other copy can take them. Fewer leave it idle. Who knows the right number says it; for
an engine that does not, and for what it says of itself without trying, it is searched for.

The search goes by the time to the first token, for whole requests take as long as their answers
are. Its gradient over the limit, in logarithms, is the *elasticity*: 0 where more requests at a
time make nobody wait longer, 1 where all that more of them do is to wait for each other, above 1
where they get into each other's way. By Little's law the rate of first tokens goes with limit /
time, so that a higher limit is worth it while the elasticity is below 1. Two limits are compared by
turns, until it is sure enough which is better or clear that it hardly matters. A step that is worth
it is kept and the next is larger, one that is not is taken back and the next is smaller
("incremental steps": Heiss, Wagner, Adaptive Load Control in Transaction Processing Systems, VLDB
1991; .NET's thread pool climbs its hill the same way). A request that the engine refuses because it
has too many lowers the limit at once, by a tenth, and steps of one raise it again (AIMD, as in
Netflix' concurrency-limits).
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
# Samples at one limit before it is the other's turn; and at most in all, for each.
VISIT, PLENTY = 16, 400
# A comparison is over when the elasticity is so many of its errors away from what is worth it: soon
# where much is to be gained or lost, late where it hardly matters.
CERTAINTY = 2.5
# After nothing better was found, so many times the samples that this took are not used for trials,
# so that these cost next to nothing; it doubles up to that. But never so many that a load which
# changes slowly is not followed.
FIRST_REST, LONGEST_REST = 4, 32
MOST_AT_REST = 10_000
# Meanwhile the mean of so many samples is looked at: one that is so many times another tells of
# another load, and ends the rest.
WINDOW, CHANGE = 64, 1.5
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

    @property
    def variance(self) -> float:
        """Of the mean, from two samples on."""
        return self._squares / (self.count - 1) / self.count


@dataclass(slots=True)
class Search:
    """For the limit of one worker. ``limit`` is the one to use; it moves on as samples come in.

    Attributes:
        kept: what is known at the best limit so far.
        tried: the same at one that is compared to it; None: it is measured alone, or rests.
        step: of the next trial.
        rest: samples until then.
    """

    bounds: Bounds
    limit: int = 0
    kept: Measurement = field(init=False)
    tried: Measurement | None = None
    step: int = 0
    rest: int = 0
    _visit: int = 0
    _spent: int = 0
    _rest_times: int = FIRST_REST
    _is_cautious: bool = False  # since a refusal, until it rests
    _recent: Measurement = field(init=False)

    def __post_init__(self) -> None:
        self._begin(self.limit or self.bounds.start)
        self.step = self._largest_step

    def first_token(self, in_flight: int, seconds: float) -> None:
        """A request got its first token ``seconds`` after it was granted as the last of
        ``in_flight``. Only who took the last place tells anything about the limit."""
        if in_flight != self.limit:
            return
        if self.rest > 0:
            self._rest_on(seconds)
            return
        self._measured.add(seconds)
        self._visit += 1
        self._spent += 1
        if self._visit >= VISIT:
            self._turn()

    def refused(self, in_flight: int) -> None:
        """The engine would not, or could not, take a request as the last of ``in_flight``: with
        that many no other needs to find out."""
        limit = max(self.bounds.least, int(in_flight * BACKOFF))
        if limit < self.limit:
            self._begin(limit)
            self._is_cautious = True
            self.step = self._largest_step
            self._rest_times = FIRST_REST
            self.rest = WINDOW

    @property
    def _measured(self) -> Measurement:
        tried = self.tried
        return tried if tried is not None and tried.limit == self.limit else self.kept

    def _begin(self, limit: int) -> None:
        """There, with nothing known."""
        self.limit = self._within(limit)
        self.kept, self.tried, self._visit = Measurement(self.limit), None, 0
        self._recent = Measurement(self.limit)

    # -- the search ------------------------------------------------------------------------------

    def _turn(self) -> None:
        """To the other one of two limits, unless it is clear which is better."""
        self._visit = 0
        if self.tried is None:
            self._try(-1)
        elif self.limit == self.kept.limit:
            self.limit = self.tried.limit
        else:
            self._judge(self.tried)

    def _judge(self, tried: Measurement) -> None:
        distance = math.log(tried.limit / self.kept.limit)
        beyond = (tried.mean - self.kept.mean) / distance - WORTH
        error = math.sqrt(tried.variance + self.kept.variance)
        if tried.count < PLENTY and abs(beyond * distance) < CERTAINTY * error:
            self.limit = self.kept.limit
        elif (beyond < 0) == (distance > 0):
            self._keep(tried.limit, 1 if distance > 0 else -1)
        else:
            self._take_back(1 if distance > 0 else -1)

    def _keep(self, limit: int, direction: int) -> None:
        self._begin(limit)  # what looked good once may have been lucky
        self.step = min(2 * self.step, self._largest_step)
        self._rest_times = FIRST_REST
        self._try(direction)

    def _take_back(self, direction: int) -> None:
        """Down, up, both with half the step, and so on. Down first: where too many are in flight
        everything takes long, the search included."""
        if direction < 0:
            self._try(1)
        elif self.step > self._smallest_step:
            self.step //= 2
            self._try(-1)
        else:
            self._rest()

    def _try(self, direction: int) -> None:
        """The next limit in a direction; where there is none, what comes after it has failed."""
        at = self.kept.limit
        limit = self._within(at + direction * self.step)
        is_quick = self.kept.count > 0 and math.exp(self.kept.mean) < QUICK_SECONDS
        if limit == at or (direction < 0 and is_quick):
            self._take_back(direction)
            return
        self.tried = Measurement(limit)
        self.limit = limit if self.kept.count else at

    def _rest(self) -> None:
        self.tried, self.limit, self._is_cautious = None, self.kept.limit, False
        self.rest = min(max(self._spent * self._rest_times, WINDOW), MOST_AT_REST)
        self._rest_times = min(2 * self._rest_times, LONGEST_REST)
        self._spent = 0
        self.step = max(1, self._largest_step // 2)

    def _rest_on(self, seconds: float) -> None:
        self.rest -= 1
        self._recent.add(seconds)
        if self._recent.count >= WINDOW:
            has_changed = abs(self._recent.mean - self.kept.mean) > math.log(CHANGE)
            if self.kept.count and has_changed:
                self.rest, self._rest_times = 0, FIRST_REST
                self.step = self._largest_step
            self.kept, self._recent = self._recent, Measurement(self.limit)

    def _within(self, limit: int) -> int:
        return min(max(limit, self.bounds.least), self.bounds.most)

    @property
    def _largest_step(self) -> int:
        return 1 if self._is_cautious else max(1, self.kept.limit // LARGEST_STEP)

    @property
    def _smallest_step(self) -> int:
        return max(1, self.kept.limit // SMALLEST_STEP)
