"""Which origins there are, built in or plugged in; each is imported when used."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from importlib import import_module

from .base import Origin, OriginSettings

GROUP = "modelpool.origins"
BUILT_IN: Mapping[str, str] = {
    "hf": "modelpool.pulling.origins.hugging_face:HuggingFace",
    "ollama": "modelpool.pulling.origins.ollama:Ollama",
    "path": "modelpool.pulling.origins.local:Local",
    "url": "modelpool.pulling.origins.url:Url",
}


def origin(scheme: str, settings: OriginSettings) -> Origin:
    """The origin of that name."""
    plugged = {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
    module, _, attribute = {**plugged, **BUILT_IN}[scheme].partition(":")
    made: Origin = getattr(import_module(module), attribute)(settings)
    return made
