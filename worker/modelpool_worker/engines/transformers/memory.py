"""PURE. How much of the host's memory a model takes in ``transformers`` on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIB = 1 << 20
# A child with torch 2.13 and transformers 5.24 (CPU build) before any weights, and what tokenizers
# and arenas add. Measured: a model of 4 MB takes 390 to 410 MB.
LIBRARIES_BYTES = 380 * MIB
DTYPE_BYTES: Mapping[str, float] = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
# A weight, with its scales.
QUANTISED_BYTES: Mapping[str, float] = {
    "bitsandbytes-8bit": 1.1,
    "bitsandbytes-4bit": 0.6,
    "torchao-int8": 1.1,
    "torchao-int4": 0.6,
}
_FLOAT32 = 4


def cache_width(config: Mapping[str, Any]) -> int:
    """Keys and values of one token over all layers, in numbers; 0 where the configuration does not
    say."""
    layers = _count(config, "num_hidden_layers", "n_layer", "num_layers")
    heads = _count(config, "num_attention_heads", "n_head", "num_heads")
    hidden = _count(config, "hidden_size", "n_embd", "d_model")
    groups = _count(config, "num_key_value_heads") or heads
    size = _count(config, "head_dim") or (hidden // heads if heads else 0)
    return 2 * layers * groups * size


def step_bytes(config: Mapping[str, Any], tokens: int, sequences: int) -> int:
    """What one step takes at most beside: some layers' values of its tokens, and several copies of
    the scores of each sequence's next token."""
    hidden = _count(config, "hidden_size", "n_embd", "d_model")
    inner = _count(config, "intermediate_size", "n_inner", "d_ff") or 4 * hidden
    vocabulary = _count(config, "vocab_size")
    return _FLOAT32 * (tokens * (6 * hidden + 3 * inner) + 4 * sequences * vocabulary)


def _count(config: Mapping[str, Any], *names: str) -> int:
    return next((n for name in names if isinstance(n := config.get(name), int)), 0)
