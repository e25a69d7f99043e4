"""Who counts what passes, and how it is told."""

from __future__ import annotations

from collections.abc import Callable

from modelpool.catalog.model import is_trial
from modelpool.observe.events import Event, EventBus
from modelpool.observe.metrics import Metrics
from modelpool.observe.usage import UsageMeter


def counting_loads(usage: UsageMeter) -> Callable[[Event], None]:
    """A listener that tells the statistics of loads."""

    def count(event: Event) -> None:
        if event.name == "model-loaded" and not is_trial(event.data["model_id"]):
            usage.loaded(event.data["model_id"])

    return count


def reporting_missing(events: EventBus) -> Callable[[int, str], None]:
    """How the history says what it has lost."""

    def report(count: int, why: str) -> None:
        reason = f"{count} events are missing in the history, which could not be written: {why}"
        events.publish("history-incomplete", missing=count, reason=reason)

    return report


class Meter:
    """What the gateway counts goes to the statistics and to Prometheus."""

    def __init__(self, usage: UsageMeter, metrics: Metrics, has: Callable[[str], bool]) -> None:
        self.began = usage.began
        self.joined = metrics.joined
        self._usage = usage
        self._metrics = metrics
        self._has = has

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        if self._has(model_id):  # else it was deleted meanwhile, and is to be named no more
            self._usage.ended(model_id, status, seconds)
            self._metrics.ended(model_id, status, seconds)

    def waited(self, model_id: str, seconds: float) -> None:
        """A request was not served at once; it was granted a worker or has given up."""
        if self._has(model_id):
            self._metrics.waited(model_id, seconds)
