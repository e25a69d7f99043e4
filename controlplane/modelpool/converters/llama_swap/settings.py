"""PURE. llama-swap's config file as ours, key by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpool.converters.base import BadSettings, Conversion, Draft

from .macros import expanded
from .model import ModelDraft, add_models
from .names import add_peers, add_selectors

NOT_KNOWN = "is no key that this converter knows; nothing was done about it"
# Keys that say nothing for a pool: why, and what there is.
WITHOUT_EFFECT: Mapping[str, str] = {
    "logTimeFormat": "the pool's log has its own format",
    "logToStdout": "the pool's log and each worker's are files of their own: poolctl logs MODEL",
    "logRequests": "requests are kept in any case (request_log): poolctl requests",
    "captureBuffer": "what is said is not kept",
    "store": "usage is kept in the database of state_dir in any case: poolctl usage",
    "ui": "the page has no such setting",
    "performance": "figures of the machine are made when they are asked for: GET /metrics",
    "startPort": "workers stand on port_range, 8051 to 8099, and commands get a port that is free",
    "sendLoadingState": "streams that wait get comments in any case, which no client shows as text",
    "includeAliasesInList": "aliases are told in each model's own entry of /v1/models",
    "upstream": "there is no /upstream: a model's worker answers on a port of its own,"
    " and whoever asks there loads nothing",
}
APART = "one model at a time is what llama-swap does where nothing is said of groups; here as many"
TOGETHER = (
    f"{APART} are loaded as there is memory for. To have it as there, add max_concurrent_models: 1"
)


@dataclass(frozen=True)
class Settings:
    """What was read: the file's keys, its folder, and the environment."""

    document: Mapping[str, Any]
    folder: Path
    environ: Mapping[str, str]


def converted(settings: Settings) -> Conversion:
    """Our config file, and what has to be said about it.

    Raises:
        BadSettings: llama-swap would not start with it either, or it has no models.
    """
    document = settings.document
    models = document.get("models") or {}
    if not isinstance(models, Mapping):
        raise BadSettings("models should be a mapping of names")
    if not models and not document.get("peers"):
        raise BadSettings("it has no models: is it llama-swap's config file?")
    macros = document.get("macros") or {}
    if not isinstance(macros, Mapping):
        raise BadSettings("macros should be a mapping of names")
    top = {k: v for k, v in document.items() if k not in ("models", "macros")}
    top = expanded(top, macros, "the file") if top else {}
    draft = Draft()
    entries = {
        str(name): _entry(str(name), entry, macros, settings) for name, entry in models.items()
    }
    _keep_idle(draft, top)
    add_models(draft, entries, _seconds(top, "unloadTimeout"))
    _keys(draft, top, entries)
    add_selectors(draft, top.get("selectors") or {})
    add_peers(draft, document.get("peers") or {}, macros, entries)
    return draft.done()


def _entry(name: str, entry: Any, macros: Mapping[str, Any], settings: Settings) -> ModelDraft:
    if not isinstance(entry, Mapping):
        raise BadSettings(f"models.{name} should be a mapping of keys")
    own = entry.get("macros") or {}
    scope = {**macros, **(own if isinstance(own, Mapping) else {}), "MODEL_ID": name}
    rest = {k: v for k, v in entry.items() if k != "macros"}
    said = expanded(rest, scope, f"models.{name}")
    return ModelDraft(name, said, settings.folder, settings.environ)


def _seconds(top: Mapping[str, Any], key: str) -> float | None:
    value = top.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise BadSettings(f"{key} should be a number of seconds, not {value!r}")
    return value


def _keep_idle(draft: Draft, top: Mapping[str, Any]) -> None:
    ttl = _seconds(top, "globalTTL") or 0
    draft.config["default_ttl_minutes"] = draft.minutes(ttl)
    if "globalTTL" not in top:
        draft.remark(
            "globalTTL",
            "is not there, so models stay until their memory is needed (default_ttl_minutes: 0);"
            " remove that line to have idle ones unloaded after 15 minutes",
        )


def _keys(
    draft: Draft,
    top: Mapping[str, Any],
    entries: Mapping[str, ModelDraft],
) -> None:
    """All but models and those that name models."""
    handled: dict[str, Callable[[Any], None]] = {
        "healthCheckTimeout": lambda v: _load_wait(draft, top),
        "logLevel": lambda v: _log_level(draft, v),
        "metricsMaxInMemory": lambda v: _log_entries(draft, v),
        "apiKeys": lambda v: _api_keys(draft, v),
        "profiles": lambda v: _profiles(draft, v),
        "hooks": lambda v: _hooks(draft, v),
        "routing": lambda v: _routing(draft, v),
        "groups": lambda v: _groups(draft, v, "groups"),
        "matrix": lambda v: _matrix(draft, "matrix"),
    }
    elsewhere = {"globalTTL", "unloadTimeout", "selectors", "peers"}
    for key, value in top.items():
        if key in handled:
            handled[key](value)
        elif key in WITHOUT_EFFECT:
            draft.remark(key, f"has no effect: {WITHOUT_EFFECT[key]}")
        elif key not in elsewhere:
            draft.remark(key, NOT_KNOWN)
    router = _router(top)
    is_grouped = top.get("groups") or top.get("matrix") or router.get("settings")
    if not is_grouped and len(entries) > 1:
        draft.remark("groups", TOGETHER)


def _load_wait(draft: Draft, top: Mapping[str, Any]) -> None:
    draft.config["load_wait_seconds"] = max(_seconds(top, "healthCheckTimeout") or 0, 15)
    draft.remark(
        "healthCheckTimeout",
        "is what a request waits here (load_wait_seconds); the load itself goes on as long as it"
        " gets on (load_stall_seconds)",
    )


def _log_level(draft: Draft, value: Any) -> None:
    level = {"warn": "warning"}.get(value, value)
    if level not in ("debug", "info", "warning", "error"):
        raise BadSettings(f"logLevel should be debug, info, warn or error, not {value!r}")
    draft.config["log_level"] = level


def _log_entries(draft: Draft, value: Any) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        draft.config["request_log_entries"] = value
    else:
        draft.remark("metricsMaxInMemory", f"{value!r} is no number of requests to remember")


def _api_keys(draft: Draft, value: Any) -> None:
    if value:
        draft.remark(
            "apiKeys",
            "are not there yet: the pool listens on loopback only. Let a proxy in front of it ask"
            " for keys (docs/proxies.md)",
        )


def _profiles(draft: Draft, value: Any) -> None:
    for name, about in (value or {}).items():
        pins = about.get("pins") if isinstance(about, Mapping) else None
        told = "; ".join(
            f"poolctl alias set {pin} {target}" if target else f"(nothing stands for {pin} here)"
            for pin, target in (pins or {}).items()
        )
        draft.remark(
            f"profiles.{name}",
            f"there are no profiles to switch between; what it pins is said by: {told}",
        )


def _hooks(draft: Draft, value: Any) -> None:
    hooks = value or {}
    start = hooks.get("on_startup") or {}
    wanted = [str(name).strip() for name in start.get("preload") or ()]
    names = {n: e for e in draft.config["models"] for n in (e["model_id"], *e.get("aliases", ()))}
    for name in wanted:
        if name in names:
            names[name]["warmup"] = True
        else:
            draft.remark("hooks.on_startup.preload", f"names {name}, which is no model there")
    if wanted:
        draft.remark(
            "hooks.on_startup.preload",
            "is warmup: true here; such a model also stays loaded when it is idle",
        )
    for key in [*(hooks.keys() - {"on_startup"}), *(start.keys() - {"preload"})]:
        draft.remark(f"hooks.{key}", NOT_KNOWN)


def _router(top: Mapping[str, Any]) -> Mapping[str, Any]:
    routing = top.get("routing") or {}
    router = routing.get("router") if isinstance(routing, Mapping) else None
    return router if isinstance(router, Mapping) else {}


def _routing(draft: Draft, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise BadSettings("routing should be a mapping of keys")
    router = _router({"routing": value})
    settings = router.get("settings") or {}
    if router.get("use") == "matrix":
        _matrix(draft, "routing.router.settings.matrix")
        if settings.get("groups"):
            draft.remark("routing.router.settings.groups", "are not used there either")
    else:
        _groups(draft, settings.get("groups") or {}, "routing.router.settings.groups")
        if settings.get("matrix"):
            draft.remark("routing.router.settings.matrix", "is not used there either")
    scheduler = value.get("scheduler") or {}
    fifo = (scheduler.get("settings") or {}).get("fifo") or {}
    _priorities(draft, fifo.get("priority") or {})
    for key in value.keys() - {"router", "scheduler"}:
        draft.remark(f"routing.{key}", NOT_KNOWN)


def _groups(draft: Draft, groups: Any, place: str) -> None:
    """Memory decides here who may be there together; what may never go is pinned."""
    if not isinstance(groups, Mapping):
        raise BadSettings(f"{place} should be a mapping of names")
    entries = {entry["model_id"]: entry for entry in draft.config["models"]}
    for name, about in groups.items():
        about = about if isinstance(about, Mapping) else {}
        members = [str(m) for m in about.get("members") or ()]
        if about.get("persistent"):
            for member in members:
                if member in entries:
                    entries[member]["pinned"] = True
            draft.remark(f"{place}.{name}.persistent", "is pinned: true for each of its members")
        said = [k for k in ("swap", "exclusive") if k in about]
        draft.remark(
            f"{place}.{name}",
            f"{' and '.join(said) or 'who runs together'}: here memory decides, by bytes"
            " (memory_limit_mb, device_memory_mb); what is pinned is never evicted",
        )
    if groups:
        _let_all_in(draft)


def _matrix(draft: Draft, place: str) -> None:
    draft.remark(
        place,
        "who may run together is decided by memory, in bytes (memory_limit_mb, device_memory_mb),"
        " and who goes by what it costs to load it again; priority and pinned of a model say more",
    )
    _let_all_in(draft)


def _let_all_in(draft: Draft) -> None:
    """Their number is no limit there."""
    count = len(draft.config["models"])
    if count > 5:
        draft.config["max_concurrent_models"] = min(count, 49)


def _priorities(draft: Draft, priorities: Any) -> None:
    entries = {n: e for e in draft.config["models"] for n in (e["model_id"], *e.get("aliases", ()))}
    place = "routing.scheduler.settings.fifo.priority"
    for name, value in priorities.items():
        if name not in entries:
            raise BadSettings(f"{place} names {name}, which is no model there")
        entries[name]["priority"] = "high" if value > 0 else "low" if value < 0 else "normal"
    if len(set(priorities.values()) - {0}) > 1:
        draft.remark(place, "there are three here: high (above 0), normal and low")
