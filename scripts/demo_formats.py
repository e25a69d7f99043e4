"""The demo model in other formats: ``python scripts/demo_formats.py [--out DIR]``.

``safetensors_folder`` makes a Hugging Face folder of the GGUF in ``configs/models``: its weights as
16-bit floats, its tokenizer, its chat template. That folder is kept in the repository
(``configs/models/pool-demo``); ``gguf_file`` makes GGUF files of any type from it, and the engines'
own tools make the rest. Needs ``gguf``, ``numpy`` and ``safetensors`` only.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf_export import (
    CHATML_TEMPLATE,
    END_OF_TEXT,
    SPECIAL_TOKENS,
    TURN_END,
    About,
    ModelShape,
    Tensor,
    Vocabulary,
    WeightType,
    write_gguf,
)
from safetensors.numpy import load_file, save_file

MODELS = Path(__file__).parents[1] / "configs" / "models"
DEMO_GGUF = MODELS / "pool-demo.gguf"
DEMO_FOLDER = MODELS / "pool-demo"
ABOUT = "A tiny model that answers questions about the pool"
# Names of GGUF tensors, and of Llama's in transformers.
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

Array = npt.NDArray[Any]


def transformers_name(name: str) -> str:
    """``blk.2.attn_q.weight`` as transformers calls it."""
    base = name.removesuffix(".weight")
    if base in OUTSIDE:
        return f"{OUTSIDE[base]}.weight"
    _, layer, part = base.split(".")
    return f"model.layers.{layer}.{INSIDE[part]}.weight"


def permuted(weights: Array, heads: int) -> Array:
    """Rows of queries or keys as llama.cpp orders them: halves of a head interleaved."""
    rows, columns = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def unpermuted(weights: Array, heads: int) -> Array:
    """The reverse of ``permuted``."""
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def heads_of(name: str, shape: ModelShape) -> int | None:
    """How many heads the rows of a tensor are of, where that decides their order."""
    if name.endswith("attn_q.weight"):
        return shape.heads
    return shape.kv_heads if name.endswith("attn_k.weight") else None


def safetensors_folder(source: Path, out: Path) -> None:
    """Make the folder ``out`` of a Llama in GGUF."""
    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    shape = _shape(fields)
    tensors: dict[str, Array] = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        heads = heads_of(tensor.name, shape)
        values = values if heads is None else unpermuted(values, heads)
        tensors[transformers_name(tensor.name)] = np.ascontiguousarray(values, np.float16)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    tokens, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
    _write(out / "config.json", _config(shape))
    _write(out / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 2})
    _write(out / "tokenizer.json", _tokenizer(tokens, merges))
    _write(out / "tokenizer_config.json", _tokenizer_config(shape))
    (out / "chat_template.jinja").write_text(fields["tokenizer.chat_template"])


def gguf_file(folder: Path, out: Path, weight_type: WeightType) -> None:
    """Make a GGUF file of a folder that ``safetensors_folder`` made."""
    config = json.loads((folder / "config.json").read_text())
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    shape = ModelShape(
        "llama",
        vocab=config["vocab_size"],
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        ffn=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        context=config["max_position_embeddings"],
        rope_base=config["rope_theta"],
        norm_epsilon=config["rms_norm_eps"],
    )
    weights = load_file(folder / "model.safetensors")

    def fill(tensor: Tensor) -> npt.NDArray[np.float32]:
        values = weights[transformers_name(tensor.name)].astype(np.float32)
        heads = heads_of(tensor.name, shape)
        return values if heads is None else np.ascontiguousarray(permuted(values, heads))

    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    vocabulary = Vocabulary(tokens, [" ".join(pair) for pair in model["merges"]])
    write_gguf(
        out, shape, vocabulary, fill, weight_type=weight_type, about=About("pool-demo", ABOUT)
    )


def _shape(fields: Mapping[str, Any]) -> ModelShape:
    return ModelShape(
        "llama",
        vocab=fields["llama.vocab_size"],
        layers=fields["llama.block_count"],
        hidden=fields["llama.embedding_length"],
        ffn=fields["llama.feed_forward_length"],
        heads=fields["llama.attention.head_count"],
        kv_heads=fields["llama.attention.head_count_kv"],
        context=fields["llama.context_length"],
        rope_base=fields["llama.rope.freq_base"],
    )


def _config(shape: ModelShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_base,
        "rms_norm_eps": shape.norm_epsilon,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def _tokenizer(tokens: list[str], merges: list[str]) -> dict[str, Any]:
    """What the library ``tokenizers`` reads: byte-level BPE, split as GPT-2 does."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    special = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokens.index(text), "content": text, **special} for text in SPECIAL_TOKENS
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: number for number, text in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def _tokenizer_config(shape: ModelShape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "chat_template": CHATML_TEMPLATE,
    }


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=DEMO_FOLDER)
    out = parser.parse_args().out
    safetensors_folder(DEMO_GGUF, out)
    print(f"{out} holds the demo model as safetensors")


if __name__ == "__main__":
    main()
