"""What models would have answered: stated, seeded, and nothing else. It says something of routers,
never of models.

A model has a skill on the scale of difficulty, which differs a little from one kind of work to the
next; an item is a little harder or easier than its construction says. A model answers well with the
probability sigmoid(SLOPE * (skill - difficulty)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .items import Item

# Chosen, with the gap below, after a look at training and development; the page has other choices.
SLOPE = 12.0
SKILL_SPREAD = 0.04
ITEM_SPREAD = 0.05


@dataclass(frozen=True)
class Simulated:
    """A model: dollars of a million tokens of answers, tokens a second, billions of parameters."""

    name: str
    skill: float
    price: float
    tokens_per_second: float
    parameters: float


MODELS = (
    Simulated("tiny", 0.40, 0.05, 120.0, 1.0),
    Simulated("small", 0.60, 0.2, 80.0, 4.0),
    Simulated("medium", 0.75, 0.8, 45.0, 30.0),
    Simulated("large", 0.93, 5.0, 25.0, 200.0),
)
# The gap that is measured: such as lies between a model of a few billion parameters and the best.
WEAK, STRONG = "small", "large"


@dataclass(frozen=True)
class Outcomes:
    """``good[item][model]`` is 1 or 0; ``chance`` the probability behind it."""

    good: Sequence[dict[str, int]]
    chance: Sequence[dict[str, float]]


def outcomes(items: Sequence[Item], seed: int = 7) -> Outcomes:
    """Of every model for every item."""
    skills = Random(f"{seed} skills")
    tasks = sorted({item.task for item in items})
    shift = {(m.name, task): skills.gauss(0, SKILL_SPREAD) for m in MODELS for task in tasks}
    random = Random(f"{seed} outcomes")
    good, chance = [], []
    for item in items:
        hard = item.difficulty + random.gauss(0, ITEM_SPREAD)
        odds = {
            m.name: 1 / (1 + math.exp(-SLOPE * (m.skill + shift[m.name, item.task] - hard)))
            for m in MODELS
        }
        chance.append(odds)
        good.append({name: int(random.random() < p) for name, p in odds.items()})
    return Outcomes(good, chance)
