"""PURE: in which order those that wait for room get it, and what they can be told of it.

A model that is asked for all the time would keep its room for ever, and two that take turns would
load for every request. So one that waits waits for a while, and the resident ones serve what
they have; then they must yield: new requests wait, current ones end, room is made. What waits
behind such a one may not take the room that it waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelpool.pool.waiters import turn

# Where no load of the model has been measured yet: a guess, labelled as such where it is shown.
UNKNOWN_LOAD_SECONDS = 10.0


@dataclass(frozen=True)
class Wish:
    """One who waits for a model: its class (0 is the highest) and since when, in seconds."""

    rank: int
    since: float


@dataclass(frozen=True)
class Queued:
    """A start that waits for room, with those who wish for it."""

    key: str
    wishes: tuple[Wish, ...]
    load_seconds: float | None = None

    @property
    def since(self) -> float:
        """When the oldest wish came."""
        return min(w.since for w in self.wishes)

    def turn(self, ageing_seconds: float) -> tuple[float, float]:
        """Smaller is sooner: that of the most urgent wish."""
        return (min(turn(w.rank, w.since, ageing_seconds) for w in self.wishes), self.since)


def in_order(queue: Iterable[Queued], ageing_seconds: float) -> list[Queued]:
    """The most urgent first."""
    return sorted(queue, key=lambda q: q.turn(ageing_seconds))


def overdue(queue: Sequence[Queued], now: float, max_wait: float) -> Queued | None:
    """The one that has waited longest of those that have waited for ``max_wait`` seconds."""
    late = [q for q in queue if now - q.since >= max_wait]
    return min(late, key=lambda q: q.since, default=None)


@dataclass(frozen=True)
class Position:
    """Where one stands in the queue. ``seconds`` is an estimate of what is left to wait."""

    position: int
    length: int
    seconds: float


def positions(queue: Sequence[Queued], now: float, max_wait: float) -> Mapping[str, Position]:
    """For each of an ordered queue: room comes when those ahead have loaded, at the latest when
    its ``max_wait`` is over."""
    found: dict[str, Position] = {}
    ahead = 0.0
    for position, queued in enumerate(queue, 1):
        left = max(0.0, queued.since + max_wait - now)
        ahead += queued.load_seconds if queued.load_seconds is not None else UNKNOWN_LOAD_SECONDS
        found[queued.key] = Position(position, len(queue), left + ahead)
    return found
