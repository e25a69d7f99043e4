"""PURE. A model for each class of caller, as ``model_preferences.json`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest

from modelpool.catalog.request_rules import NO_RULES, RULES_SCHEMA, Rules, read_rules
from modelpool.routing.plan import InOrder, Plan
from modelpool.routing.request import RouteRequest

from .base import Known, Spec
from .targets import TARGETS, Target, read_targets

MOST_CLASSES = 256
MAX_NAME = 128


@dataclass(frozen=True)
class _Classes:
    targets: Mapping[str, tuple[Target, ...]]
    names: Mapping[str, str]
    rules: Mapping[str, Rules]
    default: tuple[Target, ...]


class ByClass:
    """``classes`` has a list of models for each class, the first of them first; ``default`` is
    for all other callers. ``settings`` say for classes what is changed of their requests, whoever
    answers. A caller says its class in ``X-Agent-Class``; case does not count."""

    name = "by_class"
    summary = "a list of models for each class of caller"
    keys: ClassVar[Mapping[str, Any]] = {
        "classes": {"type": "object", "additionalProperties": TARGETS},
        "default": TARGETS,
        "settings": {"type": "object", "additionalProperties": RULES_SCHEMA},
    }
    required = ()

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        if not data.get("classes") and not data.get("default"):
            raise ValueError("classes or default is required for kind by_class")
        targets = {
            name: read_targets(f"classes.{name}", each)
            for name, each in _by_name("classes", data.get("classes", {})).items()
        }
        rules = {}
        for name, each in _by_name("settings", data.get("settings", {})).items():
            try:
                rules[name.casefold()] = read_rules(each)
            except ValueError as e:
                raise ValueError(f"settings.{name} {e}") from None
        default = read_targets("default", data["default"]) if data.get("default") else ()
        said: dict[str, Any] = {}
        if targets:
            said["classes"] = {name: [t.as_json() for t in each] for name, each in targets.items()}
        if default:
            said["default"] = [t.as_json() for t in default]
        if rules:
            said["settings"] = {name: rules[name.casefold()].as_json() for name in data["settings"]}
        named = [t.model for each in (*targets.values(), default) for t in each]
        names = {name.casefold(): name for name in targets}
        read = _Classes(targets, names, rules, default)
        return Spec(said, read, tuple(dict.fromkeys(named)))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``.

        Raises:
            InvalidRequest: the caller is of none of the classes, and there is no default.
        """
        said: _Classes = spec.read
        asked = request.caller_class.casefold()
        name = said.names.get(asked)
        targets = said.targets[name] if name is not None else said.default
        if not targets:
            given = f"{request.caller_class[:80]!r}" if request.caller_class else "missing"
            raise InvalidRequest(
                f"the class of the caller is {given}, and {request.name} has no default;"
                f" say one in X-Agent-Class: {', '.join(said.targets)}",
                param="X-Agent-Class",
            )
        why = f"for callers of class {name}" if name is not None else "for callers of other classes"
        then = f", then {', '.join(t.model for t in targets[1:])}" if targets[1:] else ""
        rules = said.rules.get(asked, NO_RULES)
        asks = tuple(Target(t.model, rules.then(t.rules)).ask() for t in targets)
        return Plan(InOrder(asks), (f"{targets[0].model} {why}{then}",))


def _by_name(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or len(value) > MOST_CLASSES:
        raise ValueError(f"{key} must be an object with at most {MOST_CLASSES} classes")
    for name in value:
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
            raise ValueError(f"{key}: {str(name)[:80]!r} is no name of a class")
    if len({name.casefold() for name in value}) < len(value):
        raise ValueError(f"{key}: two of them differ by case only, which does not count")
    return value
