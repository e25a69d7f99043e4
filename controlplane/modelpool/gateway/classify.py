"""Asks models what a request is about, for rules that want to know; see ``routing.classifiers``.

What one has said is remembered for a while. One that fails, or is not loaded, holds no request up:
the label for such cases is taken, and the reason told.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeAlias

from modelpool_client.errors import ModelPoolError

from modelpool.gateway.plan import error_of
from modelpool.routing.classifiers import (
    Classifier,
    Finding,
    Question,
    body_of,
    nearest,
    said_class,
    said_label,
    vectors_of,
)
from modelpool.routing.plan import Ask, Outcome

MOST_REMEMBERED = 10_000
MOST_VECTORS = 4096
# One that has failed is not asked again so soon: requests would wait for it in vain.
REST_SECONDS = 10.0
CHANGES = frozenset({"model-updated", "model-changed", "model-deleted", "virtual-model-changed"})

Vector: TypeAlias = tuple[float, ...]


class Asking(Protocol):
    """Who can ask a model for a request; made for each."""

    def model_of(self, name: str) -> str:
        """Whom a question to that name would go to first.

        Raises:
            ModelPoolError: to nobody.
        """
        ...

    def refusal(self, model_id: str) -> str:
        """Why a model that is not loaded, or fails, need not be asked; empty where it may be."""
        ...

    def is_serving(self, model_id: str) -> bool:
        """It need not be loaded."""
        ...

    async def ask(self, ask: Ask) -> Outcome:
        """The whole answer, or what went wrong."""
        ...


class _Kept(NamedTuple):
    finding: Finding
    until: float


class Classifiers:
    """What was found is kept here, by question; vectors of examples by model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._vectors: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._resting: dict[str, tuple[float, str]] = {}

    def __repr__(self) -> str:
        return f"<Classifiers {len(self._kept)} answers, {len(self._vectors)} vectors>"

    def remembered(self, question: Question) -> Finding | None:
        """What was found before, and still counts."""
        kept = self._kept.get(question)
        if kept is None or kept.until <= self._clock():
            return None
        return replace(kept.finding, how="cached")

    def without(self, question: Question) -> Finding:
        """For who asks nobody: what is remembered, else what would be taken without an answer."""
        known = self.remembered(question)
        if known is not None:
            return known
        name = question.classifier.model
        return _otherwise(question, "not asked", f"{name} is not asked for a preview")

    async def find(self, question: Question, asking: Asking) -> Finding:
        """What its model says; within its seconds, whatever happens."""
        known = self.remembered(question)
        if known is not None:
            return known
        classifier = question.classifier
        try:
            model_id = asking.model_of(classifier.model)
        except ModelPoolError as error:
            return _otherwise(question, "failed", error.message)
        until, why = self._resting.get(model_id, (0.0, ""))
        if self._clock() < until:
            return _otherwise(question, "skipped", f"{model_id} has failed just now: {why}")
        if refusal := asking.refusal(model_id):
            return _otherwise(question, "skipped", refusal)
        if classifier.if_cold == "skip" and not asking.is_serving(model_id):
            return _otherwise(question, "skipped", f"{model_id} is not loaded")
        try:
            async with asyncio.timeout(classifier.seconds):
                found = await self._asked(question, model_id, asking)
        except TimeoutError:
            problem = f"{model_id} has not answered within {classifier.seconds:g} s"
            return self._failed(question, model_id, problem)
        except ModelPoolError as error:
            return self._failed(question, model_id, f"{model_id}: {error.message}")
        except ValueError as error:  # of another text it may say more
            return _otherwise(question, "failed", f"{model_id}: {error}")
        self._keep(question, found)
        return found

    async def _asked(self, question: Question, model_id: str, asking: Asking) -> Finding:
        """
        Raises:
            ModelPoolError: it does not answer.
            ValueError: what it says cannot be used.
        """
        classifier = question.classifier
        missing: tuple[str, ...] = ()
        if classifier.by == "embeddings":
            missing = self._missing(classifier, model_id)
        path, body = body_of(question, missing)
        outcome = await asking.ask(Ask(classifier.model, data=body, path=path))
        if not outcome.is_answer:
            raise error_of(outcome)
        said = outcome.said()
        if classifier.by == "chat":
            return said_label(classifier, said)
        if classifier.by == "classify":
            return said_class(classifier, said)
        own, *others = vectors_of(said, 1 + len(missing))
        known = {each: self._vectors.get((model_id, each)) for each in _texts(classifier)}
        known |= zip(missing, others, strict=True)
        for each, vector in zip(missing, others, strict=True):
            self._vectors[model_id, each] = vector
        while len(self._vectors) > MOST_VECTORS:
            self._vectors.popitem(last=False)
        examples = {each: vector for each, vector in known.items() if vector is not None}
        if any(len(vector) != len(own) for vector in examples.values()):
            self._forget(model_id)
            raise ValueError("its vectors have another length than before: it is another model")
        return nearest(classifier, own, examples)

    def _missing(self, classifier: Classifier, model_id: str) -> tuple[str, ...]:
        texts = dict.fromkeys(_texts(classifier))
        return tuple(each for each in texts if (model_id, each) not in self._vectors)

    def _keep(self, question: Question, found: Finding) -> None:
        seconds = question.classifier.cache_seconds
        if not seconds:
            return
        self._kept[question] = _Kept(found, self._clock() + seconds)
        self._kept.move_to_end(question)
        while len(self._kept) > MOST_REMEMBERED:
            self._kept.popitem(last=False)

    def _failed(self, question: Question, model_id: str, problem: str) -> Finding:
        self._resting[model_id] = (self._clock() + REST_SECONDS, problem)
        while len(self._resting) > MOST_REMEMBERED:
            del self._resting[next(iter(self._resting))]
        return _otherwise(question, "failed", problem)

    def on_event(self, event: Any) -> None:
        """An entry has changed: what was said before may be another's."""
        if event.name in CHANGES:
            self._kept.clear()
            self._forget(str(event.data.get("model_id", "")))

    def _forget(self, model_id: str) -> None:
        self._resting.pop(model_id, None)
        for key in [key for key in self._vectors if key[0] == model_id]:
            del self._vectors[key]


def _texts(classifier: Classifier) -> list[str]:
    return [text for texts in classifier.examples for text in texts]


def _otherwise(question: Question, how: str, problem: str) -> Finding:
    return Finding(question.classifier.otherwise, how, problem=problem)  # type: ignore[arg-type]
