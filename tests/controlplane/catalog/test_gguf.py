"""GGUF headers: right ones, and every way of being wrong."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.footprint import footprint_of
from modelpool.catalog.formats.gguf import FILE_TYPES, read_gguf
from modelpool.catalog.formats.gguf_header import TENSOR_TYPES
from modelpool.catalog.model_info import ModelInfo
from support.examples import examples

SHAPE: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny Ünit",
    "general.file_type": 15,
    "llama.context_length": 2048,
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "bc", ""] * 500,
    "tokenizer.ggml.scores": [0.5] * 5000,
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS = [("token_embd.weight", (64, 32), 8), ("blk.0.norm", (64,), 0), ("out", (256, 2), 12)]


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(item: Any) -> bytes:
    """A type number and the value."""
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<Iq", 11, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + text(item)
    parts = [value(i) for i in item]
    kind = parts[0][:4] if parts else struct.pack("<I", 4)
    return (
        struct.pack("<I", 9) + kind + struct.pack("<Q", len(parts)) + b"".join(p[4:] for p in parts)
    )


def gguf(
    values: Mapping[str, Any] = SHAPE,
    tensors: list[tuple[str, tuple[int, ...], int]] = TENSORS,
    version: int = 3,
) -> bytes:
    """A small file with zeros for weights."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    head += b"".join(text(k) + value(v) for k, v in values.items())
    offset = 0
    for name, shape, kind in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += size_of(shape, kind)
    return head + bytes(-len(head) % 32 + offset)


def size_of(shape: tuple[int, ...], kind: int) -> int:
    elements = 1
    for length in shape:
        elements *= length
    _, block, size = TENSOR_TYPES.get(kind, ("", 1, 0))
    return -(-elements // block * size // 32) * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


def read(folder: Path, data: bytes, name: str = "m.gguf") -> ModelInfo:
    (folder / name).write_bytes(data)
    return read_gguf(folder / name)


def test_a_whole_header(folder: Path) -> None:
    data = gguf()
    assert read(folder, data) == ModelInfo(
        architecture="llama",
        file_bytes=len(data),
        tensor_bytes=2176 + 256 + 288,
        parameter_count=64 * 32 + 64 + 512,
        quantization="Q4_K_M",
        name="Tiny Ünit",
        context_length=2048,
        block_count=2,
        embedding_length=64,
        head_count=4,
        head_count_kv=2,
        key_length=16,
        value_length=16,
        has_chat_template=True,
        chat_template=hashlib.sha256(b"{{ messages }}").hexdigest()[:16],
        vocabulary_size=1500,
        inputs=("text",),
        outputs=("text",),
        format_version=3,
        table_bytes=2176,
        matrix_bytes={"Q4_K": 288},
    )
    assert read(folder, gguf(version=2)).format_version == 2


def test_what_a_header_may_lack_or_say_otherwise(folder: Path) -> None:
    bare = read(folder, gguf({"general.architecture": "mamba"}))
    assert (bare.context_length, bare.head_count_kv, bare.name) == (None, None, None)
    assert (bare.quantization, bare.has_chat_template) == ("Q8_0", False)
    other = SHAPE | {
        "general.file_type": 1024 + 1,
        "llama.attention.head_count_kv": [2, 0, 4],
        "llama.attention.key_length": 80,
    }
    info = read(folder, gguf(other))
    assert (info.quantization, info.head_count_kv) == ("F16", (2, 0, 4))
    assert (info.key_length, info.value_length) == (80, 16)
    del other["llama.attention.head_count_kv"]
    assert read(folder, gguf(other)).head_count_kv == 4
    unknown = [("x", (5,), 99)]
    assert read(folder, gguf({"general.architecture": "x"}, unknown)).quantization is None


def patched(at: int, layout: str, number: int) -> bytes:
    data = bytearray(gguf())
    struct.pack_into(layout, data, at, number)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"GG", "is not a GGUF file"),
        (b"<html>not found</html>", "is a web page: whoever fetched it"),
        (b"<!DOCTYPE html>\n<title>", "is a web page: whoever fetched it"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            "is a pointer of Git LFS, not the file itself; in the clone that it is in, `git lfs",
        ),
        (b"GGUF", "is truncated"),
        (gguf()[:-40], "is truncated or corrupt: it has .* was the download interrupted"),
        (gguf()[:300], "is truncated"),
        (patched(4, "<I", 1), "is of GGUF version 1"),
        (patched(4, "<I", 4), "is of GGUF version 4"),
        (patched(4, ">I", 3), "big-endian"),
        (patched(8, "<Q", 2**63), "9223372036854775808 tensors"),
        (patched(16, "<Q", 2**40), "1099511627776 keys"),
        (patched(24, "<Q", 2**62), "is truncated"),
        (patched(24, "<Q", 100_000), "is truncated"),
        (gguf({"a": 1}), "does not say its architecture"),
        (gguf({"general.architecture": 3}), "general.architecture is '3'"),
        (gguf(SHAPE | {"llama.block_count": "x"}), "llama.block_count is 'x'"),
        (gguf(SHAPE | {"llama.block_count": -1}), "llama.block_count is '-1'"),
        (gguf(SHAPE | {"llama.context_length": True}), "context_length is 'True'"),
        (gguf(SHAPE | {"llama.attention.head_count_kv": [0.5]}), "head_count_kv"),
        (gguf(SHAPE | {"general.alignment": 0}), "an alignment of 0"),
        (gguf(SHAPE | {"general.alignment": 33}), "an alignment of 33"),
        (gguf(tensors=[]), "holds no tensors"),
        (gguf(tensors=[("x", (), 0)]), "0 dimensions"),
        (gguf(tensors=[("x", (1,) * 5, 0)]), "5 dimensions"),
        (gguf(tensors=[("x", (33, 2), 8)]), "no whole blocks of Q8_0"),
        (gguf(SHAPE | {"split.count": 3}), "is one of 3 parts and not named"),
    ],
)
def test_bad_files(folder: Path, data: bytes, problem: str) -> None:
    with pytest.raises(BadModelFile, match=problem) as caught:
        read(folder, data)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "bad_file", "source")
    assert error.message.startswith(f"{folder}/m.gguf: ")


def one_key(kind: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text("k") + struct.pack("<I", kind) + rest


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (one_key(13, b""), "a value of type 13"),
        (one_key(9, struct.pack("<IQ", 9, 1)), "an array of type 9"),
        (one_key(9, struct.pack("<IQ", 8, 2**60)), "an array of"),
        (one_key(9, struct.pack("<IQQQ", 8, 2, 0, 2**50)), "is truncated"),
        (one_key(9, struct.pack("<IQ", 4, 2**62)), "is truncated"),
        (one_key(9, struct.pack("<IQ", 4, 1000)), "is truncated"),
        (one_key(8, struct.pack("<Q", 2**64 - 1)), "is truncated"),
        (gguf({"a": 1, "b": 2}).replace(text("b"), text("a")), "stands there twice"),
    ],
)
def test_bad_values(folder: Path, data: bytes, problem: str) -> None:
    with pytest.raises(BadModelFile, match=problem):
        read(folder, data)


def test_a_huge_sparse_file_costs_nothing(folder: Path) -> None:
    path = folder / "sparse.gguf"
    path.write_bytes(one_key(9, struct.pack("<IQ", 8, 2**32)))
    os.truncate(path, 2**40)
    with pytest.raises(BadModelFile, match="an array of 4294967296 texts"):
        read_gguf(path)


def test_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe.gguf")
    for name, problem in (
        ("absent.gguf", "no such file"),
        ("pipe.gguf", "is not a file"),
        (".", "is not a file"),
        ("a\0b", "cannot be read"),
        ("x" * 300, "cannot be read"),
    ):
        with pytest.raises(BadModelFile, match=problem):
            read_gguf(folder / name)


def test_models_in_parts(folder: Path) -> None:
    def part(index: int) -> bytes:
        keys = {"split.no": index - 1, "split.count": 2}
        return gguf(SHAPE | keys if index == 1 else keys)

    first = "big-00001-of-00002.gguf"
    with pytest.raises(BadModelFile, match=r"big-00002-of-00002\.gguf: there is no such file"):
        read(folder, part(1), first)
    second = folder / "big-00002-of-00002.gguf"
    second.write_bytes(part(2))
    info = read_gguf(folder / first)
    assert (info.parts, info.file_bytes) == (2, len(part(1)) + len(part(2)))
    assert info.parameter_count == 2 * (64 * 32 + 64 + 512)
    with pytest.raises(BadModelFile, match="is part 2 of 2: name the first"):
        read_gguf(second)


WHOLE = gguf()
HEADER_BYTES = len(WHOLE) - 2720
MUTATIONS = st.lists(st.tuples(st.integers(0, HEADER_BYTES), st.binary(min_size=1, max_size=9)))


@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(MUTATIONS, st.none() | st.integers(0, len(WHOLE)))
def test_any_damage_is_a_bad_file_or_still_a_model(
    folder: Path, mutations: list[tuple[int, bytes]], length: int | None
) -> None:
    data = bytearray(WHOLE)
    for place, noise in mutations:
        data[place : place + len(noise)] = noise
    try:
        info = read(folder, bytes(data[:length]))
    except BadModelFile as e:
        assert len(e.message) < 600  # noqa: PT017  # any other exception fails the test
    else:
        assert footprint_of(info, {}).host >= info.file_bytes


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_every_truncation_is_found(folder: Path, length: int) -> None:
    with pytest.raises(BadModelFile):
        read(folder, WHOLE[:length])


def test_the_tables_agree_with_the_reference() -> None:
    for kind, sizes in GGML_QUANT_SIZES.items():
        if kind.name != "Q8_1":  # never in files
            assert TENSOR_TYPES[int(kind)] == (kind.name, *sizes)
    for file_type in LlamaFileType:
        name = file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE")
        assert FILE_TYPES.get(int(file_type), "GUESSED") == name
