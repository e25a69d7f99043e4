"""PURE: the search for options: from the results so far to the next trial, or the end.

One option after the other is tried against the best so far, each candidate beside it in pairs: both
are measured right after each other, in turns of who is first, so that a machine that grows warm or
busy slows both alike, and only their ratio counts. What loses clearly is dropped at once.

The winner of a search is also the luckiest. So it must win once more, in ``FINAL_PAIRS`` fresh
pairs against the defaults, of which all but one have to be better and the median by ``LEAST_GAIN``.
Where the winner is in truth no better than the defaults, that happens in at most 9 of 256 cases
(seven or eight of eight fair coins), 3.5 %: a search is wrong no more often, however many
candidates it tries.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .candidates import DEFAULT, Dimension, Setting, merged

FINAL_PAIRS = 8
LOST_AT_MOST = 1
LEAST_GAIN = 1.02
ERROR = 9 / 256
# A race is lost with the first pair where that is hopeless, else with the second lost one; it is
# won by so many won ones, or one more after a lost one. Of settings that make no difference one in
# fourteen wins (5 of 5 fair coins, or 6 of 7): few stay along with what helps.
HOPELESS = 0.7
LOST_RACE = 2
WON_RACE = 5


@dataclass(frozen=True)
class Pair:
    """Two settings measured beside each other: how many times as fast the challenger was."""

    challenger: Setting
    champion: Setting
    ratio: float
    is_final: bool = False


@dataclass(frozen=True)
class Try:
    """The next pair to measure; ``challenger_first`` says in which order."""

    challenger: Setting
    champion: Setting
    is_final: bool
    challenger_first: bool


@dataclass(frozen=True)
class Done:
    """The end: the best setting, ``DEFAULT`` where nothing is better beyond noise.

    Attributes:
        gain: how many times as fast as the defaults, the median of the final pairs; 1 for them.
        low, high: the pair that is second from below, and the best.
    """

    best: Setting
    reason: str
    gain: float = 1.0
    low: float = 1.0
    high: float = 1.0


def next_step(
    dimensions: Sequence[Dimension],
    results: Sequence[Pair],
    excluded: Collection[Setting] = (),
    pairs_left: int = 1 << 30,
) -> Try | Done:
    """What to do after these results.

    Args:
        excluded: settings that cannot be had: they do not fit, or failed to load.
        pairs_left: for how many there is time. The last of them are the final's.
    """
    champion: Setting = DEFAULT
    is_late = pairs_left <= FINAL_PAIRS
    for dimension in dimensions:
        step = _race(dimension, champion, results, excluded, is_late)
        if isinstance(step, Try):
            return step
        champion = step
    return _final(champion, results, excluded, pairs_left)


def _race(
    dimension: Dimension,
    champion: Setting,
    results: Sequence[Pair],
    excluded: Collection[Setting],
    is_late: bool,
) -> Try | Setting:
    """The next pair of this dimension, or whoever is best after it: where it is late, as far as
    that is decided."""
    best, best_ratio = champion, LEAST_GAIN
    for candidate in dimension.settings:
        challenger = merged(champion, candidate)
        if challenger == champion or candidate in excluded or challenger in excluded:
            continue
        ratios = _ratios(results, challenger, champion, is_final=False)
        ratio = race_verdict(ratios)
        if ratio is None and not is_late:
            return Try(challenger, champion, False, len(ratios) % 2 == 0)
        if ratio is not None and ratio > best_ratio:
            best, best_ratio = challenger, ratio
    return best


def race_verdict(ratios: Sequence[float]) -> float | None:
    """By how much a challenger is better, 0 where it has lost; None where that is not decided."""
    losses = sum(ratio <= 1.0 for ratio in ratios)
    if losses >= LOST_RACE or (losses and ratios[0] < HOPELESS):
        return 0.0
    return statistics.median(ratios) if len(ratios) >= WON_RACE + 2 * losses else None


def _final(
    champion: Setting, results: Sequence[Pair], excluded: Collection[Setting], pairs_left: int
) -> Try | Done:
    if champion == DEFAULT:
        tried = len({pair.challenger for pair in results})
        late = "; time was over before all were, give it more" if pairs_left <= FINAL_PAIRS else ""
        return Done(DEFAULT, f"of {tried} settings tried none is better than the defaults{late}")
    ratios = _ratios(results, champion, DEFAULT, is_final=True)
    losses = sum(ratio <= 1.0 for ratio in ratios)
    if losses > LOST_AT_MOST:
        return Done(DEFAULT, "the best was no better than the defaults when it was tried once more")
    if champion in excluded:
        return Done(DEFAULT, "the best could not be loaded once more")
    if len(ratios) < FINAL_PAIRS:
        if pairs_left < 1:
            return Done(DEFAULT, "there was no time to make sure of the best: give it more")
        return Try(champion, DEFAULT, True, len(ratios) % 2 == 0)
    gain = statistics.median(ratios)
    if gain < LEAST_GAIN:
        return Done(DEFAULT, f"the best is {gain - 1:.1%} faster, which is not worth a setting")
    low, high = sorted(ratios)[LOST_AT_MOST], max(ratios)
    return Done(champion, f"{gain - 1:.0%} faster than the defaults", gain, low, high)


def _ratios(
    results: Sequence[Pair], challenger: Setting, champion: Setting, *, is_final: bool
) -> list[float]:
    return [
        pair.ratio
        for pair in results
        if (pair.challenger, pair.champion, pair.is_final) == (challenger, champion, is_final)
    ]
