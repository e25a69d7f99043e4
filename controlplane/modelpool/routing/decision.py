"""PURE: which model answers a request, how sure that is, why, and why not the others.

Conditions first, of which nothing is weighed; among those that meet them the best sum of weighed
measures. Measures do not depend on which other models there are, so a model that is out of the
question never turns a choice between two others. Of equals the cheaper is taken, then the quicker,
then the first by name. Equal inputs give equal decisions.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from .table import CeilingsNow, Facts, Group, Table, bits_of_column

RUNNERS_UP = 3
NOBODY: Mapping[str, str] = {}
# Of so few models each is looked at; of more, those that might be among the best.
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


@dataclass(frozen=True)
class Scored:
    """A model that meets all conditions.

    Attributes:
        chance: that it answers well, 0 to 1.
        latency_ms: of the whole request, as estimated; ``is_timed``: by measurements.
        cost: dollars.
        total: by which models are ordered.
    """

    model_id: str
    chance: float
    latency_ms: float
    is_timed: bool
    cost: float
    total: float
    facts: Facts = field(repr=False)
    policy: Policy = field(repr=False)

    @functools.cached_property
    def scores(self) -> Mapping[str, float]:
        """What was weighed, each 0 to 1, and ``total``."""
        facts, policy = self.facts, self.policy
        return {
            "performance": 1 / (1 + self.latency_ms / policy.latency_reference_ms),
            "capability": self.chance,
            "cost": 1 / (1 + self.cost / policy.cost_reference),
            "reliability": facts.reliability,
            "readiness": facts.readiness,
            "thrift": 1 / (1 + facts.size / policy.thrift_reference),
            "total": self.total,
        }


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
        said: why it is the best, where that is none of what was weighed.
    """

    features: Features
    best: Scored | None
    runners_up: tuple[Scored, ...]
    confidence: float
    eligible: int
    failed: str
    exclusions: tuple[Exclusion, ...]
    table: Table = field(repr=False, compare=False)
    conversation: Conversation | None = None
    said: str = ""

    @functools.cached_property
    def reasons(self) -> tuple[str, ...]:
        """Sentences for people; written when they are asked for."""
        return tuple(_reasons(self) if self.best is not None else _why_none(self))

    @property
    def model_id(self) -> str | None:
        """Of the model that answers."""
        return self.best.model_id if self.best is not None else None

    @functools.cached_property
    def excluded(self) -> Mapping[str, tuple[str, ...]]:
        """By id, everything that speaks against it; worked out when it is asked for."""
        found: dict[str, list[str]] = {}
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
        slow = table.slower_than(limit, prompt, answer)
        yield Exclusion(
            "max_latency_ms",
            slow,
            lambda row: f"would take {latency_of(f, table, row):,.0f} ms, more than {limit:g}",
        )
    if c.max_cost is not None:
        most, first = c.max_cost, table.priced_from
        dear = bits_of_column([r + prompt * i + answer * o > most for r, i, o in table.prices])
        yield Exclusion(
            "max_cost",
            dear << first,
            lambda row: f"would cost ${cost_of(f, table, row):.4f}, more than ${most:g}",
        )


def latency_of(f: Features, table: Table, row: int) -> float:
    """Milliseconds of a request, as estimated."""
    facts = table.facts[row]
    return facts.fixed + f.prompt_tokens * facts.per_prompt + f.answer_tokens * facts.per_answer


def cost_of(f: Features, table: Table, row: int) -> float:
    """Dollars of a request, as estimated."""
    facts = table.facts[row]
    tokens = f.prompt_tokens * facts.input_price + f.answer_tokens * facts.output_price
    return facts.request_price + tokens


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

    def order(pair: tuple[float, int]) -> tuple[float, float, float, str]:
        total, row = pair
        cost, latency = cost_of(features, table, row), latency_of(features, table, row)
        return (-total, cost, latency, table.ids[row])

    totals, least = _promising(features, table, policy, chance, left, bonuses)
    ordered = sorted((pair for pair in totals if pair[0] >= least), key=order)
    skills = table.skills(features.task.value)
    found = tuple(
        Scored(
            table.ids[row],
            chance[skills[row]],
            latency_of(features, table, row),
            table.candidates[row].is_timed,
            cost_of(features, table, row),
            total,
            table.facts[row],
            policy,
        )
        for total, row in ordered[: 1 + RUNNERS_UP]
    )
    best = found[0]
    return Decision(
        features=features,
        best=best,
        runners_up=found[1:],
        confidence=best.chance if calibration is None else calibration.of(best.chance),
        eligible=left.bit_count(),
        failed="",
        exclusions=tuple(exclusions),
        table=table,
        conversation=conversation,
        said=said.get(ordered[0][1], ""),
    )


def _promising(
    f: Features,
    table: Table,
    policy: Policy,
    chance: tuple[float, ...],
    left: int,
    bonuses: Mapping[int, float],
) -> tuple[list[tuple[float, int]], float]:
    """The rows that may be among the best, with their totals, and the least total of the best few:
    rows whose ceiling is as high as those that were found so far, group by group. Most rows are
    never looked at."""
    skills = table.skills(f.task.value)
    worth = _worth(chance, policy.weights[policy.strategy].quality)
    total_of = _totals(f, policy, worth)
    facts = table.facts
    each = table.loose
    for row in bonuses:
        each |= 1 << row
    each &= left
    serving = table.hot & ~table.remote
    in_groups: list[tuple[int, bool]] = []
    for rows, is_hot in ((left & serving & ~each, True), (left & ~serving & ~each, False)):
        if rows.bit_count() <= LOOKED_AT:
            each |= rows
        else:
            in_groups.append((rows, is_hot))
    totals = [
        (total_of(skills[row], facts[row]) + bonuses.get(row, 0.0), row) for row in _rows(each)
    ]
    few = 1 + RUNNERS_UP
    best = sorted([float("-inf")] * few + [total for total, _ in totals])[-few:]
    for rows, is_hot in in_groups:
        groups = table.groups(f.task.value, policy, f.answer_tokens, is_hot=is_hot)
        now = table.ceilings_now(policy, f.answer_tokens)
        mask = _mask(rows, len(table.ids))
        _search(groups, mask, facts, worth, now, total_of, totals, best)
    return totals, best[0]


def _search(
    groups: Sequence[Group],
    mask: bytes,
    facts: Sequence[Facts],
    worth: tuple[float, ...],
    now: CeilingsNow,
    total_of: Callable[[int, Facts], float],
    totals: list[tuple[float, int]],
    best: list[float],
) -> None:
    """Add to ``totals`` those of the rows in ``mask`` that may be among the best, and keep up
    ``best``, a heap of the best few totals."""
    known = now.known
    # What is added in another order may differ in its last digits.
    least = best[0] - 1e-9
    tops = [(worth[step] + ceilings[0], at) for at, (step, ceilings, _) in enumerate(groups)]
    for top, at in sorted(tops, reverse=True):
        if top < least:
            return
        step, ceilings, members = groups[at]
        own = worth[step]
        same: Facts | None = None
        total, alike = 0.0, 0
        for ceiling, row in zip(ceilings, members, strict=False):
            if own + ceiling < least:
                break
            if not mask[row]:
                continue
            live = facts[row]
            if live is same:
                # Of those that differ in their names alone the first few are enough.
                alike += 1
                if alike > RUNNERS_UP:
                    continue
            else:
                if known[row][0] is not live:
                    known[row] = (live, now.of(live))
                if own + known[row][1] < least:
                    continue  # a busy one, say
                same, alike = live, 0
                total = total_of(step, live)
            totals.append((total, row))
            if total > best[0]:
                heapq.heapreplace(best, total)
                least = best[0] - 1e-9


def _totals(f: Features, policy: Policy, worth: tuple[float, ...]) -> Callable[[int, Facts], float]:
    """Gives the sum of weighed measures by a step of skill and facts, without what a model gets
    beside them."""
    w = policy.weights[policy.strategy]
    w_latency, w_cost, w_reliability = w.latency, w.cost, w.reliability
    w_readiness, w_thrift = w.readiness, w.thrift
    time, price, thrift = (
        policy.latency_reference_ms,
        policy.cost_reference,
        policy.thrift_reference,
    )
    prompt, answer = f.prompt_tokens, f.answer_tokens

    def total_of(step: int, facts: Facts) -> float:
        fixed, per_prompt, per_answer, reliability, readiness, size, request, i, o = facts
        return (
            worth[step]
            + w_reliability * reliability
            + w_readiness * readiness
            + w_thrift / (1 + size / thrift)
            + w_latency / (1 + (fixed + prompt * per_prompt + answer * per_answer) / time)
            + w_cost / (1 + (request + prompt * i + answer * o) / price)
        )

    return total_of


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


def _reasons(found: Decision) -> Iterator[str]:
    f, best, table = found.features, found.best, found.table
    assert best is not None
    why = f": {', '.join(f.reasons)}" if f.reasons else ""
    yield f"The task is {f.task.value.replace('_', ' ')} ({f.complexity.value}{why})."
    if found.said:
        yield found.said
    candidate = table.candidates[table.rows[best.model_id]]
    offset = table.offsets.get((best.model_id, f.task.value), 0.0)
    if round(offset, 3):
        yield f"Reported outcomes have moved its skill at such work by {offset:+.3f}."
    yield (
        f"{best.model_id} answers such requests well with a probability of {found.confidence:.0%}, "
        f"{_timing(best, candidate)}, at a cost of ${best.cost:.4f}."
    )
    if found.runners_up and not found.said:
        yield _compared(best, found.runners_up[0])
    talk = found.conversation
    if talk is not None and talk.model_id != best.model_id:
        yield f"It is worth leaving {talk.model_id}, with which the conversation was."


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


def _compared(best: Scored, other: Scored) -> str:
    policy = best.policy
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
    failed = ""
    if exclusions:
        by_name = _by_name(exclusions)

        def near(name: str) -> tuple[int, int]:
            return _without(name, by_name, table), by_name[name].bit_count()

        failed = max(by_name, key=near)
    return Decision(
        features=features,
        best=None,
        runners_up=(),
        confidence=0.0,
        eligible=0,
        failed=failed,
        exclusions=tuple(exclusions),
        table=table,
    )


def _by_name(exclusions: Sequence[Exclusion]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for each in exclusions:
        found[each.constraint] = found.get(each.constraint, 0) | each.rows
    return found


def _without(name: str, by_name: Mapping[str, int], table: Table) -> int:
    """How many models there would be if that condition alone were dropped."""
    others = 0
    for other, rows in by_name.items():
        others |= rows if other != name else 0
    return (table.every & ~others).bit_count()


def _why_none(found: Decision) -> Iterator[str]:
    """Which condition failed: that which leaves most models if it alone is dropped."""
    if not found.failed:
        yield "There is no model."
        return
    count = _without(found.failed, _by_name(found.exclusions), found.table)
    text = f"No model meets all conditions; {found.failed} is what fails"
    yield text + (f": without it there would be {count}." if count else ".")


def _mask(bits: int, length: int = 0) -> bytes:
    """A byte a row, 1 where it is set; as long as the highest needs, or as is said."""
    return bin(bits)[:1:-1].encode().translate(_TO_MASK).ljust(length, b"\0")


def _rows(bits: int) -> Iterator[int]:
    mask = _mask(bits)
    return compress(range(len(mask)), mask)
