"""How the models are used: counted in memory as requests pass, written down now and then."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelpool.catalog.database import Usage

log = logging.getLogger(__name__)

LATENCIES_KEPT = 1000
CLIENT_LEFT = 499  # the client has ended the request: no error of the model


class UsageStore(Protocol):
    async def add_usage(self, deltas: Sequence[Usage]) -> None: ...


@dataclass
class _Count:
    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    last_used: float = 0.0


@dataclass
class _Tally:
    """Of a model since the start."""

    count: _Count = field(default_factory=_Count)
    hot: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))


class UsageMeter:
    """The gateway's meter. ``wall`` gives seconds since 1970."""

    def __init__(self, wall: Any) -> None:
        self._wall = wall
        self._since_start: defaultdict[str, _Tally] = defaultdict(_Tally)
        self._unsaved: defaultdict[str, _Count] = defaultdict(_Count)
        self._loads: Counter[str] = Counter()
        self._of_deleted = _Tally()

    def began(self, model_id: str, *, was_hot: bool) -> None:
        self._since_start[model_id].hot += was_hot

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        tally = self._since_start[model_id]
        tally.latencies.append(seconds)
        for count in (tally.count, self._unsaved[model_id]):
            count.requests += 1
            count.errors += status >= 400 and status != CLIENT_LEFT
            count.seconds += seconds
            count.last_used = self._wall()

    def loaded(self, model_id: str) -> None:
        self._loads[model_id] += 1

    def forget(self, model_id: str) -> None:
        """The model was deleted: it is named no more, but the pool's totals keep what it did."""
        tally, rest = self._since_start.pop(model_id, _Tally()), self._of_deleted
        rest.count.requests += tally.count.requests
        rest.count.errors += tally.count.errors
        rest.hot += tally.hot

    async def save(self, store: UsageStore) -> None:
        """Write down what was counted since the last time; keeps it when the store refuses."""
        unsaved, self._unsaved = self._unsaved, defaultdict(_Count)
        loads, self._loads = self._loads, Counter()
        deltas = [_usage(m, unsaved.get(m, _Count()), loads[m]) for m in {*unsaved, *loads}]
        if not deltas:
            return
        try:
            await store.add_usage(deltas)
        except Exception as e:
            log.warning("use statistics could not be saved: %s", e)
            self._take_back(unsaved, loads)

    def _take_back(self, unsaved: dict[str, _Count], loads: Counter[str]) -> None:
        self._loads.update(loads)
        for model_id, old in unsaved.items():
            tally = self._unsaved[model_id]
            tally.requests += old.requests
            tally.errors += old.errors
            tally.seconds += old.seconds
            tally.last_used = max(tally.last_used, old.last_used)

    def statistics(self) -> dict[str, Any]:
        """Since this manager started, over all models and for each; times in milliseconds."""
        tallies = self._since_start
        all_of_them = [*tallies.values(), self._of_deleted]
        every = [x for t in all_of_them for x in t.latencies]
        requests = sum(t.count.requests for t in all_of_them)
        errors = sum(t.count.errors for t in all_of_them)
        return {
            "total_requests": requests,
            "success_rate": 1.0 if not requests else 1 - errors / requests,
            "cache_hit_rate": _share(sum(t.hot for t in all_of_them), requests),
            **_latencies(every),
            "models": {m: _model(t) for m, t in sorted(tallies.items())},
        }


def _usage(model_id: str, tally: _Count, loads: int) -> Usage:
    return Usage(
        model_id,
        requests=tally.requests,
        errors=tally.errors,
        loads=loads,
        latency_seconds=tally.seconds,
        last_used_at=tally.last_used,
    )


def _model(tally: _Tally) -> dict[str, Any]:
    return {
        "request_count": tally.count.requests,
        "total_latency_ms": tally.count.seconds * 1000,
        "error_count": tally.count.errors,
        "cache_hit_rate": _share(tally.hot, tally.count.requests),
        **_latencies(list(tally.latencies)),
    }


def _latencies(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "avg_latency_ms": _share(sum(ordered), len(ordered)) * 1000,
        "p95_latency_ms": _quantile(ordered, 0.95) * 1000,
        "p99_latency_ms": _quantile(ordered, 0.99) * 1000,
    }


def _quantile(ordered: list[float], q: float) -> float:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
