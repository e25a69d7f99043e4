"""What the configuration of a Hugging Face folder says of a model that writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .tokenizer_folder import SETTINGS, bad_file, read_json

CONFIG = "config.json"
GENERATION = "generation_config.json"


@dataclass(frozen=True)
class WriterConfig:
    """Of a folder.

    Attributes:
        context_length: tokens, as far as it is told.
        cache_width: numbers that the KV cache holds of one token; 0 where it is not told.
        end_tokens: ids, those of the generation's settings first.
        end_names: tokens by their texts that end an answer, too.
        defaults: for ``contract.Sampling``.
    """

    kind: str
    context_length: int | None
    cache_width: int
    vocabulary_size: int
    end_tokens: tuple[int, ...]
    end_names: tuple[str, ...]
    defaults: Mapping[str, Any]


def read_writer(folder: str) -> WriterConfig:
    """Read it.

    Raises:
        LoadFailed: ``bad_file``.
    """
    path = os.path.join(folder, CONFIG)
    said = read_json(path)
    if not said.get("model_type"):
        why = "says no model_type" if said else "is missing"
        raise bad_file(path, why)
    generation = read_json(os.path.join(folder, GENERATION))
    settings = read_json(os.path.join(folder, SETTINGS))
    text = said.get("text_config")
    inner = {**said, **text} if isinstance(text, dict) else said
    try:
        ends = [*_ids(generation.get("eos_token_id")), *_ids(inner.get("eos_token_id"))]
        length = inner.get("max_position_embeddings")
        return WriterConfig(
            kind=str(said["model_type"]),
            context_length=int(length) if length else None,
            cache_width=_cache_width(inner),
            vocabulary_size=int(inner.get("vocab_size") or 0),
            end_tokens=tuple(dict.fromkeys(ends)),
            end_names=_name(settings.get("eos_token")),
            defaults=_defaults(generation),
        )
    except (TypeError, ValueError, AttributeError) as e:
        raise bad_file(path, f"is damaged: {e}") from None


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(v) for v in (value if isinstance(value, list) else [value])]


def _name(token: Any) -> tuple[str, ...]:
    text = token.get("content") if isinstance(token, dict) else token
    return (text,) if isinstance(text, str) else ()


def _cache_width(said: Mapping[str, Any]) -> int:
    layers, heads = said.get("num_hidden_layers"), said.get("num_attention_heads")
    if not layers or not heads:
        return 0
    groups = said.get("num_key_value_heads") or heads
    size = said.get("head_dim") or int(said.get("hidden_size") or 0) // int(heads)
    return 2 * int(layers) * int(groups) * int(size)


def _defaults(generation: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "temperature": generation.get("temperature", 1.0) if generation.get("do_sample") else 0,
        "top_k": generation.get("top_k"),
        "top_p": generation.get("top_p"),
        "min_p": generation.get("min_p"),
        "repeat_penalty": generation.get("repetition_penalty"),
    }
    return {name: value for name, value in found.items() if value is not None}
