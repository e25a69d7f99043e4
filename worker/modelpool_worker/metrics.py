"""Prometheus text, by hand: the library would cost every front 60 ms and a megabyte."""

from __future__ import annotations

from collections import Counter

from modelpool_client.wire import Facts, Phase


class Metrics:
    """Answers by route and status; 0 stands for a client that left before any."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()

    def count(self, route: str, status: int) -> None:
        """One more."""
        self.answers[route, status] += 1


def render(model_id: str, facts: Facts, metrics: Metrics, *, has_engine: bool) -> str:
    """The page of ``/metrics``."""
    lines: list[str] = []
    model = _label(model_id)

    def add(name: str, kind: str, text: str, value: float | None, labels: str = "") -> None:
        if value is None:
            return
        full = f"modelpool_worker_{name}"
        if f"# TYPE {full} {kind}" not in lines:
            lines.extend([f"# HELP {full} {text}", f"# TYPE {full} {kind}"])
        lines.append(f'{full}{{model="{model}"{labels}}} {value:.10g}')

    for (route, status), count in sorted(metrics.answers.items()):
        labels = f',route="{route}",status="{status}"'
        add("requests_total", "counter", "Answers by route and status.", count, labels)
    add("completions_total", "counter", "Completion requests.", facts.requests_total)
    add("errors_total", "counter", "Completion requests that failed here.", facts.errors_total)
    add("tokens_total", "counter", "Tokens generated.", facts.tokens_total)
    add("in_flight", "gauge", "Completion requests in flight.", facts.in_flight)
    add("idle_seconds", "gauge", "Seconds since the last request ended.", facts.idle_seconds)
    add("uptime_seconds", "gauge", "Seconds since the worker started.", facts.uptime_seconds)
    is_up = has_engine and facts.phase in (Phase.READY, Phase.DRAINING)
    add("engine_up", "gauge", "1 while the engine child serves.", is_up)
    add("rss_bytes", "gauge", "Resident memory of front and engine.", facts.rss_bytes)
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
