"""Folders for transformers and MLX: what the library of safetensors writes is read as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.registry import companion_of, formats, read
from safetensors import safe_open
from safetensors.numpy import save_file
from support.model_files import QWEN, WEIGHTS, folder, safetensors

INDEX = "model.safetensors.index.json"


def model(path: Path, config: dict[str, Any] = QWEN, **files: Any) -> Path:
    return folder(path, {"config.json": config, "model.safetensors": safetensors()} | files)


def test_as_the_library_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "model.embed_tokens.weight": rng.random((320, 64)).astype(np.float16),
        "model.layers.0.mlp.weight": rng.random((64, 96)).astype(np.float32),
        "scale": np.zeros((), dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "flags": np.ones(3, dtype=np.bool_),
        "ids": np.arange(5, dtype=np.int64),
    }
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt", "by": "somebody"})
    info = read(folder(tmp_path, {"config.json": QWEN}))
    with safe_open(tmp_path / "model.safetensors", "np") as reference:
        tensors = [reference.get_tensor(name) for name in reference.keys()]  # noqa: SIM118
        assert info.metadata == reference.metadata()
    assert info.parameter_count == sum(t.size for t in tensors)
    assert info.tensor_bytes == sum(t.nbytes for t in tensors)
    assert info.file_bytes == (tmp_path / "model.safetensors").stat().st_size
    assert (info.format, info.quantization, info.kind) == ("safetensors", "F16", "model")


def test_what_configuration_tells(tmp_path: Path) -> None:
    config = QWEN | {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4,
            "original_max_position_embeddings": 512,
        },
        "sliding_window": 256,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    tokenizer = {"tokenizer_class": "Qwen2Tokenizer", "chat_template": "{{ tools }}{{ messages }}"}
    path = model(
        tmp_path,
        config,
        **{
            "tokenizer_config.json": tokenizer,
            "generation_config.json": {"eos_token_id": [7, 8]},
            "README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: none",
        },
    )
    info = read(path)
    assert info.architecture == "Qwen2ForCausalLM"
    assert (info.context_length, info.block_count, info.embedding_length) == (2048, 2, 64)
    assert (info.head_count, info.head_count_kv, info.key_length) == (4, 2, 16)
    assert (info.feed_forward_length, info.vocabulary_size) == (96, 320)
    assert info.rope_scaling == {"type": "yarn", "factor": 4.0, "original_context_length": 512}
    assert (info.window, info.window_pattern) == (256, (True, False))
    assert info.special_tokens == {"bos": 1, "eos": 7}
    assert (info.tokenizer, info.license) == ("Qwen2Tokenizer", "apache-2.0")
    assert (info.has_chat_template, info.template_hints) == (True, ("tools",))
    assert (info.inputs, info.outputs) == (("text",), ("text",))
    assert formats()[info.format].engine == "transformers"


@pytest.mark.parametrize(
    ("config", "files", "expected"),
    [
        ({"architectures": ["LlavaForConditionalGeneration"], "vision_config": {"a": 1},
          "text_config": QWEN}, {}, {"inputs": ("text", "image"), "block_count": 2}),
        ({"architectures": ["WhisperForConditionalGeneration"]}, {},
         {"inputs": ("audio",), "outputs": ("text",)}),
        ({"architectures": ["Qwen2_5OmniModel"], "thinker_config":
          {"text_config": QWEN, "audio_config": {"a": 1}, "vision_config": {"a": 1}}}, {},
         {"inputs": ("text", "image", "audio"), "embedding_length": 64}),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}, {},
         {"pooling": 4, "outputs": ("tensor",)}),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}, {},
         {"pooling": None, "outputs": ("tensor",)}),
        ({"architectures": ["BertModel"]},
         {"modules.json": [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}],
          "1_Pooling/config.json": {"pooling_mode_cls_token": True}},
         {"pooling": 2, "outputs": ("tensor",)}),
        ({"architectures": ["BertModel"]},
         {"modules.json": [{"type": "sentence_transformers.models.Pooling", "path": "../x"}]},
         {"pooling": 1}),
        (QWEN | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, {},
         {"quantization": "GPTQ 4-bit"}),
        (QWEN | {"quantization_config": {"quant_method": "fp8"}}, {}, {"quantization": "FP8"}),
        ({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024},
         {}, {"architecture": "gpt2", "block_count": 12, "context_length": 1024, "key_length": 64}),
        (QWEN | {"num_local_experts": 8, "num_experts_per_tok": 2}, {},
         {"expert_count": 8, "expert_used_count": 2}),
        (QWEN, {"chat_template.jinja": "<think>", "tokenizer_config.json":
                {"chat_template": [{"name": "tool_use", "template": "tools"}]}},
         {"template_hints": ("tools", "thinking")}),
    ],
)  # fmt: skip
def test_kinds_of_models(
    tmp_path: Path, config: dict[str, Any], files: dict[str, Any], expected: dict[str, Any]
) -> None:
    info = read(model(tmp_path, config, **files))
    assert {name: getattr(info, name) for name in expected} == expected


def test_mlx_is_told_by_what_the_files_say(tmp_path: Path) -> None:
    packed = {
        "model.a.weight": ("U32", (64, 16)),
        "model.a.scales": ("F16", (64, 2)),
        "model.a.biases": ("F16", (64, 2)),
        "model.b.weight": ("U32", (8, 16)),
        "model.b.scales": ("F16", (8, 1)),
        "model.b.biases": ("F16", (8, 1)),
        "model.norm.weight": ("F16", (128,)),
    }
    quantization = {"group_size": 64, "bits": 4, "model.b": {"group_size": 64, "bits": 8}}
    config = QWEN | {"quantization": quantization}
    info = read(model(tmp_path / "a", config, **{"model.safetensors": safetensors(packed)}))
    assert (info.format, info.quantization) == ("mlx", "4-bit")
    assert info.parameter_count == 64 * 16 * 8 + 8 * 16 * 4 + 128
    assert formats()[info.format].engine == "mlx"
    plain = safetensors(metadata={"format": "mlx"})
    assert read(model(tmp_path / "b", **{"model.safetensors": plain})).format == "mlx"


def test_models_in_parts(tmp_path: Path) -> None:
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    first, second = ({k: v} for k, v in WEIGHTS.items())
    placed = {
        name: file for file, part in zip(names, (first, second), strict=True) for name in part
    }
    files = {names[0]: safetensors(first), names[1]: safetensors(second)}
    path = folder(tmp_path, {"config.json": QWEN, INDEX: {"weight_map": placed}, **files})
    info = read(path)
    assert (info.parts, info.parameter_count) == (2, 320 * 64 + 64)
    folder(path, {INDEX: {"weight_map": placed | {"model.lost": names[0]}}})
    with pytest.raises(BadModelFile, match=r"names the tensor 'model.lost' .* not there"):
        read(path)
    folder(path, {INDEX: []})
    with pytest.raises(BadModelFile, match="has no weight_map"):
        read(path)
    (path / INDEX).unlink()
    with pytest.raises(BadModelFile, match=f"misses {INDEX}"):
        read(path)
    (path / names[1]).unlink()
    with pytest.raises(BadModelFile, match="misses part 2 of 2"):
        read(path)


def test_companions(tmp_path: Path) -> None:
    lora = {"base.layers.0.lora_A.weight": ("F32", (4, 8))}
    config = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}
    adapter = {"adapter_config.json": config, "adapter_model.safetensors": safetensors(lora)}
    info = read(folder(tmp_path / "a", adapter))
    assert (companion_of(info), info.base_model, info.architecture) == (
        "adapter", "owner/base", "LORA",
    )  # fmt: skip
    files = {"tokenizer.json": "{}", "tokenizer_config.json": {"tokenizer_class": "T"}}
    info = read(folder(tmp_path / "t", files))
    assert (companion_of(info), info.tokenizer) == ("tokenizer", "T")
    alone = folder(tmp_path, {"x.safetensors": safetensors(lora)}) / "x.safetensors"
    assert companion_of(read(alone)) == "adapter"
    assert companion_of(read(model(tmp_path / "m"))) is None


def header(text: str, data: int = 0) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + bytes(data)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"model.safetensors": b""}, "is empty"),
        ({"model.safetensors": b"abc"}, "is truncated"),
        ({"model.safetensors": b"<html>"}, "is a web page"),
        ({"model.safetensors": b"not found; see there"}, "its header would have"),
        ({"model.safetensors": (9999).to_bytes(8, "little") + b"{}"}, "is truncated"),
        ({"model.safetensors": safetensors()[:-1]}, "was the download interrupted"),
        ({"model.safetensors": safetensors() + b"x"}, "1 bytes at its end"),
        ({"model.safetensors": header("[]")}, "does not begin with a header"),
        ({"model.safetensors": header("{" * 5000)}, "no JSON"),
        ({"model.safetensors": header('{"a":' * 50000)}, "nested too deeply|no JSON"),
        ({"model.safetensors": header('{"a": 1}')}, "is not described"),
        ({"model.safetensors": header('{"__metadata__": 1, "a": {}}')}, "no texts by name"),
        ({"model.safetensors": header('{"a": {"dtype": "F32", "shape": [2],'
                                      ' "data_offsets": [0, 4]}}', 4)}, "not its shape"),
        ({"model.safetensors": header('{"a": {"dtype": "Z9", "shape": [99999],'
                                      ' "data_offsets": [0, 4]}}', 4)}, "not its shape"),
        ({"model.safetensors": header('{"a": {"dtype": "F32", "shape": [1],'
                                      ' "data_offsets": [4, 8]}}', 8)}, "not where another ends"),
        ({"model.safetensors": header('{"a": {"dtype": "F32", "shape": [true],'
                                      ' "data_offsets": [0, 4]}}', 4)}, "no shape or no place"),
        ({"config.json": "{"}, "config.json: is truncated or corrupt: it is no JSON"),
        ({"config.json": b"\xff\xfe"}, "is not UTF-8"),
        ({"config.json": "[]"}, "holds no JSON object"),
        ({"config.json": '{"hidden_size": 1' + "0" * 9000 + "}"}, "no JSON"),
        ({"config.json": QWEN | {"hidden_size": 10**40}}, "hidden_size is"),
        ({"config.json": {}}, "does not say its architecture"),
        ({"config.json": QWEN | {"hidden_size": "64"}}, "hidden_size is '64'"),
        ({"config.json": QWEN | {"architectures": [1]}}, "architectures is"),
        ({"config.json": QWEN | {"rope_scaling": 3}}, "rope_scaling is 3"),
        ({"modules.json": {}}, "is no list of modules"),
    ],
)  # fmt: skip
def test_bad_folders(tmp_path: Path, files: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadModelFile, match=problem) as caught:
        read(model(tmp_path, **files))
    assert caught.value.message.startswith(str(tmp_path))
    assert len(caught.value.message) < 600


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = folder(tmp_path, {"config.json": QWEN, "pytorch_model.bin": b"\x80\x02"})
    with pytest.raises(BadModelFile, match=r"pickles \(pytorch_model.bin\) only.*safetensors"):
        read(path)
