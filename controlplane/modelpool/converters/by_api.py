"""PURE. What of a conversion a client may tell a pool that runs, and what only its config file
says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpool.catalog.only_in_config import ALWAYS

ONLY_IN_FILE = "can only be said in the pool's config file: write one with --write"


@dataclass
class ByApi:
    """``config`` for ``PATCH /config``, ``models`` for ``POST /registry``, ``virtual_models`` by
    their names; ``left`` is what none of these says, with the reason."""

    config: dict[str, Any] = field(default_factory=dict)
    models: list[Mapping[str, Any]] = field(default_factory=list)
    virtual_models: dict[str, Any] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def by_api(config: Mapping[str, Any], live: Collection[str]) -> ByApi:
    """The parts of a config file. Variables in it are for files only.

    Args:
        live: keys that may change while the pool runs.
    """
    parts = ByApi()
    virtual: dict[str, Any] = {}
    for key, value in config.items():
        if key == "models":
            for model in value:
                _add_model(parts, model)
        elif key in ("virtual_models", "aliases"):
            virtual |= value
        elif key in live and not _has_variables(value):
            parts.config[key] = value
        else:
            parts.left[key] = ONLY_IN_FILE
    missing = {name for model in config.get("models", ()) for name in _names(model)}
    missing -= {name for model in parts.models for name in _names(model)}
    missing |= {f"{p}:{m}" for p, about in _providers(config) for m in about.get("models", ())}
    for name, entry in virtual.items():
        gone = sorted(missing & set(_targets(entry)))
        if gone:
            parts.left[f"virtual model {name}"] = f"it names {gone[0]}, which {ONLY_IN_FILE}"
        else:
            parts.virtual_models[name] = entry
    return parts


def _names(model: Mapping[str, Any]) -> list[str]:
    return [model["model_id"], *model.get("aliases", ())]


def _providers(config: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    found: Mapping[str, Mapping[str, Any]] = config.get("providers", {})
    return found.items()


def _targets(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [entry["target"]] if "target" in entry else list(entry.get("targets", ()))


def _add_model(parts: ByApi, model: Mapping[str, Any]) -> None:
    guarded = sorted(ALWAYS & model.get("options", {}).keys())
    if guarded:
        parts.left[f"model {model['model_id']}"] = f"{guarded[0]} {ONLY_IN_FILE}"
    elif _has_variables(model):
        parts.left[f"model {model['model_id']}"] = f"a variable {ONLY_IN_FILE}"
    else:
        parts.models.append(model)


def _has_variables(value: Any) -> bool:
    """Or a text that only a file writes otherwise than it is."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, Mapping):
        return any(_has_variables(v) for v in value.values())
    return isinstance(value, list) and any(_has_variables(v) for v in value)
