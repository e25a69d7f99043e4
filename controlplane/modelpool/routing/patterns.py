"""PURE. Regular expressions whose search takes time linear in the text, as RE2's: a set of states
goes along the text once, nothing is ever tried again. What would need more is refused.

Known are literals, classes, ``.``, ``|``, groups, repetitions, ``^ $ \\b \\B`` and ``(?i)``; upper
and lower case count as one where ``(?i)`` is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MOST_CHARACTERS = 400
MOST_STATES = 400
# Steps that are remembered, of a pattern.
MOST_KNOWN = 4096

Test: TypeAlias = Callable[[str], bool]


class BadPattern(ValueError):
    """It cannot be read, or would need more than one look at the text."""


@dataclass(frozen=True, slots=True)
class _State:
    """One of: a character that ``test`` takes, then ``next``; a place that ``place`` names, then
    ``next``; all of ``next`` at once; or, without any, the end."""

    next: tuple[int, ...] = ()
    test: Test | None = None
    place: str = ""


@dataclass
class Pattern:
    """Made by ``pattern``; it remembers steps, and forgets them when they are many."""

    text: str
    _states: Sequence[_State] = field(repr=False)
    _begin: int = field(repr=False)
    _end: int = field(repr=False)
    _known: dict[tuple[frozenset[int], str, str], frozenset[int]] = field(
        default_factory=dict, repr=False
    )

    def is_in(self, text: str) -> bool:
        """Whether any part of the text is as it says."""
        at: frozenset[int] = frozenset()
        before = ""
        for character in text:
            key = (at, before, character)
            after = self._known.get(key)
            if after is None:
                after = self._step(at, before, character)
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[key] = after
            if self._end in after:
                return True
            at, before = after, _kind(character)
        return self._end in self._reached({*at, self._begin}, before, "")

    def _step(self, at: frozenset[int], before: str, character: str) -> frozenset[int]:
        """Where it stands after a character; the end stays in it, once it is reached."""
        reached = self._reached({*at, self._begin}, before, character)
        if self._end in reached:
            return frozenset([self._end])
        states = self._states
        tests = ((states[i].test, states[i].next) for i in reached)
        return frozenset(
            n for test, after in tests if test is not None and test(character) for n in after
        )

    def _reached(self, at: set[int], before: str, character: str) -> set[int]:
        reached: set[int] = set()
        left = list(at)
        while left:
            index = left.pop()
            if index in reached:
                continue
            reached.add(index)
            state = self._states[index]
            if state.test is None and (not state.place or _is_at(state.place, before, character)):
                left += state.next
        return reached


def pattern(text: object) -> Pattern:
    """Of its text.

    Raises:
        BadPattern: what is wrong with it.
    """
    if not isinstance(text, str) or not text:
        raise BadPattern("must be a regular expression")
    if len(text) > MOST_CHARACTERS:
        raise BadPattern(f"has {len(text)} characters, {MOST_CHARACTERS} are allowed")
    try:
        flags = re.compile(text).flags
        tree = re._parser.parse(text)  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError) as e:
        raise BadPattern(f"is no regular expression: {e}") from None
    if flags & ~(re.UNICODE | re.IGNORECASE):
        raise BadPattern("sets flags; (?i) at its beginning is known")
    made = _Maker(bool(flags & re.IGNORECASE))
    end = made.add(_State())
    begin = made.sequence(list(tree), end)
    return Pattern(text, tuple(made.states), begin, end)


class _Maker:
    """States of what ``re`` has parsed, from the end to the beginning."""

    def __init__(self, is_case_blind: bool) -> None:
        self.states: list[_State] = []
        self._is_case_blind = is_case_blind

    def add(self, state: _State) -> int:
        if len(self.states) >= MOST_STATES:
            raise BadPattern("stands for too much: fewer repetitions, or smaller ones")
        self.states.append(state)
        return len(self.states) - 1

    def sequence(self, items: list[tuple[Any, Any]], end: int) -> int:
        for kind, value in reversed(items):
            end = self._item(str(kind), value, end)
        return end

    def _item(self, kind: str, value: Any, end: int) -> int:
        match kind:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return self.add(_State((end,), self._test(kind, value)))
            case "AT":
                place = str(value).removeprefix("AT_")
                if place not in _PLACES:
                    raise BadPattern(f"has {place.lower()}, which is not known here")
                return self.add(_State((end,), place=place))
            case "BRANCH":
                return self.add(_State(tuple(self.sequence(list(b), end) for b in value[1])))
            case "SUBPATTERN":
                if value[1] or value[2]:
                    raise BadPattern("changes flags within; (?i) at its beginning is known")
                return self.sequence(list(value[3]), end)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = value
                return self._repeated(list(inner), least, most, end)
        word = kind.lower().replace("_", " ")
        raise BadPattern(f"has {word}, which cannot be searched in one look at the text")

    def _repeated(self, items: list[tuple[Any, Any]], least: int, most: Any, end: int) -> int:
        is_endless = str(most) == "MAXREPEAT"
        if max(least, 0 if is_endless else int(most)) > MOST_STATES:
            raise BadPattern("stands for too much: fewer repetitions, or smaller ones")
        if is_endless:
            loop = self.add(_State())
            inner = self.sequence(items, loop)
            self.states[loop] = _State((inner, end))
            end = loop
        else:
            last = end
            for _ in range(int(most) - least):
                end = self.add(_State((self.sequence(items, end), last)))
        for _ in range(least):
            end = self.sequence(items, end)
        return end

    def _test(self, kind: str, value: Any) -> Test:
        test = _plain_test(kind, value)
        if not self._is_case_blind or kind == "ANY":
            return test
        return lambda c: test(c) or test(c.lower()) or test(c.upper())


def _plain_test(kind: str, value: Any) -> Test:
    if kind == "ANY":
        return lambda c: c != "\n"
    if kind in ("LITERAL", "NOT_LITERAL"):
        character, is_it = chr(value), kind == "LITERAL"
        return lambda c: (c == character) is is_it
    tests = list(_members(value))
    is_not = str(value[0][0]) == "NEGATE"
    return lambda c: any(test(c) for test in tests) is not is_not


def _members(value: Any) -> Iterator[Test]:
    for op, arg in value:
        match str(op):
            case "NEGATE":
                continue
            case "LITERAL":
                yield chr(arg).__eq__
            case "RANGE":
                low, high = map(chr, arg)
                yield lambda c, low=low, high=high: low <= c <= high  # type: ignore[misc]
            case "CATEGORY":
                yield _CATEGORIES[str(arg)]


def _is_word(c: str) -> bool:
    return c.isalnum() or c == "_"


_CATEGORIES: dict[str, Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda c: not c.isdecimal(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda c: not c.isspace(),
    "CATEGORY_WORD": _is_word,
    "CATEGORY_NOT_WORD": lambda c: not _is_word(c),
}
_PLACES = frozenset(
    {"BEGINNING", "BEGINNING_STRING", "END", "END_STRING", "BOUNDARY", "NON_BOUNDARY"}
)


def _kind(character: str) -> str:
    return "w" if _is_word(character) else "-"


def _is_at(place: str, before: str, character: str) -> bool:
    """``before``: the kind of the character before, empty at the beginning; ``character`` is the
    one that follows, empty at the end."""
    if place.startswith("BEGINNING"):
        return not before
    if place.startswith("END"):
        return not character
    is_edge = (before == "w") is not (bool(character) and _is_word(character))
    return is_edge if place == "BOUNDARY" else not is_edge
