"""PURE: which of several copies takes a request."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# So many requests more than the least loaded copy has may go to the one that knows the
# conversation: its cache saves the prompt, but not any wait ("consistent hashing with bounded
# loads", Mirrokni, Thorup, Zadimoghaddam 2016, with an absolute bound, for copies are few).
AFFINITY_SLACK = 2
# With ``prefix``: no copy has more than that times its share of the requests.
LOAD_FACTOR = 1.25


@dataclass(frozen=True)
class Copy:
    """One that serves.

    Attributes:
        key: its name in the pool.
        in_flight: requests on it.
        first_token_seconds: a moving average; None where nothing was measured.
        target: requests after which another copy had better be used.
    """

    key: str
    in_flight: int
    first_token_seconds: float | None = None
    target: int = 1


@dataclass(frozen=True)
class Wanted:
    """What a choice goes by beside the copies. ``affinity``: what a request has in common with
    earlier ones, empty for none; ``last``: the copy that was chosen before this."""

    affinity: str = ""
    last: str = ""


Strategy: TypeAlias = Callable[[Sequence[Copy], Wanted], Copy]


def choose(
    copies: Sequence[Copy], affinity: str = "", balance: str = "least_busy", last: str = ""
) -> Copy:
    """The copy that takes the next request, by the strategy of that name."""
    if len(copies) == 1:
        return copies[0]
    return STRATEGIES[balance](copies, Wanted(affinity, last))


def least_busy(copies: Sequence[Copy], wanted: Wanted) -> Copy:
    """The one that ``affinity`` has always gone to while it is not much busier than the others;
    else the least loaded, the first of equals, so that the rest can idle out."""
    least = _least(copies)
    if not wanted.affinity:
        return least
    home = _ranked(copies, wanted.affinity)[0]
    return home if home.in_flight <= least.in_flight + AFFINITY_SLACK else least


def round_robin(copies: Sequence[Copy], wanted: Wanted) -> Copy:
    """The one after the last, whatever they have to do."""
    keys = [copy.key for copy in copies]
    return copies[(keys.index(wanted.last) + 1) % len(keys)] if wanted.last in keys else copies[0]


def performance(copies: Sequence[Copy], wanted: Wanted) -> Copy:
    """Where the wait is likely least: time to the first token, times the requests that there would
    be. One that was never measured counts as the quickest, so that it is."""
    known = [c.first_token_seconds for c in copies if c.first_token_seconds is not None]
    quickest = min(known, default=1.0)

    def cost(copy: Copy) -> tuple[float, int]:
        seconds = copy.first_token_seconds
        pace = quickest if seconds is None else seconds
        return pace * (copy.in_flight + 1), copy.in_flight

    return min(copies, key=cost)


def cost(copies: Sequence[Copy], wanted: Wanted) -> Copy:
    """As few copies as will do: the busiest that is not at its target, so that others idle out and
    give their memory back; the least busy where all are."""
    spare = [copy for copy in copies if copy.in_flight < copy.target]
    return max(spare, key=lambda c: c.in_flight) if spare else _least(copies)


def locality(copies: Sequence[Copy], wanted: Wanted) -> Copy:
    """Where the conversation's cache is, however busy that copy is as long as it has a place."""
    return _ranked(copies, wanted.affinity)[0] if wanted.affinity else _least(copies)


def prefix(copies: Sequence[Copy], wanted: Wanted) -> Copy:
    """Prompts that begin alike go to the same copy, in the order of its rendezvous hash the first
    that has no more than ``LOAD_FACTOR`` times its share ("consistent hashing with bounded
    loads")."""
    if not wanted.affinity:
        return _least(copies)
    most = math.ceil(LOAD_FACTOR * (sum(c.in_flight for c in copies) + 1) / len(copies))
    ranked = _ranked(copies, wanted.affinity)
    return next((copy for copy in ranked if copy.in_flight < most), _least(copies))


STRATEGIES: Mapping[str, Strategy] = {
    "least_busy": least_busy,
    "round_robin": round_robin,
    "performance": performance,
    "cost": cost,
    "locality": locality,
    "prefix": prefix,
}


def _least(copies: Sequence[Copy]) -> Copy:
    return min(copies, key=lambda c: c.in_flight)


def _ranked(copies: Sequence[Copy], affinity: str) -> list[Copy]:
    return sorted(copies, key=lambda c: _weight(affinity, c.key), reverse=True)


def _weight(affinity: str, key: str) -> bytes:
    """Rendezvous hashing: a copy that comes or goes moves its own conversations only."""
    text = f"{key}\0{affinity}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()
