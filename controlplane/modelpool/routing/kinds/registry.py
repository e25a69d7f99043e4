"""Which kinds of virtual models there are, built in or plugged in; each is imported when used."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from importlib import import_module

from .base import Kind

GROUP = "modelpool.virtual_models"
BUILT_IN = {
    "alias": "modelpool.routing.kinds.alias:Alias",
    "auto": "modelpool.routing.kinds.auto:Auto",
    "by_class": "modelpool.routing.kinds.by_class:ByClass",
    "cascade": "modelpool.routing.kinds.cascade:Cascade",
    "ensemble": "modelpool.routing.kinds.ensemble:Ensemble",
    "fallback": "modelpool.routing.kinds.fallback:Fallback",
    "omni": "modelpool.routing.kinds.omni:Omni",
    "policy": "modelpool.routing.kinds.policy:PolicyKind",
    "weighted": "modelpool.routing.kinds.weighted:Weighted",
}


class UnknownKind(ValueError):
    """There is no such kind, or it cannot be imported."""


@cache
def kind(name: str) -> Kind:
    """A kind by its name.

    Raises:
        UnknownKind: with the names of those there are, or why it cannot be imported.
    """
    location = BUILT_IN.get(name) or _plugins().get(name)
    if location is None:
        raise UnknownKind(f"kind {name[:80]!r} is unknown; there are: {', '.join(names())}")
    module, _, attribute = location.partition(":")
    try:
        made: Kind = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as e:
        raise UnknownKind(f"kind {name!r} cannot be loaded: {e}") from e
    return made


def names() -> list[str]:
    """Every kind there is."""
    return sorted({*BUILT_IN, *_plugins()})


def _plugins() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
