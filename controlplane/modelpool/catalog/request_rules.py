"""PURE. What an entry says about the requests that it is given: values that fill gaps, bounds,
parameters that are left out. ``routing.apply_rules`` does it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .value_checks import MAX_TEXT, json_object, several, text

MAX_PROMPT = 65_536
# What says which model and how it is answered is not a parameter to be set by others.
NOT_PARAMETERS = frozenset(
    {"model", "messages", "prompt", "input", "stream", "system", "instructions", "contents"}
)
KEYS = ("preset", "defaults", "overrides", "limits", "strip", "system_prompt")


@dataclass(frozen=True)
class Limit:
    """Bounds of a parameter that is a number."""

    low: float = -math.inf
    high: float = math.inf

    def bound(self, value: float) -> float:
        """The nearest that is allowed."""
        return min(max(value, self.low), self.high)

    def within(self, other: Limit) -> Limit:
        """What both allow; where that is nothing, what ``other`` does."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Limit(low, high) if low <= high else other


@dataclass(frozen=True)
class Rules:
    """Names are those of OpenAI's API: ``temperature``, ``max_tokens``, ``stop``; other APIs are
    told theirs.

    Attributes:
        preset: the name of a set of defaults, see ``routing.presets``.
        defaults: values of parameters that a request does not give.
        overrides: values that count whatever it gives.
        limits: bounds of what it gives; ``max_tokens`` is bounded also where it gives none.
        strip: parameters that are taken away.
        system_prompt: what the model is told first, where the request tells it nothing.
    """

    preset: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    strip: tuple[str, ...] = ()
    system_prompt: str = ""

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    def then(self, inner: Rules) -> Rules:
        """First these, then those of the model that the request is given to: what these fill or
        set stays, bounds of both hold."""
        limits = {**inner.limits, **self.limits}
        for name in inner.limits.keys() & self.limits.keys():
            limits[name] = self.limits[name].within(inner.limits[name])
        return Rules(
            self.preset or inner.preset,
            {**inner.defaults, **self.defaults},
            {**self.overrides, **inner.overrides},
            limits,
            tuple(dict.fromkeys((*self.strip, *inner.strip))),
            self.system_prompt or inner.system_prompt,
        )

    def with_preset(self, preset: Mapping[str, Any]) -> Rules:
        """The values of its preset are defaults, below its own."""
        return Rules(
            "",
            {**preset, **self.defaults},
            self.overrides,
            self.limits,
            self.strip,
            self.system_prompt,
        )

    def as_json(self) -> dict[str, Any]:
        """As ``read_rules`` reads it."""
        told: dict[str, Any] = {
            "preset": self.preset,
            "defaults": dict(self.defaults),
            "overrides": dict(self.overrides),
            "limits": {name: _limit_as_json(limit) for name, limit in self.limits.items()},
            "strip": list(self.strip),
            "system_prompt": self.system_prompt,
        }
        return {key: value for key, value in told.items() if value}


NO_RULES = Rules()


def check_rules(value: Any) -> Mapping[str, Any]:
    """The rules of an entry as JSON, put in order.

    Raises:
        ValueError: with the rest of a sentence about what is wrong.
    """
    return read_rules(value).as_json()


def read_rules(value: Any) -> Rules:
    """The rules that an object says.

    Raises:
        ValueError: as ``check_rules``.
    """
    if not isinstance(value, Mapping):
        raise ValueError("must be an object with some of: " + ", ".join(KEYS))
    unknown = [key for key in value if key not in KEYS]
    if unknown:
        raise ValueError(f"has an unknown key {str(unknown[0])[:80]!r}; known: {', '.join(KEYS)}")
    strip = several(text)(value.get("strip", ()))
    return Rules(
        _name(value.get("preset", "")),
        _values("defaults", value.get("defaults", {})),
        _values("overrides", value.get("overrides", {})),
        _limits(value.get("limits", {})),
        tuple(_parameter("strip", name) for name in strip),
        _prompt(value.get("system_prompt", "")),
    )


def _name(value: Any) -> str:
    return text(value) if value != "" else ""


def _prompt(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_PROMPT:
        raise ValueError(f"system_prompt must be a text of at most {MAX_PROMPT} characters")
    return value


def _values(key: str, value: Any) -> Mapping[str, Any]:
    found = json_object(value)
    return {_parameter(key, name): each for name, each in found.items()}


def _parameter(key: str, name: str) -> str:
    if name in NOT_PARAMETERS:
        hint = "; system_prompt fills it" if name in ("system", "instructions") else ""
        raise ValueError(f"{key}: {name!r} is no parameter to be set{hint}")
    if not name or len(name) > MAX_TEXT:
        raise ValueError(f"{key}: a parameter has no name, or one that is too long")
    return name


def _limits(value: Any) -> Mapping[str, Limit]:
    return {name: _limit(name, each) for name, each in _values("limits", value).items()}


def _limit(name: str, value: Any) -> Limit:
    if not isinstance(value, Mapping):
        return Limit(high=_number(name, value))
    if not value or not set(value) <= {"min", "max"}:
        raise ValueError(f'limits: {name} must be a number, or like {{"min": 0, "max": 1}}')
    low = _number(name, value["min"]) if "min" in value else -math.inf
    high = _number(name, value["max"]) if "max" in value else math.inf
    if low > high:
        raise ValueError(f"limits: the min of {name} is above its max")
    return Limit(low, high)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"limits: those of {name} must be numbers")
    return value


def _limit_as_json(limit: Limit) -> Any:
    told = {"min": limit.low, "max": limit.high}
    finite = {key: value for key, value in told.items() if math.isfinite(value)}
    return finite["max"] if list(finite) == ["max"] else finite


_VALUES = {"type": "object", "description": "Parameters in the words of OpenAI's API"}
RULES_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "preset": {"type": "string"},
        "defaults": _VALUES,
        "overrides": _VALUES,
        "limits": {
            "type": "object",
            "additionalProperties": {
                "type": ["number", "object"],
                "properties": {"min": {"type": "number"}, "max": {"type": "number"}},
                "additionalProperties": False,
            },
        },
        "strip": {"type": "array", "items": {"type": "string"}},
        "system_prompt": {"type": "string", "maxLength": MAX_PROMPT},
    },
    "additionalProperties": False,
}
