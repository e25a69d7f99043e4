"""PURE: what reported outcomes teach of a model at a kind of work, within bounds.

Nothing is tried out for the sake of learning: only what was asked anyway teaches. After each
outcome the skill moves by the surprise (as a rating does after a game, Elo 1978), less the more is
known, and never further from what was presumed than ``MOST``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The first outcomes move a skill by this much of the surprise; after ``SETTLED`` of them by half.
RATE, SETTLED = 0.04, 50
MOST = 0.15
# Older outcomes count less: as if there had never been more than so many.
MEMORY = 400


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a model at a kind of work: ``offset`` of its skill, by how many outcomes, and when that
    was so, in seconds since 1970."""

    offset: float = 0.0
    outcomes: int = 0
    at: float = 0.0


NOTHING = Standing()


def learned(standing: Standing, chance: float, outcome: float) -> Standing:
    """After one more outcome.

    Args:
        chance: that was stated, 0 to 1.
        outcome: 1 for a good answer, 0 for a bad one, between them for one that is neither.
    """
    outcome = min(1.0, max(0.0, outcome))
    rate = RATE / (1 + standing.outcomes / SETTLED)
    offset = standing.offset + rate * (outcome - min(1.0, max(0.0, chance)))
    return Standing(min(MOST, max(-MOST, offset)), min(MEMORY, standing.outcomes + 1))


def faded(standing: Standing, now: float, half_life_seconds: float) -> Standing:
    """As time has left it; a half life of 0: nothing is forgotten."""
    seconds = max(0.0, now - standing.at)
    if not half_life_seconds or not seconds:
        return standing
    left = 0.5 ** (seconds / half_life_seconds)
    return Standing(standing.offset * left, round(standing.outcomes * left), standing.at + seconds)


def offsets_of(known: Mapping[tuple[str, str], Standing]) -> dict[tuple[str, str], float]:
    """By model and kind of work, as ``table.table_of`` takes them."""
    return {key: standing.offset for key, standing in known.items() if standing.offset}
