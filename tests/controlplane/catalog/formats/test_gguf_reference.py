"""GGUF files of every architecture, as llama.cpp's own library writes and reads them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import Keys
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.gguf import read_gguf
from modelpool.catalog.formats.registry import companion_of, read
from modelpool.catalog.model_info import ModelInfo

TOKENS = [b"<s>", b"</s>", *(b"t%d" % i for i in range(30))]
TEMPLATE = "{% if tools %}{{ tools }}{% endif %}{{ messages }}{% if enable_thinking %}{% endif %}"


def write(path: Path, architecture: str, number: int) -> None:
    """A model with a tensor, whose figures differ from one architecture to the next."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"{architecture} model")
    writer.add_license("apache-2.0")
    writer.add_context_length(1024 + number)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96 if number % 2 else [64, 128])
    writer.add_head_count(4)
    writer.add_head_count_kv(2 if number % 3 else [1, 2])
    writer.add_key_length(24)
    writer.add_sliding_window(256)
    writer.add_expert_count(8)
    writer.add_expert_used_count(2)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(256)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_chat_template(TEMPLATE)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tensor("token_embd.weight", np.zeros((32, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stated(reader: gguf.GGUFReader, key: str, architecture: str) -> Any:
    field = reader.get_field(key.format(arch=architecture))
    value = field.contents() if field is not None else None
    return tuple(value) if isinstance(value, list) else value


class Reader(gguf.GGUFReader):
    """The library's, which takes minutes for the tokens of a large vocabulary, one by one: of long
    arrays it is given the places alone."""

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != gguf.GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind = gguf.GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        if count < 1000:
            return super()._get_field_parts(orig_offs, raw_type)
        at = orig_offs + 12
        if kind != gguf.GGUFValueType.STRING:
            at += count * np.dtype(self.gguf_scalar_to_np[kind]).itemsize
        else:
            data = memoryview(self.data)
            for _ in range(count):
                at += 8 + int.from_bytes(data[at : at + 8], "little")
        return at - orig_offs, [], list(range(count)), [gguf.GGUFValueType.ARRAY, kind]


def check_against_reference(path: Path, info: ModelInfo) -> None:
    """Every field that the library reads has the same value here."""
    reader = Reader(path)
    arch = stated(reader, Keys.General.ARCHITECTURE, "")
    assert info.architecture == arch
    # A projector's sizes are those of its encoder, which has keys of its own.
    part = "clip.vision" if arch == "clip" else arch
    tokens = reader.get_field(Keys.Tokenizer.LIST)
    vocabulary = stated(reader, Keys.LLM.VOCAB_SIZE, arch)
    expected = {
        "name": stated(reader, Keys.General.NAME, arch),
        "license": stated(reader, Keys.General.LICENSE, arch),
        "context_length": stated(reader, Keys.LLM.CONTEXT_LENGTH, arch),
        "block_count": stated(reader, Keys.LLM.BLOCK_COUNT, part),
        "embedding_length": stated(reader, Keys.LLM.EMBEDDING_LENGTH, part),
        "head_count": stated(reader, Keys.Attention.HEAD_COUNT, part),
        "expert_count": stated(reader, Keys.LLM.EXPERT_COUNT, arch),
        "expert_used_count": stated(reader, Keys.LLM.EXPERT_USED_COUNT, arch),
        "window": stated(reader, Keys.Attention.SLIDING_WINDOW, part),
        "pooling": stated(reader, Keys.LLM.POOLING_TYPE, arch),
        "tokenizer": stated(reader, Keys.Tokenizer.MODEL, arch),
        "vocabulary_size": vocabulary or (len(tokens.data) if tokens else None),
    }
    assert {name: getattr(info, name) for name in expected} == expected
    widest = stated(reader, Keys.LLM.FEED_FORWARD_LENGTH, part)
    assert info.feed_forward_length == (max(widest) if isinstance(widest, tuple) else widest)
    heads = stated(reader, Keys.Attention.HEAD_COUNT_KV, part)
    assert info.head_count_kv == (expected["head_count"] if heads is None else heads)
    for name, key in {
        "bos": Keys.Tokenizer.BOS_ID,
        "eos": Keys.Tokenizer.EOS_ID,
        "unk": Keys.Tokenizer.UNK_ID,
        "pad": Keys.Tokenizer.PAD_ID,
        "sep": Keys.Tokenizer.SEP_ID,
        "mask": Keys.Tokenizer.MASK_ID,
    }.items():
        assert info.special_tokens.get(name) == stated(reader, key, arch), name
    for name, key in {"factor": Keys.Rope.SCALING_FACTOR, "type": Keys.Rope.SCALING_TYPE}.items():
        value = stated(reader, key, arch)
        assert info.rope_scaling.get(name) == (None if value == "none" else value)
    assert info.has_chat_template == (
        stated(reader, Keys.Tokenizer.CHAT_TEMPLATE, arch) is not None
    )
    assert info.parameter_count == sum(int(t.n_elements) for t in reader.tensors)
    assert info.tensor_bytes == sum(int(t.n_bytes) for t in reader.tensors)


@pytest.mark.parametrize("number", range(len(gguf.MODEL_ARCH_NAMES)))
def test_every_architecture(tmp_path: Path, number: int) -> None:
    architecture = list(gguf.MODEL_ARCH_NAMES.values())[number]
    write(tmp_path / "m.gguf", architecture, number)
    info = read(tmp_path / "m.gguf")
    check_against_reference(tmp_path / "m.gguf", info)
    assert info.template_hints == ("tools", "thinking")
    lengths = (None, None) if architecture == "clip" else (24, 16)
    assert (info.quantization, info.key_length, info.value_length) == ("F32", *lengths)
    assert companion_of(info) == ("projector" if architecture == "clip" else None)


def writer_of(path: Path, architecture: str) -> gguf.GGUFWriter:
    return gguf.GGUFWriter(path, architecture)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_what_goes_with_a_model(tmp_path: Path) -> None:
    projector = writer_of(tmp_path / "p.gguf", "clip")
    projector.add_type(gguf.GGUFType.MMPROJ)
    projector.add_clip_has_vision_encoder(True)
    projector.add_clip_has_audio_encoder(True)
    projector.add_tensor("v.w", np.zeros((4, 4), dtype=np.float16))
    finish(projector)
    info = read(tmp_path / "p.gguf")
    assert (companion_of(info), info.inputs, info.outputs) == ("projector", ("image", "audio"), ())

    adapter = writer_of(tmp_path / "a.gguf", "llama")
    adapter.add_type(gguf.GGUFType.ADAPTER)
    adapter.add_string(Keys.Adapter.TYPE, "lora")
    adapter.add_base_model_count(1)
    adapter.add_base_model_name(0, "Llama 3")
    adapter.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((4, 4), dtype=np.float32))
    finish(adapter)
    info = read(tmp_path / "a.gguf")
    assert (companion_of(info), info.base_model) == ("adapter", "Llama 3")

    vocabulary = writer_of(tmp_path / "v.gguf", "llama")
    vocabulary.add_token_list(TOKENS)
    finish(vocabulary)
    info = read(tmp_path / "v.gguf")
    assert (companion_of(info), info.vocabulary_size) == ("tokenizer", len(TOKENS))
    with pytest.raises(BadModelFile, match="holds no tensors: it is no model"):
        read_gguf(tmp_path / "v.gguf")


@pytest.mark.slow
@pytest.mark.timeout(900)  # of 77 MB, from wherever pip looks
def test_vocabularies_of_llama_cpp(tmp_path: Path) -> None:
    """Those that its source carries, which comes with the Python package's."""
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-binary", "llama-cpp-python", "--no-deps", "llama-cpp-python==0.3.36"]
    subprocess.run([*fetch, *options], cwd=tmp_path, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    found = []
    with tarfile.open(archive) as source:
        for member in source:
            name = Path(member.name).name
            if name.startswith("ggml-vocab-") and name.endswith(".gguf"):
                file = source.extractfile(member)
                assert file is not None
                path = tmp_path / name
                path.write_bytes(file.read())
                found.append(path)
    assert len(found) > 10
    for path in found:
        info = read(path)
        assert companion_of(info) == "tokenizer"
        check_against_reference(path, info)
