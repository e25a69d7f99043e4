"""PURE. Which steps are made, decided by the seed alone: never by what the pool does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of step: how often it is dealt, and what each of its arguments may be."""

    name: str
    weight: int
    choices: Mapping[str, Sequence[Any]]
    act: Callable[..., str]


@dataclass(frozen=True)
class Step:
    """One step of a plan."""

    number: int
    kind: Kind
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        words = " ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.number:4} {self.kind.name} {words}".rstrip()


def plan(kinds: Sequence[Kind], seed: int) -> Iterator[Step]:
    """Steps without end. They are dealt like cards, so that each kind comes in its turn; a longer
    plan begins as a shorter one does."""
    choose = random.Random(seed)
    deck: list[Kind] = []
    number = 0
    while True:
        if not deck:
            deck = [kind for kind in kinds for _ in range(kind.weight)]
            choose.shuffle(deck)
        number += 1
        kind = deck.pop()
        drawn = {name: choose.choice(options) for name, options in kind.choices.items()}
        yield Step(number, kind, drawn)
