"""Write GGUF files of Llama-like models, one tensor in memory at a time.

A caller says the shape of the model, its vocabulary and how to fill each tensor; names, storage
types and metadata are decided here. Needs ``gguf`` and ``numpy`` only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt

Architecture = Literal["llama", "qwen2"]
WeightType = Literal["f16", "q8_0", "q4_0"]
Weights = npt.NDArray[np.float32]

END_OF_TEXT, TURN_START, TURN_END = SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_STORAGE = {
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}
_FILE_TYPE = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
_QUANT_BLOCK = 32


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions of a decoder with RoPE, grouped queries, SwiGLU and tied embeddings.

    ``context`` and ``vocab`` count tokens; ``hidden`` must be a multiple of ``heads``, and
    ``heads`` of ``kv_heads``. The defaults of the last two are Llama's.
    """

    architecture: Architecture
    vocab: int
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    context: int
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    pooling: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.layers, self.hidden, self.ffn, self.heads, self.kv_heads, self.context)
        if min(sizes) < 1:
            raise ValueError("every dimension must be 1 or more")
        if self.hidden % self.heads or self.heads % self.kv_heads or self.head_size % 2:
            raise ValueError(
                f"hidden {self.hidden} must divide into {self.heads} heads of even size, "
                f"and these into {self.kv_heads} key-value heads"
            )

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_size


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Byte-level BPE: ``tokens`` in the order of their ids, the three special ones first."""

    tokens: Sequence[str]
    merges: Sequence[str]


@dataclass(frozen=True, slots=True)
class About:
    """What the file says of itself."""

    name: str
    description: str
    licence: str = "mit"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: its GGUF name and its shape, ``(outputs, inputs)`` or ``(size,)``."""

    name: str
    shape: tuple[int, ...]

    @property
    def is_vector(self) -> bool:
        return len(self.shape) == 1


def model_tensors(shape: ModelShape) -> list[Tensor]:
    """Every tensor of such a model; no ``output.weight``, which means tied to the embedding."""
    blocks = [tensor for layer in range(shape.layers) for tensor in _block(shape, f"blk.{layer}.")]
    return [
        Tensor("token_embd.weight", (shape.vocab, shape.hidden)),
        Tensor("output_norm.weight", (shape.hidden,)),
        *blocks,
    ]


def _block(shape: ModelShape, prefix: str) -> list[Tensor]:
    hidden, ffn, kv = shape.hidden, shape.ffn, shape.kv_size
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (hidden,),
        "attn_q.weight": (hidden, hidden),
        "attn_k.weight": (kv, hidden),
        "attn_v.weight": (kv, hidden),
        "attn_output.weight": (hidden, hidden),
        "ffn_norm.weight": (hidden,),
        "ffn_gate.weight": (ffn, hidden),
        "ffn_up.weight": (ffn, hidden),
        "ffn_down.weight": (hidden, ffn),
    }
    if shape.architecture == "qwen2":
        shapes |= {"attn_q.bias": (hidden,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
    return [Tensor(prefix + name, size) for name, size in shapes.items()]


def parameter_count(shape: ModelShape) -> int:
    return sum(int(np.prod(tensor.shape)) for tensor in model_tensors(shape))


def write_gguf(
    path: Path,
    shape: ModelShape,
    vocabulary: Vocabulary,
    fill: Callable[[Tensor], Weights],
    *,
    weight_type: WeightType,
    about: About,
) -> None:
    """Write the model to ``path``, which appears only when it is whole.

    ``fill`` gives each tensor's values; it is called once per tensor, in the file's order.
    """
    if len(vocabulary.tokens) != shape.vocab:
        raise ValueError(f"{len(vocabulary.tokens)} tokens for a vocabulary of {shape.vocab}")
    part = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(part, shape.architecture)
    try:
        _describe(writer, shape, weight_type, about)
        _add_vocabulary(writer, vocabulary)
        _write_tensors(writer, model_tensors(shape), fill, weight_type)
        writer.close()
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _describe(writer: Any, shape: ModelShape, weight_type: WeightType, about: About) -> None:
    writer.add_name(about.name)
    writer.add_description(about.description)
    writer.add_license(about.licence)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocab)
    if shape.pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(shape.pooling))
    writer.add_file_type(_FILE_TYPE[weight_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    tokens = list(vocabulary.tokens)
    normal = len(tokens) - len(SPECIAL_TOKENS)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL_TOKENS) + [gguf.TokenType.NORMAL] * normal
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(TURN_END))
    writer.add_pad_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML_TEMPLATE)


def _write_tensors(
    writer: Any,
    tensors: Sequence[Tensor],
    fill: Callable[[Tensor], Weights],
    weight_type: WeightType,
) -> None:
    storage = [_storage(tensor, weight_type) for tensor in tensors]
    for tensor, kind in zip(tensors, storage, strict=True):
        size = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, kind)))
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, kind in zip(tensors, storage, strict=True):
        writer.write_tensor_data(_stored(tensor, fill(tensor), kind))


def _storage(tensor: Tensor, weight_type: WeightType) -> gguf.GGMLQuantizationType:
    if tensor.is_vector:
        return gguf.GGMLQuantizationType.F32
    if tensor.shape[-1] % _QUANT_BLOCK:
        return gguf.GGMLQuantizationType.F16
    # The embedding is the output layer as well: four bits there cost far more than they save.
    if tensor.name == "token_embd.weight" and weight_type == "q4_0":
        return gguf.GGMLQuantizationType.Q8_0
    return _STORAGE[weight_type]


def _stored(tensor: Tensor, values: Weights, kind: gguf.GGMLQuantizationType) -> npt.NDArray[Any]:
    if values.shape != tensor.shape:
        raise ValueError(f"{tensor.name}: got {values.shape}, wanted {tensor.shape}")
    return gguf.quants.quantize(values, kind)
