"""Facts that come in tables: capitals, opposites, animals, days, months and small sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST_SUMMAND = 10

_CAPITALS = """
France Paris; Germany Berlin; Italy Rome; Spain Madrid; Portugal Lisbon; Austria Vienna;
Poland Warsaw; Greece Athens; Norway Oslo; Sweden Stockholm; Finland Helsinki; Denmark Copenhagen;
Ireland Dublin; Hungary Budapest; Romania Bucharest; Bulgaria Sofia; Croatia Zagreb; Ukraine Kyiv;
Turkey Ankara; Switzerland Bern; Belgium Brussels; England London; Scotland Edinburgh;
Russia Moscow; Czechia Prague; Iceland Reykjavik; Egypt Cairo; Kenya Nairobi; Nigeria Abuja;
Ghana Accra; Morocco Rabat; Tunisia Tunis; Japan Tokyo; China Beijing; India Delhi;
Thailand Bangkok; Vietnam Hanoi; Indonesia Jakarta; Iran Tehran; Iraq Baghdad; Mongolia Ulaanbaatar;
Canada Ottawa; Mexico Mexico_City; Cuba Havana; Peru Lima; Chile Santiago; Brazil Brasilia;
Argentina Buenos_Aires; Colombia Bogota; Australia Canberra; New_Zealand Wellington;
the_Netherlands Amsterdam; the_United_States Washington; South_Korea Seoul
"""

_OPPOSITES = """
hot cold; big small; fast slow; light dark; up down; left right; open closed; early late;
happy sad; hard soft; new old; rich poor; strong weak; wet dry; full empty; loud quiet; high low;
near far; clean dirty; thick thin; sweet sour; day night; push pull; buy sell; always never;
begin end; above below; inside outside; true false; good bad
"""

_SOUNDS = """
dog barks; cat meows; cow moos; duck quacks; lion roars; frog croaks; bee buzzes; horse neighs;
pig oinks; owl hoots; sheep bleats; wolf howls; snake hisses; mouse squeaks; rooster crows
"""

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday"
_MONTHS = (
    "January February March April May June July August September October November December January"
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values, and the texts that each row fills in: ``{0}`` is its first value."""

    topic: str
    rows: tuple[tuple[str, ...], ...]
    answer: str
    wordings: tuple[str, ...]
    follow_ups: tuple[str, ...] = ()

    def filled(self) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Each row's answer, wordings and follow-ups."""
        for row in self.rows:
            wordings = tuple(text.format(*row) for text in self.wordings)
            yield self.answer.format(*row), wordings, tuple(t.format(*row) for t in self.follow_ups)


def _pairs(text: str) -> tuple[tuple[str, ...], ...]:
    rows = (row.split() for row in text.split(";"))
    return tuple(tuple(value.replace("_", " ") for value in row) for row in rows)


def _both_ways(pairs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return pairs + tuple((right, left) for left, right in pairs)


def _neighbours(text: str) -> tuple[tuple[str, ...], ...]:
    names = text.split()
    return tuple(itertools.pairwise(names))


def _sums() -> tuple[tuple[str, ...], ...]:
    numbers = range(1, LARGEST_SUMMAND + 1)
    return tuple((str(a), str(b), str(a + b)) for a in numbers for b in numbers)


TABLES = (
    Table(
        "capitals",
        _pairs(_CAPITALS),
        "The capital of {0} is {1}.",
        (
            "What is the capital of {0}?",
            "Capital of {0}?",
            "Which city is the capital of {0}?",
            "Do you know the capital of {0}?",
        ),
        ("And of {0}?", "And {0}?", "What about {0}?"),
    ),
    Table(
        "opposites",
        _both_ways(_pairs(_OPPOSITES)),
        "The opposite of {0} is {1}.",
        ("What is the opposite of {0}?", "Opposite of {0}?", "What is the contrary of {0}?"),
        ("And of {0}?", "And {0}?", "What about {0}?"),
    ),
    Table(
        "sounds",
        _pairs(_SOUNDS),
        "A {0} {1}.",
        ("What does a {0} do?", "What sound does a {0} make?", "Which sound does a {0} make?"),
        ("And a {0}?", "What about a {0}?"),
    ),
    Table(
        "days",
        _neighbours(_DAYS),
        "{1} comes after {0}.",
        ("Which day comes after {0}?", "What day is after {0}?"),
        ("And after {0}?",),
    ),
    Table(
        "months",
        _neighbours(_MONTHS),
        "{1} comes after {0}.",
        ("Which month comes after {0}?", "What month is after {0}?"),
        ("And after {0}?",),
    ),
    Table(
        "sums",
        _sums(),
        "{0} plus {1} is {2}.",
        ("What is {0} plus {1}?", "{0} + {1}", "{0}+{1}"),
        ("And {0} plus {1}?",),
    ),
)
