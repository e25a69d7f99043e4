"""PURE. Which parameters of a request make a difference to llama.cpp's server.

As the schema of its completions names them (tools/server/server-schema.cpp), without those that it
keeps to itself, or that only its native routes read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH

# OpenAI's.
_COMMON = (
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "temperature",
    "top_p",
)
_OWN = (
    "adaptive_decay",
    "adaptive_target",
    "cache_prompt",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "dynatemp_range",
    "grammar",
    "id_slot",
    "ignore_eos",
    "json_schema",
    "lora",
    "min_keep",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "n_cache_reuse",
    "n_cmpl",
    "n_discard",
    "n_indent",
    "n_keep",
    "n_predict",
    "n_probs",
    "post_sampling_probs",
    "repeat_last_n",
    "repeat_penalty",
    "return_progress",
    "return_tokens",
    "samplers",
    "sse_ping_interval",
    "t_max_predict_ms",
    "timings_per_token",
    "top_k",
    "top_n_sigma",
    "typical_p",
    "verbose",
    "xtc_probability",
    "xtc_threshold",
)
_CHAT = (
    "add_generation_prompt",
    "chat_template_kwargs",
    "continue_final_message",
    "max_completion_tokens",
    "parallel_tool_calls",
    "reasoning_budget_message",
    "reasoning_budget_tokens",
    "reasoning_control",
    "reasoning_effort",
    "reasoning_format",
    "response_format",
    "thinking_budget_tokens",
    "tools",
    "top_logprobs",
)
HONOURS: Mapping[str, Collection[str]] = {
    CHAT_PATH: (*_COMMON, *_OWN, *_CHAT),
    TEXT_PATH: (*_COMMON, *_OWN, "suffix"),
}

# What a chat template has to have a place for, by the names of llama.cpp's ``chat_template_caps``.
ARGUMENTS = "takes_arguments"  # a word of ours
_CAPABILITIES = {
    "chat_template_kwargs": ARGUMENTS,
    "tools": "supports_tools",
    "parallel_tool_calls": "supports_tools",
    "reasoning_effort": "supports_reasoning_effort",
}
NO_INFILL = "the model has no tokens for it (fill in the middle)"


def unable(capabilities: Mapping[str, Any], has_infill: bool) -> dict[str, str]:
    """Which of them a model cannot have, with why: of what its chat template and its vocabulary
    are able to."""
    return dict(_unable(capabilities, has_infill))


def _unable(capabilities: Mapping[str, Any], has_infill: bool) -> Iterator[tuple[str, str]]:
    for name, capability in _CAPABILITIES.items():
        if capabilities.get(capability) is False:
            yield name, f"the model's chat template has no place for {name}"
    if not has_infill:
        yield "suffix", NO_INFILL
