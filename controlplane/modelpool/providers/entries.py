"""PURE. The catalog entries of providers: one for each, and one for each of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .table import known_model, presets

PROVIDER_TYPE, MODEL_TYPE = "provider", "remote"
ENGINE = "openai"


def provider_entries(
    providers: Mapping[str, Any],
    environ: Mapping[str, str],
    extra: Mapping[str, Mapping[str, Any]] = {},
) -> list[tuple[str, dict[str, Any]]]:
    """Entries of the config key ``providers``, each with the key that it comes from. What is not as
    it should be is left out: whoever checks the key says so."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, about in providers.items():
        if isinstance(name, str) and isinstance(about, Mapping):
            found += [(f"providers.{name}", e) for e in _entries(name, about, environ, extra)]
    return found


def _entries(
    name: str,
    about: Mapping[str, Any],
    environ: Mapping[str, str],
    extra: Mapping[str, Mapping[str, Any]],
) -> Iterable[dict[str, Any]]:
    models = [m if isinstance(m, Mapping) else {"name": m} for m in about.get("models") or ()]
    models = [m for m in models if isinstance(m.get("name"), str)]
    provider = provider_entry(name, about, [m["name"] for m in models], environ)
    yield provider
    for model in models:
        yield model_entry(provider, model, extra)


def provider_entry(
    name: str, about: Mapping[str, Any], models: list[str], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The provider's own: its worker, its lease."""
    preset = presets().get(name)
    needed = preset.options if preset is not None and not about.get("engine") else {}
    options = {"models": models, **needed, **(about.get("options") or {})}
    for key in ("base_url", "api_key_variable", "api_key_file"):
        if about.get(key) is not None:
            options[key] = about[key]
    if preset is not None and "url" not in options:
        options.setdefault("base_url", preset.where(environ))
        if "api_key_file" not in options and (variable := preset.key_variable(environ)):
            options.setdefault("api_key_variable", variable)
    engine = about.get("engine") or (preset.engine if preset is not None else ENGINE)
    if about.get("discover") and engine != "http":
        options["discover"] = True
    where = options.get("base_url") or options.get("url") or name
    entry = {
        "model_id": name,
        "engine": engine,
        "source": where,
        "model_type": PROVIDER_TYPE,
        "options": options,
    }
    ttl = about.get("ttl_minutes")
    return entry if ttl is None else {**entry, "ttl_minutes": ttl}


def model_entry(
    provider: Mapping[str, Any],
    model: Mapping[str, Any],
    extra: Mapping[str, Mapping[str, Any]] = {},
) -> dict[str, Any]:
    """That of one of its models, with what is known of it."""
    served_by, name = provider["model_id"], model["name"]
    known = known_model(served_by, name, extra)
    said = {key: value for key, value in model.items() if value is not None}
    about = {**known, **said}
    entry = {
        "model_id": f"{served_by}:{name}",
        "engine": provider["engine"],
        "source": name,
        "model_type": MODEL_TYPE,
        "served_by": served_by,
        "display_name": name,
    }
    for key in ("capabilities", "context_length", "aliases"):
        if about.get(key):
            entry[key] = about[key]
    prices = {k: v for k, v in (about.get("prices") or {}).items() if v is not None}
    return entry | ({"metadata": {"prices": prices}} if prices else {})


def is_of_providers(model_id: str, served_by: str, providers: Iterable[str]) -> bool:
    """Whether an entry is one that the config key ``providers`` makes."""
    return (served_by or model_id) in set(providers)


def listed(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Well-known providers and whether they can be used: with a key in the environment, or where
    none is wanted. Whether somebody is there is not asked."""
    return [_listed(name, environ) for name in presets()]


def _listed(name: str, environ: Mapping[str, str]) -> dict[str, Any]:
    preset = presets()[name]
    variable = preset.key_variable(environ)
    is_local = not preset.base_url.startswith("https:")
    has_key = bool(variable and environ.get(variable))
    is_told = bool(environ.get(preset.base_url_variable))
    usable = is_told if preset.base_url_variable else has_key or is_local
    missing = preset.base_url_variable or variable
    hint = f"providers: {{{name}: {{models: [NAME]}}}}"
    return {
        "name": name,
        "engine": preset.engine,
        "base_url": preset.where(environ),
        "key": f"environment variable {variable}" if variable else "none is wanted",
        "usable": usable,
        "reason": "" if usable else f"{missing} is not set",
        "config": hint,
        "source": preset.source,
        "as_of": preset.as_of,
    }
