"""Requests whose difficulty is known by how they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Item:
    """A request.

    Attributes:
        family: of the templates that it is of; families are never in two sets.
        task: what it is, in the words of the router.
        difficulty: 0 to 1, see ``difficulty``.
    """

    family: str
    task: str
    language: str
    difficulty: float
    prompt: str


def difficulty(
    steps: int = 1, operands: int = 0, constraints: int = 0, knowledge: int = 0, size: int = 0
) -> float:
    """By construction: the more must go right one after the other, the less likely all does.

    Args:
        steps: of reasoning, one after the other, of which each needs the one before.
        operands: quantities or things that must be kept apart.
        constraints: conditions that the answer must meet at a time.
        knowledge: 0 everybody's, 1 of school, 2 of studies, 3 of research.
        size: parts of what is to be made.
    """
    load = 0.04 + 0.14 * (steps - 1) + 0.05 * operands + 0.10 * constraints
    return 1 - math.exp(-(load + 0.24 * knowledge + 0.10 * size))


# Makes an item of a family: language and a source of chance to text, and what it demands.
Template = Callable[[Random, str], tuple[str, dict[str, int]]]


@dataclass(frozen=True)
class Family:
    """Templates of one kind."""

    name: str
    task: str
    languages: tuple[str, ...]
    make: Template

    def items(self, seed: int, count: int) -> Iterator[Item]:
        """So many different ones of each language, as far as there are as many."""
        for language in self.languages:
            random = Random(f"{seed} {self.name} {language}")
            seen: set[str] = set()
            for _ in range(count * 4):
                text, demand = self.make(random, language)
                if text not in seen and len(seen) < count:
                    seen.add(text)
                    yield Item(self.name, self.task, language, difficulty(**demand), text)


def all_items(families: tuple[Family, ...], seed: int = 1, count: int = 20) -> list[Item]:
    """Of all families."""
    return [item for family in families for item in family.items(seed, count)]
