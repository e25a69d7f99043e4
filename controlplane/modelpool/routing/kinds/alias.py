"""PURE. Another name for one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from modelpool.routing.plan import Plan
from modelpool.routing.request import RouteRequest

from .base import Known, Spec
from .targets import TARGET, read_target


class Alias:
    """``target`` is the model."""

    name = "alias"
    summary = "another name for one model"
    keys: ClassVar[Mapping[str, Any]] = {"target": TARGET}
    required = ("target",)

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        target = read_target("target", data["target"])
        return Spec({"target": target.as_json()}, target, (target.model,))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``."""
        return Plan(spec.read.ask(), (f"it stands for {spec.read.model}",))
