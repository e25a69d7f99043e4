"""How much memory a model will need, before it was ever measured. PURE.

For GGUF, with the options of the llama.cpp engine::

    bytes = file + sum over the layers(kv_heads) * cells * (key_length * bytes(cache_type_k)
                                                + value_length * bytes(cache_type_v)) + overhead
    cells = context_length * parallel

An upper bound for models whose layers attend to a window or keep a state in place of a cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .model import Model

if TYPE_CHECKING:
    from .metadata import GgufInfo

BYTES_PER_MB = 1_000_000

# A front is 31 MB and a child with llama.cpp's library loaded 25 MB (measured); the rest is for
# llama.cpp's compute buffers and threads, which depend on the batch and hardly on the file.
WORKER_OVERHEAD_BYTES = 120 * BYTES_PER_MB

DEFAULT_CONTEXT_LENGTH = 4096
DEFAULT_PARALLEL = 8
DEFAULT_CACHE_TYPE = "f16"
# Bytes per element: a block's bytes over its elements.
CACHE_BYTES: Mapping[str, float] = {
    "f32": 4,
    "f16": 2,
    "bf16": 2,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


def estimate_memory_bytes(
    info_or_size: GgufInfo | int, options: Mapping[str, Any] | None = None
) -> int:
    """Bytes of host memory for a model file and the worker around it.

    Args:
        info_or_size: what the file says, or merely its size in bytes.
        options: the engine's; of these ``context_length`` (default: what it was trained for, at
            most 4096), ``parallel`` (8), ``cache_type_k`` and ``cache_type_v`` (f16) count. Values
            that the engine will refuse count as not given.
    """
    if isinstance(info_or_size, int):
        return info_or_size + WORKER_OVERHEAD_BYTES
    cache = kv_cache_bytes(info_or_size, options or {})
    return info_or_size.file_bytes + cache + WORKER_OVERHEAD_BYTES


def kv_cache_bytes(info: GgufInfo, options: Mapping[str, Any]) -> int:
    """Bytes of the keys and values of every layer for all the parallel contexts."""
    trained = info.context_length or DEFAULT_CONTEXT_LENGTH
    context = _count(options, "context_length", min(trained, DEFAULT_CONTEXT_LENGTH))
    cells = context * _count(options, "parallel", DEFAULT_PARALLEL)
    keys = (info.key_length or 0) * _cache_bytes(options, "cache_type_k")
    values = (info.value_length or 0) * _cache_bytes(options, "cache_type_v")
    return int(_kv_heads(info) * cells * (keys + values))


def estimate_model_bytes(model: Model, info: GgufInfo | None = None) -> int:
    """Bytes for any engine's model: what is declared, else what the file says, else its size, else
    a worker's overhead. The fake engine's option ``memory_mb`` comes on top of that overhead."""
    if model.memory_mb is not None:
        return int(model.memory_mb * BYTES_PER_MB)
    if model.engine == "fake":
        return _count(model.options, "memory_mb", 0) * BYTES_PER_MB + WORKER_OVERHEAD_BYTES
    return estimate_memory_bytes(info or model.size_bytes or 0, model.options)


def _kv_heads(info: GgufInfo) -> int:
    heads, layers = info.head_count_kv, info.block_count or 0
    if isinstance(heads, tuple):
        return sum(heads)
    return layers * (heads or 0)


def _count(options: Mapping[str, Any], key: str, default: int) -> int:
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return int(value) if value > 0 and math.isfinite(value) else default


def _cache_bytes(options: Mapping[str, Any], key: str) -> float:
    return CACHE_BYTES.get(str(options.get(key)).lower(), CACHE_BYTES[DEFAULT_CACHE_TYPE])
