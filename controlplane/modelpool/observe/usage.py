"""How the models are used: counted in memory as requests pass, written down now and then."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from modelpool.catalog.database import Usage
from modelpool.observe.histogram import Histogram

log = logging.getLogger(__name__)

# More workers than that do not run at a time, and of those that are gone nothing is heard.
WORKERS_KEPT = 256
CLIENT_LEFT = 499  # the client has ended the request: no error of the model


class UsageStore(Protocol):
    async def add_usage(self, deltas: Sequence[Usage]) -> None: ...


@dataclass
class _Count:
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    seconds: float = 0.0
    last_used: float = 0.0

    def take(self, other: _Count) -> None:
        """Count all of another's, too."""
        self.requests += other.requests
        self.errors += other.errors
        self.tokens += other.tokens
        self.seconds += other.seconds
        self.last_used = max(self.last_used, other.last_used)

    def since(self, earlier: _Count) -> _Count:
        """What was counted after it was like that."""
        return _Count(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            self.tokens - earlier.tokens,
            self.seconds - earlier.seconds,
            self.last_used,
        )


NOTHING = _Count()


@dataclass
class _Tally:
    """Of a model since the start; ``saved`` of that was handed on to be written down. ``began`` is
    when it was first asked, seconds since 1970."""

    count: _Count = field(default_factory=_Count)
    saved: _Count = field(default_factory=_Count)
    hot: int = 0
    latencies: Histogram = field(default_factory=Histogram)
    began: float | None = None

    def take(self, other: _Tally) -> None:
        """Count all of another's, too."""
        self.count.take(other.count)
        self.hot += other.hot
        self.latencies.take(other.latencies)
        times = [t.began for t in (self, other) if t.began is not None]
        self.began = min(times, default=None)


@dataclass(frozen=True)
class ModelFacts:
    """What the statistics say of a model beside what was counted.

    Attributes:
        cost_per_token: as its owner declares it; None: it has no price.
        utilization: shares of 1 by what is used: ``memory``, ``concurrency``.
    """

    engine: str
    cost_per_token: float | None = None
    utilization: Mapping[str, float] = field(default_factory=dict)


class UsageMeter:
    """The gateway's meter. ``wall`` gives seconds since 1970."""

    def __init__(self, wall: Any) -> None:
        self._wall = wall
        self._since_start: defaultdict[str, _Tally] = defaultdict(_Tally)
        # To be written down: it outlives a model, and a store that refuses.
        self._unsaved: defaultdict[str, _Count] = defaultdict(_Count)
        self._loads: Counter[str] = Counter()
        self._of_deleted = _Tally()
        self._told: OrderedDict[str, int] = OrderedDict()

    def began(self, model_id: str, *, was_hot: bool) -> None:
        tally = self._since_start[model_id]
        tally.hot += was_hot
        if tally.began is None:
            tally.began = self._wall()

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        tally = self._since_start[model_id]
        tally.latencies.add(seconds)
        count = tally.count
        count.requests += 1
        if status >= 400 and status != CLIENT_LEFT:
            count.errors += 1
        count.seconds += seconds
        count.last_used = self._wall()

    def loaded(self, model_id: str) -> None:
        self._loads[model_id] += 1

    def reported(self, worker_id: str, model_id: str, tokens_total: int) -> None:
        """A worker says how many tokens it has made since its start. What an adopted one made under
        a former manager was counted by that."""
        before = self._told.pop(worker_id, tokens_total)
        self._told[worker_id] = tokens_total
        if len(self._told) > WORKERS_KEPT:
            self._told.popitem(last=False)
        new = max(0, tokens_total - before)
        if new:
            self._since_start[model_id].count.tokens += new

    def forget(self, model_id: str) -> None:
        """The model was deleted: it is named no more, but the pool's totals keep what it did."""
        tally = self._since_start.pop(model_id, _Tally())
        self._set_aside(model_id, tally)
        self._of_deleted.take(tally)

    def latency(self, model_id: str) -> tuple[float, int]:
        """Seconds of a request on average, and of how many; since this manager started."""
        latencies = self._since_start[model_id].latencies if model_id in self._since_start else None
        return (latencies.mean, latencies.count) if latencies is not None else (0.0, 0)

    def measured(self) -> set[str]:
        """The models with a ``latency``."""
        return {m for m, tally in self._since_start.items() if tally.latencies.count}

    def counts(self, model_id: str) -> tuple[int, int, float]:
        """Requests, those of them that failed, seconds of one on average; since the start."""
        if model_id not in self._since_start:
            return (0, 0, 0.0)
        count = self._since_start[model_id].count
        return (count.requests, count.errors, _share(count.seconds, count.requests))

    @property
    def requests(self) -> int:
        """Since this manager started, over all models."""
        return self._total().count.requests

    async def save(self, store: UsageStore) -> None:
        """Write down what was counted since the last time; keeps it when the store refuses."""
        for model_id, tally in self._since_start.items():
            self._set_aside(model_id, tally)
        unsaved, self._unsaved = self._unsaved, defaultdict(_Count)
        loads, self._loads = self._loads, Counter()
        deltas = [_usage(m, unsaved.get(m, NOTHING), loads[m]) for m in {*unsaved, *loads}]
        if not deltas:
            return
        try:
            await store.add_usage(deltas)
        except Exception as e:
            log.warning("use statistics could not be saved: %s", e)
            self._loads.update(loads)
            for model_id, count in unsaved.items():
                self._unsaved[model_id].take(count)

    def _set_aside(self, model_id: str, tally: _Tally) -> None:
        """What was counted of it since the last time, to be written down."""
        if tally.count != tally.saved:
            self._unsaved[model_id].take(tally.count.since(tally.saved))
            tally.saved = replace(tally.count)

    def _total(self) -> _Tally:
        total = _Tally()
        for tally in (*self._since_start.values(), self._of_deleted):
            total.take(tally)
        return total

    def statistics(self, facts: Mapping[str, ModelFacts]) -> dict[str, Any]:
        """Since this manager started: over all models, for each model that was used, and for each
        engine; times in milliseconds. ``facts`` of models that are no more are not needed."""
        total, now = self._total(), self._wall()
        by_engine: defaultdict[str, _Tally] = defaultdict(_Tally)
        for model_id, tally in self._since_start.items():
            if model_id in facts:
                by_engine[facts[model_id].engine].take(tally)
        requests = total.count.requests
        return {
            "total_requests": requests,
            "success_rate": 1.0 if not requests else 1 - total.count.errors / requests,
            "cache_hit_rate": _share(total.hot, requests),
            **_latencies(total.latencies),
            "tokens_per_second": _share(total.count.tokens, total.count.seconds),
            "models": {
                m: _view(t, now, facts.get(m)) for m, t in sorted(self._since_start.items())
            },
            "engines": {e: _view(t, now, None) for e, t in sorted(by_engine.items())},
        }

    @property
    def used(self) -> list[str]:
        """Ids of the models that were used since the start."""
        return sorted(self._since_start)


def _usage(model_id: str, tally: _Count, loads: int) -> Usage:
    return Usage(
        model_id,
        requests=tally.requests,
        errors=tally.errors,
        tokens=tally.tokens,
        loads=loads,
        latency_seconds=tally.seconds,
        last_used_at=tally.last_used,
    )


def _view(tally: _Tally, now: float, facts: ModelFacts | None) -> dict[str, Any]:
    """``tokens_per_second`` of one request, with what it waits; ``throughput_ips`` are requests a
    second since it was first asked; ``cost_per_request`` by the declared price of a token."""
    count = tally.count
    view: dict[str, Any] = {
        "request_count": count.requests,
        "total_latency_ms": count.seconds * 1000,
        "error_count": count.errors,
        "cache_hit_rate": _share(tally.hot, count.requests),
        **_latencies(tally.latencies),
        "tokens_per_second": _share(count.tokens, count.seconds),
        "throughput_ips": _share(count.requests, now - tally.began) if tally.began else 0.0,
    }
    if facts is not None:
        price = facts.cost_per_token
        cost = None if price is None else _share(price * count.tokens, count.requests)
        view |= {"cost_per_request": cost, "resource_utilization": dict(facts.utilization)}
    return view


def _latencies(taken: Histogram) -> dict[str, float]:
    return {
        "avg_latency_ms": taken.mean * 1000,
        "p95_latency_ms": taken.quantile(0.95) * 1000,
        "p99_latency_ms": taken.quantile(0.99) * 1000,
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
