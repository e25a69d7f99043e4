"""Ollama's parameters as load options. PURE, and without what asks a registry: the manager reads
what a store on this machine says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By our names of load options.
OPTIONS: Mapping[str, str] = {
    "num_ctx": "context_length",
    "num_batch": "batch_size",
    "num_gpu": "gpu_layers",
    "num_thread": "threads",
    "seed": "seed",
    "temperature": "temperature",
    "use_mmap": "mmap",
}
# Of these, those that are true or false; the others are numbers.
SWITCHES = frozenset({"use_mmap"})


def options_of(params: object) -> dict[str, Any]:
    """Those of the parameters that are load options, by our names."""
    said = params if isinstance(params, Mapping) else {}
    return {OPTIONS[k]: v for k, v in said.items() if k in OPTIONS and _is_of_its_kind(k, v)}


def _is_of_its_kind(name: str, value: object) -> bool:
    """What a registry says is not what an engine should refuse after hours of fetching."""
    if name in SWITCHES:
        return isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)
