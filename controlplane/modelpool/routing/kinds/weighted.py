"""PURE. A set of models that share the requests by weight; what belongs together stays together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from modelpool.catalog.value_checks import choice, number
from modelpool.routing.plan import Plan
from modelpool.routing.request import RouteRequest, Sticky

from .base import Known, Spec
from .targets import MOST_TARGETS, TARGET, Target, read_target, refuse_twins

STICKY = ("conversation", "user", "key", "none")
MAX_WEIGHT = 1_000_000
_weight = number(0, MAX_WEIGHT)


@dataclass(frozen=True)
class _Set:
    targets: tuple[tuple[Target, float], ...]
    sticky: Sticky


class Weighted:
    """``targets`` each have a ``weight``: 90 and 10, or 0.9 and 0.1; one of 0 gets nothing.

    ``sticky`` says what stays with one of them: a conversation (its ``X-Session-ID`` or
    ``prompt_cache_key``, else how it began), a user, an API key. It is computed from that alone, so
    that it holds over restarts; where weights change, only as many move as must. Requests that
    say nothing of it are drawn by chance, each for itself.
    """

    name = "weighted"
    summary = "a set of models that share the requests by weight"
    keys: ClassVar[Mapping[str, Any]] = {
        "targets": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_TARGETS,
            "items": {
                **TARGET,
                "required": ["model", "weight"],
                "type": "object",
                "properties": {
                    **TARGET["properties"],
                    "weight": {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT},
                },
            },
        },
        "sticky": {"type": "string", "enum": list(STICKY), "default": "conversation"},
    }
    required = ("targets",)

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        given = data["targets"]
        if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= MOST_TARGETS:
            raise ValueError(f"targets must be a list of 1 to {MOST_TARGETS} models")
        targets = tuple(_weighed(f"targets[{i}]", each) for i, each in enumerate(given))
        refuse_twins("targets", [target.model for target, _ in targets])
        if not any(weight for _, weight in targets):
            raise ValueError("targets have weights of 0 only: somebody must get the requests")
        try:
            sticky = choice(*STICKY)(data.get("sticky", "conversation"))
        except ValueError as e:
            raise ValueError(f"sticky {e}") from None
        said = {"targets": [_as_json(*each) for each in targets], "sticky": sticky}
        return Spec(said, _Set(targets, sticky), tuple(target.model for target, _ in targets))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``."""
        said: _Set = spec.read
        total = sum(weight for _, weight in said.targets)
        common = request.common(said.sticky)
        if common:
            target, weight = chosen(said.targets, common)
            why = f"its {said.sticky} stays there"
        else:
            target, weight = drawn(said.targets, request.draw * total)
            why = "drawn by chance"
            if said.sticky != "none":
                why += f", for the request does not say its {said.sticky}"
        share = f"{target.model} gets {weight / total:.1%} of the requests; {why}"
        shares = {t.model: round(w / total, 4) for t, w in said.targets}
        return Plan(target.ask(), (share,), {"shares": shares})


def chosen(targets: Sequence[tuple[Target, float]], common: str) -> tuple[Target, float]:
    """Weighted rendezvous hashing: each target draws a number for ``common``, the heavier the
    better, and the best one has it."""
    return max(targets, key=lambda pair: _score(pair[0].model, pair[1], common))


def drawn(targets: Sequence[tuple[Target, float]], at: float) -> tuple[Target, float]:
    """Whose stretch it is, where each has one as long as its weight; ``at`` is below their sum."""
    end = 0.0
    for target, weight in targets:
        end += weight
        if at < end:
            return target, weight
    return max(targets, key=lambda pair: pair[1])  # rounding


def _score(model: str, weight: float, common: str) -> float:
    if not weight:
        return -math.inf
    digest = hashlib.sha256(f"{model}\0{common}".encode(errors="backslashreplace")).digest()
    share = (int.from_bytes(digest[:8]) + 1) / (2**64 + 2)
    return -math.log(-math.log(share) / weight)


def _weighed(key: str, value: Any) -> tuple[Target, float]:
    if not isinstance(value, Mapping) or "weight" not in value:
        raise ValueError(f'{key} must be like {{"model": NAME, "weight": 1}}')
    try:
        weight = _weight(value["weight"])
    except ValueError as e:
        raise ValueError(f"{key}.weight {e}") from None
    return read_target(key, value, ("weight",)), weight


def _as_json(target: Target, weight: float) -> dict[str, Any]:
    told = target.as_json()
    own = told if isinstance(told, dict) else {"model": told}
    return {**own, "weight": weight}
