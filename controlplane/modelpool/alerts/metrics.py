"""Alerts, for Prometheus; read when it asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .alerts import Alerts
from .evaluate import Status
from .silences import MODEL


class AlertCollector(Collector):
    """A series for each alert that is pending or firing, and what targets were sent."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        labels = ("alertname", "severity", "model", "state")
        active = GaugeMetricFamily(
            "modelpool_alerts", "1: the pool's own alert is pending or firing", labels=labels
        )
        for shown in self._alerts.shown():
            alert = shown.alert
            if alert.status is not Status.RESOLVED:
                model = dict(alert.labels).get(MODEL, "")
                active.add_metric([alert.rule, alert.severity, model, alert.status.value], 1)
        sent = CounterMetricFamily(
            "modelpool_alert_messages", "Messages to targets of alerts", labels=("target", "result")
        )
        for sender in self._alerts.targets:
            sent.add_metric([sender.name, "sent"], sender.sent)
            sent.add_metric([sender.name, "lost"], sender.lost)
        yield from (active, sent)
