"""The breakers, for Prometheus; read when it asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .breaker import State
from .breakers import Breakers

VALUES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}


class BreakerCollector(Collector):
    """One series for each breaker that something failed at."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "modelpool_breaker_state", "0 closed, 1 half open, 2 open", labels=("breaker",)
        )
        opened = CounterMetricFamily(
            "modelpool_breaker_opened", "How often it was opened", labels=("breaker",)
        )
        retried = CounterMetricFamily(
            "modelpool_retries", "Requests that were sent again after a failure", labels=("model",)
        )
        views = {view.breaker_id: VALUES[view.breaker.state] for view in self._breakers}
        for name in sorted({*views, *self._breakers.opened}):
            state.add_metric([name], views.get(name, 0.0))
            opened.add_metric([name], self._breakers.opened.get(name, 0))
        for model_id, count in self._breakers.retried.items():
            retried.add_metric([model_id], count)
        yield from (state, opened, retried)
