"""PURE. How entries name the models that they point at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool.catalog.model import CURRENT, id_problem
from modelpool.catalog.request_rules import NO_RULES, RULES_SCHEMA, Rules, read_rules
from modelpool.routing.names import AUTO
from modelpool.routing.plan import Ask

MOST_TARGETS = 64
TARGET: Mapping[str, Any] = {
    "type": ["string", "object"],
    "required": ["model"],
    "properties": {"model": {"type": "string"}, "request": RULES_SCHEMA},
    "additionalProperties": False,
}
TARGETS: Mapping[str, Any] = {
    "type": "array",
    "items": TARGET,
    "minItems": 1,
    "maxItems": MOST_TARGETS,
}


@dataclass(frozen=True)
class Target:
    """A model, and what is changed of requests that it is given."""

    model: str
    rules: Rules = NO_RULES

    def ask(self, reason: str = "") -> Ask:
        """The question to it."""
        return Ask(self.model, self.rules, reason=reason)

    def as_json(self) -> Any:
        """As it is read: its name, where there is nothing else to say."""
        if not self.rules:
            return self.model
        return {"model": self.model, "request": self.rules.as_json()}


def read_target(key: str, value: Any, more: tuple[str, ...] = ()) -> Target:
    """A target; ``more`` are keys of its object that somebody else reads.

    Raises:
        ValueError: a whole sentence.
    """
    if isinstance(value, str):
        return Target(_name(key, value))
    if not isinstance(value, Mapping):
        raise ValueError(f'{key} must be the name of a model, or like {{"model": NAME}}')
    known = ("model", "request", *more)
    if unknown := [str(k) for k in value if k not in known]:
        said = f"{key} has an unknown key {unknown[0][:80]!r}"
        raise ValueError(f"{said}; known: {', '.join(known)}")
    try:
        rules = read_rules(value["request"]) if "request" in value else NO_RULES
    except ValueError as e:
        raise ValueError(f"{key}.request {e}") from None
    return Target(_name(f"{key}.model", value.get("model")), rules)


def read_targets(key: str, value: Any) -> tuple[Target, ...]:
    """A list of them, each name once.

    Raises:
        ValueError: a whole sentence.
    """
    if not isinstance(value, (list, tuple)) or not value or len(value) > MOST_TARGETS:
        raise ValueError(f"{key} must be a list of 1 to {MOST_TARGETS} models")
    found = tuple(read_target(f"{key}[{i}]", each) for i, each in enumerate(value))
    refuse_twins(key, [t.model for t in found])
    return found


def refuse_twins(key: str, names: list[str]) -> None:
    """Raise ValueError where a name is there twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{key} name {name!r} more than once")


def _name(key: str, value: Any) -> str:
    problem = None if value in (AUTO, CURRENT) else id_problem(value)
    if problem:
        raise ValueError(f"{key} {problem}")
    return str(value)
