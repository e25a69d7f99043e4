"""The memory of models in engines that read their weights whole: all formats but GGUF. PURE.

::

    weights = tensors as they stand in the files, times what the engine keeps of them
    cache   = one context of the length that is asked for, see ``kv_cache``, where the model has one
    worker  = the processes and the engine's libraries

The cache of these engines grows with the text; the estimate is for one that is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .kv_cache import CacheShape, cache_by_layer
from .llama_memory import context_length, count
from .memory_layout import Layer, MemoryLayout
from .model_info import ModelInfo


@dataclass(frozen=True)
class Loader:
    """How an engine keeps a model: ``factor`` of the weights' bytes, the type of its cache, and
    the bytes of its processes and libraries."""

    factor: float
    cache_type: str
    worker_bytes: int


def loader_layout(info: ModelInfo, options: Mapping[str, Any], loader: Loader) -> MemoryLayout:
    """Where such an engine would put what. ``options`` are the engine's; of these
    ``context_length`` and ``parallel`` (1) count."""
    shape = CacheShape(
        context_length(info, options),
        count(options, "parallel", 1),
        0,
        loader.cache_type,
        loader.cache_type,
    )
    caches = cache_by_layer(info, shape) or (0,)
    weights = int(info.tensor_bytes * loader.factor)
    each = [
        weights * (n + 1) // len(caches) - weights * n // len(caches) for n in range(len(caches))
    ]
    return MemoryLayout(tuple(map(Layer, each, caches)), worker=loader.worker_bytes)
