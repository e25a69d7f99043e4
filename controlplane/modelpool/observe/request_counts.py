"""Requests of the gateway by model and status, and how long they took, as Prometheus has it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

# Upper bounds of the buckets.
SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BOUNDS = [*(str(float(bound)) for bound in SECONDS), "+Inf"]


class _Counts:
    __slots__ = ("buckets", "by_status", "seconds")

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}
        self.buckets = [0] * len(_BOUNDS)
        self.seconds = 0.0


class RequestCounts(Collector):
    """Plain numbers until somebody scrapes them: the library's own metrics lock and check, which
    the data path would pay for with every request."""

    def __init__(self) -> None:
        self._models: dict[str, _Counts] = {}

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        """A request was answered."""
        counts = self._models.get(model_id)
        if counts is None:
            counts = self._models[model_id] = _Counts()
        counts.by_status[status] = counts.by_status.get(status, 0) + 1
        counts.buckets[bisect_left(SECONDS, seconds)] += 1
        counts.seconds += seconds

    def forget(self, model_id: str) -> None:
        """A scrape names it no more."""
        self._models.pop(model_id, None)

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "modelpool_requests",
            "Requests that the gateway has answered",
            labels=["model", "status"],
        )
        took = HistogramMetricFamily(
            "modelpool_request_seconds",
            "Time of whole requests through the gateway, waiting for a load included",
            labels=["model"],
        )
        for model_id, counts in self._models.items():
            for status, count in counts.by_status.items():
                requests.add_metric([model_id, str(status)], count)
            buckets = [*zip(_BOUNDS, accumulate(counts.buckets), strict=True)]
            took.add_metric([model_id], buckets, counts.seconds)
        yield from (requests, took)
