"""PURE. An ordered list of models: who fails before the first byte is followed by the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from modelpool.catalog.value_checks import several, text
from modelpool.routing.plan import Ask, InOrder, Plan
from modelpool.routing.request import RouteRequest

from .auto import stand_ins
from .base import Known, Spec
from .targets import TARGETS, Target, read_targets


@dataclass(frozen=True)
class _List:
    targets: tuple[Target, ...]
    also_on: frozenset[str]
    is_by_capability: bool = False
    is_remote: bool | None = None


class Fallback:
    """``targets`` in the order in which they are asked. ``also_on`` are codes of errors that move
    on, too, though they are the client's making: ``context_length_exceeded``. With ``by``
    ``capability`` those models follow that can do what the request needs, best first; ``remote``
    says whether they are elsewhere or here."""

    name = "fallback"
    summary = "an ordered list of models, the next where one fails"
    keys: ClassVar[Mapping[str, Any]] = {
        "targets": TARGETS,
        "also_on": {"type": "array", "items": {"type": "string"}},
        "by": {"enum": ["list", "capability"]},
        "remote": {"type": "boolean"},
    }
    required = ("targets",)

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        targets = read_targets("targets", data["targets"])
        try:
            also_on = several(text)(data.get("also_on", ()))
        except ValueError as e:
            raise ValueError(f"also_on {e}") from None
        by, is_remote = data.get("by", "capability" if "remote" in data else "list"), None
        if by not in ("list", "capability"):
            raise ValueError("by must be list or capability")
        if "remote" in data:
            is_remote = data["remote"]
            if not isinstance(is_remote, bool) or by == "list":
                raise ValueError("remote must be true or false, and goes with by: capability")
        said: dict[str, Any] = {"targets": [t.as_json() for t in targets]}
        said |= {"also_on": list(also_on)} if also_on else {}
        said |= {key: data[key] for key in ("by", "remote") if key in data}
        read = _List(targets, frozenset(also_on), by == "capability", is_remote)
        return Spec(said, read, tuple(t.model for t in targets))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``."""
        said: _List = spec.read
        first, *others = said.targets
        then = f", then {', '.join(t.model for t in others)}" if others else ""
        steps = [target.ask() for target in said.targets]
        reasons = [f"{first.model} comes first{then}"]
        if said.is_by_capability:
            names = [target.model for target in said.targets]
            more, told = _stand_ins(said, names, request, known)
            steps += more
            reasons.append(told)
        return Plan(InOrder(tuple(steps), said.also_on), tuple(reasons))


def _stand_ins(
    said: _List, names: list[str], request: RouteRequest, known: Known
) -> tuple[list[Ask], str]:
    found = stand_ins(request, known, names, is_remote=said.is_remote)
    where = {None: "", True: " elsewhere", False: " here"}[said.is_remote]
    if found is None or found.best is None:
        return [], f"no other model{where} can do it"
    able = [found.best, *found.runners_up]
    listed = ", ".join(each.model_id for each in able)
    reason = f"it can do it, too{where and f',{where}'}"
    return [Ask(each.model_id, reason=reason) for each in able], f"then who can{where}: {listed}"
