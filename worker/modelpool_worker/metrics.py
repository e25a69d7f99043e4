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
    upstream_models = facts.upstream.get("models", {})
    for upstream_model, about in upstream_models.items():
        of = f',upstream_model="{_label(upstream_model)}"'
        text = "Seconds until the provider takes requests for the model again."
        add("upstream_blocked_seconds", "gauge", text, about["blocked_seconds"], of)
    for upstream_model, about in upstream_models.items():
        of = f',upstream_model="{_label(upstream_model)}"'
        for name, limit in about["limits"].items():
            labels = f'{of},limit="{_label(name)}"'
            text = "What is left of a limit of the provider's."
            add("upstream_limit_remaining", "gauge", text, limit["remaining"], labels)
    if facts.upstream:
        text = "Requests that were not sent, for the provider had said when to come again."
        add("upstream_not_sent_total", "counter", text, facts.upstream["requests_not_sent"])
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
