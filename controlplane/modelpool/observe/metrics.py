"""Prometheus metrics. Gauges are read from the pool when they are asked for.

Series name only models that something happened to since the manager started: a catalog may hold ten
thousand, and Prometheus keeps every series that it was ever shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from modelpool_client import __version__
from modelpool_client.wire import EndedRequest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelpool.catalog.usage_rows import UsageHour
from modelpool.observe.load_phases import LoadPhases
from modelpool.observe.request_counts import SECONDS, RequestCounts
from modelpool.pool.pool import Pool
from modelpool.pool.states import SHOWN
from modelpool.pool.waiters import PRIORITIES

if TYPE_CHECKING:
    from modelpool.observe.events import Event

# Of an output token: from what a GPU does to what a large model on few cores does.
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
LOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
COUNTED_EVENTS = {
    "model-loaded": "loads",
    "model-failed": "failures",
    "model-evicted": "evictions",
    "model-unloaded": "unloads",
    "model-refused": "refusals",
    "worker-replaced": "workers_replaced",
}


class Metrics:
    """The pool's registry and the counters that requests and events feed.

    Attributes:
        ended: see ``RequestCounts``.
    """

    def __init__(self, pool: Pool, pool_id: str = "") -> None:
        self._registry = CollectorRegistry()
        self._now = pool.clock.now
        self._has = pool.has
        self._loads = LoadPhases()
        # In the order in which they were first heard of.
        self._active: dict[str, None] = {}
        self._registry.register(_PoolCollector(pool, pool_id, self._active))
        labels = ["model"]
        self._requests = RequestCounts()
        self._registry.register(self._requests)
        self.ended = self._requests.ended
        self._waited = Histogram(
            "modelpool_queue_seconds",
            "Waiting in the gateway for a load or a place, of the requests that had to wait",
            labels,
            buckets=SECONDS,
            registry=self._registry,
        )
        self._first_token = Histogram(
            "modelpool_time_to_first_token_seconds",
            "From a stream's arrival at its worker to its first piece (with request_log: facts)",
            labels,
            buckets=SECONDS,
            registry=self._registry,
        )
        self._per_token = Histogram(
            "modelpool_time_per_output_token_seconds",
            "Of streams, for each token after the first (with request_log: facts)",
            labels,
            buckets=TOKEN_SECONDS,
            registry=self._registry,
        )
        self._load = Histogram(
            "modelpool_load_seconds",
            "Loads that succeeded, from the start of the worker until it serves",
            labels,
            buckets=LOAD_SECONDS,
            registry=self._registry,
        )
        self._load_phase = Histogram(
            "modelpool_load_phase_seconds",
            "Phases of the loads of all models: start (process, libraries), weights and others",
            ["phase"],
            buckets=LOAD_SECONDS,
            registry=self._registry,
        )
        self._coalesced = Counter(
            "modelpool_coalesced_requests",
            "Of them, those that were given the answer of an identical one in flight",
            labels,
            registry=self._registry,
        )
        self._tokens = Counter(
            "modelpool_tokens",
            "Tokens by kind: prompt (the cached ones included), cached, completion",
            [*labels, "kind"],
            registry=self._registry,
        )
        self._cost = Counter(
            "modelpool_cost",
            "Cost by the prices of the catalog",
            [*labels, "currency"],
            registry=self._registry,
        )
        self._used: dict[str, set[str]] = {}
        # Looking a child up costs more than counting.
        self._streamed: dict[str, tuple[Histogram, Histogram]] = {}
        self._events = {
            name: Counter(f"modelpool_{what}", f"Number of {what}", labels, registry=self._registry)
            for name, what in COUNTED_EVENTS.items()
        }

    def add(self, collector: Collector) -> None:
        """Show the figures of another part of the pool, too."""
        self._registry.register(collector)

    def waited(self, model_id: str, seconds: float) -> None:
        """A request was not served at once."""
        self._waited.labels(model_id).observe(seconds)

    def told(self, model_id: str, request: EndedRequest) -> None:
        """A worker tells of a request that is over; ``model_id`` is empty where there is none."""
        first = request.first_seconds
        if first is None or not (request.is_stream and model_id and self._has(model_id)):
            return
        children = self._streamed.get(model_id)
        if children is None:
            children = self._streamed[model_id] = (
                self._first_token.labels(model_id),
                self._per_token.labels(model_id),
            )
        children[0].observe(first)
        if request.completion_tokens > 1:
            seconds = max(0.0, request.seconds - first) / (request.completion_tokens - 1)
            children[1].observe(seconds)

    def used(self, new: UsageHour) -> None:
        """A worker has counted that."""
        model_id = new.model_id
        self._used.setdefault(model_id, set()).add(new.currency)
        for kind, count in (
            ("prompt", new.prompt_tokens),
            ("cached", new.cached_tokens),
            ("completion", new.completion_tokens),
        ):
            self._tokens.labels(model_id, kind).inc(count)
        self._cost.labels(model_id, new.currency).inc(new.cost)

    def joined(self, model_id: str) -> None:
        """A request shares the computation of another."""
        self._coalesced.labels(model_id).inc()

    def count(self, event: Event) -> None:
        """An event was published."""
        model_id = event.data["model_id"]
        self._active[model_id] = None
        self._note_load(event)
        # All begin at 0 together: Prometheus sees no increase in a series that begins with 1.
        counters = {name: counter.labels(model_id) for name, counter in self._events.items()}
        self._coalesced.labels(model_id)
        if event.name in counters:
            counters[event.name].inc()

    def _note_load(self, event: Event) -> None:
        if event.name == "model-loading":
            # It begins at 0: Prometheus sees no increase in a series that begins with 1.
            self._load.labels(event.data["model_id"])
        loaded = self._loads.note(event.name, event.data, self._now())
        if loaded is not None:
            self._load.labels(loaded.model_id).observe(loaded.seconds)
            for phase, seconds in loaded.phases.items():
                self._load_phase.labels(phase).observe(seconds)

    def forget(self, model_id: str) -> None:
        """The model was deleted: a scrape names it no more."""
        self._active.pop(model_id, None)
        self._requests.forget(model_id)
        self._streamed.pop(model_id, None)
        if model_id in self._used:
            for kind in ("prompt", "cached", "completion"):
                self._tokens.remove(model_id, kind)
            for currency in self._used.pop(model_id):
                self._cost.remove(model_id, currency)
        times = (self._waited, self._first_token, self._per_token, self._load)
        for metric in (*times, self._coalesced, *self._events.values()):
            metric.remove(model_id)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _PoolCollector(Collector):
    """What the pool looks like at the moment of a scrape; ``active`` are ids of models, of which
    only its keys are read."""

    def __init__(self, pool: Pool, pool_id: str, active: Mapping[str, None]) -> None:
        self._pool = pool
        self._active = active
        self._pool_id = pool_id

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = self._pool.clock.now()
        state = _gauge("state", "1 for the state that the model is in", ["model", "state"])
        in_flight = _gauge("in_flight", "Requests in flight on the worker", ["model"])
        lease = _gauge("lease_seconds", "Left of the lease; only where there is one", ["model"])
        reserved = _gauge("reserved_bytes", "Memory reserved", ["model"])
        estimated = _gauge("memory_estimated_bytes", "Estimated from file and options", ["model"])
        peak = _gauge("memory_measured_peak_bytes", "The most ever measured", ["model"])
        current = _gauge("memory_current_bytes", "What its workers take now", ["model"])
        waiters = _gauge(
            "waiters", "Requests that wait for a load or a place, by class", ["model", "priority"]
        )
        limit = _gauge("concurrency_limit", "Of in_flight; only where there is one", ["model"])
        waited = _gauge("waiting_seconds", "How long the first of them has waited", ["model"])
        replicas = _gauge("replicas", "Copies that serve", ["model"])
        asleep = _gauge("asleep", "Copies that sleep", ["model"])
        for name in dict.fromkeys((*self._active, *sorted(self._pool.awake_models))):
            if not self._pool.has(name):
                continue
            best, copies = self._pool.status(name), self._pool.statuses(name)
            for each in SHOWN:
                state.add_metric([name, each], float(best.state is each))
            replicas.add_metric([name], sum(s.state.is_serving for s in copies))
            asleep.add_metric([name], sum(s.is_asleep for s in copies))
            in_flight.add_metric([name], sum(s.in_flight for s in copies))
            reserved.add_metric([name], sum(self._pool.reserved_bytes(s.key) for s in copies))
            known = self._pool.memory_estimate(best.model)
            estimated.add_metric([name], known.estimated)
            if known.measured_peak is not None:
                peak.add_metric([name], known.measured_peak)
            taken = [s.facts.taken_bytes or 0 for s in copies if s.facts is not None]
            current.add_metric([name], sum(taken))
            for priority in PRIORITIES:
                waiting = sum(s.waiting_by_class[priority] for s in copies)
                waiters.add_metric([name, priority], waiting)
            limits = [s.limit for s in copies if s.state.is_serving and s.limit is not None]
            if limits:
                limit.add_metric([name], sum(limits))
            times = [s.waiting_since for s in copies if s.waiting_since is not None]
            waited.add_metric([name], now - min(times, default=now))
            left = best.lease.remaining(now)
            if best.state.is_serving and left is not None:
                lease.add_metric([name], left)
        yield from (state, replicas, asleep, in_flight, lease, limit, reserved, waiters, waited)
        yield from (estimated, peak, current)
        yield from self._of_the_pool()
        yield self._models_by_state()

    def _models_by_state(self) -> Metric:
        gauge = _gauge("models", "Models of the whole catalog, by their state", ["state"])
        counts = self._pool.state_counts()
        for state in SHOWN:
            gauge.add_metric([state], counts[state])
        return gauge

    def _of_the_pool(self) -> Iterator[Metric]:
        pool = self._pool
        info = _gauge("info", "1; its labels say which pool and version this is", ["version", "id"])
        info.add_metric([__version__, self._pool_id], 1)
        yield info
        for name, text, value in (
            ("ports_available", "Worker ports that nobody holds", pool.ports.available),
            ("memory_limit_bytes", "Memory for all workers", pool.config.memory_limit_bytes),
            ("models_limit", "Models in memory at a time", pool.config.max_concurrent_models),
            ("models_asleep", "Models that sleep, which count as COLD", len(pool.asleep)),
            ("queue_length", "Starts that wait for room", pool.queue_length),
        ):
            gauge = _gauge(name, text, [])
            gauge.add_metric([], value)
            yield gauge


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"modelpool_{name}", text, labels=labels)
