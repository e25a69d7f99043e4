"""PURE: how hard a request is, 0 to 1, and the word for it.

A weighted sum of measures between 0 and 1, each of which grows ever slower with what it measures,
squashed. What a person reads as the reason are the measures that weigh most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from .asked import Asked
from .signals import Reading, Signals, formal_of
from .tasks import Task
from .weights import OF_TASK, START, WEIGHTS


class Complexity(StrEnum):
    """Words for difficulty, the least first."""

    TRIVIAL = "TRIVIAL"
    SIMPLE = "SIMPLE"
    MODERATE = "MODERATE"
    COMPLEX = "COMPLEX"
    EXPERT = "EXPERT"


# Up to which difficulty each word goes; EXPERT is what is left.
BOUNDS: tuple[tuple[float, Complexity], ...] = (
    (0.2, Complexity.TRIVIAL),
    (0.38, Complexity.SIMPLE),
    (0.58, Complexity.MODERATE),
    (0.78, Complexity.COMPLEX),
)
# What nothing but a sum is.
SUM = 0.04

# Of these the material is what is to be solved, not what is to be looked through.
SOLVES = frozenset(
    {Task.CODE_GENERATION, Task.CODE_ANALYSIS, Task.MATH, Task.REASONING, Task.PLANNING}
)

# What each measure is called where reasons are told.
SAID: Mapping[str, str] = {
    "length": "it says much",
    "content": "it names many things",
    "rarity": "its words are of a special field",
    "names": "it uses technical names",
    "operands": "it has many quantities",
    "notation": "it has formulas",
    "logic": "it distinguishes cases",
    "clauses": "its sentences are nested",
    "limits": "it sets conditions",
    "parts": "it asks for several things",
    "links": "it follows from one thing to the next",
    "depth": "it wants more than a fact",
    "code": "it brings code",
    "size": "it wants a long answer",
    "options": "it offers choices that differ little",
    "form": "its answer must have a given form",
    "tools": "it offers tools",
    "material": "it brings much text",
    "special": "its text is of a special field",
    "rows": "it brings a table",
    "problem": "the text that it brings is the problem",
}

# Every text has some of these: they are a reason from so much on.
EVERYBODY_HAS: Mapping[str, float] = {"length": 0.6, "content": 0.6, "rarity": 0.5}


def complexity_of(difficulty: float) -> Complexity:
    """The word for it."""
    return next((word for bound, word in BOUNDS if difficulty < bound), Complexity.EXPERT)


def measures(reading: Reading, task: Task, asked: Asked) -> dict[str, float]:
    """Each 0 to 1, by the names of ``SAID``."""
    s = reading.signals
    problem = 0.0
    if task in SOLVES:
        problem = _part(s.material / 10 + formal_of(reading.parts.material), 20)
    # What is asked to be done weighs by what it is to be done with.
    substance = min(1.0, (s.content + s.notation + 0.1 * s.material) / 5)
    told = 1.0 if s.words >= 12 or s.operators else 0.4
    return {
        "length": min(1.0, math.log2(1 + s.words) / 8),
        "content": min(1.0, math.log2(1 + s.content) / 6.5),
        "rarity": s.rarity,
        "names": _part(s.names, 3),
        "operands": told * _part(max(0, s.numbers - 1), 3),
        "notation": _part(s.operators + s.notation + 0.7 * s.variables, 5),
        "logic": _part(s.logic, 4),
        "clauses": _part(s.clauses + 1.5 * s.joins, 5),
        "limits": _part(s.limits, 3),
        "parts": _part(s.items + max(0, s.sentences - 1) / 2 + max(0, s.questions - 1), 4),
        "links": _part(max(0, s.links - 1), 4),
        "depth": substance * max(0, s.depth - 1) / 5,
        "code": _part(s.code_lines + 3 * max(0, s.code_depth - 1), 15),
        "size": min(1.0, math.log2(1 + s.size_asked / 50) / 5),
        "options": _part(s.option_words / max(1, s.options) - 2, 8) if s.options else 0.0,
        "form": _part(asked.schema_fields + (2 if asked.wants_json else 0), 6),
        "tools": _part(asked.tools, 6),
        "material": _part(s.material, 400),
        "special": s.material_rarity,
        "rows": _part(s.rows, 10),
        "problem": problem,
    }


def _part(amount: float, half: float) -> float:
    """0 for nothing, a half for ``half``, ever nearer to 1."""
    return amount / (amount + half) if amount > 0 else 0.0


def difficulty_of(signals: Signals, task: Task, measured: Mapping[str, float]) -> float:
    """0 to 1."""
    if signals.is_sum:
        return SUM
    total = START + OF_TASK.get(task, 0.0)
    for name, weight in WEIGHTS.items():
        total += weight * measured[name]
    return 1 / (1 + math.exp(-total))


def reasons_of(measured: Mapping[str, float], most: int = 3) -> tuple[str, ...]:
    """What makes it as hard as it is, in words, the weightiest first."""
    weighed = [(WEIGHTS[n] * v, n) for n, v in measured.items() if v >= EVERYBODY_HAS.get(n, 0.0)]
    notable = sorted((pair for pair in weighed if pair[0] >= 0.25), reverse=True)
    return tuple(SAID[name] for _, name in notable[:most])
