"""How the registrars do, for Prometheus; read when it asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .registrars import Registrars

LABELS = ("kind", "url")


class RegistrarCollector(Collector):
    """One series per registry."""

    def __init__(self, registrars: Registrars) -> None:
        self._registrars = registrars

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "modelpool_registrar_up", "1 while the registry lists what it should", labels=LABELS
        )
        workers = GaugeMetricFamily(
            "modelpool_registrar_workers", "Workers that it lists for this pool", labels=LABELS
        )
        failures = CounterMetricFamily(
            "modelpool_registrar_failures", "Rounds that failed", labels=LABELS
        )
        for view in self._registrars.view():
            labels = [view["kind"], view["url"]]
            up.add_metric(labels, float(view["status"] == "ok"))
            workers.add_metric(labels, view["registered"] or 0)
            failures.add_metric(labels, view["failures"])
        yield from (up, workers, failures)
