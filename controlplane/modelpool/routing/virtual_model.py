"""PURE. A virtual model's entry: a name that is no file, its kind, and what the kind says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from modelpool.catalog.model import did_you_mean
from modelpool.catalog.request_rules import NO_RULES, RULES_SCHEMA, Rules, read_rules
from modelpool.catalog.value_checks import text

from .kinds.base import Kind, Spec
from .kinds.targets import TARGETS, Target, read_targets
from .names import name_problem

Kinds: TypeAlias = Callable[[str], Kind]
Origin: TypeAlias = Literal["api", "config", "built-in"]

# Of every kind.
COMMON: Mapping[str, Mapping[str, Any]] = {
    "kind": {"type": "string"},
    "description": {"type": "string"},
    "request": RULES_SCHEMA,
    "fallbacks": TARGETS,
}


# Methods of an ensemble as the documents that asked for it call them, under ``strategy``.
METHOD_OF: Mapping[str, str] = {"majority_vote": "vote", "first_success": "first"}


@dataclass(frozen=True)
class VirtualModel:
    """What a name stands for. Replace it, never change it.

    Attributes:
        name: may hold stars, each of which stands for any text: ``gpt-*``.
        rules: what is changed of every request for it, before what its targets change.
        fallbacks: who is asked, in that order, where the kind's own choice fails.
        version: 1 is the first; every change is a greater one.
        updated_at: seconds since 1970.
    """

    name: str
    kind: str
    spec: Spec
    description: str = ""
    rules: Rules = NO_RULES
    fallbacks: tuple[Target, ...] = ()
    version: int = 0
    updated_at: float = 0.0
    origin: Origin = "api"

    @property
    def targets(self) -> tuple[str, ...]:
        """Every name that it may ask, as far as its entry says it."""
        return tuple(dict.fromkeys((*self.spec.targets, *(t.model for t in self.fallbacks))))

    def as_entry(self) -> dict[str, Any]:
        """As ``read_virtual_model`` reads it, plain JSON."""
        entry: dict[str, Any] = {"kind": self.kind}
        entry |= {"description": self.description} if self.description else {}
        entry |= dict(self.spec.data)
        entry |= {"request": self.rules.as_json()} if self.rules else {}
        return entry | (
            {"fallbacks": [t.as_json() for t in self.fallbacks]} if self.fallbacks else {}
        )


def read_virtual_model(name: object, data: object, kinds: Kinds) -> VirtualModel:
    """The virtual model of an entry. Beside its own form it is understood as other programs write
    aliases: a name is an alias, a list of names a fallback list, an object of numbers a weighted
    set; ``target`` and ``targets`` say their kind themselves.

    Raises:
        ValueError: a whole sentence about the first thing that is wrong.
    """
    problem = name_problem(name)
    if problem:
        raise ValueError(f"name {problem}")
    entry = long_form(data)
    kind = kinds(text_of("kind", entry.get("kind")))
    known = {**COMMON, **kind.keys}
    for key in entry:
        if key not in known:
            near = did_you_mean(key, known) if isinstance(key, str) else ""
            raise ValueError(f"{str(key)[:80]} is unknown for kind {kind.name}{near}")
    for key in kind.required:
        if key not in entry:
            raise ValueError(f"{key} is required for kind {kind.name}")
    try:
        rules = read_rules(entry["request"]) if "request" in entry else NO_RULES
    except ValueError as e:
        raise ValueError(f"request {e}") from None
    fallbacks = read_targets("fallbacks", entry["fallbacks"]) if "fallbacks" in entry else ()
    description = text_of("description", entry["description"]) if "description" in entry else ""
    own = {key: value for key, value in entry.items() if key in kind.keys}
    return VirtualModel(str(name), kind.name, kind.read(own), description, rules, fallbacks)


def long_form(data: object) -> Mapping[str, Any]:
    """An entry in its own form, of one that is written shortly.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(data, str):
        return {"kind": "alias", "target": data}
    if isinstance(data, list):
        return {"kind": "fallback", "targets": data}
    if not isinstance(data, Mapping):
        raise ValueError(
            "a virtual model must be an object with a kind, the name of a model, a list of names,"
            " or an object of names and weights"
        )
    if data and all(isinstance(w, (int, float)) and w is not True for w in data.values()):
        return {"kind": "weighted", "targets": _weighted(data)}
    if "kind" not in data and "target" in data:
        return {"kind": "alias", **data}
    if "kind" not in data and isinstance(data.get("targets"), list):
        has_weights = any(isinstance(t, Mapping) and "weight" in t for t in data["targets"])
        return {"kind": "weighted" if has_weights else "fallback", **data}
    if "kind" not in data:
        raise ValueError("kind is required")
    if data["kind"] == "ensemble" and "strategy" in data and "method" not in data:
        strategy = data["strategy"]
        method = METHOD_OF.get(strategy, strategy) if isinstance(strategy, str) else strategy
        return {**{k: v for k, v in data.items() if k != "strategy"}, "method": method}
    if data["kind"] == "weighted" and isinstance(data.get("targets"), Mapping):
        return {**data, "targets": _weighted(data["targets"])}
    return data


def _weighted(weights: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"model": name, "weight": weight} for name, weight in weights.items()]


def text_of(key: str, value: Any) -> str:
    """A text.

    Raises:
        ValueError: a whole sentence.
    """
    try:
        return text(value)
    except ValueError as e:
        raise ValueError(f"{key} {e}") from None


def entry_schema(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """JSON schema of an entry, in its own form."""
    return {
        "oneOf": [
            {
                "type": "object",
                "description": kind.summary,
                "required": ["kind", *kind.required],
                "properties": {**COMMON, "kind": {"const": name}, **kind.keys},
                "additionalProperties": False,
            }
            for name, kind in kinds.items()
        ]
    }
