"""What the files of a model say of it, in any format. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .packed import NOTHING


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        type: the format's own word: ``FLOAT16``, ``INT64``, ``IMAGE`` …
        shape: a number, the name of a variable length, or None where nothing is said of a
            dimension; for ``IMAGE`` its height and width in pixels.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its files describe it. What they do not state is None or empty.

    Attributes:
        architecture: the format's own word: ``qwen2`` in GGUF, ``Qwen2ForCausalLM`` in a
            ``config.json``, ``mlProgram`` in CoreML; ``onnx`` for a graph that tells none.
        file_bytes: of all parts of a model in several files; with what lies beside the weights
            only where it lies in a package with them.
        tensor_bytes: of those tensors whose type is known.
        parameter_count: elements of all weights, those that are packed into larger numbers counted
            one by one; 0 where the format does not tell.
        format: the name of one of ``formats``.
        head_count, head_count_kv: per layer where the layers differ, else one number.
        key_length, value_length: elements of one head's key and value.
        window: tokens that a layer with a sliding window attends to.
        window_pattern: of so many layers all but the last have the window (0: every layer has
            it), or for each layer whether it has.
        quantization: the file's own word, or the type that most bytes have.
        chat_template: a digest of its text; empty where there is none, or one beyond all measure.
        pooling: llama.cpp's number of how tokens are pooled, see ``surfaces.pooling``; of a
            sentence-transformers folder its pooling, of a cross-encoder that of reranking.
        rope_scaling: how positions are stretched beyond the trained ones, as
            ``{"type", "factor", "original_context_length"}``.
        feed_forward_length: of the widest layer.
        vocabulary_size: tokens.
        expert_count, expert_used_count: of a mixture of experts, in a layer and for a token.
        tokenizer: its kind: ``gpt2``, ``llama``, ``Qwen2Tokenizer`` …
        special_tokens: ids by their parts: ``{"bos": 1, "eos": 2}``; ``unk``, ``pad``, ``sep``,
            ``cls``, ``mask``, ``eot``, ``eom``, ``fim_pre``, ``fim_suf``, ``fim_mid`` and others of
            llama.cpp's names.
        inputs, outputs: modalities: ``text``, ``image``, ``audio``, ``tensor``; a vector is one.
            Of a projector, what it makes a model understand.
        template_hints: what the template mentions that tells of a capability: ``tools``,
            ``images``, ``audio``, ``video``, ``thinking``, ``system``, ``documents``.
        license: as the author names it.
        draft: the model that drafts for it, where the options name one.
        kind: what the files themselves say they are: ``model``, ``adapter``, ``mmproj``,
            ``tokenizer`` …; ``Format.companion`` says what follows.
        base_model: the name of the model that an adapter or a fine-tune was made from.
        input_tensors, output_tensors: of a graph (ONNX, CoreML), in its order.
        opsets: of an ONNX graph, the version of each set of operators by its domain.
        format_version: of GGUF, of ONNX's IR, of CoreML's specification.
        producer: the program that wrote the graph, with its version.
        author, description: as the author says.
        metadata: what the author or a converter added by keys of their own; the longest values are
            left out.
        adapter_bytes: of the adapters (LoRA) that the options name.
        projector: what makes tokens of pictures and sounds for it, where the options name one.
        patches: of a projector, into which it cuts the largest picture that it takes in one piece.
        table_bytes: of the table of token embeddings.
        output_bytes: of the output layer's matrix; 0 where the table serves as that, too.
        matrix_bytes: of all weight matrices but that table, by their type's name.
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
    projector: ModelInfo | None = None
    adapter_bytes: int = 0
    patches: int | None = None
    table_bytes: int = 0
    output_bytes: int = 0
    matrix_bytes: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    format: str = "gguf"
    vocabulary_size: int | None = None
    feed_forward_length: int | None = None
    expert_count: int | None = None
    expert_used_count: int | None = None
    rope_scaling: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    tokenizer: str | None = None
    special_tokens: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    template_hints: tuple[str, ...] = ()
    license: str | None = None
    kind: str = "model"
    base_model: str | None = None
    input_tensors: tuple[TensorSpec, ...] = ()
    output_tensors: tuple[TensorSpec, ...] = ()
    opsets: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    format_version: int | None = None
    producer: str | None = None
    author: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: NOTHING)
