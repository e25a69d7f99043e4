"""PURE. From small to large: the next model is asked where the answer of the one before is not to
be relied on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH

from modelpool.catalog.value_checks import choice, json_object, number, several, text
from modelpool.routing import answers
from modelpool.routing.failover import moves_on
from modelpool.routing.members import Detail, Member, detail_of, with_members
from modelpool.routing.plan import TIMED_OUT, Ask, Collect, InOrder, Outcome, Plan, Reply, Step
from modelpool.routing.request import RouteRequest

from .base import Known, Spec
from .targets import TARGETS, Target, read_targets

DOUBTS = ("refusal", "empty", "invalid", "cut_off")
BY_DEFAULT = ("refusal", "empty", "invalid")
MOST_TARGETS = 8
MAX_SECONDS = 3600.0
# Of the client's making, but another model may have more room, or fewer wishes.
ALSO_ON = frozenset({"context_length_exceeded", "not_supported", "unsupported_parameter"})


@dataclass(frozen=True)
class _Cascade:
    targets: tuple[Target, ...]
    confidence: float | None
    doubts: frozenset[str]
    must_contain: tuple[str, ...]
    schema: Mapping[str, Any] | None
    seconds: float | None


@dataclass(frozen=True)
class _Before:
    """A model whose answer was not relied on, or that gave none."""

    model: str
    outcome: Outcome
    why: str


class Cascade:
    """``targets`` from small to large. An answer is not relied on where ``min_confidence`` is more
    than the mean probability of its tokens, where ``escalate_on`` has what it is (``refusal``,
    ``empty``, ``invalid``: no JSON though JSON was asked for, ``cut_off``: no tokens were left),
    where it lacks a text of ``must_contain``, or is not as ``schema`` says; so is none within
    ``seconds``. The last one's answer is relied on whatever it is."""

    name = "cascade"
    summary = "models from small to large, the next where an answer is not to be relied on"
    keys: ClassVar[Mapping[str, Any]] = {
        "targets": {**TARGETS, "minItems": 2, "maxItems": MOST_TARGETS},
        "min_confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "escalate_on": {"type": "array", "items": {"type": "string", "enum": list(DOUBTS)}},
        "must_contain": {"type": "array", "items": {"type": "string"}},
        "schema": {"type": "object"},
        "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
    }
    required = ("targets",)

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        targets = read_targets("targets", data["targets"])
        if not 2 <= len(targets) <= MOST_TARGETS:
            raise ValueError(f"targets must be a list of 2 to {MOST_TARGETS} models")
        checks: dict[str, tuple[Any, Any]] = {
            "min_confidence": (number(0, 1), None),
            "escalate_on": (several(choice(*DOUBTS)), BY_DEFAULT),
            "must_contain": (several(text), ()),
            "schema": (json_object, None),
            "seconds": (number(0.001, MAX_SECONDS), None),
        }
        read = {key: default for key, (_, default) in checks.items()}
        for key, (check, _) in checks.items():
            if key in data:
                try:
                    read[key] = check(data[key])
                except ValueError as e:
                    raise ValueError(f"{key} {e}") from None
        said: dict[str, Any] = {"targets": [t.as_json() for t in targets]}
        said |= {k: list(v) if isinstance(v, tuple) else v for k, v in read.items() if k in data}
        cascade = _Cascade(
            targets,
            read["min_confidence"],
            frozenset(read["escalate_on"]),
            tuple(read["must_contain"]),
            read["schema"],
            read["seconds"],
        )
        return Spec(said, cascade, tuple(t.model for t in targets))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``. Where answers are no texts there is nothing to rely on or not: the first
        answers, and the next only if it fails."""
        said: _Cascade = spec.read
        detail = detail_of(request)
        if request.path not in answers.TEXT_ROUTES:
            why = f"{said.targets[0].model} comes first; {request.path} answers no text to check"
            return Plan(InOrder(tuple(t.ask() for t in said.targets)), (why,))
        first, *others = (t.model for t in said.targets)
        why = f"{first} comes first, then {', '.join(others)} where its answer is not relied on"
        return Plan(_step(said, request, detail, ()), (why,))


def _step(
    said: _Cascade, request: RouteRequest, detail: Detail, before: tuple[_Before, ...]
) -> Step:
    index = len(before)
    is_last = index == len(said.targets) - 1
    reason = f"{before[-1].model}: {before[-1].why}" if before else ""
    target = said.targets[index]
    if is_last and request.is_stream:
        last = target.ask(reason)
        kept = _best(before)
        if kept is None:
            return last
        # Nobody is left without an answer where there is one.
        keep = partial(_kept, kept, before, detail)
        return InOrder((last, Collect((), keep, f"the answer of {kept.model}")), ALSO_ON)
    # The last one is relied on however sure it is.
    is_wanted = said.confidence is not None and not is_last
    data = _with_logprobs(request) if is_wanted else None
    ask = Ask(target.model, target.rules, data, reason=reason)
    then = partial(_then, said, request, detail, before)
    rest = tuple(t.model for t in said.targets[index + 1 :])
    return Collect((ask,), then, "the next where it is not relied on", None, rest, said.seconds)


def _then(
    said: _Cascade,
    request: RouteRequest,
    detail: Detail,
    before: tuple[_Before, ...],
    outcomes: Sequence[Outcome],
) -> Step | Reply | Outcome:
    (outcome,) = outcomes
    model = said.targets[len(before)].model
    is_last = len(before) == len(said.targets) - 1
    why = _why_not(said, request, outcome, is_last=is_last)
    if not outcome.is_answer and not _may_another(said, request, outcome):
        return outcome
    if why and not is_last:
        return _step(said, request, detail, (*before, _Before(model, outcome, why)))
    if not outcome.is_answer:
        kept = _best(before)
        at_last = (*before, _Before(model, outcome, why))
        return _kept(kept, at_last, detail, ()) if kept is not None else outcome
    members = [*map(_member, before), _chosen(model, outcome)]
    notes = [f"{b.model}: {b.why}" for b in before]
    notes += [f"{model} is the last: {why}"] if why else []
    body = outcome.said()
    if said.confidence is not None and not request.data.get("logprobs"):
        body = answers.without_logprobs(body)
    return with_members(body, "cascade", members, detail, notes)


def _kept(kept: _Before, before: Sequence[_Before], detail: Detail, _: Sequence[Outcome]) -> Reply:
    """An answer that was not relied on, as nobody has a better one."""
    members = [_chosen(b.model, b.outcome, b.why) if b is kept else _member(b) for b in before]
    notes = [f"{b.model}: {b.why}" for b in before]
    notes.append(f"nobody after {kept.model} has answered: its answer is taken")
    body = answers.without_logprobs(kept.outcome.said())
    return with_members(body, "cascade", members, detail, notes)


def _best(before: Sequence[_Before]) -> _Before | None:
    """The last that has said anything."""
    told = (b for b in reversed(before) if b.outcome.is_answer and _says_something(b.outcome))
    return next(told, None)


def _says_something(outcome: Outcome) -> bool:
    said = outcome.said()
    return bool(answers.text_of(said).strip() or answers.calls_of(said))


def _why_not(
    said: _Cascade, request: RouteRequest, outcome: Outcome, *, is_last: bool = False
) -> str:
    """Why an answer is not relied on; empty where it is."""
    if not outcome.is_answer:
        return f"no answer ({outcome.error})"
    body = outcome.said()
    wants_json, schema = answers.wanted_form(request.data)
    if "empty" in said.doubts and not _says_something(outcome):
        return "its answer is empty"
    if "refusal" in said.doubts and answers.is_refusal(body):
        return "it refuses"
    if "cut_off" in said.doubts and answers.is_cut_off(body):
        return "its answer is cut off"
    for needed in (said.schema, schema if wants_json else None):
        if needed is not None and (wrong := answers.problem(body, needed)):
            return f"its answer is refused: {wrong}"
    if "invalid" in said.doubts and (wants_json or answers.calls_of(body)):
        wrong = answers.problem(body, None)
        if wrong:
            return f"its answer is refused: {wrong}"
    missing = [t for t in said.must_contain if t not in answers.text_of(body)]
    if missing:
        return f"its answer lacks {missing[0][:40]!r}"
    if said.confidence is None or is_last:
        return ""
    confidence = answers.confidence_of(body)
    if confidence is None:
        return "it does not tell how sure it is"
    if confidence < said.confidence:
        return f"confidence {confidence:.2f} is below {said.confidence:g}"
    return ""


def _may_another(said: _Cascade, request: RouteRequest, outcome: Outcome) -> bool:
    """Whether another model may do better than one that has not answered. Who is asked for
    probabilities that the client did not ask for may be told that there are none."""
    is_ours = said.confidence is not None and not request.data.get("logprobs")
    if is_ours and outcome.status in (400, 422, 501) and "logprob" in outcome.message.casefold():
        return True
    return outcome.error == TIMED_OUT or moves_on(outcome.status, outcome.error, ALSO_ON)


def _with_logprobs(request: RouteRequest) -> Mapping[str, Any] | None:
    """The request with the wish to be told how sure the model is, where its API has a word for
    that."""
    wish = {CHAT_PATH: True, TEXT_PATH: 1, "/api/chat": True, "/api/generate": True}
    if request.path not in wish or request.data.get("logprobs"):
        return None
    return {**request.data, "logprobs": wish[request.path]}


def _member(before: _Before) -> Member:
    return Member(before.model, before.outcome, more=_told(before.outcome, before.why))


def _chosen(model: str, outcome: Outcome, why: str = "") -> Member:
    return Member(model, outcome, is_chosen=True, more=_told(outcome, why))


def _told(outcome: Outcome, why: str) -> dict[str, Any]:
    confidence = answers.confidence_of(outcome.said()) if outcome.is_answer else None
    told: dict[str, Any] = {"not_relied_on": why} if why else {}
    return told | ({"confidence": round(confidence, 4)} if confidence is not None else {})
