"""PURE: what a model must be to answer a request at all; nothing of it is ever weighed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.capabilities import word_of

MB = 1_000_000


class BadConstraint(ValueError):
    """A constraint that cannot be read. ``param`` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


@dataclass(frozen=True, slots=True)
class Constraints:
    """Conditions of a request; None and empty are none.

    Attributes:
        max_latency_ms: of the whole request, the load of a cold model included.
        max_cost: of the request, in dollars.
        min_reliability: share of requests that went well, 0 to 1.
        engine: what it runs on, or the provider.
        capabilities: beside those that the request itself needs.
        excluded: ids that are out of the question.
        only: ids of which one must be taken; None: any.
        max_memory_bytes: that its load may take.
        only_hot: nothing may be loaded for it.
        only_fitting: nothing may be unloaded for it.
        min_context: tokens, beside what the request itself needs.
    """

    max_latency_ms: float | None = None
    max_cost: float | None = None
    min_reliability: float | None = None
    engine: str | None = None
    capabilities: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    max_memory_bytes: int | None = None
    only_hot: bool = False
    only_fitting: bool = False
    min_context: int | None = None


NO_CONSTRAINTS = Constraints()

_NUMBERS: Mapping[str, str] = {
    "max_latency_ms": "max_latency_ms",
    "max_cost_per_request": "max_cost",
    "max_cost": "max_cost",
    "min_reliability": "min_reliability",
    "min_context": "min_context",
    "context_length": "min_context",
}
_LISTS: Mapping[str, str] = {
    "required_capabilities": "capabilities",
    "capabilities": "capabilities",
    "excluded_models": "excluded",
    "available_models": "only",
}
_RESOURCES = ("max_memory_mb", "max_memory_gb", "only_loaded", "fits_now")
KEYS = (*_NUMBERS, *_LISTS, "preferred_backend", "resource_limits")


def read_constraints(data: Mapping[str, Any]) -> Constraints:
    """Of ``constraints`` as clients write them, ``KEYS``.

    Raises:
        BadConstraint: one is not known, or its value cannot be.
    """
    found: dict[str, Any] = {}
    for key, value in data.items():
        if value is None:
            continue
        if key in _NUMBERS:
            found[_NUMBERS[key]] = _number(key, value)
        elif key in _LISTS:
            found[_LISTS[key]] = _words(key, value)
        elif key == "preferred_backend":
            if not isinstance(value, str):
                raise BadConstraint(key, "must be the name of an engine")
            found["engine"] = value
        elif key == "resource_limits":
            found |= _resources(value)
        else:
            raise BadConstraint(key, f"is not known; there are {', '.join(KEYS)}")
    if found.get("min_reliability", 0) > 1:
        raise BadConstraint("min_reliability", "is a share, 0 to 1")
    if "capabilities" in found:
        found["capabilities"] = frozenset(word_of(word) for word in found["capabilities"])
    return dataclasses.replace(NO_CONSTRAINTS, **found)


def combined(a: Constraints, b: Constraints) -> Constraints:
    """What meets both.

    Raises:
        BadConstraint: they name different engines.
    """
    if a.engine and b.engine and a.engine != b.engine:
        raise BadConstraint("preferred_backend", f"{a.engine} is all that may be asked here")
    only = a.only if b.only is None else b.only if a.only is None else a.only & b.only
    return Constraints(
        max_latency_ms=_least(a.max_latency_ms, b.max_latency_ms),
        max_cost=_least(a.max_cost, b.max_cost),
        min_reliability=_most(a.min_reliability, b.min_reliability),
        engine=a.engine or b.engine,
        capabilities=a.capabilities | b.capabilities,
        excluded=a.excluded | b.excluded,
        only=only,
        max_memory_bytes=_least(a.max_memory_bytes, b.max_memory_bytes),
        only_hot=a.only_hot or b.only_hot,
        only_fitting=a.only_fitting or b.only_fitting,
        min_context=_most(a.min_context, b.min_context),
    )


def _least(a: Any, b: Any) -> Any:
    return min((v for v in (a, b) if v is not None), default=None)


def _most(a: Any, b: Any) -> Any:
    return max((v for v in (a, b) if v is not None), default=None)


def _resources(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadConstraint("resource_limits", "must be an object")
    found: dict[str, Any] = {}
    for key, limit in value.items():
        name = f"resource_limits.{key}"
        if key in ("max_memory_mb", "max_memory_gb"):
            factor = MB if key == "max_memory_mb" else 1000 * MB
            found["max_memory_bytes"] = int(_number(name, limit) * factor)
        elif key in ("only_loaded", "fits_now"):
            if not isinstance(limit, bool):
                raise BadConstraint(name, "must be true or false")
            found["only_hot" if key == "only_loaded" else "only_fitting"] = limit
        else:
            raise BadConstraint(name, f"is not known; there are {', '.join(_RESOURCES)}")
    return found


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadConstraint(key, "must be a number")
    if not 0 <= value < float("inf"):
        raise BadConstraint(key, "must be 0 or more, and finite")
    return value


def _words(key: str, value: object) -> frozenset[str]:
    if isinstance(value, Mapping):  # M0 writes models with what it knows of them
        value = list(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise BadConstraint(key, "must be a list of words")
    if not all(isinstance(word, str) for word in value):
        raise BadConstraint(key, "must be a list of words")
    return frozenset(value)
