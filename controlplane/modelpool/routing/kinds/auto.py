"""PURE. The model that suits a request best, see ``routing.decision``; the runners-up follow where
it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from modelpool_client.errors import InvalidRequest, NoSuitableModel

from modelpool.catalog.request_rules import NO_RULES, Rules
from modelpool.catalog.value_checks import several, text
from modelpool.routing.asked import Asked
from modelpool.routing.candidate import Candidate
from modelpool.routing.constraints import KEYS as CONSTRAINTS
from modelpool.routing.constraints import BadConstraint, Constraints, combined, read_constraints
from modelpool.routing.decision import Conversation, Decision, decide
from modelpool.routing.features import features_of
from modelpool.routing.plan import Ask, InOrder, Plan
from modelpool.routing.policy import (
    COMPLEXITIES,
    NUMBERS,
    BadPolicy,
    Policy,
    read_policy,
    read_strategy,
)
from modelpool.routing.policy import KEYS as POLICY
from modelpool.routing.request import RouteRequest
from modelpool.routing.surface import asked_of
from modelpool.routing.table import Table, table_of
from modelpool.routing.told import Told

from .base import Known, Spec

FACT = "router"
MOST_CANDIDATES = 1000
# What a request may say to ``auto`` itself; engines are not told.
OWN_KEYS = ("constraints", "strategy", "available_models")
_NAMES: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}
_NUMBER: Mapping[str, Any] = {"type": "number", "minimum": 0}
# Of a candidate, by what callers call it; M0's words among them.
_FIGURES: Mapping[str, tuple[str, float]] = {
    "capability": ("quality", 1.0),
    "quality": ("quality", 1.0),
    "latency_ms": ("latency_ms", 1.0),
    "reliability": ("reliability", 1.0),
    "cost_per_request": ("request_price", 1.0),
}


class Facts(Protocol):
    """What there must be to know, under ``FACT``."""

    @property
    def tagged(self) -> Mapping[str, frozenset[str]]: ...
    def table(self) -> Table: ...
    def refused(self) -> Mapping[str, str]: ...
    def conversation(self, request: RouteRequest) -> Conversation | None: ...


@dataclass(frozen=True)
class _Choice:
    policy: Policy
    constraints: Constraints
    candidates: frozenset[str]
    tags: frozenset[str]
    default: str


class Auto:
    """``strategy``, ``weights``, ``complexity_mapping`` and references as ``policy.read_policy``
    has them, ``constraints`` as requests may have them too: of both the stricter counts.
    ``candidates`` and ``tags`` say which models it is among; left out, all. ``default_model`` is
    asked last, where it meets the conditions."""

    name = "auto"
    summary = "the model that suits the request best, by its task, difficulty, conditions and costs"
    keys: ClassVar[Mapping[str, Any]] = {
        "strategy": {"enum": ["complexity", "latency", "quality", "cost", "balanced"]},
        "weights": {"type": "object"},
        "complexity_mapping": {
            "type": "object",
            "properties": {word: {"type": "string"} for word in COMPLEXITIES},
            "additionalProperties": False,
        },
        **dict.fromkeys(NUMBERS, _NUMBER),
        "constraints": {
            "type": "object",
            "properties": {key: {} for key in CONSTRAINTS},
            "additionalProperties": False,
        },
        "candidates": _NAMES,
        "tags": _NAMES,
        "default_model": {"type": "string"},
    }  # fmt: skip
    required = ()

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        policy = read_policy({key: data[key] for key in POLICY if key in data})
        said = data.get("constraints", {})
        if not isinstance(said, Mapping):
            raise ValueError("constraints must be an object")
        try:
            constraints = read_constraints(said)
        except BadConstraint as e:
            raise ValueError(f"constraints.{e}") from None
        candidates, tags = _words("candidates", data), _words("tags", data)
        default = data.get("default_model", "")
        if not isinstance(default, str):
            raise ValueError("default_model must be the name of a model")
        named = (*candidates, *policy.by_complexity.values(), *([default] if default else []))
        read = _Choice(policy, constraints, frozenset(candidates), frozenset(tags), default)
        return Spec(dict(data), read, tuple(dict.fromkeys(named)))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``.

        Raises:
            InvalidRequest: what the request says of conditions cannot be.
            NoSuitableModel: no model meets them, which is said with the one that fails.
        """
        choice: _Choice = spec.read
        facts: Facts | None = known.fact(FACT)
        if facts is None:
            raise NoSuitableModel("nothing is known of the models here", param="model")
        table = facts.table()  # first: tags come with it
        policy = _policy(choice.policy, request.data, known)
        constraints = _constraints(choice, request.data, facts, known)
        asked = asked_of(request)
        stated = request.data.get("available_models")
        if isinstance(stated, Mapping):
            table = _stated(stated, table, known)
        found = decide(
            features_of(asked),
            table,
            constraints,
            policy,
            _conversation(facts, request, asked),
            refused=facts.refused(),
        )
        told = Told(found)
        if found.best is None:
            raise _unsuitable(request, told)
        own = _own_rules(request.data)
        steps = [Ask(found.best.model_id, own, reason="it suits best")]
        steps += [Ask(s.model_id, own, reason="a runner-up") for s in found.runners_up]
        steps += _default(choice.default, found, own, known)
        step = InOrder(tuple(steps)) if len(steps) > 1 else steps[0]
        return Plan(step, found.reasons, told)


def stand_ins(
    request: RouteRequest, known: Known, named: Sequence[str], *, is_remote: bool | None
) -> Decision | None:
    """The models that can do what a request needs, the best first, beside those that are ``named``:
    those elsewhere, those here, or (None) any. None where nothing is known of models."""
    facts: Facts | None = known.fact(FACT)
    if facts is None:
        return None
    table = facts.table()
    only = None
    if is_remote is not None:
        only = frozenset(c.model_id for c in table.candidates if c.is_remote is is_remote)
    excluded = frozenset(_id(name, known) for name in named)
    limits = Constraints(excluded=excluded, only=only)
    return decide(features_of(asked_of(request)), table, limits, refused=facts.refused())


def _words(key: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        found = several(text)(data.get(key, ()))
    except ValueError as e:
        raise ValueError(f"{key} {e}") from None
    if len(found) > MOST_CANDIDATES:
        raise ValueError(f"{key} must be {MOST_CANDIDATES} at most")
    if key in data and not found:
        raise ValueError(f"{key} must name one at least; leave it out for all")
    return tuple(found)


def _policy(policy: Policy, data: Mapping[str, Any], known: Known) -> Policy:
    strategy = data.get("strategy")
    if strategy is not None:
        try:
            policy = dataclasses.replace(policy, strategy=read_strategy(strategy))
        except BadPolicy as e:
            raise InvalidRequest(str(e), param="strategy") from None
    if policy.by_complexity:
        by = {word: _id(name, known) for word, name in policy.by_complexity.items()}
        policy = dataclasses.replace(policy, by_complexity=by)
    return policy


def _constraints(
    choice: _Choice, data: Mapping[str, Any], facts: Facts, known: Known
) -> Constraints:
    said = data.get("constraints")
    if said is not None and not isinstance(said, Mapping):
        raise InvalidRequest("constraints must be an object", param="constraints")
    try:
        of_request = read_constraints(said or {})
        if data.get("available_models") is not None:
            names = {"available_models": data["available_models"]}
            of_request = combined(of_request, read_constraints(names))
        found = combined(choice.constraints, of_request)
    except BadConstraint as e:
        raise InvalidRequest(f"constraints.{e}", param=f"constraints.{e.param}") from None
    among: frozenset[str] | None = None
    if choice.candidates:
        among = frozenset(_id(name, known) for name in choice.candidates)
    if choice.tags:
        tagged = frozenset().union(*(facts.tagged.get(tag, frozenset()) for tag in choice.tags))
        among = tagged if among is None else among | tagged
    only = found.only
    if only is not None:
        only = frozenset(_id(name, known) for name in only)
    if among is not None:
        only = among if only is None else among & only
    excluded = found.excluded
    if excluded:
        excluded = frozenset(_id(name, known) for name in excluded)
    if only is found.only and excluded is found.excluded:
        return found
    return dataclasses.replace(found, only=only, excluded=excluded)


def _id(name: str, known: Known) -> str:
    model = known.model(name)
    return model.model_id if model is not None else name


def _stated(said: Mapping[str, Any], table: Table, known: Known) -> Table:
    """Models with figures that the request states: they count in place of what is known."""
    if len(said) > MOST_CANDIDATES:
        raise InvalidRequest(f"more than {MOST_CANDIDATES} models", param="available_models")
    found = []
    for name, figures in said.items():
        model_id = _id(str(name), known)
        row = table.rows.get(model_id)
        candidate = table.candidates[row] if row is not None else Candidate(model_id)
        found.append(_with_figures(candidate, figures, str(name)))
    return table_of(found)


def _with_figures(candidate: Candidate, figures: object, name: str) -> Candidate:
    where = f"available_models.{name[:80]}"
    if figures is None:
        return candidate
    if not isinstance(figures, Mapping):
        raise InvalidRequest(f"{where} must be an object", param="available_models")
    found: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise InvalidRequest(f"{where}.{key} must be a number", param="available_models")
        if key == "cost_per_token":
            found |= {"input_price": value * 1e6, "output_price": value * 1e6}
        elif key in _FIGURES:
            field, factor = _FIGURES[key]
            found[field] = value * factor
        else:
            there = ", ".join([*_FIGURES, "cost_per_token"])
            raise InvalidRequest(
                f"{where}.{str(key)[:80]} is not known; there are {there}", param="available_models"
            )
    if "latency_ms" in found:  # said of the request as it is: nothing is added to it
        found |= {"output_per_second": None, "is_hot": True, "in_flight": 0, "queued": 0}
    return dataclasses.replace(candidate, **found)


def _conversation(facts: Facts, request: RouteRequest, asked: Asked) -> Conversation | None:
    """What it goes on with; no more of it was read than the request says again."""
    found = facts.conversation(request) if asked.turns > 1 or request.session else None
    if found is None:
        return None
    return Conversation(found.model_id, min(found.prefix_tokens, asked.tokens))


def _own_rules(data: Mapping[str, Any]) -> Rules:
    """Without what was said to ``auto``."""
    own = tuple(key for key in OWN_KEYS if key in data)
    return Rules(strip=own) if own else NO_RULES


def _default(name: str, found: Decision, own: Rules, known: Known) -> Sequence[Ask]:
    if not name or found.table is None:
        return ()
    model_id = _id(name, known)
    row = found.table.rows.get(model_id)
    asked = (found.model_id, *(s.model_id for s in found.runners_up))
    if row is None or model_id in asked:
        return ()
    if any(each.rows >> row & 1 for each in found.exclusions):
        return ()
    return (Ask(model_id, own, reason="the default model"),)


def _unsuitable(request: RouteRequest, told: Told) -> NoSuitableModel:
    found = told.decision
    why = {name: list(reasons) for name, reasons in list(found.excluded.items())[:10]}
    one = next((f" ({name}: {reasons[0]})" for name, reasons in why.items()), "")
    return NoSuitableModel(
        f"{request.name}: {found.reasons[0]}{one} POST /route tells it of every model.",
        param=found.failed or "model",
        details={"failed_constraint": found.failed, "excluded": why},
    )
