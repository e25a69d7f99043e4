"""The memory of a GGUF model in llama.cpp. PURE.

::

    weights = tensors, mapped or read; those of some types stand in memory twice, see ``repacked``
    cache   = see ``kv_cache``; written whole at the load, so that it is resident from then on
    compute = batch * 4 * (3 * feed_forward + 5 * embedding) + batch * context * 2
              and without flash attention batch * context * (4 * heads + 2) more
    worker  = 50 MB + vocabulary * (390 + 8 * parallel)

and the first three once more for a draft model, which has a cache of as many cells, and its words.

Every figure was measured with xllamacpp 2026.10 on Linux (x86-64, AVX2), by the anonymous and the
file-backed part of the process's PSS, on generated models of 0.2 to 390 million parameters, with
vocabularies of 1,000, 32,000 and 150,000; ``tests/e2e/test_memory_estimates.py`` holds the sum
to what a pool measures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from modelpool_client.surfaces.pooling import is_read_whole, pooling_of

from .kv_cache import CACHE_BYTES, CacheShape, cache_by_layer
from .memory_layout import Layer, MemoryLayout
from .model_info import ModelInfo

DEFAULT_CONTEXT_LENGTH = 4096
DEFAULT_PARALLEL = 8
DEFAULT_CACHE_TYPE = "f16"
# Tokens that are computed at once: the worker's on a CPU, and llama.cpp's own bound (n_ubatch).
CPU_BATCH = 256
MAX_BATCH = 512

# Front and child with the library, its threads and one request behind it, over all else: 44 MB
# where another worker shares their pages, 54 MB where only the manager does, 56 MB where nobody.
PROCESSES_BYTES = 58_000_000
# 65 MB with 32,000 words and 112 MB with 150,000, where 54 MB stand without.
BYTES_PER_WORD = 390
# Of files that do not say how many there are; most of the last years have 32,000 to 152,000.
ASSUMED_VOCABULARY = 100_000
# One number per word for each sequence that is answered, as output and as the step's result.
LOGITS_BYTES = 8
# Numbers of 4 bytes in hand for a token of a batch, by the width of the feed-forward layer (gate,
# up and their product) and of the embedding. As llama.cpp says ("compute buffer size") for
# widths of 5.4 and 16 embeddings to 1 %; a third too many where both are equally wide.
FEED_FORWARD_ROWS, EMBEDDING_ROWS = 3, 5
# Where the file does not say how wide that is: 21 embeddings in all, as with Qwen2.5 0.5 B.
UNKNOWN_ROWS = 21
# A mask of two bytes for each token of a batch and each cell.
MASK_BYTES = 2
# Without flash attention the scores of all heads of a layer are in hand, and a mask twice as wide:
# 72.9 MB of the 71.3 that this says, with 8 heads, 8192 tokens of context and 256 in a batch. With
# ``auto`` it is used where it can be, as with ``on``.
SCORE_BYTES = 4
ROW_BYTES = 4
# Of the encoder of a projector that looks at a picture, for each patch: so many rows as wide as its
# feed-forward layers and as it is itself, and the scores of all heads of a layer. Measured with 576
# patches, 12 heads and widths of 3072 and 768: 35.1 MB of the 37.3 that this says.
PATCH_FEED_FORWARD_ROWS, PATCH_EMBEDDING_ROWS = 2, 4
# Over its weights, where its file does not say how it is made: of sounds; not measured.
PROJECTOR_FACTOR = 1.5

# Types whose matrices llama.cpp copies into another order on a CPU (CPU_REPACK), while the mapped
# file stays resident. x86-64: every type was tried, with AVX2 and up. arm64: by its source
# (ggml-cpu/repack.cpp), not measured.
REPACKED: Mapping[str, Collection[str]] = {
    "x86_64": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "aarch64": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
}


def llama_layout(
    info: ModelInfo, options: Mapping[str, Any], machine: str, has_devices: bool
) -> MemoryLayout:
    """Where llama.cpp would put what. ``options`` are the engine's; values that it will refuse
    count as not given. ``machine``: the processor, as ``platform.machine`` names it."""
    repacked = REPACKED.get(machine, frozenset())
    asked = {**options, "context_length": context_length(info, options)}
    draft = None if info.draft is None else _model(info.draft, asked, repacked, has_devices)
    own = _model(info, asked, repacked, has_devices)
    per_word = BYTES_PER_WORD + LOGITS_BYTES * parallel(options)
    words = sum(_words(each) for each in (info, info.draft) if each is not None)
    projector = _projector(info.projector) if info.projector is not None else 0
    return MemoryLayout(
        own.layers,
        own.output,
        own.fixed,
        own.compute,
        projector,
        PROCESSES_BYTES + words * per_word,
        draft,
    )


def _words(info: ModelInfo) -> int:
    return ASSUMED_VOCABULARY if info.vocabulary_size is None else info.vocabulary_size


def _projector(info: ModelInfo) -> int:
    """Bytes of what makes tokens of pictures, with its buffers."""
    patches, heads = info.patches, info.head_count
    wide, width = info.feed_forward_length, info.embedding_length
    if not patches or not isinstance(heads, int) or not wide or not width:
        return int(info.file_bytes * PROJECTOR_FACTOR)
    row = PATCH_FEED_FORWARD_ROWS * wide + PATCH_EMBEDDING_ROWS * width
    return info.file_bytes + patches * (patches * heads * SCORE_BYTES + row * ROW_BYTES)


def context_length(info: ModelInfo, options: Mapping[str, Any]) -> int:
    """Tokens of one request."""
    trained = info.context_length or DEFAULT_CONTEXT_LENGTH
    return count(options, "context_length", min(trained, DEFAULT_CONTEXT_LENGTH))


def parallel(options: Mapping[str, Any]) -> int:
    """Requests at once."""
    return count(options, "parallel", DEFAULT_PARALLEL)


def cache_shape(info: ModelInfo, options: Mapping[str, Any], batch: int) -> CacheShape:
    """What of the options the cache follows from."""
    return CacheShape(
        context_length(info, options),
        parallel(options),
        batch,
        _cache_type(options, "cache_type_k"),
        _cache_type(options, "cache_type_v"),
        is_shared=options.get("kv_unified") is True,
    )


def count(options: Mapping[str, Any], key: str, default: int) -> int:
    """A positive whole number; ``default`` for whatever else stands there."""
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return int(value) if value > 0 and math.isfinite(value) else default


def _model(
    info: ModelInfo, options: Mapping[str, Any], repacked: Collection[str], has_devices: bool
) -> MemoryLayout:
    batch = _batch(info, options, has_devices)
    caches = cache_by_layer(info, cache_shape(info, options, batch)) or (0,)
    blocks = max(0, info.file_bytes - info.table_bytes - info.output_bytes)
    blocks += info.adapter_bytes  # each lies where what it corrects does
    copied = sum(size for kind, size in info.matrix_bytes.items() if kind in repacked)
    # A file that is read and not mapped is in memory once, in the one order or the other.
    copies = copied if options.get("mmap", True) else 0
    weights, copies_each = _shared(blocks, len(caches)), _shared(copies, len(caches))
    return MemoryLayout(
        tuple(map(Layer, weights, caches, copies_each)),
        Layer(info.output_bytes, shared=0 if info.output_bytes else info.table_bytes),
        info.table_bytes,
        _compute(info, options, batch),
    )


def _shared(total: int, parts: int) -> list[int]:
    """Into equal parts whose sum it is."""
    return [total * (n + 1) // parts - total * n // parts for n in range(parts)]


def _compute(info: ModelInfo, options: Mapping[str, Any], batch: int) -> int:
    embedding, feed_forward = info.embedding_length or 0, info.feed_forward_length
    numbers = (
        UNKNOWN_ROWS * embedding
        if feed_forward is None
        else FEED_FORWARD_ROWS * feed_forward + EMBEDDING_ROWS * embedding
    )
    per_cell = MASK_BYTES
    if options.get("flash_attention") == "off":
        found = info.head_count or 0
        heads = max(found, default=0) if isinstance(found, tuple) else found
        per_cell += MASK_BYTES + SCORE_BYTES * heads
    return batch * (numbers * 4 + context_length(info, options) * per_cell)


def _batch(info: ModelInfo, options: Mapping[str, Any], has_devices: bool) -> int:
    """Tokens that are computed at once. A model that embeds a text in one step has the whole
    context as one; of others a step may be computed in smaller parts."""
    pooling = pooling_of(info.architecture, info.pooling, options)
    context = context_length(info, options)
    if is_read_whole(info.architecture, pooling):
        return count(options, "batch_size", context)
    step = count(options, "batch_size", MAX_BATCH if has_devices else CPU_BATCH)
    return min(count(options, "micro_batch_size", MAX_BATCH), step, context)


def _cache_type(options: Mapping[str, Any], key: str) -> str:
    name = str(options.get(key)).lower()
    return name if name in CACHE_BYTES else DEFAULT_CACHE_TYPE
