"""PURE: all models that might answer, laid out so that a choice among a thousand takes well under a
millisecond: a row of facts each, a set of bits a condition.

A table is made when the catalog changes; when a model becomes HOT, busy or more reliable,
``changed`` makes the next one of it with that row replaced. A table never changes: what it
remembers follows from what lasts, and holds for all tables that were made of one another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from .candidate import (
    UNKNOWN_RELIABILITY,
    Candidate,
    IdleTiming,
    idle_timing_of,
    prior_quality,
    skill_of,
    timing_of,
)
from .confidence import step_of
from .policy import Policy, Weights

MILLION = 1_000_000
# Worth of a model that serves and has places free, that serves and has none, that fits, and that
# needs others unloaded.
READY_FREE, READY_BUSY, READY_FITS, READY_EVICTS = 1.0, 0.6, 0.4, 0.1
UNKNOWN_PARAMETERS = 8.0
# Answers have so many tokens at least, or none: the rest of a ceiling's time is for a decision.
ANSWER_STEPS = (1024, 512, 256, 128)
# Of so many models other facts may have become known than ceilings were made of.
MOST_LOOSE = 48
# Of a few policies: kinds of work, lengths of answers, models that serve and those that do not.
MOST_REMEMBERED = 2000
_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")

Offsets = Mapping[tuple[str, str], float]
# Milliseconds: fixed ones, those of a token of the prompt, of the answer.
Sure: TypeAlias = tuple[float, float, float]
# Of latency in milliseconds, cost in dollars, billions of parameters, see ``Policy``.
References: TypeAlias = tuple[float, float, float]


class Facts(NamedTuple):
    """What is weighed of a model beside its skill: equal ones differ in nothing but that and their
    names.

    Attributes:
        fixed, per_prompt, per_answer: milliseconds, see ``Timing``.
        reliability, readiness: 0 to 1. size: billions of parameters that compute.
        request_price, input_price, output_price: dollars of a request, of a token.
    """

    fixed: float
    per_prompt: float
    per_answer: float
    reliability: float
    readiness: float
    size: float
    request_price: float
    input_price: float
    output_price: float


NO_FACTS = Facts(*(0.0,) * 9)


class Basis(NamedTuple):
    """What ceilings are made of: a model's facts as they would be at best."""

    timing: IdleTiming
    reliability: float


class Group(NamedTuple):
    """Rows of one step of skill, those with the highest ceilings first.

    Attributes:
        ceilings: what each can score at most beside its skill.
    """

    step: int
    ceilings: Sequence[float]
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class CeilingsNow:
    """What rows can score at most beside their skill, as they are now.

    Attributes:
        known: of each row, for these very facts: any table may look, and bring it up to date.
        of: of facts.
    """

    known: list[tuple[Facts, float]]
    of: Callable[[Facts], float]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows by a value, ascending; ``below(v)`` are those whose value is less. Rows whose value is
    not known are in none."""

    values: tuple[float, ...]
    bits: tuple[int, ...]

    def below(self, limit: float) -> int:
        """As bits."""
        at = bisect_left(self.values, limit)
        return self.bits[at - 1] if at else 0


def ranked(values: Iterable[float | None]) -> Ranked:
    """Of a column."""
    known = sorted((value, row) for row, value in enumerate(values) if value is not None)
    bits = tuple(accumulate((1 << row for _, row in known), int.__or__))
    return Ranked(tuple(value for value, _ in known), bits)


@dataclass(frozen=True)
class Table:
    """Make it with ``table_of``. Rows without prices come first, then each in the order of ids; in
    sets of bits the lowest is row 0.

    Attributes:
        facts: of each row, as they are now; ``bases``: as they could be at best.
        sure: of each row, the milliseconds that it takes for sure, those of a token of the prompt
            and of the answer: of one that was never timed, what it waits.
        prices: of rows from ``priced_from`` on, dollars of a request, of a token of either.
        priced_from: the first row with a price.
        loose: rows that may score more than their ceilings say.
        offsets: what outcomes taught of a model at a kind of work, see ``learning``.
    """

    candidates: tuple[Candidate, ...]
    ids: tuple[str, ...]
    rows: Mapping[str, int]
    facts: Sequence[Facts]
    bases: Sequence[Basis]
    sure: Sequence[Sure]
    prices: Sequence[tuple[float, float, float]]
    capable: Mapping[str, int]
    engines: Mapping[str, int]
    contexts: Ranked
    remote: int
    available: int
    hot: int
    fitting: int
    priced_from: int
    loose: int = 0
    offsets: Offsets = field(default_factory=dict)
    _memo: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)
    _columns: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def every(self) -> int:
        """All rows, as bits."""
        return (1 << len(self.ids)) - 1

    def row_set(self, ids: Iterable[str]) -> int:
        """The rows of those that are there, as bits."""
        rows = self.rows
        found = 0
        for name in ids:
            row = rows.get(name)
            if row is not None:
                found |= 1 << row
        return found

    @property
    def reliabilities(self) -> Ranked:
        """Of those of which it is known."""
        known: Ranked | None = self._columns.get("reliabilities")
        if known is None:
            known = ranked(c.reliability for c in self.candidates)
            self._columns["reliabilities"] = known
        return known

    @property
    def memories(self) -> Ranked:
        """Bytes that a load takes, negative: those that take most come first."""
        known: Ranked | None = self._columns.get("memories")
        if known is None:
            sizes = (c.memory_bytes for c in self.candidates)
            known = ranked(None if size is None else -size for size in sizes)
            self._columns["memories"] = known
        return known

    def slower_than(self, limit_ms: float, prompt_tokens: int, answer_tokens: int) -> int:
        """Rows that take longer for sure, as bits."""
        known: Mapping[Sure, int] | None = self._columns.get("sure")
        if known is None:
            found: dict[Sure, int] = {}
            for row, sure in enumerate(self.sure):
                found[sure] = found.get(sure, 0) | 1 << row
            known = self._columns["sure"] = found
        slow = 0
        for (fixed, per_prompt, per_answer), rows in known.items():
            if fixed + prompt_tokens * per_prompt + answer_tokens * per_answer > limit_ms:
                slow |= rows
        return slow

    def skills(self, task: str) -> Sequence[int]:
        """Of each row, as steps of ``confidence.chances``."""
        known: Sequence[int] | None = self._memo.get(("skills", task))
        if known is None:
            steps = list(self._presumed(task))
            for (name, work), offset in self.offsets.items():
                row = self.rows.get(name) if work == task else None
                if row is not None:
                    steps[row] = step_of(skill_of(self.candidates[row], task) + offset)
            known = self._memo["skills", task] = steps
        return known

    def _presumed(self, task: str) -> Sequence[int]:
        """Before anything was learned."""
        known: Sequence[int] | None = self._memo.get(("presumed", task))
        if known is None:
            known = self._memo["presumed", task] = [
                step if not (c.made_for or c.skills) else step_of(skill_of(c, task, quality))
                for c, (quality, step) in zip(self.candidates, self._qualities(), strict=True)
            ]
        return known

    def _qualities(self) -> Sequence[tuple[float, int]]:
        known: Sequence[tuple[float, int]] | None = self._memo.get("qualities")
        if known is None:
            qualities = (prior_quality(c) for c in self.candidates)
            known = self._memo["qualities"] = [(q, step_of(q)) for q in qualities]
        return known

    def groups(
        self, task: str, policy: Policy, answer_tokens: int, *, is_hot: bool
    ) -> Sequence[Group]:
        """All rows by their skill, with what they can score at most by an answer of so many tokens
        to a prompt of any length, by ceilings as they are where models serve already or
        (``is_hot`` False) do not; those of ``loose`` may score more. A model that is served
        elsewhere always serves."""
        weights, references, least = _of_policy(policy, answer_tokens)
        of_all = ("ceilings", is_hot, weights, references, least)
        key = (task, *of_all)
        known: Sequence[Group] | None = self._memo.get(key)
        if known is None:
            ranking: Sequence[tuple[float, int]] | None = self._memo.get(of_all)
            if ranking is None:
                ceilings = self._ceilings(weights, references, least, is_hot=is_hot)
                ranking = sorted((-ceiling, row) for row, ceiling in enumerate(ceilings))
                self._remember(of_all, ranking)
            known = _grouped(ranking, self.skills(task))
            self._remember(key, known)
        return known

    def _ceilings(
        self, weights: Weights, references: References, least: int, *, is_hot: bool
    ) -> Iterable[float]:
        for c, facts, (idle, reliability) in zip(
            self.candidates, self.facts, self.bases, strict=True
        ):
            serves = is_hot or c.is_remote
            at_best = facts._replace(
                fixed=idle.fixed + (0.0 if serves else idle.load),
                per_answer=idle.per_answer_token,
                reliability=reliability,
                readiness=READY_FREE if serves else READY_FITS,
            )
            yield ceiling_of(at_best, weights, references, least)

    def ceilings_now(self, policy: Policy, answer_tokens: int) -> CeilingsNow:
        """Those of models as they are now, where somebody has asked for them."""
        weights, references, least = _of_policy(policy, answer_tokens)
        key = ("now", weights, references, least)
        known: CeilingsNow | None = self._memo.get(key)
        if known is None:

            def of(facts: Facts) -> float:
                return ceiling_of(facts, weights, references, least)

            known = CeilingsNow([(NO_FACTS, 0.0)] * len(self.ids), of)
            self._remember(key, known)
        return known

    def _remember(self, key: object, known: Any) -> None:
        """What a policy needs: somebody who tries out weights makes ever new ones."""
        if len(self._memo) >= MOST_REMEMBERED:
            self._memo.clear()
        self._memo[key] = known

    def changed(self, candidates: Iterable[Candidate], offsets: Offsets | None = None) -> Table:
        """The table with these in place of those of the same ids; new ones are added."""
        news = {c.model_id: c for c in candidates}
        table = self if offsets is None else _taught(self, dict(offsets))
        if not news:
            return table
        if all(
            name in table.rows and _lasting(table.candidates[table.rows[name]]) == _lasting(c)
            for name, c in news.items()
        ):
            found = _replaced(table, news)
            if found.loose.bit_count() <= MOST_LOOSE:
                return found
        merged = dict(zip(table.ids, table.candidates, strict=True)) | news
        return table_of(merged.values(), table.offsets)


def _of_policy(policy: Policy, answer_tokens: int) -> tuple[Weights, References, int]:
    """What ceilings depend on: weights, references, tokens that an answer has at least."""
    references = (policy.latency_reference_ms, policy.cost_reference, policy.thrift_reference)
    least = next((step for step in ANSWER_STEPS if answer_tokens >= step), 0)
    return policy.weights[policy.strategy], references, least


def ceiling_of(facts: Facts, weights: Weights, references: References, least: int) -> float:
    """What a model can score at most beside its skill, by an answer of ``least`` tokens."""
    time, price, thrift = references
    return (
        weights.reliability * facts.reliability
        + weights.readiness * facts.readiness
        + weights.thrift / (1 + facts.size / thrift)
        + weights.latency / (1 + (facts.fixed + least * facts.per_answer) / time)
        + weights.cost / (1 + (facts.request_price + least * facts.output_price) / price)
    )


def _grouped(ranking: Sequence[tuple[float, int]], steps: Sequence[int]) -> Sequence[Group]:
    by_step: dict[int, tuple[list[float], list[int]]] = {}
    for ceiling, row in ranking:
        step = steps[row]
        found = by_step.get(step)
        if found is None:
            found = by_step[step] = ([], [])
        found[0].append(-ceiling)
        found[1].append(row)
    return tuple(Group(step, *columns) for step, columns in by_step.items())


def table_of(candidates: Iterable[Candidate], offsets: Offsets | None = None) -> Table:
    """Of any number of candidates, in any order; of several with one id the last counts."""
    single = {c.model_id: c for c in candidates}
    rows = tuple(sorted(single.values(), key=lambda c: (has_price(c), c.model_id)))
    capable: dict[str, int] = {}
    engines: dict[str, int] = {}
    for row, c in enumerate(rows):
        for word in c.capabilities:
            capable[word] = capable.get(word, 0) | 1 << row
        engines[c.engine] = engines.get(c.engine, 0) | 1 << row
    # Equal ones are one object, so that a look tells them.
    same: dict[Facts, Facts] = {}
    return Table(
        candidates=rows,
        ids=tuple(c.model_id for c in rows),
        rows={c.model_id: row for row, c in enumerate(rows)},
        facts=[same.setdefault(facts, facts) for facts in map(facts_of, rows)],
        bases=[_basis(c) for c in rows],
        sure=[_sure(c) for c in rows],
        prices=[facts_of(c)[-3:] for c in rows if has_price(c)],
        capable=capable,
        engines=engines,
        contexts=ranked(c.context_tokens for c in rows),
        remote=bits_of_column([c.is_remote for c in rows]),
        available=bits_of_column([c.is_available for c in rows]),
        hot=bits_of_column([c.is_hot for c in rows]),
        fitting=bits_of_column([c.is_hot or c.is_remote or c.fits_now for c in rows]),
        priced_from=sum(not has_price(c) for c in rows),
        offsets=dict(offsets or {}),
    )


def _replaced(table: Table, news: Mapping[str, Candidate]) -> Table:
    """With rows of which only what does not last has changed."""
    candidates, facts, sure = list(table.candidates), list(table.facts), list(table.sure)
    available, hot, fitting = table.available, table.hot, table.fitting
    loose, columns = table.loose, dict(table._columns)
    for name, c in news.items():
        row = table.rows[name]
        before = candidates[row]
        candidates[row], facts[row] = c, facts_of(c)
        was, sure[row] = sure[row], _sure(c)
        available = _with_bit(available, row, c.is_available)
        hot = _with_bit(hot, row, c.is_hot)
        fitting = _with_bit(fitting, row, c.is_hot or c.is_remote or c.fits_now)
        loose = _with_bit(loose, row, _basis(c) != table.bases[row])
        if (c.reliability, c.memory_bytes) != (before.reliability, before.memory_bytes):
            columns.pop("reliabilities", None)
            columns.pop("memories", None)
        if "sure" in columns:
            by_time = columns["sure"] = dict(columns["sure"])
            by_time[was] &= ~(1 << row)
            by_time[sure[row]] = by_time.get(sure[row], 0) | 1 << row
            if not by_time[was]:
                del by_time[was]
    return replace(
        table,
        candidates=tuple(candidates),
        facts=facts,
        sure=sure,
        available=available,
        hot=hot,
        fitting=fitting,
        loose=loose,
        _columns=columns,
    )


def _taught(table: Table, offsets: Offsets) -> Table:
    """With what was learned: of the kinds of work at which a skill has moved by a step or more
    nothing is remembered."""
    before = table.offsets
    moved = {key for key in before.keys() | offsets.keys() if before.get(key) != offsets.get(key)}
    tasks = set()
    for name, task in moved:
        row = table.rows.get(name)
        if row is None:
            continue
        skill = skill_of(table.candidates[row], task)
        then, now = (skill + each.get((name, task), 0.0) for each in (before, offsets))
        if step_of(then) != step_of(now):
            tasks.add(task)
    if not tasks:
        return replace(table, offsets=offsets)
    memo = {
        key: known
        for key, known in table._memo.items()
        if not (
            isinstance(key, tuple) and (key[0] in tasks or (key[0] == "skills" and key[1] in tasks))
        )
    }
    return replace(table, offsets=offsets, _memo=memo)


def facts_of(candidate: Candidate) -> Facts:
    """As they are now."""
    c = candidate
    fixed, prompt, answer, _ = timing_of(c)
    size = c.active_parameters or c.parameters
    if size is None:
        size = UNKNOWN_PARAMETERS * (4 if c.is_remote else 1)
    return Facts(
        fixed,
        prompt,
        answer,
        reliability_of(c),
        readiness_of(c),
        max(0.0, size),
        c.request_price,
        c.input_price / MILLION,
        c.output_price / MILLION,
    )


def _basis(c: Candidate) -> Basis:
    return Basis(idle_timing_of(c), reliability_of(c))


def _sure(c: Candidate) -> Sure:
    timing = timing_of(c)
    return timing[:3] if c.is_timed else (timing.wait, 0.0, 0.0)


def has_price(candidate: Candidate) -> bool:
    """Whether anything is paid for it."""
    c = candidate
    return bool(c.input_price or c.output_price or c.request_price)


def _lasting(c: Candidate) -> tuple[object, ...]:
    """What does not change from one request to the next."""
    return (
        c.engine, c.is_remote, c.capabilities, c.quality, c.parameters, c.active_parameters, c.bits,
        c.skills, c.made_for, c.context_tokens, c.input_price, c.output_price, c.request_price,
    )  # fmt: skip


def bits_of_column(column: Sequence[bool] | bytes | bytearray) -> int:
    """The rows where it is true, the first the lowest bit."""
    return int(bytes(column)[::-1].translate(_TO_DIGITS), 2) if column else 0


def _with_bit(bits: int, row: int, is_set: bool) -> int:
    return bits | 1 << row if is_set else bits & ~(1 << row)


def reliability_of(candidate: Candidate) -> float:
    """0 to 1."""
    known = candidate.reliability
    return UNKNOWN_RELIABILITY if known is None else min(1.0, max(0.0, known))


def readiness_of(candidate: Candidate) -> float:
    """0 to 1: whether it serves, has places, or at least fits."""
    c = candidate
    if not c.is_hot and not c.is_remote:
        return READY_FITS if c.fits_now else READY_EVICTS
    busy = (c.in_flight + c.queued) / max(1, c.places)
    return READY_FREE - (READY_FREE - READY_BUSY) * min(1.0, busy) - 0.2 * min(1.0, busy / 4)
