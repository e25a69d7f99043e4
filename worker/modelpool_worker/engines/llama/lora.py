"""LoRA adapters of llama.cpp: small files that change what a model says, in force from its load on.

Each has an id, its place in the list, and a name; a request may scale them anew with llama.cpp's
``lora``, and ``/lora-adapters`` lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engines.gguf import read_header

LORA = "lora"
MAX_ADAPTERS = 64
OPTIONS: Mapping[str, Schema] = {
    LORA: {
        "type": "array",
        "maxItems": MAX_ADAPTERS,
        "items": {
            "type": "object",
            "required": ["path"],
            "additionalProperties": False,
            "properties": {
                "path": {"type": "string", "minLength": 1, "description": "absolute, of a GGUF"},
                "scale": {"type": "number", "minimum": -100, "maximum": 100, "default": 1},
                "name": {"type": "string", "minLength": 1, "description": "default: the file's"},
            },
        },
        "description": "LoRA adapters of the model, each with its path, the scale at which it is "
        "in force (1; 0: only for requests that ask for it by llama.cpp's lora), and a name",
    }
}


def contradiction(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The option that is wrong beside the others, and why."""
    adapters = options.get(LORA, ())
    for adapter in adapters:
        if not os.path.isabs(adapter["path"]):
            return LORA, f"must have absolute paths, not {adapter['path'][:200]!r}"
    known = [name_of(adapter) for adapter in adapters]
    twin = next((name for name in known if known.count(name) > 1), None)
    return None if twin is None else (LORA, f"has two adapters that are called {twin!r}")


def paths(options: Mapping[str, Any]) -> list[str]:
    """Of all adapters."""
    return [adapter["path"] for adapter in options.get(LORA, ())]


def told(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the front hears of them, see ``Status.ready``."""
    adapters = options.get(LORA, ())
    return [{"name": name_of(a), "scale": float(a.get("scale", 1))} for a in adapters]


def name_of(adapter: Mapping[str, Any]) -> str:
    """What it is called."""
    stem = os.path.splitext(os.path.basename(adapter["path"]))[0]
    return str(adapter.get("name", stem))


def set_adapters(library: Any, p: Any, options: Mapping[str, Any]) -> None:
    """Of llama.cpp's parameters those for adapters.

    Raises:
        LoadFailed: code ``bad_file``: one cannot be read.
    """
    adapters = options.get(LORA, ())
    for adapter in adapters:
        read_header(adapter["path"])
    if adapters:
        p.lora_adapters = [
            library.CommonAdapterLoraInfo(a["path"], float(a.get("scale", 1))) for a in adapters
        ]


def flags(options: Mapping[str, Any]) -> Iterator[str]:
    """The same for llama-server.

    Raises:
        LoadFailed: code ``bad_file``: one cannot be read.
    """
    for adapter in options.get(LORA, ()):
        read_header(adapter["path"])
    texts = [f"{a['path']}:{a.get('scale', 1):g}" for a in options.get(LORA, ())]
    if texts:
        # As a table's row: what holds a comma is quoted.
        quoted = ['"' + t.replace('"', '""') + '"' if "," in t or '"' in t else t for t in texts]
        yield from ("--lora-scaled", ",".join(quoted))
