"""What the files of a model say of it, in any format. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelInfo:
    """A model as its files describe it. What they do not state is None or empty.

    Attributes:
        architecture: the format's own word: ``qwen2`` in GGUF, ``Qwen2ForCausalLM`` in a
            ``config.json``.
        file_bytes: of all parts of a model in several files.
        tensor_bytes: of those tensors whose type is known.
        format: the name of one of ``formats``.
        head_count, head_count_kv: per layer where the layers differ, else one number.
        key_length, value_length: elements of one head's key and value.
        window: tokens that a layer with a sliding window attends to.
        window_pattern: of so many layers all but the last have the window (0: every layer has
            it), or for each layer whether it has.
        quantization: the file's own word, or the type that most bytes have.
        chat_template: a digest of its text; empty where there is none, or one beyond all measure.
        pooling: llama.cpp's number of how tokens are pooled, see ``surfaces.pooling``.
        rope_scaling: how positions are stretched beyond the trained ones, as
            ``{"type", "factor", "original_context_length"}``.
        tokenizer: its kind: ``gpt2``, ``llama``, ``BPE`` …
        special_tokens: ids by their parts: ``{"bos": 1, "eos": 2}``.
        inputs, outputs: modalities: ``text``, ``image``, ``audio``, ``tensor``.
        template_hints: what the template mentions that tells of a capability: ``tools`` …
        draft: the model that drafts for it, where the options name one.
    """

    architecture: str
    file_bytes: int
    tensor_bytes: int
    parameter_count: int
    quantization: str | None = None
    name: str | None = None
    context_length: int | None = None
    block_count: int | None = None
    embedding_length: int | None = None
    head_count: int | tuple[int, ...] | None = None
    head_count_kv: int | tuple[int, ...] | None = None
    key_length: int | None = None
    value_length: int | None = None
    window: int | None = None
    window_pattern: int | tuple[bool, ...] | None = None
    has_chat_template: bool = False
    chat_template: str = ""
    parts: int = 1
    pooling: int | None = None
    draft: ModelInfo | None = None
    format: str = "gguf"
    vocabulary_size: int | None = None
    feed_forward_length: int | None = None
    rope_scaling: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    template_hints: tuple[str, ...] = ()
    license: str | None = None
