"""Which layouts of models there are, built in or plugged in; each is imported when used."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from importlib import import_module

from modelpool.catalog.formats.base import Listing

from .base import Source

GROUP = "modelpool.sources"
FOLDER = "folder"
# Asked in this order which of them a folder is.
BUILT_IN = {
    "huggingface": "modelpool.catalog.sources.huggingface:HuggingFace",
    "ollama": "modelpool.catalog.sources.ollama:Ollama",
    "llama_cpp": "modelpool.catalog.sources.llama_cpp:LlamaCpp",
    "lm_studio": "modelpool.catalog.sources.lm_studio:LmStudio",
    "external": "modelpool.catalog.sources.external:External",
    FOLDER: "modelpool.catalog.sources.folder:Folder",
}


@cache
def sources() -> dict[str, Source]:
    """Every source by its name."""
    return {name: _made(location) for name, location in {**_plugins(), **BUILT_IN}.items()}


def source_at(listing: Listing) -> Source:
    """Whose layout a folder has; any folder is one of models."""
    found = (s for s in sources().values() if s.is_at(listing))
    return next(found, sources()[FOLDER])


def _made(location: str) -> Source:
    module, _, attribute = location.partition(":")
    made: Source = getattr(import_module(module), attribute)()
    return made


def _plugins() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
