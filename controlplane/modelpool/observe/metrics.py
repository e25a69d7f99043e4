"""Prometheus metrics. Gauges are read from the pool when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelpool.pool.lifecycle import State
from modelpool.pool.pool import Pool

if TYPE_CHECKING:
    from modelpool.observe.events import Event

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
COUNTED_EVENTS = {
    "model-loaded": "loads",
    "model-failed": "failures",
    "model-evicted": "evictions",
    "model-unloaded": "unloads",
    "model-refused": "refusals",
}


class Metrics:
    """The pool's registry and the counters that requests and events feed."""

    def __init__(self, pool: Pool) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_PoolCollector(pool))
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
        # Looking a child up costs more than counting, and this is on the data path.
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._events = {
            name: Counter(f"modelpool_{what}", f"Number of {what}", labels, registry=self._registry)
            for name, what in COUNTED_EVENTS.items()
        }

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

    def count(self, event: Event) -> None:
        """An event was published."""
        counter = self._events.get(event.name)
        if counter is not None:
            counter.labels(event.data["model_id"]).inc()

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _PoolCollector(Collector):
    """What the pool looks like at the moment of a scrape."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = self._pool.clock.now()
        state = _gauge("state", "1 for the state that the model is in", ["model", "state"])
        in_flight = _gauge("in_flight", "Requests in flight on the worker", ["model"])
        lease = _gauge("lease_seconds", "Left of the lease; only where there is one", ["model"])
        reserved = _gauge("reserved_bytes", "Memory reserved", ["model"])
        ports = _gauge("ports_available", "Worker ports that nobody holds", [])
        ports.add_metric([], self._pool.ports.available)
        for slot in self._pool.slots:
            name = slot.model.model_id
            for each in State:
                state.add_metric([name, each], float(slot.state is each))
            in_flight.add_metric([name], slot.in_flight)
            reserved.add_metric([name], self._pool.reserved_bytes(name))
            left = slot.lease.remaining(now)
            if slot.state.is_serving and left is not None:
                lease.add_metric([name], left)
        yield from (state, in_flight, lease, reserved, ports)


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"modelpool_{name}", text, labels=labels)
