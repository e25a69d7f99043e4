"""PURE. Whether a target is met, or why nothing can be concluded and what would help."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bench import intervals
from bench.figures import Row, number
from bench.intervals import Estimate
from bench.targets import Target

# Of all cores: above it, somebody else's work is measured along with ours.
BUSY_SHARE = 0.15
# Of the processor's time: above it, the machine is not all there.
STEAL_SHARE = 0.02
# The coefficient of variation of what a row is held against: above it, even pairs are not alike.
SWING = 0.25
LEAST_ROUNDS = 3
# More rounds than this are not advised; a longer measurement is.
MOST_ROUNDS = 40


class Outcome(StrEnum):
    """What a run says of a target."""

    MET = "met"
    NOT_MET = "not met"
    TOO_NOISY = "too noisy to conclude"


@dataclass(frozen=True)
class Verdict:
    """``why`` and ``cure`` say what is wrong with a run that is too noisy, and what helps."""

    outcome: Outcome
    why: str = ""
    cure: str = ""

    @property
    def text(self) -> str:
        """``met``, or ``too noisy to conclude: <why>; <what to do>``."""
        if self.outcome is not Outcome.TOO_NOISY:
            return str(self.outcome)
        return f"{self.outcome}: {self.why}; {self.cure}"


def estimate_of(row: Row, target: Target) -> Estimate:
    """What the target bounds: the comparison with its rival, or the row's own value."""
    versus = row.held_against(target.rival, target.kind)
    return versus.estimate(row.samples) if versus else intervals.of_mean(row.samples)


def judge(row: Row, target: Target) -> Verdict:
    """Hold a row against a target: the interval must be on one side of the limit, all of it."""
    for reason in REASONS:
        noise = reason(row, target)
        if noise:
            return Verdict(Outcome.TOO_NOISY, *noise)
    estimate = estimate_of(row, target)
    is_met = (
        estimate.value >= target.limit if target.bound == ">=" else estimate.value <= target.limit
    )
    return Verdict(Outcome.MET if is_met else Outcome.NOT_MET)


Noise = tuple[str, str] | None


def _others_work(row: Row, _: Target) -> Noise:
    if row.conditions is None or row.conditions.busy <= BUSY_SHARE:
        return None
    share = f"{row.conditions.busy:.0%} of all cores were busy between the rounds"
    return share, "stop what else runs and measure again"


def _host_takes(row: Row, _: Target) -> Noise:
    if row.conditions is None or row.conditions.steal <= STEAL_SHARE:
        return None
    share = f"the host gave {row.conditions.steal:.0%} of the processor to other machines"
    return share, "measure at a quieter time, or on a machine that is not shared"


def _few_rounds(row: Row, _: Target) -> Noise:
    if len(row.samples) >= LEAST_ROUNDS:
        return None
    rounds = "one round" if len(row.samples) == 1 else f"{len(row.samples)} rounds"
    return f"{rounds} cannot tell noise from speed", f"measure with --rounds {LEAST_ROUNDS} or more"


def _rival_swings(row: Row, target: Target) -> Noise:
    versus = row.held_against(target.rival, target.kind)
    if versus is None:
        return None
    swing = statistics.stdev(versus.samples) / statistics.fmean(versus.samples)
    if swing <= SWING:
        return None
    return f"{versus.name} itself varied by {swing:.0%}", "measure on a quiet machine, or longer"


def _interval_holds_the_limit(row: Row, target: Target) -> Noise:
    estimate = estimate_of(row, target)
    if not estimate.low < target.limit < estimate.high:
        return None
    span = f"{number(estimate.low)} to {number(estimate.high)} holds {target.limit:g}"
    return f"the interval {span}", _more_rounds(len(row.samples), estimate, target.limit)


def _more_rounds(rounds: int, estimate: Estimate, limit: float) -> str:
    """How many would do if they spread as these do: intervals shrink with the square root."""
    half, distance = (estimate.high - estimate.low) / 2, abs(estimate.value - limit)
    factor = (half / distance) ** 2 if distance else math.inf
    if rounds * factor > MOST_ROUNDS:
        return "more rounds alone will not tell; measure longer (--seconds) on a quiet machine"
    return f"measure with --rounds {math.ceil(rounds * factor) + 1}"


# The worst of them is named first.
REASONS: tuple[Callable[[Row, Target], Noise], ...] = (
    _others_work,
    _host_takes,
    _few_rounds,
    _rival_swings,
    _interval_holds_the_limit,
)
