"""PURE: what a choice among models weighs, by strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Strategy(StrEnum):
    """What matters most."""

    COMPLEXITY = "complexity"
    LATENCY = "latency"
    QUALITY = "quality"
    COST = "cost"
    BALANCED = "balanced"


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each measure of a model counts; only their relations matter.

    Attributes:
        quality: the probability that it answers well.
        latency: how soon it has answered.
        cost: what it is paid.
        reliability: how many of its requests went well.
        readiness: it serves already, has free places, or at least fits.
        thrift: how little it computes.
    """

    quality: float
    latency: float
    cost: float
    reliability: float
    readiness: float
    thrift: float

    @property
    def total(self) -> float:
        """The most that a model can score."""
        first = self.quality + self.latency + self.cost
        return first + self.reliability + self.readiness + self.thrift


WEIGHTS: Mapping[Strategy, Weights] = MappingProxyType(
    {
        Strategy.COMPLEXITY: Weights(0.62, 0.04, 0.08, 0.03, 0.05, 0.18),
        Strategy.LATENCY: Weights(0.15, 0.60, 0.02, 0.05, 0.16, 0.02),
        Strategy.QUALITY: Weights(0.98, 0.004, 0.004, 0.004, 0.004, 0.004),
        Strategy.COST: Weights(0.20, 0.04, 0.60, 0.03, 0.05, 0.08),
        Strategy.BALANCED: Weights(0.58, 0.12, 0.19, 0.03, 0.04, 0.04),
    }
)


@dataclass(frozen=True, slots=True)
class Policy:
    """How models are chosen.

    Attributes:
        by_complexity: the model that takes requests of a complexity (in its word), where it meets
            all conditions, unless a strategy asks for something else.
        latency_reference_ms, cost_reference, thrift_reference: at which a measure has lost half of
            its worth; dollars of a request, billions of parameters.
        switch_margin: by how much another model must be better than that which a conversation is
            with; ``prefix_worth``: how much more, for a long conversation that would be read anew.
    """

    strategy: Strategy = Strategy.BALANCED
    weights: Mapping[Strategy, Weights] = field(default_factory=lambda: WEIGHTS)
    by_complexity: Mapping[str, str] = field(default_factory=dict)
    latency_reference_ms: float = 4000.0
    cost_reference: float = 0.002
    thrift_reference: float = 20.0
    switch_margin: float = 0.03
    prefix_worth: float = 0.08
    prefix_reference: float = 4000.0


DEFAULT_POLICY = Policy()
# With others a mapping by complexity would not be what was asked for.
MAPS_COMPLEXITY = frozenset({Strategy.COMPLEXITY, Strategy.BALANCED})

# What others call a measure.
SYNONYMS: Mapping[str, str] = {
    "performance": "latency",
    "capability": "quality",
    "capabilities": "quality",
    "speed": "latency",
    "price": "cost",
}
COMPLEXITIES = ("trivial", "simple", "moderate", "complex", "expert")
NUMBERS = (
    "latency_reference_ms",
    "cost_reference",
    "thrift_reference",
    "switch_margin",
    "prefix_worth",
    "prefix_reference",
)
_REFERENCES = frozenset(name for name in NUMBERS if "reference" in name)
KEYS = ("strategy", "weights", "complexity_mapping", *NUMBERS)


class BadPolicy(ValueError):
    """A setting that cannot be. ``param`` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


def read_policy(data: Mapping[str, Any]) -> Policy:
    """Of a configuration, ``KEYS``. ``weights`` are those of a strategy by its name; what is not
    named weighs nothing. Weights without the name of a strategy are those of ``strategy``.

    Raises:
        BadPolicy: a key is not known, or its value cannot be.
    """
    unknown = sorted(data.keys() - set(KEYS))
    if unknown:
        raise BadPolicy(unknown[0], f"is not known; there are {', '.join(KEYS)}")
    strategy = read_strategy(data.get("strategy", Strategy.BALANCED))
    numbers = {name: _number(name, data[name]) for name in NUMBERS if name in data}
    for name in _REFERENCES & numbers.keys():
        if not numbers[name]:
            raise BadPolicy(name, "must be more than 0")
    return dataclasses.replace(
        DEFAULT_POLICY,
        strategy=strategy,
        weights=_weights(data.get("weights", {}), strategy),
        by_complexity=_mapping(data.get("complexity_mapping", {})),
        **numbers,
    )


def read_strategy(value: object) -> Strategy:
    """By its name, in any case.

    Raises:
        BadPolicy: there is none.
    """
    try:
        return Strategy(str(value).casefold())
    except ValueError:
        raise BadPolicy("strategy", f"is none of {', '.join(Strategy)}") from None


def _weights(data: object, strategy: Strategy) -> Mapping[Strategy, Weights]:
    if not isinstance(data, Mapping):
        raise BadPolicy("weights", "must be an object")
    if not any(isinstance(value, Mapping) for value in data.values()):
        return {**WEIGHTS, strategy: _weights_of("weights", data)} if data else WEIGHTS
    found = dict(WEIGHTS)
    for name, value in data.items():
        if name not in list(Strategy) or not isinstance(value, Mapping):
            raise BadPolicy(f"weights.{name}", f"must be weights of one of {', '.join(Strategy)}")
        found[Strategy(name)] = _weights_of(f"weights.{name}", value)
    return found


def _weights_of(param: str, data: Mapping[Any, Any]) -> Weights:
    names = [f.name for f in dataclasses.fields(Weights)]
    found = dict.fromkeys(names, 0.0)
    for key, value in data.items():
        name = SYNONYMS.get(key, key)
        if name not in found:
            raise BadPolicy(f"{param}.{key}", f"is not known; there are {', '.join(names)}")
        found[name] = _number(f"{param}.{key}", value)
    if not any(found.values()):
        raise BadPolicy(param, "one of them must be more than 0")
    return Weights(**found)


def _mapping(data: object) -> Mapping[str, str]:
    if not isinstance(data, Mapping):
        raise BadPolicy("complexity_mapping", "must be an object")
    for key, value in data.items():
        if key not in COMPLEXITIES:
            there = ", ".join(COMPLEXITIES)
            raise BadPolicy(f"complexity_mapping.{key}", f"is not known; there are {there}")
        if not isinstance(value, str) or not value:
            raise BadPolicy(f"complexity_mapping.{key}", "must be the name of a model")
    return dict(data)


def _number(param: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadPolicy(param, "must be a number")
    if not 0 <= value < float("inf"):
        raise BadPolicy(param, "must be 0 or more, and finite")
    return float(value)
