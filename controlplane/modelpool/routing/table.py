"""PURE: all models that might answer, laid out so that a choice among a thousand takes under a
millisecond: a column a fact, a set of bits a condition.

A table is made when the catalog changes; when a model becomes HOT, busy or dearer, ``changed``
makes the next one of it with that row replaced. A table never changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from .candidate import UNKNOWN_RELIABILITY, Candidate, Timing, skill_of, timing_of
from .confidence import step_of
from .policy import Policy, Weights

MILLION = 1_000_000
# Worth of a model that serves and has places free, that serves and has none, that fits, and that
# needs others unloaded.
READY_FREE, READY_BUSY, READY_FITS, READY_EVICTS = 1.0, 0.6, 0.4, 0.1
UNKNOWN_PARAMETERS = 8.0
# Answers have so many tokens at least, or none: the rest of a ceiling's time is for a decision.
ANSWER_STEP = 128
_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")

Offsets = Mapping[tuple[str, str], float]


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
        priced_from: the first row with a price.
        offsets: what outcomes taught of a model at a kind of work, see ``learning``.
        fixed, per_prompt, per_answer, waits: milliseconds, see ``Timing``.
        input_prices, output_prices, request_prices: dollars of a token, of a request.
    """

    candidates: tuple[Candidate, ...]
    ids: tuple[str, ...]
    rows: Mapping[str, int]
    waits: tuple[float, ...]
    fixed: tuple[float, ...]
    per_prompt: tuple[float, ...]
    per_answer: tuple[float, ...]
    input_prices: tuple[float, ...]
    output_prices: tuple[float, ...]
    request_prices: tuple[float, ...]
    capable: Mapping[str, int]
    engines: Mapping[str, int]
    contexts: Ranked
    reliabilities: Ranked
    memories: Ranked
    available: int
    hot: int
    fitting: int
    timed: int
    priced_from: int
    offsets: Offsets = field(default_factory=dict)
    _memo: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

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

    def skills(self, task: str) -> Sequence[int]:
        """Of each row, as steps of ``confidence.chances``."""
        known: Sequence[int] | None = self._memo.get(task)
        if known is None:
            offsets = self.offsets
            known = self._memo[task] = tuple(
                step_of(skill_of(c, task) + offsets.get((c.model_id, task), 0.0))
                for c in self.candidates
            )
        return known

    def standing(self, weights: Weights, policy: Policy) -> Sequence[float]:
        """Of each row, what counts whatever is asked: reliability, readiness, thrift, and that
        nothing is paid."""
        key = (weights, policy.thrift_reference)
        known: Sequence[float] | None = self._memo.get(key)
        if known is None:
            known = self._memo[key] = tuple(
                _standing(c, weights, policy.thrift_reference) for c in self.candidates
            )
        return known

    def ceilings(self, policy: Policy, answer_tokens: int) -> Sequence[float]:
        """Of each row, what it can score at most beside its quality, by an answer of so many tokens
        to a prompt of any length."""
        least = ANSWER_STEP if answer_tokens >= ANSWER_STEP else 0
        weights = policy.weights[policy.strategy]
        latency, cost = policy.latency_reference_ms, policy.cost_reference
        key = ("ceilings", weights, policy.thrift_reference, latency, cost, least)
        known: Sequence[float] | None = self._memo.get(key)
        if known is None:
            known = self._memo[key] = self._ceilings(policy, weights, least)
        return known

    def _ceilings(self, policy: Policy, weights: Weights, least: int) -> tuple[float, ...]:
        wl, wc, first = weights.latency, weights.cost, self.priced_from
        fixed, _, per_answer = self.times(policy.latency_reference_ms)
        requests, _, outputs = self.prices(policy.cost_reference)
        standing = self.standing(weights, policy)
        columns = zip(standing, fixed, per_answer, strict=True)
        found = [s + wl / (1 + t + least * a) for s, t, a in columns]
        paid = zip(found[first:], requests, outputs, strict=True)
        found[first:] = [v + wc / (1 + r + least * o) for v, r, o in paid]
        return tuple(found)

    def times(self, reference_ms: float) -> tuple[Sequence[float], ...]:
        """``fixed``, ``per_prompt`` and ``per_answer`` in parts of a reference."""
        known: tuple[Sequence[float], ...] | None = self._memo.get(("times", reference_ms))
        if known is None:
            columns = (self.fixed, self.per_prompt, self.per_answer)
            known = tuple(tuple(v / reference_ms for v in column) for column in columns)
            self._memo["times", reference_ms] = known
        return known

    def prices(self, reference: float) -> tuple[Sequence[float], ...]:
        """Of rows with prices: of a request, of a token of the prompt, of the answer, in parts of
        a reference."""
        known: tuple[Sequence[float], ...] | None = self._memo.get(("prices", reference))
        if known is None:
            columns = (self.request_prices, self.input_prices, self.output_prices)
            known = tuple(tuple(v / reference for v in c[self.priced_from :]) for c in columns)
            self._memo["prices", reference] = known
        return known

    def changed(self, candidates: Iterable[Candidate], offsets: Offsets | None = None) -> Table:
        """The table with these in place of those of the same ids; new ones are added."""
        merged = {c.model_id: c for c in self.candidates}
        news = {c.model_id: c for c in candidates}
        if news.keys() - merged.keys():
            return table_of(
                [*(merged | news).values()], self.offsets if offsets is None else offsets
            )
        return _replaced(self, news, self.offsets if offsets is None else offsets)


def table_of(candidates: Iterable[Candidate], offsets: Offsets | None = None) -> Table:
    """Of any number of candidates, in any order; of several with one id the last counts."""
    single = {c.model_id: c for c in candidates}
    rows = tuple(sorted(single.values(), key=lambda c: (has_price(c), c.model_id)))
    timings = tuple(timing_of(c) for c in rows)
    capable: dict[str, int] = {}
    engines: dict[str, int] = {}
    for row, c in enumerate(rows):
        for word in c.capabilities:
            capable[word] = capable.get(word, 0) | 1 << row
        engines[c.engine] = engines.get(c.engine, 0) | 1 << row
    return Table(
        candidates=rows,
        ids=tuple(c.model_id for c in rows),
        rows={c.model_id: row for row, c in enumerate(rows)},
        waits=tuple(t.wait for t in timings),
        fixed=tuple(t.fixed for t in timings),
        per_prompt=tuple(t.per_prompt_token for t in timings),
        per_answer=tuple(t.per_answer_token for t in timings),
        input_prices=tuple(c.input_price / MILLION for c in rows),
        output_prices=tuple(c.output_price / MILLION for c in rows),
        request_prices=tuple(c.request_price for c in rows),
        capable=capable,
        engines=engines,
        contexts=ranked(c.context_tokens for c in rows),
        reliabilities=ranked(c.reliability for c in rows),
        memories=ranked(None if c.memory_bytes is None else -c.memory_bytes for c in rows),
        available=bits_of_column([c.is_available for c in rows]),
        hot=bits_of_column([c.is_hot for c in rows]),
        fitting=bits_of_column([c.is_hot or c.is_remote or c.fits_now for c in rows]),
        timed=bits_of_column([c.is_timed for c in rows]),
        priced_from=sum(not has_price(c) for c in rows),
        offsets=dict(offsets or {}),
    )


def _replaced(table: Table, news: Mapping[str, Candidate], offsets: Offsets) -> Table:
    """What only a changed row changes is changed in place of a copy; the rest is made anew."""
    if not news:
        # Skills, by kinds of work, are all that depends on what was learned.
        memo = {key: known for key, known in table._memo.items() if not isinstance(key, str)}
        return replace(table, offsets=dict(offsets), _memo=memo)
    before = [table.candidates[table.rows[name]] for name in news]
    same = all(_lasting(old) == _lasting(news[old.model_id]) for old in before)
    if not same or offsets is not table.offsets:
        merged = dict(zip(table.ids, table.candidates, strict=True)) | dict(news)
        return table_of(merged.values(), offsets)
    candidates, waits = list(table.candidates), list(table.waits)
    fixed, prompt, answer = list(table.fixed), list(table.per_prompt), list(table.per_answer)
    available, hot, fitting = table.available, table.hot, table.fitting
    timed = table.timed
    for name, c in news.items():
        row = table.rows[name]
        timing = timing_of(c)
        candidates[row], waits[row] = c, timing.wait
        fixed[row] = timing.fixed
        prompt[row], answer[row] = timing.per_prompt_token, timing.per_answer_token
        available = _with_bit(available, row, c.is_available)
        hot = _with_bit(hot, row, c.is_hot)
        fitting = _with_bit(fitting, row, c.is_hot or c.is_remote or c.fits_now)
        timed = _with_bit(timed, row, c.is_timed)
    return Table(
        candidates=tuple(candidates),
        ids=table.ids,
        rows=table.rows,
        waits=tuple(waits),
        fixed=tuple(fixed),
        per_prompt=tuple(prompt),
        per_answer=tuple(answer),
        input_prices=table.input_prices,
        output_prices=table.output_prices,
        request_prices=table.request_prices,
        capable=table.capable,
        engines=table.engines,
        contexts=table.contexts,
        reliabilities=table.reliabilities,
        memories=table.memories,
        available=available,
        hot=hot,
        fitting=fitting,
        timed=timed,
        priced_from=table.priced_from,
        offsets=table.offsets,
        _memo=_kept(table, news),
    )


def _kept(table: Table, news: Mapping[str, Candidate]) -> dict[object, Any]:
    """What was worked out before, with changed rows replaced. Skills and prices do not change."""
    memo: dict[object, Any] = {}
    ceilings: list[tuple[Any, Any]] = []
    rows = [(table.rows[name], c, timing_of(c)) for name, c in news.items()]
    for key, known in table._memo.items():
        match key:
            case (Weights() as weights, float(reference)):
                column = list(known)
                for row, c, _ in rows:
                    column[row] = _standing(c, weights, reference)
                memo[key] = tuple(column)
            case ("times", float(reference)):
                columns = [list(column) for column in known]
                for row, _, t in rows:
                    values = (t.fixed, t.per_prompt_token, t.per_answer_token)
                    for column, value in zip(columns, values, strict=True):
                        column[row] = value / reference
                memo[key] = tuple(tuple(column) for column in columns)
            case ("ceilings", *_):
                ceilings.append((key, known))
            case _:
                memo[key] = known
    for key, known in ceilings:
        memo[key] = _ceilings_changed(key, known, rows, memo, table)
    return memo


def _ceilings_changed(
    key: tuple[Any, ...],
    known: Sequence[float],
    rows: Sequence[tuple[int, Candidate, Timing]],
    memo: Mapping[object, Any],
    table: Table,
) -> tuple[float, ...]:
    _, weights, thrift, latency, cost, least = key
    column, first = list(known), table.priced_from
    fixed, _, per_answer = memo["times", latency]
    requests, _, outputs = memo["prices", cost]
    for row, _, _ in rows:
        value = memo[weights, thrift][row]
        value += weights.latency / (1 + fixed[row] + least * per_answer[row])
        if row >= first:
            value += weights.cost / (1 + requests[row - first] + least * outputs[row - first])
        column[row] = value
    return tuple(column)


def _standing(c: Candidate, weights: Weights, thrift_reference: float) -> float:
    return (
        weights.reliability * reliability_of(c)
        + weights.readiness * readiness_of(c)
        + weights.thrift * thrift_of(c, thrift_reference)
        + (0.0 if has_price(c) else weights.cost)
    )


def has_price(candidate: Candidate) -> bool:
    """Whether anything is paid for it."""
    c = candidate
    return bool(c.input_price or c.output_price or c.request_price)


def _lasting(c: Candidate) -> tuple[object, ...]:
    """What does not change from one request to the next."""
    return (
        c.engine, c.is_remote, c.capabilities, c.quality, c.parameters, c.active_parameters, c.bits,
        tuple(sorted(c.skills.items())), c.made_for, c.context_tokens, c.input_price,
        c.output_price, c.request_price, c.reliability, c.memory_bytes,
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


def thrift_of(candidate: Candidate, reference: float) -> float:
    """0 to 1: how little it computes for a token; a half for so many billions of parameters."""
    size = candidate.active_parameters or candidate.parameters
    if size is None:
        size = UNKNOWN_PARAMETERS * (4 if candidate.is_remote else 1)
    return 1 / (1 + max(0.0, size) / reference)
