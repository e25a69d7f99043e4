"""PURE. Names of virtual models, which may be patterns: ``gpt-*``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from modelpool.catalog.model import CURRENT, id_problem

ANY = "*"
AUTO = "auto"
MOST_STARS = 4


def is_pattern(name: str) -> bool:
    """Whether it stands for many names."""
    return ANY in name


def name_problem(name: object) -> str | None:
    """Why it cannot be a virtual model's name; None when it can. Other than a model it may be
    called ``auto``."""
    if name == AUTO:
        return None
    if isinstance(name, str) and name.count(ANY) > MOST_STARS:
        return f"must not hold more than {MOST_STARS} stars"
    if name == ANY:
        return "must not be '*' alone: a model that is misspelt would never be told"
    problem = id_problem(name)
    if problem and name == CURRENT:
        return "must not be 'current', which POST /api/v1/models/switch points at a model"
    return problem


def best_match(name: str, patterns: Iterable[str]) -> str | None:
    """Of the patterns that a name is one of, the one that says most of it; of those that say as
    much the one that says more of its beginning."""
    found = [p for p in patterns if _expression(p).fullmatch(name)]
    return min(found, key=lambda p: (-len(p.replace(ANY, "")), -p.index(ANY), p), default=None)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split(ANY))), re.DOTALL)
