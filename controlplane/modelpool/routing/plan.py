"""PURE. What a virtual model makes of a request: steps of models to ask, and how their answers
become one. ``gateway.plan`` carries it out, and knows no kinds of virtual models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from modelpool.catalog.request_rules import NO_RULES, Rules

# A plan asks no more models than that for one request, whatever its steps decide on the way.
MOST_ASKED = 64
# Virtual models may name others, so deep.
MOST_DEEP = 8

# What became of a question whose answer was not waited for: it could change nothing any more, or it
# took too long.
CANCELLED, TIMED_OUT = "not_needed", "member_timeout"

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class File:
    """A part of a form."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Ask:
    """Ask one model. Where nothing else is said it is given the client's own request, its name
    replaced, and where its answer is passed on it is passed on as bytes, streams too.

    Attributes:
        model: a name: a model's, or another virtual model's, whose plan takes its place.
        rules: what is changed of the request.
        data: another body than the client's, as a judge is given; its ``model`` does not matter.
        path: another route than the client's, as ``/v1/chat/completions``; with ``data`` only.
        files: of a route that takes a form, by their names; its fields are in ``data``.
        reason: why this one, for people.
    """

    model: str
    rules: Rules = NO_RULES
    data: Mapping[str, Any] | None = None
    path: str | None = None
    reason: str = ""
    files: Mapping[str, File] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True)
class InOrder:
    """One after the other, until one answers: that answer is passed on. Who fails before the first
    byte is followed by the next, see ``failover``.

    Attributes:
        also_on: codes of errors that move on, too, though they are of the client's making.
    """

    steps: tuple[Step, ...]
    also_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FirstOf:
    """Side by side; the first that begins to answer is passed on, the others are cancelled."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Outcome:
    """What a model that was asked has answered, or why it has not.

    Attributes:
        status: HTTP; of an error that nobody sent the status that it would have had.
        body: as it came.
        error: code and text of what went wrong; empty where nothing did.
        seconds: from the question to the end of the answer.
        position: which of the steps of its ``Collect`` it came from, from 0.
    """

    ask: Ask
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    message: str = ""
    seconds: float = 0.0
    position: int = 0

    @property
    def is_answer(self) -> bool:
        """It is one, and no error."""
        return self.status < 400

    def said(self) -> dict[str, Any]:
        """The body as a JSON object, not to be changed; empty where it is none."""
        return self._said

    @cached_property
    def _said(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Reply:
    """The answer to the client, where it is made of others. A client that wants a stream is sent
    it as one.

    Attributes:
        body: JSON in the form of the route that was asked.
        notes: for the header that tells what was done.
    """

    body: Mapping[str, Any]
    status: int = 200
    notes: tuple[str, ...] = ()


Then: TypeAlias = Callable[[Sequence[Outcome]], "Step | Reply | Outcome"]


@dataclass(frozen=True)
class Collect:
    """Side by side; the answers are read whole, in the order of ``steps``, and ``then`` says what
    comes of them: the reply, one of them as it is, or a further step. Of a step that is more than
    a question it is the answer that it would have passed on.

    ``then`` is a pure function, which may be called in another thread; it is given an outcome for
    each step, errors in place of answers. With ``is_enough`` it is called as soon as that says so
    of those there are, and the rest are cancelled: ``CANCELLED`` is their error. A further step
    says in its questions' ``reason`` why it is taken; the client is told.

    Attributes:
        how: what ``then`` does, for people: "majority vote".
        may_ask: models that ``then`` may ask; for who looks at a plan without running it.
        seconds: after which who has not answered is cancelled: ``TIMED_OUT`` is its error.
    """

    steps: tuple[Step, ...]
    then: Then
    how: str
    is_enough: Callable[[Sequence[Outcome]], bool] | None = None
    may_ask: tuple[str, ...] = ()
    seconds: float | None = None


Step: TypeAlias = Ask | InOrder | FirstOf | Collect


@dataclass(frozen=True)
class Plan:
    """What a virtual model's kind decides about one request.

    Attributes:
        reasons: why, each a phrase for people.
        decision: what else there is to tell, as ``confidence`` and ``complexity``: plain JSON.
    """

    step: Step
    reasons: tuple[str, ...] = ()
    decision: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


def asks_of(step: Step) -> Iterator[Ask]:
    """Every question in it, first ones first; not those that come out of others' answers."""
    if isinstance(step, Ask):
        yield step
    else:
        for each in step.steps:
            yield from asks_of(each)


def next_of(step: Step) -> Iterator[Ask]:
    """Who would be asked if who is asked first fails; not who is asked anyway."""
    if isinstance(step, InOrder):
        first, *others = step.steps
        yield from next_of(first)
        for each in others:
            yield from asks_of(each)


def described(step: Step) -> dict[str, Any]:
    """As JSON, for who looks at it."""
    if isinstance(step, Ask):
        told: dict[str, Any] = {"do": "ask", "model": step.model}
        told |= {"reason": step.reason} if step.reason else {}
        return told | ({"request": step.rules.as_json()} if step.rules else {})
    steps = [described(each) for each in step.steps]
    if isinstance(step, InOrder):
        told = {"do": "in order", "steps": steps}
        return told | ({"also_on": sorted(step.also_on)} if step.also_on else {})
    if isinstance(step, FirstOf):
        return {"do": "first of", "steps": steps}
    told = {"do": "side by side", "steps": steps, "then": step.how}
    told |= {"seconds": step.seconds} if step.seconds is not None else {}
    return told | ({"may_ask": list(step.may_ask)} if step.may_ask else {})
