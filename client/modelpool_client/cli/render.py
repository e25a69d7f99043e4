"""How things look to people: text and tables that fit 80 columns. No I/O."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from modelpool_client.reports import (
    Findings,
    Happening,
    LoadPlan,
    Restarted,
    SetLoaded,
    SetPlan,
    SetStep,
    Version,
)
from modelpool_client.types import Concurrency, DeviceView, EngineView, Event, ModelView, PoolHealth
from modelpool_client.wire import Progress

_STATE_STYLES = {
    "NO": "red",
    "HOT": "green",
    "WARMING": "yellow",
    "COOLING": "cyan",
    "FAILED": "red",
}
_KEPT = "\n\t"
# Characters of a cell: the most of a figure, and the least of what gives way, where it is as long.
FIGURE_WIDTH, LEAST_WIDTH = 20, 12


def clean(text: str) -> str:
    """Text without the control characters with which a log or a model could drive a terminal."""
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cf"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows of text under their heads."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    rows = list(rows)
    for i, name in enumerate(head):
        longest = max((len(row[i]) for row in rows), default=0)
        # The first and the last column give way, and long text; figures between them stay whole.
        gives_way = i in (0, len(head) - 1) or name == "ENGINE" or longest > FIGURE_WIDTH
        least = min(max(longest, len(name)), LEAST_WIDTH) if gives_way else None
        table.add_column(name, no_wrap=not gives_way, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*map(_styled, row))
    return table


def findings(found: Findings) -> Table | str:
    """The best model and the next ones with what speaks for them; without any, what speaks against
    each."""
    if found.best is not None:
        rows = [(f.model_id, ", ".join(f.reasons)) for f in (found.best, *found.runners_up)]
        return table(("MODEL", "WHY"), rows)
    excluded = [(name, "; ".join(why)) for name, why in found.excluded.items()]
    return table(("MODEL", "WHY NOT"), excluded) if excluded else "there are no models"


def versions_table(versions: Sequence[Version]) -> Table | str:
    """One line per version, newest first."""
    if not versions:
        return "it was never changed"
    rows = ((str(v.version), v.until, json.dumps(dict(v.entry))) for v in versions)
    return table(("VERSION", "UNTIL", "ENTRY"), rows)


def models_table(models: Sequence[ModelView]) -> Table | str:
    """One line per model."""
    if not models:
        return "no models; add one with `poolctl register` or `poolctl import`"
    rows = (
        (
            m.model_id,
            m.engine,
            _state(m),
            str(m.port or "-"),
            ttl(m),
            memory(m),
            str(m.fits.get("verdict", "-")),
            _busy(m),
        )
        for m in models
    )
    return table(("MODEL", "ENGINE", "STATE", "PORT", "TTL", "MEMORY", "FITS", "BUSY"), rows)


def top_table(models: Sequence[ModelView], speeds: Mapping[str, tuple[float, float]]) -> Table:
    """One line per model that is awake; ``speeds`` are its requests and tokens a second."""
    rows = []
    for m in models:
        requests, tokens = speeds.get(m.model_id, (0.0, 0.0))
        each = (m.model_id, _state(m), ttl(m), memory(m), _busy(m), f"{requests:,.1f}")
        rows.append((*each, f"{tokens:,.1f}"))
    return table(("MODEL", "STATE", "TTL", "MEMORY", "BUSY", "REQ/S", "TOK/S"), rows)


def model_details(model: ModelView) -> Table:
    """All that is known of one model, a line each; what is not known is left out."""
    facts = {
        "model": model.model_id,
        "name": model.display_name,
        "state": _state(model),
        "why": model.reason,
        "since": model.since,
        "loading": progress_text(model.progress) if model.progress else "",
        "asleep": _sleeping(model.sleeping) if model.sleeping else "",
        "endpoint": model.endpoint,
        "expires": ttl(model),
        "engine": " in ".join(filter(None, (model.engine, model.environment))),
        "engine problem": model.engine_problem,
        "source": model.source,
        "memory": memory(model),
        "fits": fits_text(model.fits),
        "context": f"{model.context_length:,} tokens" if model.context_length else "",
        "format": " ".join(filter(None, (model.architecture, model.quantization))),
        "can": ", ".join(model.capabilities),
        "aliases": ", ".join(model.aliases),
        "tags": ", ".join(model.tags),
        "protected": " ".join(_protections(model)),
        "requests": f"{model.requests_total:,}",
        "in flight": _in_flight(model.concurrency),
        "waiting": _waiting(model.concurrency),
    }
    if model.failure:
        facts["failure"] = f"{model.failure.code}: {model.failure.message}"
        facts["last words"] = "\n".join(model.failure.lines[-10:])
        facts["retry at"] = str(model.failure.retry_at or "")
    return pairs({k: v for k, v in facts.items() if v and v != "-"})


def _sleeping(sleep: Mapping[str, Any]) -> str:
    held = _mb_of(sleep, "memory_mb")
    return f"since {sleep.get('since')}, at level {sleep.get('level')}, holding {held}"


def _busy(model: ModelView) -> str:
    waiting = sum(model.concurrency.waiting.values())
    return f"{model.in_flight} +{waiting}" if waiting else str(model.in_flight)


def _in_flight(use: Concurrency) -> str:
    return f"{use.in_flight} of {use.limit}" if use.limit is not None else str(use.in_flight)


def _waiting(use: Concurrency) -> str:
    each = ", ".join(f"{count} {name}" for name, count in use.waiting.items() if count)
    return f"{each}; the first for {duration(use.oldest_wait_seconds)}" if each else ""


def health_line(health: PoolHealth) -> str:
    """The pool in a line."""
    version = f" (version {health.version})" if health.version else ""
    return (
        f"pool {health.status}{version}: {health.active_models} of {health.total_models} models "
        f"loaded, {health.total_memory_mb:,.0f} MB, {health.available_ports} ports free"
    )


def engines_table(engines: Sequence[EngineView]) -> Table:
    """One line per engine; for an unusable one the reason and how to get it."""
    rows = ((e.name, _usable(e), ", ".join(e.formats), e.version, _engine_note(e)) for e in engines)
    return table(("ENGINE", "USABLE", "FORMATS", "VERSION", "NOTE"), rows)


def _usable(engine: EngineView) -> str:
    if not engine.usable:
        return "no"
    return f"in {engine.environment}" if engine.environment else "yes"


def devices_table(devices: Sequence[DeviceView]) -> Table | str:
    """One line per device."""
    if not devices:
        return "no GPU is seen; `poolctl doctor` says why"
    rows = (
        (
            d.id,
            gigabytes(d.total_bytes),
            gigabytes(d.free_bytes),
            gigabytes(d.ours_bytes),
            gigabytes(d.others_bytes),
            gigabytes(d.budget_bytes),
            d.name,
        )
        for d in devices
    )
    return table(("DEVICE", "TOTAL", "FREE", "POOL", "OTHERS", "BUDGET", "NAME"), rows)


def gigabytes(size: int | None) -> str:
    """Bytes in GB of 1,000,000,000."""
    return "-" if size is None else f"{size / 1e9:,.1f} GB"


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


def history_table(events: Sequence[Happening]) -> Table | str:
    """One line per event, newest first; times are this machine's."""
    if not events:
        return "nothing has happened to it yet"
    rows = (
        (
            local_time(e.at),
            e.event.removeprefix("model-"),
            e.state if e.is_move else "",
            str(e.port or ""),
            _lasted(e),
            e.reason,
        )
        for e in events
    )
    return table(("TIME", "EVENT", "STATE", "PORT", "LASTED", "REASON"), rows)


def local_time(at: str) -> str:
    """A time as this machine has it, to the second."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%m-%d %H:%M:%S")
    except ValueError:
        return at


def _lasted(event: Happening) -> str:
    if event.lasted_seconds is None:
        return "still" if event.is_move else ""
    return duration(event.lasted_seconds)


_UNITS = (("m", 60, "s", 1), ("h", 3600, "m", 60), ("d", 86_400, "h", 3600))


def duration(seconds: float) -> str:
    """Seconds as people say them, by their two largest units."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    large, size, small, part = next(u for u in reversed(_UNITS) if seconds >= u[1])
    return f"{int(seconds // size)}{large} {int(seconds % size // part):02d}{small}"


_ACTIONS = {
    "loaded": "nothing to do",
    "join": "would join the load that is under way",
    "start": "would start at once",
    "wait": "would wait",
    "refuse": "would be refused",
}


def plan_text(plan: LoadPlan) -> Table:
    """What a load would do, and the figures behind it."""
    facts = {
        "load": f"{plan.model_id} {_ACTIONS.get(plan.action, plan.action)}",
        "why": plan.reason,
        "evicts": "\n".join(
            f"{n}. {e.model_id} ({e.memory_mb:,.0f} MB): {e.reason}"
            for n, e in enumerate(plan.evict, 1)
        ),
        "waits for": ", ".join(plan.waits_for),
        "until": plan.until or "",
        "queue": _queue(plan),
        "port": str(plan.port or ""),
        "needs": _needs(plan.needs),
        "devices": "\n".join(_device_needs(plan.needs)),
        "fits": fits_text(plan.fits),
        **_room(plan),
    }
    return pairs({k: v for k, v in facts.items() if v})


def _room(plan: LoadPlan | SetPlan) -> dict[str, str]:
    figures, models = plan.memory, plan.models
    return {
        "memory": f"{_mb_of(figures, 'held_mb')} of {_mb_of(figures, 'limit_mb')} held, "
        f"{_mb_of(figures, 'free_mb')} free; the host has {_mb_of(figures, 'host_available_mb')}",
        "models": f"{models.get('held', '?')} of {models.get('limit', '?')} in memory",
    }


def set_plan(plan: SetPlan) -> Group:
    """What loading several as one would do: each in the order in which it begins, and the figures
    behind it."""
    rows = [(s.model_id, s.action, _mb(s.memory_mb), _why(s)) for s in plan.steps]
    evicts = "\n".join(f"{e.model_id} ({e.memory_mb:,.0f} MB): {e.reason}" for e in plan.evict)
    facts = {"load": plan.reason, "evicts": evicts, **_room(plan)}
    steps = table(("MODEL", "ACTION", "MEMORY", "WHY"), rows)
    return Group(steps, pairs({k: v for k, v in facts.items() if v}))


def _why(step: SetStep) -> str:
    return f"{step.reason}, at the latest {step.until}" if step.until else step.reason


def _mb(size: float | None) -> str:
    return "?" if size is None else f"{size:,.0f} MB"


def load_outcomes(loaded: SetLoaded) -> Iterable[str]:
    """A line for each of a set."""
    for each in loaded.models:
        where = f" at {each.model.endpoint}" if each.model.endpoint else ""
        why = f": {each.reason}" if each.outcome in ("failed", "waiting") else ""
        yield f"{each.model_id} {_OUTCOMES.get(each.outcome, each.outcome)}{where}{why}"


_OUTCOMES = {
    "already_loaded": "was loaded already",
    "loaded": "is loaded",
    "loading": "is being loaded",
    "waiting": "waits for room",
    "failed": "could not be loaded",
}


def _needs(needs: Mapping[str, Any]) -> str:
    """What would be reserved, where that figure comes from, and the others that are known."""
    source = needs.get("source")
    others = [
        f"{name} {_mb_of(needs, key)}"
        for name, key in (("estimated", "estimated_mb"), ("measured", "measured_peak_mb"))
        if name != source and needs.get(key) is not None
    ]
    notes = "; ".join([source, *others] if source else others)
    return f"{_mb_of(needs, 'memory_mb')} ({notes})" if notes else _mb_of(needs, "memory_mb")


def fits_text(fits: Mapping[str, Any]) -> str:
    """Whether a model fits, how it would be started, and how much more there is room for."""
    found = [str(fits.get("verdict", ""))]
    if context := fits.get("context_length"):
        found.append(f"{context:,} tokens of context{_at_most(fits, 'largest_context')}")
    if (layers := fits.get("gpu_layers")) is not None:
        of = f" of {fits['layers']:,}" if fits.get("layers") else ""
        found.append(f"{layers:,}{of} layers on devices{_at_most(fits, 'most_gpu_layers')}")
    return "; ".join(filter(None, found))


def _at_most(fits: Mapping[str, Any], name: str) -> str:
    """What there is room for, in all and now, as far as that was asked for."""
    if name not in fits:
        return ""
    ever, now = fits[name], fits.get(f"{name}_now")
    return f" (at most {ever or 0:,}, now {now or 0:,})"


def _device_needs(needs: Mapping[str, Any]) -> Iterable[str]:
    for device, figures in (needs.get("devices") or {}).items():
        estimated, measured = (_mb_of(figures, key) for key in ("estimated_mb", "measured_peak_mb"))
        yield (
            f"{device}: {_mb_of(figures, 'reserved_mb')} "
            f"(estimated {estimated}, measured {measured})"
        )


def _queue(plan: LoadPlan) -> str:
    position, seconds = plan.queue.get("position"), plan.queue.get("estimated_wait_seconds")
    if position is None:
        return ""
    about = f", about {duration(float(seconds))} left" if seconds is not None else ""
    return f"place {position} of {plan.queue.get('length', '?')}{about}"


def _mb_of(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    return f"{value:,.0f} MB" if isinstance(value, (int, float)) else "?"


def restart_text(done: Restarted) -> str:
    """Which workers were adopted, and which not."""
    lines = [f"restarted in {done.seconds:.1f} s; {len(done.adopted)} workers adopted"]
    lines += [f"  {m.model_id}  {m.state}  port {m.port}  pid {m.worker_pid}" for m in done.adopted]
    lines += [f"  {m.model_id}: its worker (pid {m.worker_pid}) is gone" for m in done.lost]
    return "\n".join(lines)


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
    if model.engine_problem and not model.is_loaded:
        return "NO ENGINE"
    return f"{model.state} asleep" if model.sleeping else model.state


def _styled(text: str) -> Text:
    return Text(clean(text), style=_STATE_STYLES.get(text.partition(" ")[0], ""))
