"""Bytes of keys and values, layer by layer. PURE.

::

    layer = kv_heads * cells * (key_length * bytes(key_type) + value_length * bytes(value_type))
    cells = parallel * context, or in layers that attend to a window
            parallel * (window + batch, rounded up to 256) where that is less;
            where sequences share a context: context, or parallel * window + batch

Grouped attention is in ``kv_heads``, layer by layer where layers differ. Layers that keep a state
in place of a cache count as if they had one: there the figure is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .model_info import ModelInfo

# llama.cpp gives a sequence cells by 256, of a whole context and of a window.
CELLS = 256
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
class CacheShape:
    """``context`` tokens for each of ``parallel`` sequences, or for all of them together if it
    ``is_shared``, computed ``batch`` at a time; the types are keys of ``CACHE_BYTES``."""

    context: int
    parallel: int
    batch: int
    key_type: str = "f16"
    value_type: str = "f16"
    is_shared: bool = False


def cache_by_layer(info: ModelInfo, shape: CacheShape) -> tuple[int, ...]:
    """Bytes of each layer's keys and values, for all sequences together."""
    keys = (info.key_length or 0) * CACHE_BYTES[shape.key_type]
    values = (info.value_length or 0) * CACHE_BYTES[shape.value_type]
    streams, sharing = (1, shape.parallel) if shape.is_shared else (shape.parallel, 1)
    whole = _padded(shape.context)
    window = whole if not info.window else min(whole, _padded(info.window * sharing + shape.batch))
    return tuple(
        int(heads * streams * (window if _is_windowed(info, n) else whole) * (keys + values))
        for n, heads in enumerate(_kv_heads(info))
    )


def _padded(cells: int) -> int:
    return math.ceil(cells / CELLS) * CELLS


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
