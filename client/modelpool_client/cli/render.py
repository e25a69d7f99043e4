"""How things look to people: text and tables that fit 80 columns. No I/O."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from modelpool_client.types import EngineView, Event, ModelView, PoolHealth
from modelpool_client.wire import Progress

_STATE_STYLES = {"HOT": "green", "WARMING": "yellow", "COOLING": "cyan", "FAILED": "red"}
_KEPT = "\n\t"


def clean(text: str) -> str:
    """Text without the control characters with which a log or a model could drive a terminal."""
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cf"))


def models_table(models: Sequence[ModelView]) -> Table | str:
    """One line per model."""
    if not models:
        return "no models; add one with `poolctl register` or `poolctl import`"
    rows = (
        (m.model_id, m.engine, _state(m), str(m.port or "-"), ttl(m), memory(m), str(m.in_flight))
        for m in models
    )
    return _table(("MODEL", "ENGINE", "STATE", "PORT", "TTL", "MEMORY", "BUSY"), rows)


def model_details(model: ModelView) -> Table:
    """All that is known of one model, a line each; what is not known is left out."""
    facts = {
        "model": model.model_id,
        "name": model.display_name,
        "state": _state(model),
        "why": model.reason,
        "since": model.since,
        "loading": progress_text(model.progress) if model.progress else "",
        "endpoint": model.endpoint,
        "expires": ttl(model),
        "engine": model.engine,
        "source": model.source,
        "memory": memory(model),
        "context": f"{model.context_length:,} tokens" if model.context_length else "",
        "format": " ".join(filter(None, (model.architecture, model.quantization))),
        "can": ", ".join(model.capabilities),
        "aliases": ", ".join(model.aliases),
        "tags": ", ".join(model.tags),
        "protected": " ".join(_protections(model)),
        "requests": f"{model.requests_total:,} ({model.in_flight} in flight)",
    }
    if model.failure:
        facts["failure"] = f"{model.failure.code}: {model.failure.message}"
        facts["last words"] = "\n".join(model.failure.lines[-10:])
        facts["retry at"] = str(model.failure.retry_at or "")
    return pairs({k: v for k, v in facts.items() if v and v != "-"})


def health_line(health: PoolHealth) -> str:
    """The pool in a line."""
    version = f" (version {health.version})" if health.version else ""
    return (
        f"pool {health.status}{version}: {health.active_models} of {health.total_models} models "
        f"loaded, {health.total_memory_mb:,.0f} MB, {health.available_ports} ports free"
    )


def engines_table(engines: Sequence[EngineView]) -> Table:
    """One line per engine; for an unusable one the reason and how to get it."""
    rows = (
        (e.name, "yes" if e.usable else "no", ", ".join(e.formats), _engine_note(e))
        for e in engines
    )
    return _table(("ENGINE", "USABLE", "FORMATS", "NOTE"), rows)


def pairs(values: Mapping[str, Any]) -> Table:
    """Names and values, one pair a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        table.add_row(Text(clean(name)), _styled(shown))
    return table


def event_line(event: Event) -> str:
    """An event as a line of a log."""
    change = f"{event.previous} -> {event.state}" if event.previous else event.state
    parts = (event.at, event.event, event.model_id, change, event.reason)
    return "  ".join(part for part in parts if part)


def ttl(model: ModelView) -> str:
    """Until when an idle model stays."""
    if not model.is_loaded:
        return "-"
    if not model.ttl_remaining_minutes and model.expires_at is None:
        return "never"
    return f"{model.ttl_remaining_minutes:.1f} min"


def memory(model: ModelView) -> str:
    """The measured peak, or the estimate marked with ``~``."""
    if model.memory_measured_mb is not None:
        return f"{model.memory_measured_mb:,.0f} MB"
    if model.memory_estimate_mb is not None:
        return f"~{model.memory_estimate_mb:,.0f} MB"
    return "-"


def progress_text(progress: Progress) -> str:
    """How far a load is; what is inferred rather than reported is called an estimate."""
    parts = [progress.stage]
    if progress.fraction is not None:
        parts.append(f"{progress.fraction:.0%}")
    if progress.eta_seconds is not None:
        parts.append(f"{progress.eta_seconds:.0f} s left")
    return " ".join(parts) + (" (estimate)" if progress.estimated and len(parts) > 1 else "")


def _protections(model: ModelView) -> Iterable[str]:
    return (name for name, on in (("warmup", model.warmup), ("pinned", model.pinned)) if on)


def _engine_note(engine: EngineView) -> str:
    return " - ".join(filter(None, (engine.reason, "" if engine.usable else engine.install_hint)))


def _state(model: ModelView) -> str:
    progress = model.progress
    if model.state == "WARMING" and progress and progress.fraction is not None:
        return f"{model.state} {progress.fraction:.0%}"
    return model.state


def _styled(text: str) -> Text:
    return Text(clean(text), style=_STATE_STYLES.get(text.partition(" ")[0], ""))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, name in enumerate(head):
        # The first and the last column give way; the figures between them stay whole.
        gives_way = i in (0, len(head) - 1) or name == "ENGINE"
        table.add_column(name, no_wrap=not gives_way, overflow="fold")
    for row in rows:
        table.add_row(*map(_styled, row))
    return table
