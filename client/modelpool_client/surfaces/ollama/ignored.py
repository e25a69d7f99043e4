"""PURE. What of a request has no meaning here, by the names that the answer's header gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelpool_client.surfaces.ollama.tables import BODIES, MESSAGE, OPTIONS

# Of a header that people read; a body may hold a million keys.
_MAX_NAMES = 32
_MAX_NAME = 64


def unknown(path: str, given: Mapping[str, Any], *, options: bool) -> list[str]:
    """Keys that no table knows, and options that act on no request; on none at all where
    ``options`` is false."""
    names = [name for name in given if name not in BODIES[path]["properties"]]
    known = OPTIONS if options else {}
    found = given.get("options") or {}
    names += [f"options.{k}" for k, v in found.items() if k not in known and v is not None]
    fields = {key for m in given.get("messages") or () for key in m} - MESSAGE["properties"].keys()
    return [*names, *(f"messages.{key}" for key in fields)]


def tidy(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted, each once and fit for a header, whatever a client wrote; of very many, the first."""
    found = sorted({_plain(name) for name in names})
    more = len(found) - _MAX_NAMES
    return (*found[:_MAX_NAMES], *([f"and {more} more"] if more > 0 else []))


def _plain(name: str) -> str:
    text = name.encode("unicode_escape").decode()
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 3]}..."
