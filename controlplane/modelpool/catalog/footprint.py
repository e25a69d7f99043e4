"""How much memory a model will need, before it was ever measured. PURE.

For GGUF, with the options of the llama.cpp engine::

    bytes = file + cache + compute + overhead
    cache = sum over the layers(kv_heads * cells * (key_length * bytes(cache_type_k)
                                                    + value_length * bytes(cache_type_v)))
    cells = parallel * context_length, or in layers that attend to a window
            parallel * (window + batch, rounded up to 256) where that is less
    compute = batch * 24 * embedding_length * 4; of a model that embeds a text in one step, the
              whole context is a batch

and the first three once more for a draft model, which has a cache of as many cells.

llama.cpp writes its whole cache at the load, so that it is resident from then on. Layers that keep
a state in place of a cache count as if they had one: there the estimate is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpool_client.surfaces.pooling import is_read_whole, pooling_of

from .model import Model
from .model_info import ModelInfo

BYTES_PER_MB = 1_000_000

# A front is 28 MB and a child with llama.cpp's library loaded 28 MB; a vocabulary of 100,000 words
# takes 40 MB of the child (all measured). The rest is for larger ones.
WORKER_OVERHEAD_BYTES = 120 * BYTES_PER_MB
# What an NVIDIA driver takes for a process that computes; not measured, no such device was there.
DEVICE_OVERHEAD_BYTES = 300 * BYTES_PER_MB

DEFAULT_CONTEXT_LENGTH = 4096
DEFAULT_PARALLEL = 8
DEFAULT_CACHE_TYPE = "f16"
# Tokens that llama.cpp computes at once, at most.
BATCH = 512
# Numbers of 4 bytes that llama.cpp has in hand for each token of a batch, over the embedding
# length: 24 where the feed-forward layer is 5.4 embeddings wide (measured), as in most models.
COMPUTE_WIDTH = 24
WINDOW_PADDING = 256
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
# Where the file does not say it: of so many layers all but the last attend to a window only. As
# llama.cpp's own loaders have it; it pays no heed to a window in files of other architectures.
WINDOW_PERIODS: Mapping[str, int] = {"cohere2": 4, "gemma2": 2, "gemma3": 6, "gpt-oss": 2}


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model will need of the host, and of devices by their ids.

    ``firm`` of the host's are its weights: they may be dropped from memory while nobody computes,
    so that no measurement vouches for less.
    """

    host: int
    devices: Mapping[str, int] = field(default_factory=dict)
    firm: int = 0


def estimate_memory_bytes(
    info_or_size: ModelInfo | int, options: Mapping[str, Any] | None = None
) -> int:
    """Bytes of host memory for a model file and the worker around it.

    Args:
        info_or_size: what the file says, or merely its size in bytes.
        options: the engine's; of these ``context_length`` (default: what it was trained for, at
            most 4096), ``parallel`` (8), ``cache_type_k`` and ``cache_type_v`` (f16) and
            ``batch_size`` count. Values that the engine will refuse count as not given.
    """
    if isinstance(info_or_size, int):
        return info_or_size + WORKER_OVERHEAD_BYTES
    info, options = info_or_size, options or {}
    return loaded_bytes(info, options) + compute_bytes(info, options) + WORKER_OVERHEAD_BYTES


def loaded_bytes(info: ModelInfo, options: Mapping[str, Any]) -> int:
    """Bytes of weights and caches, those of a draft model included."""
    asked = {**options, "context_length": context_length(info, options)}
    return sum(part.file_bytes + kv_cache_bytes(part, asked) for part in _parts(info))


def context_length(info: ModelInfo, options: Mapping[str, Any]) -> int:
    """Tokens of one request."""
    trained = info.context_length or DEFAULT_CONTEXT_LENGTH
    return _count(options, "context_length", min(trained, DEFAULT_CONTEXT_LENGTH))


def kv_cache_bytes(info: ModelInfo, options: Mapping[str, Any]) -> int:
    """Bytes of the keys and values of every layer for all the parallel contexts."""
    context = context_length(info, options)
    parallel = _count(options, "parallel", DEFAULT_PARALLEL)
    keys = (info.key_length or 0) * _cache_bytes(options, "cache_type_k")
    values = (info.value_length or 0) * _cache_bytes(options, "cache_type_v")
    window = _window_cells(info, options, context)
    rows = sum(
        heads * (window if _is_windowed(info, layer) else context)
        for layer, heads in enumerate(_kv_heads(info))
    )
    return int(rows * parallel * (keys + values))


def compute_bytes(info: ModelInfo, options: Mapping[str, Any]) -> int:
    """Bytes of what is in hand while one batch of a prompt is computed."""
    width = sum(part.embedding_length or 0 for part in _parts(info))
    pooling = pooling_of(info.architecture, info.pooling, options)
    is_whole = is_read_whole(info.architecture, pooling)
    batch = context_length(info, options) if is_whole else _batch(options)
    return batch * COMPUTE_WIDTH * width * 4


def estimate_footprint(
    model: Model,
    info: ModelInfo | None = None,
    told: int | None = None,
    budgets: Mapping[str, int] | None = None,
) -> Footprint:
    """What any engine's model will need, by its file, whatever was declared. The fake engine's
    option ``memory_mb`` comes on top of a worker's overhead.

    Args:
        told: bytes that the engine itself expects for the model, beyond the worker around it.
        budgets: bytes by device. Only who states budgets has devices that count: without, all
            layers count as the host's, for nobody here can know that they will not be there.
    """
    if info is not None:
        on_devices = _share_on_devices(info, model.options) if budgets else 0.0
        return _split(info, model.options, on_devices, budgets or {})
    if model.engine == "fake":
        told = _count(model.options, "memory_mb", 0) << 20
    return Footprint(estimate_memory_bytes(told or model.size_bytes or 0))


def _split(
    info: ModelInfo, options: Mapping[str, Any], share: float, budgets: Mapping[str, int]
) -> Footprint:
    """Layers go to the devices in proportion to their room, as llama.cpp does it."""
    moved = int(share * loaded_bytes(info, options))
    host = estimate_memory_bytes(info, options) - moved
    weights = sum(part.tensor_bytes for part in _parts(info))
    firm = weights - int(share * weights)
    if not moved:
        return Footprint(host, firm=firm)
    extra, room = compute_bytes(info, options) + DEVICE_OVERHEAD_BYTES, sum(budgets.values())
    parts = {device: moved * size // room + extra for device, size in budgets.items()}
    return Footprint(host, parts, firm)


def _share_on_devices(info: ModelInfo, options: Mapping[str, Any]) -> float:
    """All layers and the output layer where ``gpu_layers`` does not say less."""
    layers = (info.block_count or 0) + 1
    asked = options.get("gpu_layers")
    return 1.0 if asked is None else min(layers, _count(options, "gpu_layers", 0)) / layers


def _parts(info: ModelInfo) -> tuple[ModelInfo, ...]:
    return (info,) if info.draft is None else (info, info.draft)


def _kv_heads(info: ModelInfo) -> tuple[int, ...]:
    """Of each layer."""
    heads = info.head_count_kv
    return heads if isinstance(heads, tuple) else (heads or 0,) * (info.block_count or 0)


def _is_windowed(info: ModelInfo, layer: int) -> bool:
    """Does it attend to a window only?"""
    pattern = info.window_pattern
    if pattern is None:
        pattern = WINDOW_PERIODS.get(info.architecture, 1)
    if isinstance(pattern, tuple):
        return layer < len(pattern) and pattern[layer]
    return pattern == 0 or layer % pattern < pattern - 1


def _window_cells(info: ModelInfo, options: Mapping[str, Any], context: int) -> int:
    """Cells of one context in a layer with a window."""
    if not info.window:
        return context
    blocks = math.ceil((info.window + _batch(options)) / WINDOW_PADDING)
    return min(context, blocks * WINDOW_PADDING)


def _batch(options: Mapping[str, Any]) -> int:
    return min(BATCH, _count(options, "batch_size", BATCH))


def _count(options: Mapping[str, Any], key: str, default: int) -> int:
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return int(value) if value > 0 and math.isfinite(value) else default


def _cache_bytes(options: Mapping[str, Any], key: str) -> float:
    return CACHE_BYTES.get(str(options.get(key)).lower(), CACHE_BYTES[DEFAULT_CACHE_TYPE])
