"""PURE. The whole plan for a request: what a virtual model's kind decides, with the plans of those
virtual models in it that it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from modelpool_client.errors import Conflict, NoSuitableModel
from modelpool_client.surfaces.routes import SURFACES

from modelpool.catalog.model import Model
from modelpool.catalog.request_rules import Rules

from .kinds.base import Kind, Known
from .plan import MOST_ASKED, MOST_DEEP, Ask, Collect, InOrder, Outcome, Plan, Reply, Step, asks_of
from .request import RouteRequest
from .virtual_model import VirtualModel

Find: TypeAlias = Callable[[str], VirtualModel | None]
Preset: TypeAlias = Callable[[str], Mapping[str, Any]]
# The kind of what was passed that is no virtual model: an entry with fallbacks.
MODEL = "model"


@dataclass(frozen=True)
class Passed:
    """A virtual model on the way from a name to models, or a model with fallbacks (``MODEL``)."""

    name: str
    kind: str
    version: int
    reasons: tuple[str, ...] = ()
    decision: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """A plan that names models only, not virtual ones.

    Attributes:
        passed: the virtual models that were followed, the asked one first.
    """

    step: Step
    passed: tuple[Passed, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, of all that were followed."""
        return tuple(f"{p.name}: {reason}" for p in self.passed for reason in p.reasons)


@dataclass(frozen=True)
class Resolver:
    """Makes plans for requests; ``kind`` gives kinds by their names, ``find`` virtual models,
    ``preset`` the values of a preset."""

    kind: Callable[[str], Kind]
    find: Find
    preset: Preset

    def resolve(self, virtual: VirtualModel, request: RouteRequest, known: Known) -> Resolved:
        """The plan for a request that names this virtual model.

        Raises:
            ModelPoolError: for the client: the kind says that no model could do it, or too many
                would have to be asked.
        """
        passed: list[Passed] = []
        step = self._follow(virtual, request, known, passed, 1)
        step = self._with_fallbacks(step, request, known, passed)
        return self._counted(virtual.name, step, passed)

    def resolve_model(self, model: Model, request: RouteRequest, known: Known) -> Resolved:
        """The plan for a request that names a model: it, then its fallbacks.

        Raises:
            ModelPoolError: as ``resolve``.
        """
        passed: list[Passed] = []
        own = Ask(model.model_id, reason="it is named")
        step = self._with_fallbacks(own, request, known, passed)
        return self._counted(model.model_id, step, passed)

    def _with_fallbacks(
        self, step: Step, request: RouteRequest, known: Known, passed: list[Passed]
    ) -> Step:
        """Where a plan asks one model and no other, those follow that its entry names. Of these the
        entries' own fallbacks do not count, so that two models may be each other's. What is asked
        about that very model, such as its tokens, no other answers."""
        surface = SURFACES.get(request.path)
        if surface is not None and surface.is_of_model:
            return step
        model = known.model(step.model) if isinstance(step, Ask) else None
        if model is None or not model.fallbacks or not isinstance(step, Ask):
            return step
        name = model.model_id
        # One that has gone since would only tell that it is not there, in place of what was wrong.
        there = [n for n in model.fallbacks if known.model(n) is not None or self.find(n)]
        gone = ", ".join(n for n in model.fallbacks if n not in there)
        why = f"it comes first, then {', '.join(there) or 'nobody'}"
        why += f"; nobody is called {gone} any more" if gone else ""
        passed.append(Passed(name, MODEL, 0, (why,)))
        others = tuple(
            dataclasses.replace(step, model=other, reason=f"a fallback of {name}")
            for other in there
        )
        return in_order(self._suitable((step, *others), request, known, passed, 1))

    def _counted(self, name: str, step: Step, passed: list[Passed]) -> Resolved:
        count = sum(1 for _ in asks_of(step))
        if count > MOST_ASKED:
            raise Conflict(
                f"{name} would ask {count} models for one request, {MOST_ASKED} at most",
                code="too_many_models",
                param="model",
            )
        return Resolved(step, tuple(passed))

    def expand(self, step: Step, request: RouteRequest, known: Known) -> Resolved:
        """A step that came out of answers, with the plans of virtual models in it."""
        passed: list[Passed] = []
        return Resolved(self._expanded(step, request, known, passed, 1), tuple(passed))

    def _follow(
        self,
        virtual: VirtualModel,
        request: RouteRequest,
        known: Known,
        passed: list[Passed],
        deep: int,
    ) -> Step:
        if deep > MOST_DEEP:
            raise Conflict(
                f"{virtual.name} stands behind more than {MOST_DEEP} other virtual models",
                code="too_deep",
                param="model",
            )
        own: tuple[Step, ...] = ()
        name, kind, version = virtual.name, virtual.kind, virtual.version
        try:
            plan = self._plan(virtual, request, known)
            passed.append(Passed(name, kind, version, plan.reasons, plan.decision))
            own = (plan.step,)
        except NoSuitableModel as error:
            if not virtual.fallbacks:
                raise
            passed.append(Passed(name, kind, version, (error.message,)))
        others = tuple(t.ask("a fallback") for t in virtual.fallbacks)
        step = in_order(self._suitable((*own, *others), request, known, passed, deep))
        return with_rules(step, self._filled(virtual.rules)) if virtual.rules else step

    def _suitable(
        self,
        steps: tuple[Step, ...],
        request: RouteRequest,
        known: Known,
        passed: list[Passed],
        deep: int,
    ) -> tuple[Step, ...]:
        """Steps that follow each other, without those for which there is no model."""
        found: list[Step] = []
        error: NoSuitableModel | None = None
        for step in steps:
            try:
                found.append(self._expanded(step, request, known, passed, deep))
            except NoSuitableModel as e:
                error = error or e
        if error is not None and not found:
            raise error
        return tuple(found)

    def _plan(self, virtual: VirtualModel, request: RouteRequest, known: Known) -> Plan:
        return self.kind(virtual.kind).plan(virtual.spec, request, known)

    def _expanded(
        self, step: Step, request: RouteRequest, known: Known, passed: list[Passed], deep: int
    ) -> Step:
        if not isinstance(step, Ask):
            if isinstance(step, InOrder):
                suitable = self._suitable(step.steps, request, known, passed, deep)
                return in_order(suitable, step.also_on)
            steps = tuple(self._expanded(s, request, known, passed, deep) for s in step.steps)
            return dataclasses.replace(step, steps=steps)
        virtual = self._virtual(step, known)
        if virtual is None:
            if not step.rules.preset:
                return step
            return dataclasses.replace(step, rules=self._filled(step.rules))
        inner = self._follow(virtual, request, known, passed, deep + 1)
        own = _said_to(inner, step) if step.data is not None else inner
        return with_rules(own, self._filled(step.rules)) if step.rules else own

    def _virtual(self, ask: Ask, known: Known) -> VirtualModel | None:
        return None if known.model(ask.model) is not None else self.find(ask.model)

    def _filled(self, rules: Rules) -> Rules:
        return rules.with_preset(self.preset(rules.preset)) if rules.preset else rules


def in_order(steps: tuple[Step, ...], also_on: frozenset[str] = frozenset()) -> Step:
    """One after the other; lists within that move on in the same cases are part of it."""
    flat: list[Step] = []
    for step in steps:
        is_same = isinstance(step, InOrder) and (step.also_on == also_on or not step.also_on)
        flat += step.steps if isinstance(step, InOrder) and is_same else [step]
    return flat[0] if len(flat) == 1 else InOrder(tuple(flat), also_on)


def with_rules(step: Step, rules: Rules) -> Step:
    """The same step, with rules that come before those of its questions."""
    if isinstance(step, Ask):
        return dataclasses.replace(step, rules=rules.then(step.rules))
    steps = tuple(with_rules(each, rules) for each in step.steps)
    if not isinstance(step, Collect):
        return dataclasses.replace(step, steps=steps)

    def then(outcomes: Any) -> Step | Reply | Outcome:
        made = step.then(outcomes)
        return made if isinstance(made, (Reply, Outcome)) else with_rules(made, rules)

    return dataclasses.replace(step, steps=steps, then=then)


def _said_to(step: Step, ask: Ask) -> Step:
    """The same step, each of its questions with the body that ``ask`` has."""
    if isinstance(step, Ask):
        return dataclasses.replace(step, data=ask.data, path=ask.path, files=ask.files)
    return dataclasses.replace(step, steps=tuple(_said_to(each, ask) for each in step.steps))
