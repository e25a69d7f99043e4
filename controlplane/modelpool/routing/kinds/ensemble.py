"""PURE. Several models asked at once, or one several times, whose answers become one."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CLASSIFY_PATH,
    EMBEDDINGS_PATH,
    RERANK_PATH,
)

from modelpool.catalog.request_rules import Rules
from modelpool.catalog.value_checks import choice, flag, integer, number
from modelpool.routing import votes
from modelpool.routing.answers import TEXT_ROUTES, calls_of, text_of
from modelpool.routing.members import (
    Detail,
    Member,
    detail_of,
    failure,
    refused,
    shortly,
    with_members,
)
from modelpool.routing.plan import Ask, Collect, FirstOf, InOrder, Outcome, Plan, Reply, Step
from modelpool.routing.request import RouteRequest
from modelpool.routing.votes import Vote

from .base import Known, Spec
from .targets import TARGET, Target, read_target

METHODS = ("vote", "consensus", "average", "best_of", "first")
COMPARE = ("auto", "text", "json", "number", "line", "words")
# For one request; the plan's own limit holds for all that they name together.
MOST_MEMBERS, MOST_SAMPLES = 32, 16
MAX_SECONDS = 3600.0
AGREEMENT = 2 / 3
# Routes whose answers are numbers.
AVERAGED = (EMBEDDINGS_PATH, RERANK_PATH, CLASSIFY_PATH)
MOST_SHOWN = 8_000
MAX_PROMPT = 16_384
PROMPT = (
    "You judge answers to a question. Say which answer is best: the most correct, complete and"
    " helpful one.\n\nQuestion:\n{question}\n\n{answers}\n\n"
    "Reply with the number of the best answer only, from 1 to {count}."
)
_WEIGHT: Mapping[str, Any] = {"type": "number", "exclusiveMinimum": 0, "default": 1}
_SAMPLES: Mapping[str, Any] = {
    "type": "integer",
    "minimum": 1,
    "maximum": MOST_SAMPLES,
    "default": 1,
}
_MEMBER: Mapping[str, Any] = {
    **TARGET,
    "properties": {**TARGET["properties"], "weight": _WEIGHT, "samples": _SAMPLES},
}
_JUDGE: Mapping[str, Any] = {
    **TARGET,
    "properties": {**TARGET["properties"], "prompt": {"type": "string"}},
}
_weight = number(1e-6, 1e6)
_samples = integer(1, MOST_SAMPLES)


@dataclass(frozen=True)
class _Member:
    target: Target
    weight: float = 1.0
    samples: int = 1

    def as_json(self) -> Any:
        said: dict[str, Any] = {} if self.weight == 1 else {"weight": self.weight}
        said |= {} if self.samples == 1 else {"samples": self.samples}
        plain = self.target.as_json()
        if not said:
            return plain
        return ({"model": plain} if isinstance(plain, str) else plain) | said


@dataclass(frozen=True)
class _Ensemble:
    """``asked`` names who is asked, once for each sample, with the weight of its vote."""

    members: tuple[_Member, ...]
    method: str
    compare: votes.Compare = "auto"
    agreement: float = AGREEMENT
    least: int = 1
    seconds: float | None = None
    stop_early: bool = False
    judge: Target | None = None
    prompt: str = PROMPT

    @property
    def asked(self) -> list[tuple[str, float]]:
        return [(m.target.model, m.weight) for m in self.members for _ in range(m.samples)]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


class Ensemble:
    """``members`` are asked side by side, each ``samples`` times. ``method`` says what comes of
    their answers: ``vote`` (what most say, by ``weight``), ``consensus`` (the same, or nothing
    where fewer than ``agreement`` of them say it), ``average`` (of vectors and scores),
    ``best_of`` (which ``judge`` finds best), ``first`` (the first that begins to answer).

    ``compare`` says what of the answers is compared, ``least`` how many must have answered,
    ``seconds`` how long each has, ``stop_early`` that the rest is cancelled once it cannot change
    the vote.
    """

    name = "ensemble"
    summary = "several models asked at once, whose answers become one"
    keys: ClassVar[Mapping[str, Any]] = {
        "members": {"type": "array", "items": _MEMBER, "minItems": 1, "maxItems": MOST_MEMBERS},
        "method": {"type": "string", "enum": list(METHODS), "default": "vote"},
        "compare": {"type": "string", "enum": list(COMPARE), "default": "auto"},
        "agreement": {"type": "number", "minimum": 0, "maximum": 1},
        "least": {"type": "integer", "minimum": 1, "maximum": MOST_MEMBERS},
        "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
        "stop_early": {"type": "boolean", "default": False},
        "judge": _JUDGE,
    }
    required = ("members",)

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        members = _read_members(data["members"])
        method = _read("method", choice(*METHODS), data, "vote")
        said: dict[str, Any] = {"members": [m.as_json() for m in members], "method": method}
        checks: dict[str, tuple[Any, Any]] = {
            "compare": (choice(*COMPARE), "auto"),
            "agreement": (number(0, 1), AGREEMENT),
            "least": (integer(1, MOST_MEMBERS), 1),
            "seconds": (number(0.001, MAX_SECONDS), None),
            "stop_early": (flag, False),
        }
        read = {key: _read(key, check, data, default) for key, (check, default) in checks.items()}
        said |= {key: read[key] for key in checks if key in data}
        judge, prompt = _read_judge(data["judge"]) if "judge" in data else (None, PROMPT)
        if judge is not None:
            told = judge.as_json() if prompt == PROMPT else _judge_json(judge, prompt)
            said["judge"] = told
        ensemble = _Ensemble(members, method, **read, judge=judge, prompt=prompt)
        _check(ensemble, data)
        names = [m.target.model for m in members] + ([judge.model] if judge else [])
        return Spec(said, ensemble, tuple(dict.fromkeys(names)))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``.

        Raises:
            InvalidRequest: the method is none for the route that was asked.
        """
        said: _Ensemble = spec.read
        detail = detail_of(request)
        names = ", ".join(dict.fromkeys(said.names))
        reason = f"{len(said.names)} answers of {names}: {_how(said)}"
        if said.method == "first":
            return Plan(FirstOf(tuple(_asks(said, request))), (reason,))
        _check_route(said, request)
        if said.method != "average" and request.path not in TEXT_ROUTES:
            first = said.members[0].target.model
            why = f"{first} comes first; what {request.path} answers is not put to the vote"
            return Plan(InOrder(tuple(m.target.ask() for m in said.members)), (why,))
        step = Collect(
            tuple(_asks(said, request)),
            partial(_joined, said, request, detail),
            _how(said),
            partial(_is_enough, said) if said.stop_early else None,
            (said.judge.model,) if said.judge else (),
            said.seconds,
        )
        return Plan(step, (reason,))


# -- reading --------------------------------------------------------------------------------------


def _read(key: str, check: Any, data: Mapping[str, Any], default: Any) -> Any:
    if key not in data:
        return default
    try:
        return check(data[key])
    except ValueError as e:
        raise ValueError(f"{key} {e}") from None


def _read_members(value: Any) -> tuple[_Member, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"members must be a list of 1 to {MOST_MEMBERS} models")
    found = []
    for i, each in enumerate(value):
        key = f"members[{i}]"
        target = read_target(key, each, ("weight", "samples"))
        more = each if isinstance(each, Mapping) else {}
        weight = _inner(key, "weight", _weight, more, 1.0)
        found.append(_Member(target, weight, _inner(key, "samples", _samples, more, 1)))
    if sum(m.samples for m in found) > MOST_MEMBERS:
        raise ValueError(f"members would be asked for more than {MOST_MEMBERS} answers")
    return tuple(found)


def _inner(key: str, name: str, check: Any, data: Mapping[str, Any], default: Any) -> Any:
    try:
        return _read(name, check, data, default)
    except ValueError as e:
        raise ValueError(f"{key}.{e}") from None


def _read_judge(value: Any) -> tuple[Target, str]:
    target = read_target("judge", value, ("prompt",))
    prompt = value.get("prompt", PROMPT) if isinstance(value, Mapping) else PROMPT
    if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT or "{answers}" not in prompt:
        raise ValueError(
            "judge.prompt must be a text with {answers} in it, and where you like {question} and"
            f" {{count}}; at most {MAX_PROMPT} characters"
        )
    return target, prompt


def _judge_json(judge: Target, prompt: str) -> Any:
    plain = judge.as_json()
    return ({"model": plain} if isinstance(plain, str) else plain) | {"prompt": prompt}


def _check(said: _Ensemble, data: Mapping[str, Any]) -> None:
    """Raise ValueError for keys that mean nothing together."""
    if (said.judge is None) == (said.method == "best_of"):
        raise ValueError("judge is required for method best_of, and is for that alone")
    if "agreement" in data and said.method != "consensus":
        raise ValueError("agreement is for method consensus alone")
    if said.compare == "words" and said.method != "consensus":
        raise ValueError("compare by words is for method consensus alone")
    if "compare" in data and said.method in ("average", "first"):
        raise ValueError(f"compare means nothing for method {said.method}")
    if said.stop_early and said.method != "vote":
        raise ValueError("stop_early is for method vote alone")
    if said.method == "first" and (said.least > 1 or said.seconds is not None):
        raise ValueError("least and seconds mean nothing for method first")
    if said.least > len(said.names):
        raise ValueError(f"least is {said.least}, but there are {len(said.names)} answers only")


def _check_route(said: _Ensemble, request: RouteRequest) -> None:
    is_numbers = request.path in AVERAGED
    if is_numbers != (said.method == "average"):
        name, path = request.name[:80], request.path
        hint = "it takes an ensemble of method average or first" if is_numbers else "no numbers"
        raise InvalidRequest(
            f"{name} joins answers by {said.method}, which is nothing for {path}: {hint}",
            param="model",
        )
    if request.path == RERANK_PATH and "texts" in request.data:
        raise InvalidRequest(
            "an average of ranks is made where documents is given, not texts", param="texts"
        )


# -- asking ---------------------------------------------------------------------------------------


def _how(said: _Ensemble) -> str:
    return {
        "vote": "majority vote",
        "consensus": f"consensus of {said.agreement:.0%}",
        "average": "average",
        "best_of": f"the best by {said.judge.model if said.judge else ''}",
        "first": "the first that answers",
    }[said.method]


def _asks(said: _Ensemble, request: RouteRequest) -> list[Ask]:
    """One for each sample. Those of one model differ in their seeds, where the client gives one;
    of vectors and ranks all is asked for, for the mean is cut afterwards."""
    asks = []
    data: Mapping[str, Any] | None = None
    if said.method == "average":
        data = {k: v for k, v in request.data.items() if k not in ("top_n", "encoding_format")}
    for member in said.members:
        for i in range(member.samples):
            rules = member.target.rules
            seed = request.data.get("seed")
            if i and isinstance(seed, int) and not isinstance(seed, bool):
                rules = dataclasses.replace(rules, overrides={**rules.overrides, "seed": seed + i})
            asks.append(Ask(member.target.model, rules, data))
    return asks


def _votes(said: _Ensemble, outcomes: Sequence[Outcome]) -> list[Vote]:
    weights = [weight for _, weight in said.asked]
    return [
        Vote(o.position, votes.key_of(o.said(), said.compare), weights[o.position])
        for o in outcomes
        if o.is_answer
    ]


def _is_enough(said: _Ensemble, outcomes: Sequence[Outcome]) -> bool:
    there = {o.position for o in outcomes}
    left = math.fsum(w for i, (_, w) in enumerate(said.asked) if i not in there)
    answers = sum(o.is_answer for o in outcomes)
    return answers >= said.least and votes.is_settled(_votes(said, outcomes), left)


# -- joining --------------------------------------------------------------------------------------


def _joined(
    said: _Ensemble, request: RouteRequest, detail: Detail, outcomes: Sequence[Outcome]
) -> Step | Reply | Outcome:
    answers = [o for o in outcomes if o.is_answer]
    if len(answers) < max(1, said.least):
        return failure(_how(said), said.names, outcomes, "ensemble_failed")
    if said.method == "average":
        return _averaged(said, request, detail, outcomes)
    if said.method == "best_of":
        return _to_judge(said, request, detail, outcomes)
    if said.compare == "words":
        return _most_alike(said, detail, outcomes)
    return _voted(said, detail, outcomes)


def _voted(
    said: _Ensemble, detail: Detail, outcomes: Sequence[Outcome], *notes: str, extra: Any = ()
) -> Reply | Outcome:
    cast = _votes(said, outcomes)
    verdict = votes.decide(cast)
    keys = {vote.member: vote.key for vote in cast}
    if verdict is None:
        first = next(o for o in outcomes if o.is_answer)
        if said.method == "consensus":
            text = f"consensus: none of {len(cast)} answers says anything that can be compared"
            return refused(first, text, "no_consensus")
        note = f"no answer has a {said.compare} to vote by; {said.names[first.position]}'s is taken"
        members = _members(said, outcomes, {}, first.position)
        return with_members(first.said(), said.method, [*members, *extra], detail, [*notes, note])
    if said.method == "consensus" and verdict.share < said.agreement - 1e-9:
        counts = ", ".join(
            f"{shortly(key, 40)!r} {weight:g}" for key, weight in votes.tally(cast).items()
        )
        text = f"consensus: {verdict.share:.0%} agree, {said.agreement:.0%} must: {counts}"
        return refused(outcomes[verdict.member], text, "no_consensus")
    note = f"{verdict.share:.0%} of {len(cast)} answers say {shortly(verdict.key, 40)!r}"
    if verdict.tied[1:]:
        note += f"; a tie of {len(verdict.tied)}: the first member's is taken"
    members = _members(said, outcomes, keys, verdict.member)
    more = {"share": round(verdict.share, 4), "is_tie": len(verdict.tied) > 1}
    body = outcomes[verdict.member].said()
    return with_members(
        body, said.method, [*members, *extra], detail, [*notes, note, *_missing(outcomes)], more
    )


def _most_alike(said: _Ensemble, detail: Detail, outcomes: Sequence[Outcome]) -> Reply | Outcome:
    texts = {o.position: text_of(o.said()) for o in outcomes if o.is_answer}
    best, share = votes.most_alike(texts)
    if share < said.agreement - 1e-9:
        text = f"consensus: the answers are {share:.0%} alike, {said.agreement:.0%} must be"
        return refused(outcomes[best], text, "no_consensus")
    note = f"{said.names[best]}'s answer is most like the others, {share:.0%}"
    members = _members(said, outcomes, {}, best)
    body = outcomes[best].said()
    notes = [note, *_missing(outcomes)]
    return with_members(body, said.method, members, detail, notes, {"share": round(share, 4)})


def _members(
    said: _Ensemble,
    outcomes: Sequence[Outcome],
    keys: Mapping[int, str | None],
    chosen: int | None,
) -> list[Member]:
    found = []
    for outcome, (name, weight) in zip(outcomes, said.asked, strict=True):
        vote = keys.get(outcome.position)
        more = {"weight": weight} if weight != 1 else {}
        is_chosen = outcome.position == chosen
        found.append(Member(name, outcome, vote, is_chosen=is_chosen, more=more))
    return found


def _missing(outcomes: Sequence[Outcome]) -> list[str]:
    failed = sum(not o.is_answer for o in outcomes)
    return [f"{failed} of {len(outcomes)} did not answer"] if failed else []


# -- a judge --------------------------------------------------------------------------------------


def _to_judge(
    said: _Ensemble, request: RouteRequest, detail: Detail, outcomes: Sequence[Outcome]
) -> Step | Reply | Outcome:
    """Ask the judge, in an order that chance has turned, for judges like what comes first."""
    assert said.judge is not None
    answers = [o for o in outcomes if o.is_answer]
    keys = {votes.key_of(o.said(), said.compare) for o in answers}
    if len(answers) == 1 or (len(keys) == 1 and None not in keys):
        why = "there is one answer" if len(answers) == 1 else "all answers say the same"
        members = _members(said, outcomes, {}, answers[0].position)
        body = answers[0].said()
        notes = [f"{why}: no judge was asked", *_missing(outcomes)]
        return with_members(body, said.method, members, detail, notes)
    turn = int(request.draw * len(answers))
    shown = [*answers[turn:], *answers[:turn]]
    question = _question(said.prompt, request.data, [_shown(o) for o in shown])
    data = {"messages": [{"role": "user", "content": question}], "temperature": 0}
    rules = Rules(defaults={"max_tokens": 64}).then(said.judge.rules)
    ask = Ask(said.judge.model, rules, data, CHAT_PATH)
    then = partial(_judged, said, detail, outcomes, shown)
    return Collect((ask,), then, "what the judge says", seconds=said.seconds)


def _judged(
    said: _Ensemble,
    detail: Detail,
    outcomes: Sequence[Outcome],
    shown: Sequence[Outcome],
    told: Sequence[Outcome],
) -> Reply | Outcome:
    """The answer that the judge names; where it names none, the vote decides, and says so."""
    assert said.judge is not None
    (judge,) = told
    text = text_of(judge.said()) if judge.is_answer else ""
    number = verdict_in(text, len(shown))
    role = Member(said.judge.model, judge, role="judge", more={"verdict": shortly(text)})
    if number is None:
        why = f"says {shortly(text, 40)!r}" if judge.is_answer else f"failed ({judge.error})"
        note = f"the judge {why}: the answers' own vote is taken"
        return _voted(said, detail, outcomes, note, extra=(role,))
    chosen = shown[number - 1]
    members = [*_members(said, outcomes, {}, chosen.position), role]
    note = f"{said.judge.model} finds {said.names[chosen.position]}'s answer best"
    return with_members(chosen.said(), said.method, members, detail, [note, *_missing(outcomes)])


def verdict_in(text: str, count: int) -> int | None:
    """The number that a judge has named, 1 to ``count``; None where it names none, or several."""
    plain = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    named = {int(n) for n in re.findall(r"(?<![\d.,])\d{1,3}(?![\d]|[.,]\d)", plain)}
    named = {n for n in named if 1 <= n <= count}
    return named.pop() if len(named) == 1 else None


def _shown(outcome: Outcome) -> str:
    said = outcome.said()
    calls = [f"calls {c.name}({shortly(c.arguments, 2000)})" for c in calls_of(said)]
    return "\n".join([text_of(said), *calls]).strip()[:MOST_SHOWN]


def _question(prompt: str, data: Mapping[str, Any], answers: Sequence[str]) -> str:
    from modelpool.routing.asked import read

    numbered = "\n\n".join(f"Answer {i}:\n{text}" for i, text in enumerate(answers, 1))
    # What stands in answers is no place to put something in.
    values = {
        "question": read(data).text[:MOST_SHOWN],
        "answers": numbered,
        "count": str(len(answers)),
    }
    return re.sub(r"\{(question|answers|count)\}", lambda found: values[found[1]], prompt)


# -- averages -------------------------------------------------------------------------------------


def _averaged(
    said: _Ensemble, request: RouteRequest, detail: Detail, outcomes: Sequence[Outcome]
) -> Reply | Outcome:
    answers = [o for o in outcomes if o.is_answer]
    weights = [said.asked[o.position][1] for o in answers]
    bodies = [o.said() for o in answers]
    make = {EMBEDDINGS_PATH: _vectors, RERANK_PATH: _ranks, CLASSIFY_PATH: _classes}[request.path]
    try:
        body = make(bodies, weights, request.data)
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as e:
        why = str(e) if isinstance(e, ValueError) else f"one of them has another shape ({e!r})"
        text = f"average: the answers of {', '.join(said.names)} cannot be averaged: {why}"
        return refused(outcomes[0], text, "not_comparable")
    note = f"the mean of {len(answers)} answers"
    members = _members(said, outcomes, {}, None)
    return with_members(body, said.method, members, detail, [note, *_missing(outcomes)])


def _vectors(
    bodies: Sequence[Mapping[str, Any]], weights: Sequence[float], data: Mapping[str, Any]
) -> dict[str, Any]:
    rows = zip(*(_by_index(body["data"]) for body in bodies), strict=True)
    entries = []
    for same in rows:
        vector = votes.mean_direction([each["embedding"] for each in same], weights)
        told: Any = vector
        if data.get("encoding_format") == "base64":
            told = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        entries.append({**same[0], "embedding": told})
    return {**bodies[0], "data": entries}


def _ranks(
    bodies: Sequence[Mapping[str, Any]], weights: Sequence[float], data: Mapping[str, Any]
) -> dict[str, Any]:
    rows = zip(*(_by_index(body["results"]) for body in bodies), strict=True)
    entries = []
    for same in rows:
        (score,) = votes.mean([[each["relevance_score"]] for each in same], weights)
        entries.append({**same[0], "relevance_score": score})
    entries.sort(key=lambda each: (-each["relevance_score"], each["index"]))
    most = data.get("top_n")
    return {**bodies[0], "results": entries[:most] if isinstance(most, int) else entries}


def _classes(
    bodies: Sequence[Mapping[str, Any]], weights: Sequence[float], data: Mapping[str, Any]
) -> dict[str, Any]:
    entries = []
    for same in zip(*(_by_index(body["data"]) for body in bodies), strict=True):
        probs = votes.mean([each["probs"] for each in same], weights)
        likely = max(range(len(probs)), key=lambda i: (probs[i], -i))
        labels = [each["label"] for each in same if max(each["probs"]) == each["probs"][likely]]
        label = labels[0] if labels else f"LABEL_{likely}"
        entries.append({**same[0], "probs": probs, "label": label})
    return {**bodies[0], "data": entries}


def _by_index(entries: Any) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda each: each["index"])
