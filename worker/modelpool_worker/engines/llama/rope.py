"""Scaling of rotary position embeddings in llama.cpp: a longer context than was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelpool_client.surfaces.schema import Schema

TYPE = "rope_scaling"
TYPES = ("none", "linear", "yarn")
YARN = "yarn_"
# By option, what the parameter and, with dashes, the flag are called.
NUMBERS: Mapping[str, str] = {
    "rope_freq_base": "rope_freq_base",
    "rope_freq_scale": "rope_freq_scale",
    "yarn_original_context": "yarn_orig_ctx",
    "yarn_extrapolation": "yarn_ext_factor",
    "yarn_attention_factor": "yarn_attn_factor",
    "yarn_beta_slow": "yarn_beta_slow",
    "yarn_beta_fast": "yarn_beta_fast",
}
OPTIONS: Mapping[str, Schema] = {
    TYPE: {
        "type": "string",
        "enum": TYPES,
        "description": "how positions beyond the trained context are told apart; default: as the "
        "file says",
    },
    "rope_freq_base": {
        "type": "number",
        "minimum": 1,
        "description": "base frequency of the position embedding; default: the file's",
    },
    "rope_freq_scale": {
        "type": "number",
        "minimum": 0.0001,
        "maximum": 10,
        "description": "1 over how many times as long the context is to be; default: the file's",
    },
    "yarn_original_context": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 24,
        "description": "tokens that the model was trained with; default: the file's",
    },
    "yarn_extrapolation": {"type": "number", "description": "share of extrapolation, 0 to 1"},
    "yarn_attention_factor": {"type": "number", "description": "scale of attention's magnitude"},
    "yarn_beta_slow": {"type": "number", "description": "high correction dimension"},
    "yarn_beta_fast": {"type": "number", "description": "low correction dimension"},
}


def contradiction(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The option that is wrong beside the others, and why."""
    lone = next((name for name in options if name.startswith(YARN)), None)
    if lone is not None and options.get(TYPE, "yarn") != "yarn":
        return lone, f"is for {TYPE} yarn, not {options[TYPE]}"
    return None


def set_rope(library: Any, p: Any, options: Mapping[str, Any]) -> None:
    """Of llama.cpp's parameters those for positions."""
    if TYPE in options:
        name = f"LLAMA_ROPE_SCALING_TYPE_{options[TYPE].upper()}"
        p.rope_scaling_type = getattr(library.llama_rope_scaling_type, name)
    for option, attribute in NUMBERS.items():
        if option in options:
            kind = int if option == "yarn_original_context" else float
            setattr(p, attribute, kind(options[option]))


def flags(options: Mapping[str, Any]) -> Iterator[str]:
    """The same for llama-server."""
    if TYPE in options:
        yield from ("--rope-scaling", options[TYPE])
    for option, attribute in NUMBERS.items():
        if option in options:
            yield from (f"--{attribute.replace('_', '-')}", str(options[option]))
