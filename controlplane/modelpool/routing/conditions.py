"""PURE. Conditions on requests as rules of kind ``policy`` say them: ``{"task_type": ["math"]}``.

All keys of a condition must hold; of a list of values any. What a condition looks at is worked out
once for a request, when the first asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeAlias

from modelpool.catalog.model import did_you_mean

from .asked import Asked
from .classifiers import Classifier, Finding, Unanswered, question
from .difficulty import Complexity
from .features import Features, features_of
from .patterns import BadPattern, Pattern, pattern
from .request import RouteRequest
from .surface import asked_of
from .tasks import Task

MOST_DEEP = 4
MOST_VALUES = 64
# No more of a text is looked at: its beginning and its end.
LOOKED_AT = 2000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SECRET = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})


class Seen:
    """A request, as conditions look at it.

    Attributes:
        found: what classifiers say of it, as far as conditions wanted to know.
    """

    def __init__(self, request: RouteRequest, now: datetime) -> None:
        self.request = request
        self.now = now
        self.found: dict[Classifier, Finding] = {}

    def __repr__(self) -> str:
        return f"<Seen {self.request.name} {self.now}>"

    @cached_property
    def asked(self) -> Asked:
        """What it says."""
        return asked_of(self.request)

    @cached_property
    def features(self) -> Features:
        """What it needs."""
        return features_of(self.asked)

    def finding(self, classifier: Classifier) -> Finding:
        """What a classifier says of it.

        Raises:
            Unanswered: it was not asked yet.
        """
        asked = question(classifier, self.asked.text)
        found = self.request.findings.get(asked)
        if found is None:
            raise Unanswered(asked)
        self.found[classifier] = found
        return found

    def header(self, name: str) -> str:
        """A header's value; empty where there is none."""
        return self.request.fields.get(name.encode(), b"").decode("latin-1")

    def metadata(self, key: str) -> str:
        """Of the body's ``metadata``."""
        found = self.request.data.get("metadata")
        value = found.get(key) if isinstance(found, Mapping) else None
        return "" if value is None or isinstance(value, Mapping | list) else str(value)


Holds: TypeAlias = Callable[[Seen], bool]
Tell: TypeAlias = Callable[[Seen], str]


@dataclass(frozen=True)
class Condition:
    """``holds`` says whether a request meets it, ``tell`` what of the request it looked at.
    ``asks``: a model is asked for it."""

    key: str
    holds: Holds
    tell: Tell = lambda seen: ""
    asks: bool = False


@dataclass(frozen=True)
class All:
    """Conditions that must all hold. Those for which a model is asked come last: it is not asked
    where another does not hold."""

    conditions: tuple[Condition, ...]

    @property
    def asks(self) -> bool:
        """A model is asked for one of them."""
        return any(each.asks for each in self.conditions)

    def against(self, seen: Seen) -> str:
        """The first that does not hold, with what there is; empty where all do."""
        for each in self.conditions:
            if not each.holds(seen):
                told = each.tell(seen)
                return f"{each.key}: {told}" if told else each.key
        return ""


Classifiers: TypeAlias = Mapping[str, Classifier]


def read_conditions(
    key: str, data: object, classifiers: Classifiers | None = None, deep: int = 0
) -> All:
    """Of ``when``; ``classifiers`` are those that it may name.

    Raises:
        ValueError: a whole sentence that begins with the key that is wrong.
    """
    if not isinstance(data, Mapping) or not data:
        raise ValueError(f"{key} must be an object of conditions: {', '.join(KEYS)}")
    if deep > MOST_DEEP:
        raise ValueError(f"{key} is more than {MOST_DEEP} deep")
    found: list[Condition] = []
    for name, value in data.items():
        where = f"{key}.{str(name)[:80]}"
        if name in ("any", "not"):
            found.append(_combined(str(name), where, value, classifiers or {}, deep))
        elif name == "classified":
            found += _classified(where, value, classifiers or {})
        elif name in _READERS:
            found += _READERS[name](where, name, value)
        else:
            near = did_you_mean(name, KEYS) if isinstance(name, str) else ""
            raise ValueError(f"{where} is unknown{near}; there are {', '.join(KEYS)}")
    return All(tuple(sorted(found, key=lambda condition: condition.asks)))


def _combined(
    name: str, where: str, value: object, classifiers: Classifiers, deep: int
) -> Condition:
    if name == "not":
        inner = read_conditions(where, value, classifiers, deep + 1)
        return Condition("not", lambda seen: bool(inner.against(seen)), asks=inner.asks)
    each = [
        read_conditions(f"{where}[{i}]", v, classifiers, deep + 1)
        for i, v in enumerate(_list(where, value))
    ]
    each.sort(key=lambda one: one.asks)
    return Condition(
        "any",
        lambda seen: any(not one.against(seen) for one in each),
        asks=any(one.asks for one in each),
    )


def _classified(where: str, value: object, classifiers: Classifiers) -> Iterator[Condition]:
    """``{"topic": ["billing", "legal"]}``: one of these labels; null: none of the classifier's."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f'{where} must be like {{"topic": "billing"}}')
    for name, said in value.items():
        classifier = classifiers.get(name)
        if classifier is None:
            there = ", ".join(classifiers) or "none"
            raise ValueError(
                f"{where}.{str(name)[:80]} is no classifier of this entry; there are: {there}"
            )
        words = frozenset("" if each is None else str(each) for each in _list(where, said))
        for word in sorted(words - {"", *classifier.labels}):
            near = did_you_mean(word, classifier.labels)
            there = ", ".join(classifier.labels)
            raise ValueError(f"{where}.{name} has {word[:80]!r}{near}; there are {there}")
        yield _is_labelled(classifier, words)


def _is_labelled(classifier: Classifier, words: frozenset[str]) -> Condition:
    return Condition(
        f"classified.{classifier.name}",
        lambda seen: seen.finding(classifier).label in words,
        lambda seen: str(seen.finding(classifier)),
        asks=True,
    )


def _list(where: str, value: object) -> Sequence[Any]:
    found = value if isinstance(value, list | tuple) else [value]
    if not found or len(found) > MOST_VALUES:
        raise ValueError(f"{where} must have 1 to {MOST_VALUES} values")
    return found


def _words(where: str, value: object) -> frozenset[str]:
    found = _list(where, value)
    for word in found:
        if not isinstance(word, str) or not word:
            raise ValueError(f"{where} must be a word, or a list of words")
    return frozenset(word.casefold() for word in found)


def _is_any(of: Callable[[Seen], str], known: Sequence[str] = ()) -> Any:
    """One of these words; case does not count."""

    def read(where: str, key: str, value: object) -> Iterator[Condition]:
        words = _words(where, value)
        for word in sorted(words):
            if known and word not in known:
                near = did_you_mean(word, known)
                raise ValueError(f"{where} has {word[:80]!r}{near}; there are {', '.join(known)}")
        yield Condition(key, lambda seen: of(seen).casefold() in words, of)

    return read


def _is(of: Callable[[Seen], bool]) -> Any:
    def read(where: str, key: str, value: object) -> Iterator[Condition]:
        if not isinstance(value, bool):
            raise ValueError(f"{where} must be true or false")
        yield Condition(key, lambda seen: of(seen) is value, lambda seen: str(of(seen)).lower())

    return read


def _within(of: Callable[[Seen], float]) -> Any:
    """A number within ``{"min": …, "max": …}``, both included."""

    def read(where: str, key: str, value: object) -> Iterator[Condition]:
        if not isinstance(value, Mapping) or not value or value.keys() - {"min", "max"}:
            raise ValueError(f'{where} must be like {{"min": 10, "max": 100}}')
        for limit in value.values():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise ValueError(f"{where} must have numbers")
        low, high = value.get("min", float("-inf")), value.get("max", float("inf"))
        if low > high:
            raise ValueError(f"{where} has a min above its max: nothing is between them")
        yield Condition(key, lambda seen: low <= of(seen) <= high, lambda seen: f"{of(seen):g}")

    return read


def _matches(of: Callable[[Seen], str]) -> Any:
    """Any of these patterns."""

    def read(where: str, key: str, value: object) -> Iterator[Condition]:
        patterns = [_pattern(where, each) for each in _list(where, value)]
        yield Condition(key, lambda seen: _is_in(patterns, of(seen)))

    return read


def _pattern(where: str, value: object) -> Pattern:
    try:
        return pattern(value)
    except BadPattern as e:
        raise ValueError(f"{where} {e}") from None


def _is_in(patterns: Sequence[Pattern], text: str) -> bool:
    if len(text) > 2 * LOOKED_AT:
        # Patterns do not reach from one part to the other.
        parts: tuple[str, ...] = (text[:LOOKED_AT], text[-LOOKED_AT:])
    else:
        parts = (text,)
    return any(each.is_in(part) for part in parts for each in patterns)


def _named(of: Callable[[Seen, str], str], refused: frozenset[str] = frozenset()) -> Any:
    """Values by name, each any of these patterns; null: there must be none."""

    def read(where: str, key: str, value: object) -> Iterator[Condition]:
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"{where} must be an object of names and patterns")
        for name, said in value.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"{where} has a name that is none")
            if name.casefold() in refused:
                raise ValueError(f"{where}.{name[:80]} is a secret, which rules do not see")
            yield _one(f"{where}.{name[:80]}", f"{key}.{name}", name, said)

    def _one(where: str, key: str, name: str, said: object) -> Condition:
        at = name.casefold() if refused else name
        if said is None:
            return Condition(key, lambda seen: not of(seen, at))
        patterns = [_pattern(where, each) for each in _list(where, said)]
        return Condition(
            key, lambda seen: bool(of(seen, at)) and _is_in(patterns, of(seen, at)[:LOOKED_AT])
        )

    return read


def _time(where: str, key: str, value: object) -> Iterator[Condition]:
    """``{"from": "22:00", "to": "06:00", "days": ["sat"]}``, in the pool's time; what goes over
    midnight belongs to the day on which it began."""
    if not isinstance(value, Mapping) or not value or value.keys() - {"from", "to", "days"}:
        raise ValueError(
            f'{where} must be like {{"from": "22:00", "to": "06:00", "days": ["sat"]}}'
        )
    begin = _minutes(f"{where}.from", value.get("from", "00:00"))
    end = _minutes(f"{where}.to", value.get("to", "24:00"))
    days = _words(f"{where}.days", value["days"]) if "days" in value else frozenset(DAYS)
    if days - frozenset(DAYS):
        raise ValueError(f"{where}.days must be of {', '.join(DAYS)}")

    def holds(seen: Seen) -> bool:
        now, day = 60 * seen.now.hour + seen.now.minute, seen.now.weekday()
        if begin < end:
            return begin <= now < end and DAYS[day] in days
        return (now >= begin and DAYS[day] in days) or (now < end and DAYS[day - 1] in days)

    yield Condition(key, holds, lambda seen: f"{DAYS[seen.now.weekday()]} {seen.now:%H:%M}")


def _minutes(where: str, value: object) -> int:
    hour, _, minute = value.partition(":") if isinstance(value, str) else ("", "", "")
    is_one = hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and len(hour) <= 2
    found = 60 * int(hour) + int(minute) if is_one and int(minute) < 60 else -1
    if not 0 <= found <= 24 * 60:
        raise ValueError(f"{where} must be a time of day, as 22:30")
    return found


_COMPLEXITIES = tuple(c.value.lower() for c in Complexity)
_READERS: Mapping[str, Callable[[str, str, object], Iterator[Condition]]] = {
    "headers": _named(Seen.header, SECRET),
    "metadata": _named(Seen.metadata),
    "text": _matches(lambda seen: seen.asked.text),
    "system": _matches(lambda seen: seen.asked.system),
    "prompt_tokens": _within(lambda seen: seen.asked.tokens),
    "turns": _within(lambda seen: seen.asked.turns),
    "difficulty": _within(lambda seen: seen.features.difficulty),
    "tools": _is(lambda seen: seen.asked.tools > 0),
    "pictures": _is(lambda seen: seen.asked.pictures > 0),
    "sounds": _is(lambda seen: seen.asked.sounds > 0),
    "json": _is(lambda seen: seen.asked.wants_json),
    "stream": _is(lambda seen: seen.request.is_stream),
    "language": _is_any(lambda seen: seen.features.language),
    "task_type": _is_any(lambda seen: seen.features.task.value, tuple(t.value for t in Task)),
    "complexity": _is_any(lambda seen: seen.features.complexity.value, _COMPLEXITIES),
    "class": _is_any(lambda seen: seen.request.caller_class),
    "user": _is_any(lambda seen: seen.request.user),
    "path": _is_any(lambda seen: seen.request.path),
    "time": _time,
}
KEYS = (*_READERS, "classified", "any", "not")
