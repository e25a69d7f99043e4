"""PURE: which model answers a request, how sure that is, why, and why not the others.

Conditions first, of which nothing is weighed; among those that meet them the best sum of weighed
measures. Measures do not depend on which other models there are, so a model that is out of the
question never turns a choice between two others. Of equals the cheaper is taken, then the quicker,
then the first by name. Equal inputs give equal decisions.
"""

from __future__ import annotations

import functools
import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from .candidate import Candidate
from .confidence import UNCERTAINTY, UNCERTAINTY_ABROAD, Calibration, chances
from .constraints import MB, NO_CONSTRAINTS, Constraints
from .features import Features
from .language import UNKNOWN
from .policy import DEFAULT_POLICY, MAPS_COMPLEXITY, Policy
from .signals import WITHOUT_LISTS
from .table import Table, bits_of_column, readiness_of, reliability_of, thrift_of

RUNNERS_UP = 3
NOBODY: Mapping[str, str] = {}
# So many of the most promising models are looked at first; what the rest must reach they say.
LOOKED_AT = 12
# A difficulty is known to hundredths: what decides is read from tables made for each.
GRAIN = 200
_TO_MASK = bytes.maketrans(b"01", b"\0\1")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request goes on with: the model that answered so far, and the tokens that it has read
    and another would have to."""

    model_id: str
    prefix_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """A model that meets all conditions.

    Attributes:
        chance: that it answers well, 0 to 1.
        latency_ms: of the whole request, as estimated; ``is_timed``: by measurements.
        cost: dollars.
        scores: what was weighed, each 0 to 1, and ``total``.
    """

    model_id: str
    chance: float
    latency_ms: float
    is_timed: bool
    cost: float
    scores: Mapping[str, float]

    @property
    def total(self) -> float:
        """By which models are ordered."""
        return self.scores["total"]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Rows that do not meet a condition; ``why`` says it of one of them."""

    constraint: str
    rows: int
    why: Callable[[int], str]


@dataclass(frozen=True)
class Decision:
    """What is decided.

    Attributes:
        best: None where no model meets all conditions; then ``failed`` names the condition which
            those that were nearest do not meet.
        confidence: the probability, 0 to 1, that the model answers well; 0 where there is none.
        eligible: how many models met all conditions.
        reasons: sentences for people.
    """

    features: Features
    best: Scored | None
    runners_up: tuple[Scored, ...]
    confidence: float
    eligible: int
    reasons: tuple[str, ...]
    failed: str
    exclusions: tuple[Exclusion, ...] = ()
    table: Table | None = field(default=None, repr=False, compare=False)

    @property
    def model_id(self) -> str | None:
        """Of the model that answers."""
        return self.best.model_id if self.best is not None else None

    @functools.cached_property
    def excluded(self) -> Mapping[str, tuple[str, ...]]:
        """By id, everything that speaks against it; worked out when it is asked for."""
        found: dict[str, list[str]] = {}
        if self.table is not None:
            for exclusion in self.exclusions:
                for row in _rows(exclusion.rows):
                    found.setdefault(self.table.ids[row], []).append(exclusion.why(row))
        return {name: tuple(found[name]) for name in sorted(found)}

    def as_dict(self, with_excluded: bool = True) -> dict[str, Any]:
        """As ``POST /route`` tells it."""
        f = self.features
        told: dict[str, Any] = {
            "selected_model": self.model_id,
            "confidence": round(self.confidence, 4),
            "reasoning": " ".join(self.reasons),
            "reasons": list(self.reasons),
            "complexity": f.complexity.value,
            "difficulty": round(f.difficulty, 4),
            "task_type": f.task.value,
            "language": f.language or None,
            "required_capabilities": sorted(f.needs),
            "prompt_tokens": f.prompt_tokens,
            "answer_tokens": f.answer_tokens,
            "scores": _told(self.best.scores) if self.best is not None else None,
            "estimated_latency_ms": round(self.best.latency_ms) if self.best is not None else None,
            "estimated_cost": self.best.cost if self.best is not None else None,
            "eligible": self.eligible,
            "runners_up": [
                {
                    "model": s.model_id,
                    "chance": round(s.chance, 4),
                    "estimated_latency_ms": round(s.latency_ms),
                    "estimated_cost": s.cost,
                    "scores": _told(s.scores),
                }
                for s in self.runners_up
            ],
        }
        if with_excluded:
            told["excluded"] = {name: list(why) for name, why in self.excluded.items()}
        return told


def _told(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def decide(
    features: Features,
    table: Table,
    constraints: Constraints = NO_CONSTRAINTS,
    policy: Policy = DEFAULT_POLICY,
    conversation: Conversation | None = None,
    calibration: Calibration | None = None,
    refused: Mapping[str, str] = NOBODY,
) -> Decision:
    """The model for a request.

    Args:
        refused: whose workers or servers fail now, and why: by the id of a model, or of the entry
            that serves several. They are left out unless there is nobody else.
        conversation: stays where it is unless another model is better by more than its prefix is
            worth.
        calibration: what confidences became before; it never changes which model is taken.
    """
    exclusions = [e for e in _static(features, table, constraints) if e.rows]
    exclusions += [e for e in _dynamic(features, table, constraints) if e.rows]
    left = table.every
    for exclusion in exclusions:
        left &= ~exclusion.rows
    if not left:
        return _none(features, table, exclusions)
    if refused:
        failing = _refused(table, refused)
        if failing.rows and left & ~failing.rows:
            exclusions.append(failing)
            left &= ~failing.rows
    return _choose(features, table, policy, conversation, calibration, left, exclusions)


def _refused(table: Table, refused: Mapping[str, str]) -> Exclusion:
    rows = table.row_set(refused)
    by_row: dict[int, str] = {}
    for name in refused:
        served = table.engines.get(name, 0)  # a provider is the engine of its models
        by_row |= dict.fromkeys(_rows(served), name)
        rows |= served

    def why(row: int) -> str:
        return refused.get(table.ids[row]) or refused[by_row[row]]

    return Exclusion("breaker", rows, why)


def _static(f: Features, table: Table, c: Constraints) -> Iterator[Exclusion]:
    """Conditions on what is known of models whatever is asked."""
    every = table.every
    candidates = table.candidates
    if table.available != every:
        yield Exclusion(
            "availability",
            every & ~table.available,
            lambda row: candidates[row].why_unavailable or "it cannot be had now",
        )
    if c.only is not None:
        yield Exclusion(
            "available_models",
            every & ~table.row_set(c.only),
            lambda row: "it is none of available_models",
        )
    if c.excluded:
        yield Exclusion(
            "excluded_models", table.row_set(c.excluded), lambda row: "the request excludes it"
        )
    for word in sorted(f.needs | c.capabilities):
        missing = every & ~table.capable.get(word, 0)
        if missing:
            yield Exclusion(
                "required_capabilities",
                missing,
                lambda row, word=word: f"cannot, as far as is known: {word}",  # type: ignore[misc]
            )
    context = max(f.context_tokens, c.min_context or 0)
    small = table.contexts.below(context)
    if small:
        yield Exclusion(
            "context",
            small,
            lambda row: (
                f"its context is {candidates[row].context_tokens:,} tokens, {context:,} are needed"
            ),
        )
    if c.engine is not None:
        others = every & ~table.engines.get(c.engine, 0)
        yield Exclusion(
            "preferred_backend",
            others,
            lambda row: f"it runs on {candidates[row].engine or 'nothing known'}, not {c.engine}",
        )
    if c.min_reliability is not None:
        yield Exclusion(
            "min_reliability",
            table.reliabilities.below(c.min_reliability),
            lambda row: (
                f"{candidates[row].reliability or 0:.1%} of its requests went well, "
                f"{c.min_reliability:.1%} are wanted"
            ),
        )
    if c.max_memory_bytes is not None:
        most = c.max_memory_bytes
        yield Exclusion(
            "resource_limits",
            table.memories.below(-most),
            lambda row: (
                f"needs {(candidates[row].memory_bytes or 0) / MB:,.0f} MB, "
                f"more than {most / MB:,.0f}"
            ),
        )
    if c.only_hot:
        yield Exclusion("resource_limits", every & ~table.hot, lambda row: "it is not loaded")
    if c.only_fitting:
        yield Exclusion(
            "resource_limits", every & ~table.fitting, lambda row: "others would be unloaded for it"
        )


def _dynamic(f: Features, table: Table, c: Constraints) -> Iterator[Exclusion]:
    """Conditions on what this very request would take. What is only presumed excludes nothing."""
    prompt, answer = f.prompt_tokens, f.answer_tokens
    if c.max_latency_ms is not None:
        limit = c.max_latency_ms
        times = zip(table.fixed, table.per_prompt, table.per_answer, strict=True)
        slow = bits_of_column([t + prompt * p + answer * a > limit for t, p, a in times])
        if slow & ~table.timed:
            slow &= table.timed | bits_of_column([wait > limit for wait in table.waits])
        yield Exclusion(
            "max_latency_ms",
            slow,
            lambda row: f"would take {latency_of(f, table, row):,.0f} ms, more than {limit:g}",
        )
    if c.max_cost is not None:
        most, first = c.max_cost, table.priced_from
        prices = zip(
            table.input_prices[first:],
            table.output_prices[first:],
            table.request_prices[first:],
            strict=True,
        )
        dear = bits_of_column([prompt * i + answer * o + r > most for i, o, r in prices])
        yield Exclusion(
            "max_cost",
            dear << first,
            lambda row: f"would cost ${cost_of(f, table, row):.4f}, more than ${most:g}",
        )


def latency_of(f: Features, table: Table, row: int) -> float:
    """Milliseconds of a request, as estimated."""
    per_prompt, per_answer = table.per_prompt[row], table.per_answer[row]
    return table.fixed[row] + f.prompt_tokens * per_prompt + f.answer_tokens * per_answer


def cost_of(f: Features, table: Table, row: int) -> float:
    """Dollars of a request, as estimated."""
    tokens = f.prompt_tokens * table.input_prices[row] + f.answer_tokens * table.output_prices[row]
    return tokens + table.request_prices[row]


@functools.lru_cache(maxsize=4096)
def _chances(grains: int, uncertainty: float) -> tuple[float, ...]:
    return tuple(chances(grains / GRAIN, uncertainty))


@functools.lru_cache(maxsize=4096)
def _worth(chance: tuple[float, ...], weight: float) -> tuple[float, ...]:
    return tuple(weight * c for c in chance)


def chances_for(features: Features) -> tuple[float, ...]:
    """That models of each step of skill answer it well, see ``confidence.chances``."""
    is_abroad = features.language in WITHOUT_LISTS or features.language == UNKNOWN
    uncertainty = UNCERTAINTY_ABROAD if is_abroad else UNCERTAINTY
    return _chances(round(features.difficulty * GRAIN), uncertainty)


def _choose(
    features: Features,
    table: Table,
    policy: Policy,
    conversation: Conversation | None,
    calibration: Calibration | None,
    left: int,
    exclusions: list[Exclusion],
) -> Decision:
    chance = chances_for(features)
    bonuses: dict[int, float] = {}
    said: dict[int, str] = {}
    for row, bonus, text in _bonuses(features, table, policy, conversation):
        if left >> row & 1:
            bonuses[row] = bonuses.get(row, 0.0) + bonus
            said.setdefault(row, text)
    total_of = _totals(features, table, policy, chance)

    def order(row: int) -> tuple[float, float, float, str]:
        cost, latency = cost_of(features, table, row), latency_of(features, table, row)
        return (-totals[row], cost, latency, table.ids[row])

    totals = {
        row: total_of(row) + bonuses.get(row, 0.0)
        for row in _promising(features, table, policy, chance, left, bonuses, total_of)
    }
    least = heapq.nlargest(1 + RUNNERS_UP, totals.values())[-1]
    rows = sorted((row for row, total in totals.items() if total >= least), key=order)
    found = tuple(
        _scored(row, totals[row], features, table, policy, chance) for row in rows[: 1 + RUNNERS_UP]
    )
    best = found[0]
    confidence = best.chance if calibration is None else calibration.of(best.chance)
    text = said.get(rows[0], "")
    return Decision(
        features=features,
        best=best,
        runners_up=found[1:],
        confidence=confidence,
        eligible=left.bit_count(),
        reasons=tuple(_reasons(features, table, policy, found, text, conversation, confidence)),
        failed="",
        exclusions=tuple(exclusions),
        table=table,
    )


def _totals(
    f: Features, table: Table, policy: Policy, chance: tuple[float, ...]
) -> Callable[[int], float]:
    """Gives the sum of weighed measures of a row, without what it gets beside them."""
    weights = policy.weights[policy.strategy]
    first = table.priced_from
    skills = table.skills(f.task.value)
    standing = table.standing(weights, policy)
    fixed, per_prompt, per_answer = table.times(policy.latency_reference_ms)
    request_prices, input_prices, output_prices = table.prices(policy.cost_reference)
    wq, wl, wc = weights.quality, weights.latency, weights.cost
    prompt, answer = f.prompt_tokens, f.answer_tokens

    def total_of(row: int) -> float:
        time = fixed[row] + prompt * per_prompt[row] + answer * per_answer[row]
        total = wq * chance[skills[row]] + standing[row] + wl / (1 + time)
        if row >= first:
            at = row - first
            cost = request_prices[at] + prompt * input_prices[at] + answer * output_prices[at]
            total += wc / (1 + cost)
        return total

    return total_of


def _promising(
    f: Features,
    table: Table,
    policy: Policy,
    chance: tuple[float, ...],
    left: int,
    bonuses: Mapping[int, float],
    total_of: Callable[[int], float],
) -> Sequence[int]:
    """The rows that may be among the best: of all that are left those whose total could be as much
    as that of the best few of which it is known. This is where a decision's time goes: one look at
    every row, of which most are not worth a second."""
    worth = _worth(chance, policy.weights[policy.strategy].quality)
    pairs: Iterable[tuple[int, float]] = zip(
        table.skills(f.task.value), table.ceilings(policy, f.answer_tokens), strict=True
    )
    rows: Sequence[int] = range(len(table.ids))
    if left != table.every:
        mask = _mask(left)
        rows, pairs = list(compress(rows, mask)), compress(pairs, mask)
    most = [worth[k] + ceiling for k, ceiling in pairs]
    if len(most) <= LOOKED_AT:
        return rows
    place, known = -1, []
    for value in heapq.nlargest(LOOKED_AT, most):
        # Equal ones stand side by side: the next of them is further on.
        place = most.index(value, place + 1 if place >= 0 and most[place] == value else 0)
        known.append(total_of(rows[place]))
    # What is added in another order may differ in its last digits.
    least = heapq.nlargest(1 + RUNNERS_UP, known)[-1] - 1e-9
    found = [row for row, value in zip(rows, most, strict=True) if value >= least]
    return found + [row for row in bonuses if most[bisect_left(rows, row)] < least]


def _bonuses(
    f: Features, table: Table, policy: Policy, conversation: Conversation | None
) -> Iterator[tuple[int, float, str]]:
    """What single rows get beside their measures, with the reason."""
    mapped = table.rows.get(policy.by_complexity.get(f.complexity.value.lower(), ""))
    if mapped is not None and policy.strategy in MAPS_COMPLEXITY:
        text = f"complexity_mapping names it for {f.complexity.value} requests."
        yield mapped, 2 * policy.weights[policy.strategy].total, text
    row = table.rows.get(conversation.model_id) if conversation is not None else None
    if row is not None and conversation is not None:
        prefix = conversation.prefix_tokens
        bonus = policy.switch_margin
        bonus += policy.prefix_worth * prefix / (prefix + policy.prefix_reference)
        yield row, bonus, f"The conversation is with it, which has read {prefix:,} tokens of it."


def _scored(
    row: int,
    total: float,
    f: Features,
    table: Table,
    policy: Policy,
    chance: tuple[float, ...],
) -> Scored:
    candidate = table.candidates[row]
    latency, cost = latency_of(f, table, row), cost_of(f, table, row)
    quality = chance[table.skills(f.task.value)[row]]
    scores = {
        "performance": 1 / (1 + latency / policy.latency_reference_ms),
        "capability": quality,
        "cost": 1 / (1 + cost / policy.cost_reference),
        "reliability": reliability_of(candidate),
        "readiness": readiness_of(candidate),
        "thrift": thrift_of(candidate, policy.thrift_reference),
        "total": total,
    }
    return Scored(candidate.model_id, quality, latency, candidate.is_timed, cost, scores)


def _reasons(
    f: Features,
    table: Table,
    policy: Policy,
    found: tuple[Scored, ...],
    said: str,
    conversation: Conversation | None,
    confidence: float,
) -> Iterator[str]:
    best = found[0]
    why = f": {', '.join(f.reasons)}" if f.reasons else ""
    yield f"The task is {f.task.value.replace('_', ' ')} ({f.complexity.value}{why})."
    if said:
        yield said
    candidate = table.candidates[table.rows[best.model_id]]
    offset = table.offsets.get((best.model_id, f.task.value), 0.0)
    if round(offset, 3):
        yield f"Reported outcomes have moved its skill at such work by {offset:+.3f}."
    yield (
        f"{best.model_id} answers such requests well with a probability of {confidence:.0%}, "
        f"{_timing(best, candidate)}, at a cost of ${best.cost:.4f}."
    )
    if len(found) > 1 and not said:
        yield _compared(best, found[1], policy)
    if conversation is not None and conversation.model_id != best.model_id:
        yield f"It is worth leaving {conversation.model_id}, with which the conversation was."


def _timing(best: Scored, candidate: Candidate) -> str:
    state = (
        "it serves already"
        if candidate.is_hot or candidate.is_remote
        else ("it has to be loaded" if candidate.fits_now else "others have to be unloaded for it")
    )
    about = "" if best.is_timed else "presumably "
    return f"{about}in {best.latency_ms:,.0f} ms ({state})"


_MEASURES = {
    "capability": "more likely to answer well",
    "performance": "quicker",
    "cost": "cheaper",
    "reliability": "more reliable",
    "readiness": "readier",
    "thrift": "smaller",
}
_WEIGHT_OF = {"capability": "quality", "performance": "latency"}


def _compared(best: Scored, other: Scored, policy: Policy) -> str:
    weights = policy.weights[policy.strategy]
    gains = {
        name: getattr(weights, _WEIGHT_OF.get(name, name))
        * (best.scores[name] - other.scores[name])
        for name in _MEASURES
    }
    ahead = sorted((n for n in gains if gains[n] > 0.001), key=lambda n: -gains[n])[:2]
    behind = sorted((n for n in gains if gains[n] < -0.001), key=lambda n: gains[n])[:1]
    if not ahead:
        return f"By {policy.strategy.value} it is as good as {other.model_id}."
    text = f"By {policy.strategy.value} it is before {other.model_id}: "
    text += " and ".join(_MEASURES[n] for n in ahead)
    return f"{text}, though not {_MEASURES[behind[0]]}." if behind else f"{text}."


def _none(features: Features, table: Table, exclusions: list[Exclusion]) -> Decision:
    """Which condition failed: that which leaves most models if it alone is dropped."""
    found = exclusions
    failed, text = "", "There is no model."
    if found:
        by_name: dict[str, int] = {}
        for e in found:
            by_name[e.constraint] = by_name.get(e.constraint, 0) | e.rows

        def without(name: str) -> int:
            others = 0
            for other, rows in by_name.items():
                others |= rows if other != name else 0
            return (table.every & ~others).bit_count()

        failed = max(by_name, key=lambda n: (without(n), by_name[n].bit_count()))
        count = without(failed)
        text = f"No model meets all conditions; {failed} is what fails"
        text += f": without it there would be {count}." if count else "."
    return Decision(
        features=features,
        best=None,
        runners_up=(),
        confidence=0.0,
        eligible=0,
        reasons=(text,),
        failed=failed,
        exclusions=tuple(found),
        table=table,
    )


def _mask(bits: int) -> bytes:
    """A byte a row, 1 where it is set; as long as the highest needs."""
    return bin(bits)[:1:-1].encode().translate(_TO_MASK)


def _rows(bits: int) -> Iterator[int]:
    mask = _mask(bits)
    return compress(range(len(mask)), mask)
