"""PURE. Several answers made one: votes on what they say, how like each other they are, and means
of vectors and scores. In which order they came makes no difference."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

from .answers import calls_of, json_in, text_of

Compare: TypeAlias = Literal["auto", "text", "json", "number", "line", "words"]
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
# What people and models write around an answer without meaning anything else.
_AROUND = " \t\n\r\"'`*_.,;:!?()[]"
MOST_CHARACTERS = 20_000


@dataclass(frozen=True)
class Vote:
    """Of the member with that place in its entry; ``key`` is what it says, None: nothing that can
    be compared."""

    member: int
    key: str | None
    weight: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What a vote gives.

    Attributes:
        member: whose answer is taken: of those that said it the first in the entry.
        share: of the weight of all who answered, 0 to 1.
        tied: keys with as much, this one's among them; one alone where it was no tie.
    """

    key: str
    member: int
    share: float
    tied: tuple[str, ...]


def tally(votes: Sequence[Vote]) -> dict[str, float]:
    """The weight of each key."""
    by_key: dict[str, list[float]] = {}
    for vote in votes:
        if vote.key is not None:
            by_key.setdefault(vote.key, []).append(vote.weight)
    return {key: math.fsum(weights) for key, weights in by_key.items()}  # exact, in any order


def decide(votes: Sequence[Vote]) -> Verdict | None:
    """Who has most weight; of equals who the first member in the entry has voted for. None where
    nobody has voted."""
    counts = tally(votes)
    if not counts:
        return None
    most = max(counts.values())
    first = {key: min(v.member for v in votes if v.key == key) for key in counts}
    tied = sorted((key for key in counts if counts[key] == most), key=lambda key: first[key])
    whole = math.fsum(vote.weight for vote in votes)
    share = min(1.0, most / whole) if whole else 1.0
    return Verdict(tied[0], first[tied[0]], share, tuple(tied))


def is_settled(votes: Sequence[Vote], outstanding: float) -> bool:
    """Whether nobody who has not voted yet, with that weight together, can change who has most."""
    counts = sorted(tally(votes).values(), reverse=True)
    if not counts:
        return False
    second = counts[1] if counts[1:] else 0.0
    return counts[0] > second + outstanding


def key_of(said: Mapping[str, Any], compare: Compare) -> str | None:
    """What an answer says, so that answers that mean the same are equal; None where there is
    nothing of the sort in it. Calls of tools are compared by names and arguments."""
    calls = calls_of(said)
    if calls and compare in ("auto", "json"):
        names = sorted(f"{call.name}({_canonical(call.arguments)})" for call in calls)
        return "calls " + ", ".join(names)
    text = text_of(said)[-MOST_CHARACTERS:]
    if compare == "number":
        found = _NUMBER.findall(text)
        return _number(found[-1]) if found else None
    if compare == "line":
        lines = [line for line in text.splitlines() if line.strip(_AROUND)]
        text = lines[-1] if lines else ""
    if compare in ("auto", "json"):
        try:
            value = json_in(text)
        except ValueError:
            value = None
        if isinstance(value, (dict, list)) or (compare == "json" and value is not None):
            return _canonical(value)
        if compare == "json":
            return None
    plain = " ".join(text.strip(_AROUND).casefold().split())
    if not plain:
        return None
    return (_number(plain) if _NUMBER.fullmatch(plain) else None) or plain


def _number(text: str) -> str | None:
    try:
        value = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    return "0" if not value else format(value.normalize(), "f")


def _canonical(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


# -- how like each other --------------------------------------------------------------------------


def likeness(one: str, other: str) -> float:
    """Of two texts: the share of their words that both have, 0 to 1."""
    a, b = (set(re.findall(r"\w+", t[:MOST_CHARACTERS].casefold())) for t in (one, other))
    return len(a & b) / len(a | b) if a or b else 1.0


def most_alike(texts: Mapping[int, str]) -> tuple[int, float]:
    """The member whose text is most like those of all others, and how like, 0 to 1; of equals the
    first. One alone is like itself."""
    if len(texts) == 1:
        return next(iter(texts)), 1.0
    means = {
        member: math.fsum(likeness(text, texts[m]) for m in texts if m != member) / (len(texts) - 1)
        for member, text in texts.items()
    }
    best = min(means, key=lambda member: (-means[member], member))
    return best, means[best]


# -- means ----------------------------------------------------------------------------------------


def mean(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """The weighted mean of vectors.

    Raises:
        ValueError: they differ in length.
    """
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"they are {', '.join(str(len(row)) for row in rows)} numbers long")
    whole = math.fsum(weights)
    return [
        math.fsum(w * x for w, x in zip(weights, column, strict=True)) / whole
        for column in zip(*rows, strict=True)
    ]


def mean_direction(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """The mean of vectors as directions: each counts with length 1, and so does the outcome.

    Raises:
        ValueError: they differ in length.
    """
    return _unit(mean([_unit(row) for row in rows], weights))


def _unit(row: Sequence[float]) -> list[float]:
    length = math.hypot(*row)
    return [x / length for x in row] if length else list(row)
