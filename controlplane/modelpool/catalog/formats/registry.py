"""Which formats of model files there are, built in or plugged in; each is imported when used."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from importlib import import_module

from .base import Format

GROUP = "modelpool.formats"
BUILT_IN = {
    "gguf": "modelpool.catalog.formats.gguf:Gguf",
}


@cache
def formats() -> dict[str, Format]:
    """Every format by its name."""
    return {name: _made(location) for name, location in {**_plugins(), **BUILT_IN}.items()}


def _made(location: str) -> Format:
    module, _, attribute = location.partition(":")
    made: Format = getattr(import_module(module), attribute)()
    return made


def _plugins() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
