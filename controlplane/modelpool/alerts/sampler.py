"""Measures what rules are about, and tells the evaluator; decides nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from modelpool_client.wire import EndedRequest

from modelpool.catalog.model import is_trial
from modelpool.observe.events import Event
from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus

from .costs import Costs
from .evaluate import Labels, Sample
from .rules import Rule
from .silences import CURRENCY, MODEL
from .windows import EventWindows, RequestWindows, Totals

FAILURES = frozenset({"model-failed", "worker-replaced"})
EVICTED = "model-evicted"
P95 = 0.95
# Of each share: the part, and the whole.
SHARES: Mapping[str, Callable[[Totals], tuple[int, int]]] = {
    "error_rate": lambda t: (t.failed, t.requests),
    "broken_share": lambda t: (t.broken, t.streams),
    "empty_share": lambda t: (t.empty, t.answers),
    "left_share": lambda t: (t.left, t.requests),
}

Statuses = Mapping[str, Sequence[ReplicaStatus]]


class Sampler:
    """``open_breakers`` gives models and why theirs is open, ``pressure`` why memory is short,
    empty if it is not."""

    def __init__(
        self,
        pool: Pool,
        open_breakers: Callable[[], Iterable[tuple[str, str]]],
        pressure: Callable[[], str],
        costs: Costs,
    ) -> None:
        self.requests = RequestWindows()
        self._pool = pool
        self._open_breakers = open_breakers
        self._pressure = pressure
        self._costs = costs
        self._failures = EventWindows()
        self._evictions = EventWindows()
        self._known: dict[tuple[str, float], Totals] = {}

    def heard(self, model_id: str, request: EndedRequest) -> None:
        """A request is over."""
        if model_id and not is_trial(model_id):
            self.requests.count(model_id, request)

    def on_event(self, event: Event, now: float) -> None:
        """Something happened to a model."""
        model_id = event.data["model_id"]
        if is_trial(model_id):
            return
        if event.name in FAILURES:
            self._failures.count(model_id, now)
        elif event.name == EVICTED:
            self._evictions.count(model_id, now)

    async def look(self, rules: Sequence[Rule], now: float) -> dict[str, list[Sample]]:
        """What was measured for each rule, by its name."""
        longest = max((rule.window_seconds for rule in rules), default=0.0)
        for windows in (self.requests, self._failures, self._evictions):
            windows.keep_seconds = longest
            windows.forget_old(now, self._pool.has)
        wanted = {rule.signal for rule in rules}
        await self._costs.look(wanted, now)
        names = sorted(m for m in self._pool.awake_models if not is_trial(m))
        statuses = {name: self._pool.statuses(name) for name in names if self._pool.has(name)}
        self._known.clear()
        found = {}
        for rule in rules:
            found[rule.name] = list(self._of(rule, statuses, now))
            # With many models at work that takes milliseconds, and requests are answered meanwhile.
            await asyncio.sleep(0)
        return found

    def _of(self, rule: Rule, statuses: Statuses, now: float) -> Iterator[Sample]:
        if rule.signal in SHARES:
            return self._shares(rule, now)
        if rule.signal in ("latency_p95", "first_token_p95"):
            return self._quantiles(rule, now)
        if rule.signal in ("failures", "evictions"):
            return self._counts(rule, now)
        if rule.signal in ("cost_day", "cost_month"):
            return self._spent(rule)
        return self._levels(rule, statuses)

    def _shares(self, rule: Rule, now: float) -> Iterator[Sample]:
        for model_id in self._asked(rule):
            totals = self._totals(model_id, now, rule.window_seconds)
            part, whole = SHARES[rule.signal](totals)
            if whole:
                yield Sample(part / whole, _model(model_id), whole)

    def _quantiles(self, rule: Rule, now: float) -> Iterator[Sample]:
        requests, is_first = self.requests, rule.signal == "first_token_p95"
        for model_id in self._asked(rule):
            totals = self._totals(model_id, now, rule.window_seconds)
            # To put histograms together is dear, and most of them are of too few.
            if (totals.streams if is_first else totals.requests) < rule.min_count:
                continue
            times = requests.first_times if is_first else requests.times
            taken = times(model_id, now, rule.window_seconds)
            if taken.count:
                yield Sample(taken.quantile(P95), _model(model_id), taken.count)

    def _totals(self, model_id: str, now: float, seconds: float) -> Totals:
        """Several rules look at the same window."""
        found = self._known.get((model_id, seconds))
        if found is None:
            found = self._known[model_id, seconds] = self.requests.totals(model_id, now, seconds)
        return found

    def _asked(self, rule: Rule) -> list[str]:
        return [m for m in self.requests.models() if rule.is_about(m) and self._pool.has(m)]

    def _counts(self, rule: Rule, now: float) -> Iterator[Sample]:
        windows = self._failures if rule.signal == "failures" else self._evictions
        counts = {
            name: windows.total(name, now, rule.window_seconds)
            for name in windows.names()
            if rule.is_about(name) and self._pool.has(name)
        }
        if rule.signal == "evictions":
            yield Sample(sum(counts.values()))
            return
        for name, count in counts.items():
            yield Sample(count, _model(name))

    def _spent(self, rule: Rule) -> Iterator[Sample]:
        spent: defaultdict[str, float] = defaultdict(float)
        for model_id, currency, cost in self._costs.of(rule.signal):
            if rule.is_about(model_id):
                spent[currency] += cost
        for currency, cost in sorted(spent.items()):
            yield Sample(cost, ((CURRENCY, currency),))

    def _levels(self, rule: Rule, statuses: Statuses) -> Iterator[Sample]:
        if rule.signal == "memory_pressure":
            why = self._pressure()
            yield Sample(float(bool(why)), (), text=why)
            return
        if rule.signal == "breaker_open":
            for model_id, why in self._open_breakers():
                if rule.is_about(model_id):
                    yield Sample(1.0, _model(model_id), text=f"open: {why}")
            return
        now = self._pool.clock.now()
        for model_id, copies in statuses.items():
            if rule.is_about(model_id):
                yield _level(rule.signal, model_id, copies, now)


def _level(signal: str, model_id: str, copies: Sequence[ReplicaStatus], now: float) -> Sample:
    """PURE. How a model is; ``now`` on the pool's clock."""
    labels = _model(model_id)
    if signal == "failed":
        is_failed = all(s.state is State.FAILED for s in copies)
        why = next((s.reason for s in copies if s.state is State.FAILED), "")
        return Sample(float(is_failed), labels, text=why)
    if signal == "waiting":
        return Sample(sum(s.waiting for s in copies), labels)
    since = [s.waiting_since for s in copies if s.waiting_since is not None]
    what = next((s.describe_wait() for s in copies if s.waiting), "")
    return Sample(now - min(since, default=now), labels, text=what)


def _model(model_id: str) -> Labels:
    return ((MODEL, model_id),)
