"""PURE. Rules that somebody wrote: of the first that a request meets the models are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from modelpool.catalog.value_checks import text
from modelpool.routing.classifiers import SCHEMA as CLASSIFIERS
from modelpool.routing.classifiers import Classifier, read_classifiers
from modelpool.routing.conditions import KEYS, All, Seen, read_conditions
from modelpool.routing.plan import InOrder, Plan
from modelpool.routing.request import RouteRequest

from .base import Known, Spec
from .targets import TARGET, TARGETS, Target, read_target, read_targets

MOST_RULES = 256
_ONE_OR_MORE: Mapping[str, Any] = {"anyOf": [TARGET, TARGETS]}
_RULE: Mapping[str, Any] = {
    "type": "object",
    "required": ["when", "use"],
    "properties": {
        "name": {"type": "string"},
        "when": {
            "type": "object",
            "properties": {key: {} for key in KEYS},
            "additionalProperties": False,
        },
        "use": _ONE_OR_MORE,
    },
    "additionalProperties": False,
}


@dataclass(frozen=True)
class _Rule:
    name: str
    when: All
    use: tuple[Target, ...]


@dataclass(frozen=True)
class _Rules:
    rules: tuple[_Rule, ...]
    default: tuple[Target, ...]


class PolicyKind:
    """``rules`` in their order, each with a condition, ``when``, and whom to ask then, ``use``: a
    model, or a list of which the next follows where one fails. ``default`` is for all other
    requests. ``classifiers`` are models that conditions may ask what a request is about."""

    name = "policy"
    summary = "rules: of the first that a request meets the models are asked"
    keys: ClassVar[Mapping[str, Any]] = {
        "rules": {"type": "array", "items": _RULE, "minItems": 1, "maxItems": MOST_RULES},
        "default": _ONE_OR_MORE,
        "classifiers": CLASSIFIERS,
    }
    required = ("rules", "default")

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        said = data["rules"]
        if not isinstance(said, list) or not said or len(said) > MOST_RULES:
            raise ValueError(f"rules must be a list of 1 to {MOST_RULES} rules")
        classifiers = read_classifiers(data.get("classifiers", {}))
        rules = tuple(_rule(f"rules[{i}]", each, i, classifiers) for i, each in enumerate(said))
        names = [rule.name for rule in rules]
        twin = next((name for name in names if names.count(name) > 1), None)
        if twin is not None:
            raise ValueError(f"rules have two that are called {twin!r}")
        default = _use("default", data["default"])
        named = [t.model for each in (*(r.use for r in rules), default) for t in each]
        named += [each.model for each in classifiers.values()]
        return Spec(dict(data), _Rules(rules, default), tuple(dict.fromkeys(named)))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``.

        Raises:
            Unanswered: a classifier must be asked first.
        """
        said: _Rules = spec.read
        seen = Seen(request, known.now)
        trace: list[dict[str, Any]] = []
        for rule in said.rules:
            against = rule.when.against(seen)
            trace.append({"rule": rule.name, "matches": not against})
            if against:
                trace[-1]["because"] = against
            else:
                return _plan(rule.use, f"rule {rule.name}", rule.name, trace, seen)
        return _plan(said.default, "no rule says otherwise", "default", trace, seen)


def _plan(
    use: tuple[Target, ...], why: str, rule: str, trace: list[dict[str, Any]], seen: Seen
) -> Plan:
    first, *others = use
    told = "; ".join(f"{c.name}: {found}" for c, found in seen.found.items())
    decision: dict[str, Any] = {"rule": rule, "trace": trace}
    if seen.found:
        decision["classified"] = {c.name: found.as_json(c) for c, found in seen.found.items()}
    then = f", then {', '.join(t.model for t in others)}" if others else ""
    steps = tuple(target.ask(why) for target in use)
    return Plan(
        InOrder(steps) if others else steps[0],
        (f"{why}: {first.model}{then}", *([told] if told else ())),
        decision,
    )


def _rule(key: str, data: object, index: int, classifiers: Mapping[str, Classifier]) -> _Rule:
    if not isinstance(data, Mapping):
        raise ValueError(f"{key} must be an object with when, use and name")
    if unknown := [str(k) for k in data if k not in _RULE["properties"]]:
        known = ", ".join(_RULE["properties"])
        raise ValueError(f"{key} has an unknown key {unknown[0][:80]!r}; known: {known}")
    for needed in ("when", "use"):
        if needed not in data:
            raise ValueError(f"{key}.{needed} is missing")
    name = f"{index + 1}"
    if "name" in data:
        try:
            name = text(data["name"])
        except ValueError as e:
            raise ValueError(f"{key}.name {e}") from None
    when = read_conditions(f"{key}.when", data["when"], classifiers)
    return _Rule(name, when, _use(f"{key}.use", data["use"]))


def _use(key: str, value: object) -> tuple[Target, ...]:
    return read_targets(key, value) if isinstance(value, list) else (read_target(key, value),)
