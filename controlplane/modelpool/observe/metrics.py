"""Prometheus metrics. Gauges are read from the pool when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelpool_client import __version__
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.pool.waiters import PRIORITIES

if TYPE_CHECKING:
    from modelpool.observe.events import Event

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
COUNTED_EVENTS = {
    "model-loaded": "loads",
    "model-failed": "failures",
    "model-evicted": "evictions",
    "model-unloaded": "unloads",
    "model-refused": "refusals",
    "worker-replaced": "workers_replaced",
}


class Metrics:
    """The pool's registry and the counters that requests and events feed."""

    def __init__(self, pool: Pool, pool_id: str = "") -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_PoolCollector(pool, pool_id))
        labels = ["model"]
        self._requests = Counter(
            "modelpool_requests",
            "Requests that the gateway has answered",
            [*labels, "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "modelpool_request_seconds",
            "Time of whole requests through the gateway, waiting for a load included",
            labels,
            buckets=SECONDS,
            registry=self._registry,
        )
        self._coalesced = Counter(
            "modelpool_coalesced_requests",
            "Of them, those that were given the answer of an identical one in flight",
            labels,
            registry=self._registry,
        )
        # Looking a child up costs more than counting, and this is on the data path.
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._events = {
            name: Counter(f"modelpool_{what}", f"Number of {what}", labels, registry=self._registry)
            for name, what in COUNTED_EVENTS.items()
        }

    def add(self, collector: Collector) -> None:
        """Show the figures of another part of the pool, too."""
        self._registry.register(collector)

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        """A request of the gateway was answered."""
        key = (model_id, status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                self._requests.labels(model_id, str(status)),
                self._seconds.labels(model_id),
            )
        children[0].inc()
        children[1].observe(seconds)

    def joined(self, model_id: str) -> None:
        """A request shares the computation of another."""
        self._coalesced.labels(model_id).inc()

    def count(self, event: Event) -> None:
        """An event was published."""
        model_id = event.data["model_id"]
        # All begin at 0 together: Prometheus sees no increase in a series that begins with 1.
        counters = {name: counter.labels(model_id) for name, counter in self._events.items()}
        self._coalesced.labels(model_id)
        if event.name in counters:
            counters[event.name].inc()

    def forget(self, model_id: str) -> None:
        """The model was deleted: a scrape names it no more."""
        for key in [key for key in self._children if key[0] == model_id]:
            del self._children[key]
            self._requests.remove(model_id, str(key[1]))
        for metric in (self._seconds, self._coalesced, *self._events.values()):
            metric.remove(model_id)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _PoolCollector(Collector):
    """What the pool looks like at the moment of a scrape."""

    def __init__(self, pool: Pool, pool_id: str) -> None:
        self._pool = pool
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
        for model in self._pool.models:
            name = model.model_id
            best, copies = self._pool.status(name), self._pool.statuses(name)
            for each in State:
                state.add_metric([name, each], float(best.state is each))
            replicas.add_metric([name], sum(s.state.is_serving for s in copies))
            in_flight.add_metric([name], sum(s.in_flight for s in copies))
            reserved.add_metric([name], sum(self._pool.reserved_bytes(s.key) for s in copies))
            known = self._pool.memory_estimate(model)
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
        yield from (state, replicas, in_flight, lease, limit, reserved, waiters, waited)
        yield from (estimated, peak, current)
        yield from self._of_the_pool()

    def _of_the_pool(self) -> Iterator[Metric]:
        pool = self._pool
        info = _gauge("info", "1; its labels say which pool and version this is", ["version", "id"])
        info.add_metric([__version__, self._pool_id], 1)
        yield info
        for name, text, value in (
            ("ports_available", "Worker ports that nobody holds", pool.ports.available),
            ("memory_limit_bytes", "Memory for all workers", pool.config.memory_limit_bytes),
            ("models_limit", "Models in memory at a time", pool.config.max_concurrent_models),
            ("queue_length", "Starts that wait for room", pool.queue_length),
        ):
            gauge = _gauge(name, text, [])
            gauge.add_metric([], value)
            yield gauge


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"modelpool_{name}", text, labels=labels)
